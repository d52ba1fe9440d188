"""Safe latent diffusion against diffusers' StableDiffusionPipelineSafe, final latents."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipelineSafe
from diffusers.pipelines.deprecated.stable_diffusion_safe import SafetyConfig
from plans import latents_of

from livo.diffusion.backbones import load_backbone
from livo.diffusion.engine import Engine
from livo.types import SamplingOptions
from train.preference_data.safe_latent import MAX, MEDIUM, STRONG, WEAK, Preset, SafeLatentGuidance, safe_plan

pytestmark = pytest.mark.filterwarnings("ignore:The decode_latents method:FutureWarning")

PROMPT, CONCEPT = "a photo of a naked doctor", "nudity"
SEEDS = (3, 11)
PRESETS = {"WEAK": WEAK, "MEDIUM": MEDIUM, "STRONG": STRONG, "MAX": MAX}
# Largest difference over largest latent. float32: kernels depend on the batch size, and a latent may cross a threshold.
TOLERANCES = [(torch.float32, 1e-4), (torch.float64, 1e-9)]


def theirs(folder, dtype, options: SamplingOptions, config: dict) -> torch.Tensor:
    """Final latents by callback: this pipeline decodes whatever output it is asked for."""
    pipe = StableDiffusionPipelineSafe.from_pretrained(
        folder, safety_checker=None, feature_extractor=None, requires_safety_checker=False, dtype=dtype
    )
    pipe.scheduler = DPMSolverMultistepScheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    pipe.safety_concept = CONCEPT
    caught = {}
    pipe(
        PROMPT, num_images_per_prompt=len(options.seeds), output_type="np",
        generator=[torch.Generator().manual_seed(seed) for seed in options.seeds],
        num_inference_steps=options.num_inference_steps, guidance_scale=options.guidance_scale,
        height=options.height, width=options.width,
        callback=lambda step, timestep, latents: caught.update(latents=latents.clone()), **config,
    )  # fmt: skip
    return caught["latents"]


def ours(engine, options: SamplingOptions, preset: Preset, monkeypatch) -> torch.Tensor:
    return latents_of(engine, {"safe": safe_plan(engine, PROMPT, CONCEPT, options, preset)}, monkeypatch)["safe"]


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return ((a - b).abs().max() / b.abs().max()).item()


@pytest.mark.parametrize(("dtype", "tolerance"), TOLERANCES, ids=["float32", "float64"])
@pytest.mark.parametrize("name", PRESETS)
def test_presets(request, tiny_folder, options, monkeypatch, count_rows, name, dtype, tolerance):
    engine = Engine(request.getfixturevalue("tiny_backbone64" if dtype == torch.float64 else "tiny_backbone"))
    ask = options(seeds=SEEDS, num_inference_steps=20, guidance_scale=7.5)
    wanted = theirs(tiny_folder, dtype, ask, getattr(SafetyConfig, name))
    rows = count_rows(engine.backbone.unet)
    assert relative(ours(engine, ask, PRESETS[name], monkeypatch), wanted) < tolerance
    assert set(rows) == {3 * len(SEEDS)}


@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0, 1.5])
def test_guidance_acts_only_above_1(engine64, tiny_folder, options, monkeypatch, scale):
    above = safe_plan(engine64, PROMPT, CONCEPT, options(seeds=SEEDS, num_inference_steps=8, guidance_scale=2.0), MAX)
    ask = options(seeds=SEEDS, num_inference_steps=8, guidance_scale=scale)
    plan = replace(above, options=ask, guide=SafeLatentGuidance(scale, MAX))
    wanted = theirs(tiny_folder, torch.float64, ask, SafetyConfig.MAX)
    assert relative(latents_of(engine64, {"safe": plan}, monkeypatch)["safe"], wanted) < 1e-9


def test_a_wrong_constant_does_not_pass(engine64, tiny_folder, options, monkeypatch):
    ask = options(seeds=SEEDS, num_inference_steps=20, guidance_scale=7.5)
    changes = [
        {"warmup": 8}, {"scale": 1900.0}, {"threshold": 0.02}, {"momentum_scale": 0.4}, {"momentum_beta": 0.6},
    ]  # fmt: skip
    wanted = theirs(tiny_folder, torch.float64, ask, SafetyConfig.STRONG)
    plans = {str(c): safe_plan(engine64, PROMPT, CONCEPT, ask, replace(STRONG, **c)) for c in changes}
    errors = {name: relative(got, wanted) for name, got in latents_of(engine64, plans, monkeypatch).items()}
    assert len(errors) == 5 and min(errors.values()) > 1e-5, errors


def test_on_the_miniature(monkeypatch):
    backbone = load_backbone("miniature", device="cpu")
    ask = SamplingOptions(SEEDS, 4, 7.5, backbone.defaults.height, backbone.defaults.width)
    wanted = theirs(backbone.folder, torch.float32, ask, SafetyConfig.STRONG | {"sld_warmup_steps": 1})
    assert relative(ours(Engine(backbone), ask, replace(STRONG, warmup=1), monkeypatch), wanted) < 1e-4
