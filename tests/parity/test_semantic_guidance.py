"""Semantic guidance and Fair Diffusion against diffusers' SemanticStableDiffusionPipeline, final latents."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, PNDMScheduler, SemanticStableDiffusionPipeline
from plans import latents_of

from baselines.fair_diffusion import Concept, FairDiffusion, SemanticGuidance
from livo.diffusion.backbones import load_backbone
from livo.diffusion.engine import Engine
from livo.types import Conditioning, Plan, Principle, SamplingOptions

PROMPT = "a photo of a doctor"
GENDER = Principle("gender_equality", "gender equality", "bias", ("male", "female"))
EDITS = ("male person", "female person", "smiling person")
SEEDS = (3, 11)
# Largest difference over largest latent; in float32 the kernels depend on the batch size and on the processor.
TOLERANCES = [(torch.float32, 1e-4), (torch.float64, 1e-9)]
NEVER = 1000


def without_masks(guide: SemanticGuidance) -> SemanticGuidance:
    """The same guidance with nothing left alone, for comparisons in float32.

    A latent within rounding of its threshold is pushed by one side and not by the other, and the two runs part: with
    some processors' kernels by half of the largest latent. So masks are compared in float64, where rounding is 1e8
    times smaller than the distance of the nearest latent, and the rest of the arithmetic in float32 as well.
    """
    return replace(guide, concepts=tuple(replace(c, threshold=0.0) for c in guide.concepts))


def concept(k: int, **change) -> Concept:
    return replace(Concept(f"edit_{k}", 4.0, 0.95, 5, reverse=k == 0), **change)


GUIDES = {
    "together": SemanticGuidance(7.0, (concept(0), concept(1)), 0.5, 0.6),
    "staggered": SemanticGuidance(
        7.0, (concept(0, warmup=2, threshold=0.9), concept(1, warmup=6)), 0.5, 0.6
    ),
    "weights": SemanticGuidance(
        7.0, (concept(0, warmup=2, weight=2.0), concept(1, warmup=6, weight=0.5, scale=5.0)), 0.5, 0.6
    ),
    "negative weight and cooldown": SemanticGuidance(
        7.0, (concept(0, weight=-1.0), concept(1, warmup=2, cooldown=7), concept(2, threshold=0.8)), 0.3, 0.4
    ),
    "one": SemanticGuidance(7.0, (concept(0),), 0.1, 0.4),
}  # fmt: skip


def pipeline(folder, scheduler_class, dtype) -> SemanticStableDiffusionPipeline:
    """Fresh from disk, with diffusers' own attention."""
    pipe = SemanticStableDiffusionPipeline.from_pretrained(
        folder, safety_checker=None, feature_extractor=None, requires_safety_checker=False, dtype=dtype
    )
    pipe.scheduler = scheduler_class.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def theirs(pipe, guide: SemanticGuidance, options: SamplingOptions, prompts=(PROMPT,), edits=EDITS) -> torch.Tensor:
    """Final latents, prompt by prompt, every seed in each."""
    concepts = guide.concepts
    return pipe(
        list(prompts), num_images_per_prompt=len(options.seeds), output_type="latent",
        generator=[torch.Generator().manual_seed(seed) for _ in prompts for seed in options.seeds],
        num_inference_steps=options.num_inference_steps, guidance_scale=guide.scale,
        height=options.height, width=options.width,
        editing_prompt=list(edits[: len(concepts)]),
        reverse_editing_direction=[c.reverse for c in concepts],
        edit_guidance_scale=[c.scale for c in concepts],
        edit_warmup_steps=[c.warmup for c in concepts],
        edit_cooldown_steps=[NEVER if c.cooldown is None else c.cooldown for c in concepts],
        edit_threshold=[c.threshold for c in concepts],
        edit_weights=[c.weight for c in concepts],
        edit_momentum_scale=guide.momentum_scale, edit_mom_beta=guide.momentum_beta,
    ).images  # fmt: skip


def edit_plan(engine, guide: SemanticGuidance, options: SamplingOptions, prompt: str = PROMPT) -> Plan:
    texts = {"cond": prompt, "uncond": ""} | {c.branch: EDITS[int(c.branch[-1])] for c in guide.concepts}
    branches = {branch: (Conditioning(engine.encode_prompt(text)),) for branch, text in texts.items()}
    return Plan(branches, guide, options)


def ours(engine, guide, options, monkeypatch, prompt: str = PROMPT) -> torch.Tensor:
    return latents_of(engine, {"edit": edit_plan(engine, guide, options, prompt)}, monkeypatch)["edit"]


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return ((a - b).abs().max() / b.abs().max()).item()


def sampler(request, dtype, scheduler_class) -> Engine:
    backbone = request.getfixturevalue("tiny_backbone64" if dtype == torch.float64 else "tiny_backbone")
    return Engine(backbone, scheduler_class=scheduler_class)


