"""A full device memory, planted in the U-Net and the VAE: calls are halved, and the images stay the same."""

from __future__ import annotations

import copy
import dataclasses
import itertools

import pytest
import torch
from plans import PROMPT, latents_of, text_plan

from livo.diffusion.engine import Engine
from livo.diffusion.latents import decode


class Full:
    """Lets a module's calls fail that have more than `most` rows; `sizes` are those of all calls, failed ones too."""

    def __init__(self, most: int, monkeypatch, target: object, name: str) -> None:
        self.most, self.sizes, self.call = most, [], getattr(target, name)
        monkeypatch.setattr(target, name, self)

    def __call__(self, rows, *args, **kwargs):
        self.sizes.append(len(rows))
        if len(rows) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory (planted)")
        return self.call(rows, *args, **kwargs)


def test_a_full_memory_halves_the_calls_and_the_images_stay(engine64, everything, monkeypatch):
    wanted = latents_of(engine64, everything, monkeypatch)
    with monkeypatch.context() as patch:
        full = Full(5, patch, engine64.backbone.unet, "forward")
        found = latents_of(engine64, everything, monkeypatch)
    scale = max(latents.abs().max() for latents in wanted.values())
    assert all((found[name] - wanted[name]).abs().max() < 1e-10 * scale for name in wanted)
    failed = [size for size in full.sizes if size > 5]
    assert (
        failed == sorted(failed, reverse=True)
        and len(failed) >= 1
        and all(b <= a / 2 for a, b in itertools.pairwise(failed))
    )
    assert max(full.sizes[full.sizes.index(failed[-1]) + 1 :]) <= 5, "the rest of the run does not try again"


def test_memory_that_fills_up_in_the_middle_of_a_step_and_of_a_run(engine64, everything, monkeypatch):
    """Steps that were done stay done: momentum and the solver's own memory are not used twice."""
    from baselines.fair_diffusion import FairDiffusion
    from livo.types import Principle

    principle = Principle("gender_equality", "gender equality", "bias", ("male", "female"))
    options = dataclasses.replace(next(iter(everything.values())).options, num_inference_steps=6)
    plans = {
        "fair": FairDiffusion(engine64).plan(PROMPT, principle, options),
        "sd": text_plan(engine64, PROMPT, options),
    }
    wanted = latents_of(engine64, plans, monkeypatch)
    with monkeypatch.context() as patch:
        unet, calls = engine64.backbone.unet, []
        forward = unet.forward

        def fills_up(rows, *args, **kwargs):
            calls.append(len(rows))
            if len(calls) == 4 or len(rows) > 100:
                raise torch.OutOfMemoryError("planted")
            return forward(rows, *args, **kwargs)

        patch.setattr(unet, "forward", fills_up)
        found = latents_of(engine64, plans, monkeypatch)
    assert len(calls) > 7 and all((found[n] - wanted[n]).abs().max() < 1e-10 * wanted[n].abs().max() for n in wanted)


def test_a_memory_that_holds_nothing_is_said(engine, options, monkeypatch):
    Full(0, monkeypatch, engine.backbone.unet, "forward")
    with pytest.raises(torch.OutOfMemoryError, match="one row.*smaller images"):
        engine.generate({"sd": text_plan(engine, PROMPT, options())})


@pytest.mark.parametrize("most", [1, 2, 4])
def test_decoding_is_halved_too(tiny_backbone, monkeypatch, most):
    latents = torch.randn(7, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    wanted = decode(tiny_backbone.vae, latents, 1 << 30)
    with monkeypatch.context() as patch:
        full = Full(most, patch, tiny_backbone.vae, "decode")
        found = decode(tiny_backbone.vae, latents, 1 << 30)
    assert (found.int() - wanted.int()).abs().max() <= 1 and full.sizes[0] == 7
    Full(0, monkeypatch, tiny_backbone.vae, "decode")
    with pytest.raises(torch.OutOfMemoryError):
        decode(tiny_backbone.vae, latents, 1 << 30)


def test_finished_latents_can_be_had_without_decoding(engine64, everything, monkeypatch):
    found, wanted = engine64.sample(everything), latents_of(engine64, everything, monkeypatch)
    assert found.keys() == wanted.keys() and all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_the_layout_of_fast_convolutions_changes_no_image(tiny_backbone, options):
    """What CUDA devices get, on a CPU."""
    other = dataclasses.replace(
        tiny_backbone, unet=copy.deepcopy(tiny_backbone.unet), vae=copy.deepcopy(tiny_backbone.vae)
    )
    for part in (other.unet, other.vae):
        part.to(memory_format=torch.channels_last)
    assert other.unet.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
    images = [
        engine.generate({"sd": text_plan(engine, PROMPT, options())})["sd"].int()
        for engine in (Engine(tiny_backbone), Engine(other))
    ]
    assert (images[0] - images[1]).abs().max() <= 1
