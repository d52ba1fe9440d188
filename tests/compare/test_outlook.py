from __future__ import annotations

import itertools

import pytest

from baselines.stable_diffusion import StableDiffusion
from livo.compare.comparison import MethodEntry, compare, make_request
from livo.compare.outlook import Pace, outlook, probe
from livo.methods.livo import LiVO
from livo.methods.value_encoder import ValueEncoder
from livo.types import SamplingOptions

BOTH = ("bias", "toxicity")


@pytest.fixture
def parts(engine) -> dict:
    entries = {
        "stable_diffusion": MethodEntry("Stable Diffusion", BOTH, StableDiffusion(engine)),
        "livo": MethodEntry("LiVO", BOTH, LiVO(engine, ValueEncoder.untrained(engine.backbone))),
    }
    return {"engine": engine, "methods": entries}


def asked(parts, options, prompt="a photo of a doctor"):
    return make_request(prompt, list(parts["methods"]), options)


def test_rows_and_operations_are_those_of_the_run(parts, options):
    requests = [asked(parts, options(seeds=range(4)), prompt) for prompt in ("a photo of a doctor", "a photo of a cat")]
    found = outlook(requests, **parts)
    rows = 0
    for request in requests:
        *_, last = compare(request, **parts)
        rows += last.rows
    assert found.rows == rows and found.images == 16 and found.prompts == 2
    assert found.tflop * 1e12 == rows * parts["engine"].row_flop(options())
    parameters = [p for net in (parts["engine"].backbone.unet, parts["engine"].backbone.vae) for p in net.parameters()]
    assert found.weights > 4 * sum(p.numel() for p in parameters) and found.activations > 0
    assert found.seconds > 0 and found.to_json()["rows"] == rows


def test_of_many_prompts_a_few_are_counted(parts, options):
    one = outlook([asked(parts, options())], **parts)
    many = outlook([asked(parts, options())] * 200, **parts)
    assert (many.rows, many.images) == (200 * one.rows, 200 * one.images)


def test_the_probe_takes_step_and_rest_apart(parts, options, monkeypatch):
    """With a clock that ticks a second a step and half a second an image, the estimate is exact."""
    now = itertools.accumulate(itertools.repeat(0.0))
    ticks = [0.0]

    def timed(request, **_):
        ticks[0] += len(request.options.seeds) * (0.1 * request.options.num_inference_steps + 0.5)
        return iter(())

    monkeypatch.setattr("livo.compare.outlook.compare", timed)
    request = asked(parts, options(seeds=range(6), num_inference_steps=20))
    assert probe(request, clock=lambda: ticks[0] + next(now)) == pytest.approx(6 * (20 * 0.1 + 0.5))
    slow = asked(parts, options(seeds=range(6), num_inference_steps=50))
    monkeypatch.setattr("livo.compare.outlook.PATIENCE", 0.1)
    assert probe(slow, clock=lambda: ticks[0]) == pytest.approx(6 * 50 * 0.6), "one step of one image, and no more"


@pytest.mark.parametrize(("taken", "sides"), [(0.5, [16]), (0.01, [16, 16, 8])])
def test_the_pace_is_that_of_one_row_or_of_the_last_run(engine, monkeypatch, taken, sides):
    """A slow device is asked once, a fast one again with a row of the model's own size."""
    now, asked = [0.0], []

    def sample(plans):
        asked.append(plans[""].options.height // engine.backbone.vae_scale)
        now[0] += taken

    monkeypatch.setattr(engine, "sample", sample)
    pace = Pace(clock=lambda: now[0])
    tflop = engine.row_flop(SamplingOptions((0,), 1, 0.0, 2 * sides[-1], 2 * sides[-1])) / 1e12
    assert pace.seconds(engine, 3 * tflop) == pytest.approx(3 * taken) and asked == sides
    pace.learn(2.0, 8.0)
    assert pace.seconds(engine, 3.0) == 12.0 and asked == sides
