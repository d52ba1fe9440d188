"""Calls captured as graphs, with a stand-in that runs a graph's operators again, and no Python of the call's."""

from __future__ import annotations

import logging

import cuda_graphs
import pytest
import torch
from plans import edited_weights, text_plan

from livo.diffusion.captured import MOST, CapturedCalls
from livo.diffusion.engine import Engine


@pytest.fixture
def graphs(monkeypatch) -> list[cuda_graphs.Graph]:
    return cuda_graphs.install(monkeypatch)


def plans_of(engine: Engine, options, prompt: str = "a photo of a doctor") -> dict:
    """Three methods that part after the first step, with texts of two lengths and two projections."""
    value = torch.linspace(-1, 1, 32)
    return {
        "sd": text_plan(engine, prompt, options),
        "livo": text_plan(engine, prompt, options, value=value),
        "uce": text_plan(engine, prompt, options, "uce"),
    }


def captured_engine(backbone) -> Engine:
    engine = Engine(backbone)
    engine.add_projection("uce", edited_weights(backbone.unet))
    engine._captured = CapturedCalls()
    return engine


def test_a_layout_is_captured_when_it_comes_again_and_then_replayed(tiny_backbone, options, count_rows, graphs):
    engine, rows = captured_engine(tiny_backbone), count_rows(tiny_backbone.unet)
    ask = options(num_inference_steps=6)
    plain = Engine(tiny_backbone)
    plain.add_projection("uce", edited_weights(tiny_backbone.unet))
    wanted = plain.sample(plans_of(plain, ask))
    rows.clear()
    first = engine.sample(plans_of(engine, ask))
    # The first step's layout; the others', as it is; the same run once more and captured; three steps replayed.
    assert len(rows) == 4 and [graph.replays for graph in graphs] == [1 + 3]
    assert all(torch.equal(first[name], wanted[name]) for name in wanted)
    engine.sample(plans_of(engine, ask))
    rows.clear()
    others = engine.sample(plans_of(engine, ask, "two cats by a lake"))
    assert not rows and len(graphs) == 2, "nothing but replays, whatever the prompt"
    wanted = plain.sample(plans_of(plain, ask, "two cats by a lake"))
    assert all(torch.equal(others[name], wanted[name]) for name in wanted)
    assert not torch.equal(others["sd"], first["sd"])


class Refused(cuda_graphs.Graph):
    def __enter__(self):
        raise RuntimeError("operation not permitted when stream is capturing\nmore")


class Wrong(cuda_graphs.Graph):
    def replay(self) -> None:
        super().replay()
        self._operators[-1][-1].mul_(2)


@pytest.mark.parametrize(("kind", "why"), [(Refused, "stream is capturing"), (Wrong, "its result is another")])
def test_without_graphs_calls_run_as_they_are(tiny_backbone, options, monkeypatch, caplog, kind, why):
    made, engine = cuda_graphs.install(monkeypatch, kind), captured_engine(tiny_backbone)
    ask = options(num_inference_steps=5)
    with caplog.at_level(logging.WARNING):
        found = [engine.sample(plans_of(engine, ask)) for _ in range(2)]
    engine._captured = None
    wanted = engine.sample(plans_of(engine, ask))
    assert all(torch.equal(latents[name], wanted[name]) for latents in found for name in wanted)
    assert len(made) == 1 and [why in r.message for r in caplog.records] == [True], "tried once, said once"


def test_few_graphs_are_kept_and_all_go_when_memory_is_short(graphs):
    calls, numbers = CapturedCalls(), torch.arange(4.0)
    for _ in range(2):
        for length in range(1, MOST + 1):
            assert torch.equal(
                calls("twice", lambda given: given["x"] * 2, {"x": numbers[:length]}), 2 * numbers[:length]
            )
    assert len(graphs) == MOST
    other = calls("twice", lambda given: given["x"] * 2, {"x": torch.ones(9)})
    assert torch.equal(other, 2 * torch.ones(9)) and len(graphs) == MOST
    calls("twice", lambda given: given["x"] * 2, {"x": numbers[:1]})
    assert graphs[0].replays == 1, "it went for the newest"
    calls.clear()
    calls("twice", lambda given: given["x"] * 2, {"x": numbers})
    assert graphs[MOST - 1].replays == 1 and len(graphs) == MOST


def test_what_a_call_does_is_part_of_its_layout(graphs):
    calls, x = CapturedCalls(), torch.ones(3)
    for _ in range(3):
        assert torch.equal(calls(2, lambda given: given[0] * given[1], (x, 2)), 2 * x)
        assert torch.equal(calls(3, lambda given: given[0] * given[1], (x, 3)), 3 * x)
        assert torch.equal(calls(3, lambda given: given[0] * given[1], (x.double(), 3)), 3 * x.double())
    assert len(graphs) == 3
