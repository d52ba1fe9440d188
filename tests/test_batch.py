from __future__ import annotations

import dataclasses

import pytest
import torch
from plans import PROMPT, latents_of, text_plan

from livo.batch import row_bytes
from livo.types import Conditioning



def test_chunked_equals_unchunked(engine64, everything, monkeypatch, count_rows):
    rows = count_rows(engine64.backbone.unet)
    whole = latents_of(engine64, everything, monkeypatch)
    assert rows == [18] * 3
    rows.clear()
    engine64.memory_budget = 5 * row_bytes(engine64.backbone.unet, 8, 8)
    chunks = latents_of(engine64, everything, monkeypatch)
    assert rows == [4, 5, 4, 5] * 3, "never more rows than the budget holds"
    for name in everything:
        assert (chunks[name] - whole[name]).abs().max() < 1e-10 * whole[name].abs().max()
    rows.clear()
    engine64.memory_budget = 1
    engine64.generate({"sd": everything["sd"]})
    assert set(rows) == {1}, "a budget below one row still runs, a row at a time"


def test_row_estimate_is_that_of_the_measured_model(tiny_backbone):
    class Config:
        block_out_channels, layers_per_block = (320, 640, 1280, 1280), 2

    class StableDiffusion15:
        config = Config

        @staticmethod
        def parameters():
            yield torch.zeros(1)

    assert 45e6 < row_bytes(StableDiffusion15, 32, 32) < 60e6  # measured: 54 MB at 256 pixels, float32
    assert row_bytes(tiny_backbone.unet, 16, 16) == 4 * row_bytes(tiny_backbone.unet, 8, 8)


def test_equal_plans_and_equal_seeds_cost_nothing(engine, options, count_rows):
    rows = count_rows(engine.backbone.unet)
    plan = text_plan(engine, PROMPT, options())
    twin = dataclasses.replace(plan, branches={
        name: tuple(Conditioning(c.prompt_embeds.clone(), c.projection) for c in branch)
        for name, branch in plan.branches.items()
    })  # fmt: skip
    images = engine.generate({"a": plan, "b": twin, "c": text_plan(engine, PROMPT, options(seeds=(1, 0, 1)))})
    assert rows == [4, 4, 4], "two seeds, two branches, three steps"
    assert torch.equal(images["a"], images["b"])
    assert torch.equal(images["c"], images["a"][[1, 0, 1]])


@pytest.mark.parametrize("change", ["prompt", "seed", "scale", "projection", "trunk"])
def test_whatever_reaches_a_pixel_makes_another_job(engine64, everything, options, monkeypatch, count_rows, change):
    other = {
        "prompt": lambda: text_plan(engine64, "a cat", options()),
        "seed": lambda: text_plan(engine64, PROMPT, options(seeds=(0, 2))),
        "scale": lambda: text_plan(engine64, PROMPT, options(guidance_scale=5.5)),
        "projection": lambda: text_plan(engine64, PROMPT, options(), projection="edit"),
        "trunk": lambda: text_plan(engine64, PROMPT, options(), trunk="own"),
    }[change]()
    out = latents_of(engine64, {"base": text_plan(engine64, PROMPT, options()), "other": other}, monkeypatch)
    assert (out["base"][1] - out["other"][1]).abs().max() > 1e-4
