"""Errors that are no messages: plain words for visitors, one line a minute for the log."""

from __future__ import annotations

import logging

import gradio as gr
import gradio.queueing
import gradio.routes
import gradio.utils
import pytest

from livo.ui import errors


def test_visitors_read_messages_and_nothing_of_the_inside() -> None:
    assert errors.payload(gr.Error("give fewer", duration=3), True) == {
        "error": "give fewer", "duration": 3, "visible": True, "title": "Error",
    }  # fmt: skip
    told = errors.payload(TypeError("'NoneType' is not iterable"), True)
    assert told == {"error": errors.PLAIN, "visible": True} and "NoneType" not in str(told)


def test_nonsense_in_a_loop_is_one_line_a_minute(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for module in (gradio.queueing, gradio.routes):
        monkeypatch.setattr(module, "traceback", module.traceback)
        monkeypatch.setattr(module, "error_payload", gradio.utils.error_payload, raising=False)
    monkeypatch.setattr(gradio.utils, "error_payload", gradio.utils.error_payload)
    monkeypatch.setattr(errors.logger, "filters", [])
    monkeypatch.setattr(logging.lastResort, "filters", [])
    for handler in logging.getLogger().handlers:
        monkeypatch.setattr(handler, "filters", list(handler.filters))
    errors.speak_plainly()
    for number in range(50):
        try:
            raise ValueError(f"wanted 8, got {number}")
        except ValueError:
            gradio.queueing.traceback.print_exc()
            gradio.routes.traceback.print_exc()
    assert len(caplog.records) == 1 and caplog.records[0].exc_info
    assert gradio.utils.error_payload is gradio.queueing.error_payload is errors.payload
