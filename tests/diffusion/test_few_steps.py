"""Models of a few steps against their pipelines: consistency models that read the guidance scale, and turbo models."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import (
    DiffusionPipeline,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    LatentConsistencyModelPipeline,
    LCMScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)

from baselines.fair_diffusion import load as load_fair_diffusion
from baselines.stable_diffusion import StableDiffusion
from livo.diffusion.backbones import Defaults, load_backbone
from livo.diffusion.engine import Engine
from livo.methods.livo import LiVO
from livo.methods.value_encoder import ValueEncoder
from livo.principles import find_principle
from livo.types import InputError, Lacking, SamplingOptions

PROMPT, SEEDS = "a photo of a doctor", (3, 11)
SCHEDULE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def with_scheduler(folder: Path, scheduler) -> Path:
    scheduler.save_pretrained(folder / "scheduler")
    index = json.loads((folder / "model_index.json").read_text())
    index["scheduler"] = ["diffusers", type(scheduler).__name__]
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


@pytest.fixture(scope="module")
def lcm(tiny_folder, tmp_path_factory) -> Path:
    """Read-only by agreement: its U-Net listens to the guidance scale, as fresh ones hardly do."""
    folder = Path(shutil.copytree(tiny_folder, tmp_path_factory.mktemp("lcm") / "model"))
    torch.manual_seed(1)
    config = dict(UNet2DConditionModel.load_config(folder / "unet"))
    unet = UNet2DConditionModel.from_config(config | {"time_cond_proj_dim": 17})
    with torch.no_grad():
        unet.time_embedding.cond_proj.weight.mul_(5)
    unet.save_pretrained(folder / "unet")
    index = json.loads((folder / "model_index.json").read_text()) | {"_class_name": "LatentConsistencyModelPipeline"}
    (folder / "model_index.json").write_text(json.dumps(index))
    return with_scheduler(folder, LCMScheduler(**SCHEDULE, original_inference_steps=20))


def asked(scale: float, steps: int = 4) -> SamplingOptions:
    return SamplingOptions(SEEDS, steps, scale, 16, 24)


def theirs(pipe: DiffusionPipeline, options: SamplingOptions) -> torch.Tensor:
    pipe.set_progress_bar_config(disable=True)
    return pipe(
        [PROMPT] * len(SEEDS), num_inference_steps=options.num_inference_steps, height=16, width=24,
        guidance_scale=options.guidance_scale, generator=[torch.Generator().manual_seed(seed) for seed in SEEDS],
        output_type="latent",
    ).images  # fmt: skip


def ours(engine: Engine, options: SamplingOptions) -> torch.Tensor:
    return engine.sample({"sd": StableDiffusion(engine).plan(PROMPT, None, options)})["sd"]


def apart(a: torch.Tensor, b: torch.Tensor) -> float:
    return ((a - b).abs().max() / b.abs().max()).item()


def test_a_consistency_model_is_its_pipeline(lcm):
    backbone = load_backbone(str(lcm), "cpu")
    assert backbone.defaults == Defaults(4, 8.5, 16, 16)
    assert "4 steps by LCMScheduler" in backbone.sampled_as and "which the network reads" in backbone.sampled_as
    engine, pipe = Engine(backbone), LatentConsistencyModelPipeline.from_pretrained(lcm, safety_checker=None)
    assert engine.scheduler_class is LCMScheduler
    made = {}
    for scale, steps in ((0.0, 4), (1.0, 4), (8.5, 4), (8.5, 1)):
        made[scale, steps] = ours(engine, asked(scale, steps))
        assert apart(made[scale, steps], theirs(pipe, asked(scale, steps))) < 1e-4, (scale, steps)
    assert apart(made[1.0, 4], made[8.5, 4]) > 1e-2, "the scale must matter far more than the tolerance"
    assert engine.rows({"sd": StableDiffusion(engine).plan(PROMPT, None, asked(8.5))}) == (8, 2), "one row an image"
    with pytest.raises(InputError, match="LCMScheduler cannot run 30 steps .* give fewer, such as 4"):
        ours(engine, asked(8.5, 30))


def test_a_consistency_model_takes_the_value_token(lcm):
    engine = Engine(load_backbone(str(lcm), "cpu"))
    livo = LiVO(engine, ValueEncoder.untrained(engine.backbone))
    plain = StableDiffusion(engine).plan(PROMPT, None, asked(8.5))
    plans = {"sd": plain, "none": livo.plan(PROMPT, None, asked(8.5))}
    plans |= {"livo": livo.plan(PROMPT, find_principle("nudity"), asked(8.5))}
    made = engine.sample(plans)
    assert torch.equal(made["none"], made["sd"]) and apart(made["livo"], made["sd"]) > 1e-3
    with pytest.raises(Lacking, match="does not apply"):
        load_fair_diffusion(engine)


@pytest.mark.parametrize("solver", [EulerDiscreteScheduler, EulerAncestralDiscreteScheduler])
def test_a_turbo_model_is_its_pipeline_without_guidance(tiny_folder, tmp_path, solver):
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "turbo"))
    with_scheduler(folder, solver(**SCHEDULE, timestep_spacing="trailing", steps_offset=1))
    backbone = load_backbone(str(folder), "cpu")
    engine, pipe = Engine(backbone), StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    assert backbone.defaults == Defaults(4, 0.0, 16, 16) and engine.scheduler_class is solver
    assert f"{solver.__name__} with no guidance" in backbone.sampled_as
    for steps in (1, 4):
        assert apart(ours(engine, asked(0.0, steps)), theirs(pipe, asked(0.0, steps))) < 1e-4


@pytest.mark.parametrize("scheduler", [
    PNDMScheduler(**SCHEDULE, timestep_spacing="trailing"),
    EulerDiscreteScheduler(**SCHEDULE, timestep_spacing="leading"),
    EulerDiscreteScheduler(**SCHEDULE, timestep_spacing="trailing", rescale_betas_zero_snr=True),
])  # fmt: skip
def test_other_models_keep_their_steps(tiny_folder, tmp_path, scheduler):
    folder = with_scheduler(Path(shutil.copytree(tiny_folder, tmp_path / "model")), scheduler)
    backbone = load_backbone(str(folder), "cpu")
    assert backbone.defaults == Defaults(25, 7.5, 16, 16) and not backbone.sampled_as