@pytest.mark.parametrize(("dtype", "tolerance"), TOLERANCES, ids=["float32", "float64"])
@pytest.mark.parametrize("scheduler_class", [DDIMScheduler, PNDMScheduler, DPMSolverMultistepScheduler])
@pytest.mark.parametrize("name", ["together", "staggered"])
def test_two_concepts(request, tiny_folder, options, monkeypatch, count_rows, name, scheduler_class, dtype, tolerance):
    engine = sampler(request, dtype, scheduler_class)
    guide = without_masks(GUIDES[name]) if dtype == torch.float32 else GUIDES[name]
    ask = options(seeds=SEEDS, num_inference_steps=10, guidance_scale=7.0)
    wanted = theirs(pipeline(tiny_folder, scheduler_class, dtype), guide, ask)
    rows = count_rows(engine.backbone.unet)
    assert relative(ours(engine, guide, ask, monkeypatch), wanted) < tolerance
    assert set(rows) == {4 * len(SEEDS)}


@pytest.mark.parametrize("name", ["weights", "negative weight and cooldown", "one"])
def test_two_prompts_of_two_images(engine64, tiny_folder, options, monkeypatch, name):
    prompts, ask = (PROMPT, "a nurse"), options(seeds=SEEDS, num_inference_steps=10)
    wanted = theirs(pipeline(tiny_folder, DPMSolverMultistepScheduler, torch.float64), GUIDES[name], ask, prompts)
    plans = {prompt: edit_plan(engine64, GUIDES[name], ask, prompt) for prompt in prompts}
    assert relative(torch.cat(list(latents_of(engine64, plans, monkeypatch).values())), wanted) < 1e-9


@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0, 1.5])
def test_guidance_acts_only_above_1(engine64, tiny_folder, options, monkeypatch, scale):
    guide, ask = replace(GUIDES["together"], scale=scale), options(seeds=SEEDS, num_inference_steps=10)
    wanted = theirs(pipeline(tiny_folder, DPMSolverMultistepScheduler, torch.float64), guide, ask)
    assert relative(ours(engine64, guide, ask, monkeypatch), wanted) < 1e-9


def test_a_wrong_constant_does_not_pass(engine64, tiny_folder, options, monkeypatch):
    ask, right = options(seeds=SEEDS, num_inference_steps=10), GUIDES["staggered"]
    first, second = right.concepts
    changes = [
        {"scale": 4.1}, {"threshold": 0.95}, {"warmup": 3}, {"cooldown": 9}, {"weight": 1.1}, {"reverse": False},
    ]  # fmt: skip
    guides = {str(change): replace(right, concepts=(replace(first, **change), second)) for change in changes}
    guides |= {str(c): replace(right, **c) for c in ({"scale": 7.1}, {"momentum_scale": 0.4}, {"momentum_beta": 0.5})}
    wanted = theirs(pipeline(tiny_folder, DPMSolverMultistepScheduler, torch.float64), right, ask)
    plans = {name: edit_plan(engine64, guide, ask) for name, guide in guides.items()}
    errors = {name: relative(got, wanted) for name, got in latents_of(engine64, plans, monkeypatch).items()}
    assert len(errors) == 9 and min(errors.values()) > 1e-5, errors


def test_where_the_pipeline_divides_zero_by_zero_we_do_not(engine64, tiny_folder, options, monkeypatch):
    guide = replace(GUIDES["together"], concepts=(concept(0, warmup=0, cooldown=3), concept(1, warmup=8)))
    ask = options(seeds=SEEDS, num_inference_steps=10)
    pipe = pipeline(tiny_folder, DPMSolverMultistepScheduler, torch.float64)
    assert theirs(pipe, guide, ask).isnan().all()
    assert ours(engine64, guide, ask, monkeypatch).isfinite().all()


def test_fair_diffusion_is_the_authors_script(engine64, tiny_folder, options, monkeypatch):
    """Its constants as the script passes them, its warm-up 5 of 50 as 1 of 10, toward either side."""
    ask = options(seeds=SEEDS, num_inference_steps=10, guidance_scale=7.0)
    plan = FairDiffusion(engine64).plan(PROMPT, GENDER, ask)
    found = latents_of(engine64, {"fair": plan}, monkeypatch)["fair"]
    pipe = pipeline(tiny_folder, DPMSolverMultistepScheduler, torch.float64)
    assert sorted(plan.notes) == ["toward female", "toward male"]
    for i, note in enumerate(plan.notes):
        edits = ("male person", "female person") if note == "toward female" else ("female person", "male person")
        script = pipe(
            PROMPT, generator=torch.Generator().manual_seed(SEEDS[i]), guidance_scale=7, num_inference_steps=10,
            height=16, width=16, output_type="latent", editing_prompt=list(edits),
            reverse_editing_direction=[True, False], edit_warmup_steps=1, edit_guidance_scale=4, edit_threshold=0.95,
            edit_momentum_scale=0.5, edit_mom_beta=0.6,
        ).images  # fmt: skip
        assert relative(found[i], script[0]) < 1e-9


def test_on_the_miniature(monkeypatch):
    backbone = load_backbone("miniature", device="cpu")
    engine, ask = Engine(backbone), SamplingOptions(SEEDS, 4, 7.0, backbone.defaults.height, backbone.defaults.width)
    guide = without_masks(replace(GUIDES["together"], concepts=(concept(0, warmup=1), concept(1, warmup=1))))
    pipe = pipeline(backbone.folder, DPMSolverMultistepScheduler, torch.float32)
    assert relative(ours(engine, guide, ask, monkeypatch), theirs(pipe, guide, ask)) < 1e-4
