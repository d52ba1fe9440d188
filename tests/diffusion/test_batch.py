from __future__ import annotations

import dataclasses

import pytest
import torch
from plans import PROMPT, latents_of, text_plan

from livo.diffusion.batch import still_equal
from livo.diffusion.denoisers import StableDiffusionUNet, denoiser_of
from livo.types import Conditioning


def test_chunked_equals_unchunked(engine64, everything, monkeypatch, count_rows):
    rows = count_rows(engine64.backbone.unet)
    whole = latents_of(engine64, everything, monkeypatch)
    assert rows == [15, 18, 18], "at the first step one empty prompt serves both methods that read it as the U-Net does"
    rows.clear()
    engine64.memory_budget = 5 * denoiser_of(engine64.backbone.unet).row_bytes(8, 8)
    chunks = latents_of(engine64, everything, monkeypatch)
    assert sum(rows) == 15 + 18 + 18 and max(rows) == 5, "never more rows than the budget holds"
    for name in everything:
        assert (chunks[name] - whole[name]).abs().max() < 1e-10 * whole[name].abs().max()
    rows.clear()
    engine64.memory_budget = 1
    engine64.generate({"sd": everything["sd"]})
    assert set(rows) == {1}, "a budget below one row still runs, a row at a time"


def test_row_estimate_is_that_of_the_measured_model(tiny_backbone):
    class Config:
        block_out_channels, layers_per_block = (320, 640, 1280, 1280), 2
        down_block_types = ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",)

    class StableDiffusion15:
        config = Config

        @staticmethod
        def parameters():
            yield torch.zeros(1)

    assert (
        45e6 < StableDiffusionUNet(StableDiffusion15).row_bytes(32, 32) < 60e6
    )  # measured: 54 MB at 256 pixels, float32
    tiny = denoiser_of(tiny_backbone.unet)
    assert tiny.row_bytes(16, 16) == 4 * tiny.row_bytes(8, 8)


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


@pytest.mark.parametrize("change", ["prompt", "seed", "scale", "projection", "unet"])
def test_whatever_reaches_a_pixel_makes_another_job(engine64, everything, options, monkeypatch, count_rows, change):
    other = {
        "prompt": lambda: text_plan(engine64, "a cat", options()),
        "seed": lambda: text_plan(engine64, PROMPT, options(seeds=(0, 2))),
        "scale": lambda: text_plan(engine64, PROMPT, options(guidance_scale=5.5)),
        "projection": lambda: text_plan(engine64, PROMPT, options(), projection="edit"),
        "unet": lambda: text_plan(engine64, PROMPT, options(), unet_override="own"),
    }[change]()
    out = latents_of(engine64, {"base": text_plan(engine64, PROMPT, options()), "other": other}, monkeypatch)
    assert (out["base"][1] - out["other"][1]).abs().max() > 1e-4


@dataclasses.dataclass(frozen=True)
class Late:
    """Classifier-free guidance that turns aside at step `begins`; by `by` 0 it never does."""

    begins: int
    by: float

    def __call__(self, noise_preds, step):
        guided = noise_preds["uncond"] + 5.0 * (noise_preds["cond"] - noise_preds["uncond"])
        return guided + self.by * noise_preds["edit"] if step.index >= self.begins else guided


def with_edit(engine, plan, begins: int, by: float):
    return dataclasses.replace(
        plan, guide=Late(begins, by), branches={**plan.branches, "edit": (Conditioning(engine.encode_prompt("a cat")),)}
    )


@pytest.mark.parametrize(
    ("begins", "by", "wanted"), [(2, 1.0, [6, 6, 6, 10]), (0, 1.0, [6, 10, 10, 10]), (0, 0.0, [6] * 4)]
)
def test_methods_share_rows_for_as_long_as_their_latents_are_equal(
    engine64, options, monkeypatch, count_rows, begins, by, wanted
):
    plain = text_plan(engine64, PROMPT, options(seeds=(0,), num_inference_steps=4))
    late = with_edit(engine64, plain, begins, by)
    twice = options(seeds=(0, 1), num_inference_steps=4)
    plans = {name: dataclasses.replace(plan, options=twice) for name, plan in {"sd": plain, "late": late}.items()}
    alone = {name: latents_of(engine64, {name: plan}, monkeypatch)[name] for name, plan in plans.items()}
    rows = count_rows(engine64.backbone.unet)
    monkeypatch.setattr("livo.diffusion.engine.decode", lambda vae, latents, budget: latents)
    reports = list(engine64.stream(plans))
    assert rows == wanted, "2 x (uncond, cond, edit), then 2 x (2 + 3)"
    assert [r.rows for r in reports] == [sum(rows[: i + 1]) for i in range(4)]
    assert reports[-1].rows_alone == {"sd": 4 * 4, "late": 4 * 6}
    for name, latents in alone.items():
        assert (reports[-1].images[name] - latents).abs().max() < 1e-10 * latents.abs().max()
    if by:
        assert (alone["sd"] - alone["late"]).abs().max() > 1e-3


def test_latents_that_part_are_never_taken_for_equal():
    latents = torch.tensor([[0.0], [0.0], [1.0], [1.0], [0.0]])[:, :, None, None]
    assert still_equal([0, 0, 0, 0, 4], latents) == [0, 0, 2, 2, 4], "those that left together stay together"
    assert still_equal([0, 1, 2, 3, 4], latents) == [0, 1, 2, 3, 4], "only jobs that began alike are compared"
