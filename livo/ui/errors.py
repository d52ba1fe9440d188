"""Errors that are no messages for people: visitors read plain words, the log has one line a minute of a kind.

Gradio shows visitors the text of any exception, and prints each with its traceback: whoever sends nonsense in a loop
reads of the program's inside and fills the disk. Both are mended where Gradio looks them up.
"""

from __future__ import annotations

import logging
from typing import Any

import gradio.queueing
import gradio.routes
import gradio.utils
from gradio.exceptions import Error

from livo.web.serve import OnceAMinute

PLAIN = "this request cannot be answered: it is not what this page sends. gradio_api/info says what can be asked"

logger = logging.getLogger(__name__)


class _Log:
    """What Gradio's modules use of `traceback`."""

    @staticmethod
    def print_exc() -> None:
        logger.warning("an error that is no message", exc_info=True)


def payload(error: BaseException | None, show_error: bool) -> dict[str, Any]:
    """What a visitor gets of an error, in Gradio's form."""
    if isinstance(error, Error):
        return {"error": error.message, "duration": error.duration, "visible": error.visible, "title": error.title}
    return {"error": PLAIN, "visible": show_error}


def speak_plainly() -> None:
    """For this process, before a page is launched."""
    logger.addFilter(OnceAMinute())
    for module in (gradio.queueing, gradio.routes):
        module.traceback = _Log
    gradio.queueing.error_payload = gradio.utils.error_payload = payload
    for handler in (*logging.getLogger().handlers, *filter(None, [logging.lastResort])):
        handler.addFilter(OnceAMinute())
