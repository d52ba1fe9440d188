"""The engine's final latents against diffusers' own pipeline, on a U-Net that the engine never touched."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionPipeline,
)

from baselines.stable_diffusion import StableDiffusion
from livo.diffusion.backbones import SCHEDULERS as SCHEDULERS_BY_NAME
from livo.diffusion.backbones import load_backbone
from livo.diffusion.engine import Engine
from livo.methods.livo import LiVO
from livo.methods.value_encoder import ValueEncoder
from livo.types import Principle, SamplingOptions, Start

PROMPT = "a photo of a doctor"
TOXIC = Principle("nudity", "nudity considered inappropriate", "toxicity", ("nudity",))
SEEDS = (3, 11, 4)
# Largest difference over largest latent. float32: only kernels that depend on the batch size differ.
CASES = [(torch.float32, 1e-4), (torch.float64, 1e-10)]
SCHEDULERS = [DPMSolverMultistepScheduler, DDIMScheduler]


def pipeline(folder, scheduler_class, dtype) -> StableDiffusionPipeline:
    """Fresh from disk, with diffusers' own attention."""
    pipe = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None, dtype=dtype)
    pipe.scheduler = scheduler_class.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def generators() -> list[torch.Generator]:
    return [torch.Generator("cpu").manual_seed(seed) for seed in SEEDS]


def sampler(request, dtype, scheduler_class) -> Engine:
    backbone = request.getfixturevalue("tiny_backbone64" if dtype == torch.float64 else "tiny_backbone")
    return Engine(backbone, scheduler_class=scheduler_class)


def final_latents(engine: Engine, plan, monkeypatch) -> torch.Tensor:
    """What the engine hands to its decoder."""
    caught = []
    monkeypatch.setattr("livo.diffusion.engine.decode", lambda vae, latents, budget: caught.append(latents) or latents)
    engine.generate({"plan": plan})
    (latents,) = caught
    return latents


def relative(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


@pytest.mark.parametrize(("dtype", "tolerance"), CASES, ids=["float32", "float64"])
@pytest.mark.parametrize("scheduler_class", [*SCHEDULERS, EulerAncestralDiscreteScheduler])
def test_stable_diffusion(request, tiny_folder, options, monkeypatch, scheduler_class, dtype, tolerance):
    theirs = pipeline(tiny_folder, scheduler_class, dtype)(
        [PROMPT] * 3, num_inference_steps=6, guidance_scale=7.5, height=16, width=24, generator=generators(),
        output_type="latent",
    ).images  # fmt: skip
    engine = sampler(request, dtype, scheduler_class)
    ask = options(seeds=SEEDS, num_inference_steps=6, guidance_scale=7.5, width=24)
    ours = final_latents(engine, StableDiffusion(engine).plan(PROMPT, None, ask), monkeypatch)
    assert relative(ours, theirs) < tolerance
    other = final_latents(engine, StableDiffusion(engine).plan("a photo of a nurse", None, ask), monkeypatch)
    assert relative(other, theirs) > 1e-2, "the prompt must matter far more than the tolerance"


@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0, 1.5, 7.5])
@pytest.mark.parametrize("negative_prompt", ["", "blurry"])
def test_guidance_and_negative_prompt(engine64, tiny_folder, options, monkeypatch, scale, negative_prompt):
    theirs = pipeline(tiny_folder, DPMSolverMultistepScheduler, torch.float64)(
        [PROMPT] * 3, num_inference_steps=5, guidance_scale=scale, height=24, width=16, generator=generators(),
        negative_prompt=[negative_prompt] * 3, output_type="latent",
    ).images  # fmt: skip
    ask = options(seeds=SEEDS, num_inference_steps=5, guidance_scale=scale, height=24)
    ask = replace(ask, negative_prompt=negative_prompt)
    ours = final_latents(engine64, StableDiffusion(engine64).plan(PROMPT, None, ask), monkeypatch)
    assert relative(ours, theirs) < 1e-9


@pytest.mark.parametrize("scheduler_class", SCHEDULERS_BY_NAME, ids=lambda kind: kind.__name__)
def test_every_scheduler(tiny_backbone64, tiny_folder, options, monkeypatch, scheduler_class):
    theirs = pipeline(tiny_folder, scheduler_class, torch.float64)(
        [PROMPT] * 3, num_inference_steps=5, guidance_scale=5.0, height=16, width=16, generator=generators(),
        output_type="latent",
    ).images  # fmt: skip
    engine = Engine(tiny_backbone64, scheduler_class=scheduler_class)
    ask = options(seeds=SEEDS, num_inference_steps=5)
    ours = final_latents(engine, StableDiffusion(engine).plan(PROMPT, None, ask), monkeypatch)
    assert relative(ours, theirs) < 1e-9


@pytest.mark.parametrize(("dtype", "tolerance"), CASES, ids=["float32", "float64"])
@pytest.mark.parametrize("scheduler_class", SCHEDULERS)
def test_livo_through_prompt_embeds(request, tiny_folder, options, monkeypatch, scheduler_class, dtype, tolerance):
    # diffusers wants both branches of one length, so its pipeline can run 78 tokens without guidance only.
    engine = sampler(request, dtype, scheduler_class)
    livo = LiVO(engine, ValueEncoder.untrained(engine.backbone))
    plan = livo.plan(PROMPT, TOXIC, options(seeds=SEEDS, num_inference_steps=6, guidance_scale=1.0))
    prompt_embeds = torch.stack([c.prompt_embeds for c in plan.branches["cond"]])
    assert prompt_embeds.shape == (3, 78, 32)
    theirs = pipeline(tiny_folder, scheduler_class, dtype)(
        prompt_embeds=prompt_embeds, num_inference_steps=6, guidance_scale=1.0, height=16, width=16,
        generator=generators(), output_type="latent",
    ).images  # fmt: skip
    assert relative(final_latents(engine, plan, monkeypatch), theirs) < tolerance


@pytest.mark.parametrize(("dtype", "tolerance"), CASES, ids=["float32", "float64"])
@pytest.mark.parametrize("scheduler_class", SCHEDULERS)
def test_livo_under_guidance(request, tiny_folder, options, monkeypatch, scheduler_class, dtype, tolerance):
    """Against a plain loop over diffusers' U-Net: one call of 77 tokens, one of 78, at each step."""
    engine = sampler(request, dtype, scheduler_class)
    livo = LiVO(engine, ValueEncoder.untrained(engine.backbone))
    plan = livo.plan(PROMPT, TOXIC, options(seeds=SEEDS, num_inference_steps=6, guidance_scale=7.5))
    ours = final_latents(engine, plan, monkeypatch)

    pipe = pipeline(tiny_folder, scheduler_class, dtype)
    prompt_embeds, negative_prompt_embeds = pipe.encode_prompt(PROMPT, "cpu", 3, True)
    cond = torch.stack([c.prompt_embeds for c in plan.branches["cond"]])
    assert relative(cond[:, 1:], prompt_embeds) < 1e-6
    pipe.scheduler.set_timesteps(6)
    latents = pipe.prepare_latents(3, 4, 16, 16, dtype, "cpu", generators())
    with torch.no_grad():
        for t in pipe.scheduler.timesteps:
            model_input = pipe.scheduler.scale_model_input(latents, t)
            u = pipe.unet(model_input, t, negative_prompt_embeds).sample
            c = pipe.unet(model_input, t, cond).sample
            latents = pipe.scheduler.step(u + 7.5 * (c - u), t, latents).prev_sample
    assert relative(ours, latents) < tolerance


def test_on_the_miniature(monkeypatch):
    backbone = load_backbone("miniature", device="cpu")
    engine, ask = Engine(backbone), SamplingOptions(SEEDS, 6, 7.5, backbone.defaults.height, backbone.defaults.width)
    theirs = pipeline(backbone.folder, DPMSolverMultistepScheduler, torch.float32)(
        [PROMPT] * 3, num_inference_steps=6, guidance_scale=7.5, generator=generators(), output_type="latent"
    ).images
    plan = StableDiffusion(engine).plan(PROMPT, None, ask)
    assert relative(final_latents(engine, plan, monkeypatch), theirs) < 1e-4


def test_a_pipeline_over_the_engines_own_unet_still_works(engine, tiny_folder):
    ask = {"num_inference_steps": 3, "height": 16, "width": 16, "output_type": "latent"}
    plain = pipeline(tiny_folder, DDIMScheduler, torch.float32)
    theirs = plain(PROMPT, generator=generators()[0], **ask).images
    plain.unet = engine.backbone.unet
    assert torch.equal(plain(PROMPT, generator=generators()[0], **ask).images, theirs)


def test_images_are_the_pipelines(engine, tiny_folder, options):
    pipe = pipeline(tiny_folder, DPMSolverMultistepScheduler, torch.float32)
    theirs = pipe(
        [PROMPT] * 3, num_inference_steps=3, guidance_scale=5.0, height=16, width=16, generator=generators(),
        output_type="np",
    ).images  # fmt: skip
    plan = StableDiffusion(engine).plan(PROMPT, None, options(seeds=SEEDS))
    ours = engine.generate({"sd": plan})["sd"]
    wanted = torch.from_numpy(theirs).permute(0, 3, 1, 2) * 255
    assert ours.dtype == torch.uint8 and wanted.std() > 5
    assert (ours - wanted).abs().max() <= 0.51, "rounded, not cut"


@pytest.mark.parametrize("scheduler_class", SCHEDULERS_BY_NAME, ids=lambda kind: kind.__name__)
def test_a_start_is_image_to_image(tiny_backbone64, tiny_folder, options, monkeypatch, scheduler_class):
    pipe = StableDiffusionImg2ImgPipeline.from_pretrained(tiny_folder, safety_checker=None, dtype=torch.float64)
    pipe.scheduler = scheduler_class.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    picture = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    theirs = pipe(
        [PROMPT] * 3, image=picture, strength=0.6, num_inference_steps=7, guidance_scale=5.0, generator=generators(),
        output_type="latent",
    ).images  # fmt: skip
    engine = Engine(tiny_backbone64, scheduler_class=scheduler_class)
    plan = StableDiffusion(engine).plan(PROMPT, None, options(seeds=SEEDS, num_inference_steps=7))
    plan = replace(plan, start=Start(picture, 0.6))
    assert relative(final_latents(engine, plan, monkeypatch), theirs) < 1e-9
    other = final_latents(engine, replace(plan, start=Start(picture[1:2], 0.6)), monkeypatch)
    assert relative(other[1:2], theirs[1:2]) < 1e-9, "one picture serves all seeds"
    assert relative(other, theirs) > 1e-2, "the picture must matter"
    with pytest.raises(ValueError, match="runs no step"):
        engine.generate({"plan": replace(plan, start=Start(picture, 0.1))})
    with pytest.raises(ValueError, match="another strength"):
        engine.generate({"plan": plan, "noise": replace(plan, start=None)})
