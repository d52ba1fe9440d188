from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from plans import latents_of

from baselines.stable_diffusion import StableDiffusion
from livo.diffusion.engine import ClassifierFreeGuidance
from livo.miniature.captions import vocabulary
from livo.miniature.world import load_world
from livo.principles import load_principles
from livo.types import Step
from train.preference_data.safe_latent import (
    MAX,
    MEDIUM,
    SAFETY_CONCEPTS,
    STRONG,
    WEAK,
    Preset,
    SafeLatentGuidance,
    safe_plan,
)

PROMPT = "a photo of a naked doctor"


def predictions() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    branches = ("uncond", "cond", "safety")
    return {branch: torch.randn(2, 4, 8, 8, generator=generator, dtype=torch.float64) for branch in branches}


def test_momentum_gathers_in_the_warm_up_and_stays_in_one_run():
    preds, guide, memory = predictions(), SafeLatentGuidance(7.5, replace(STRONG, warmup=2)), {}
    for index in range(2):
        step = Step(index, 0, 10, memory)
        assert torch.equal(guide(preds, step), ClassifierFreeGuidance(7.5)(preds, step)), "the warm-up, bit for bit"
    last = guide(preds, Step(2, 0, 10, memory))
    u, c, s = preds["uncond"], preds["cond"], preds["safety"]
    mu = torch.where(c - s < 0.025, torch.minimum(2000 * (c - s).abs(), torch.ones_like(c)), torch.zeros_like(c))
    nu = gamma = torch.zeros_like(c)
    for _ in range(3):
        gamma = mu * (s - u) + 0.5 * nu
        nu = 0.7 * nu + 0.3 * gamma
    torch.testing.assert_close(last, u + 7.5 * (c - u - gamma))
    assert not torch.allclose(last, guide(preds, Step(2, 0, 10, {}))), "another run begins without it"


def test_a_concept_far_from_the_prompt_changes_nothing():
    preds = predictions()
    preds["safety"] = preds["cond"] - 2.0  # c - s is above every threshold, everywhere
    for preset in (WEAK, MEDIUM, STRONG, MAX):
        step = Step(20, 0, 50)
        guided = SafeLatentGuidance(7.5, preset)(preds, step)
        torch.testing.assert_close(guided, ClassifierFreeGuidance(7.5)(preds, step))


def test_warm_ups_rescale_to_a_share_of_the_steps():
    assert [p.warmup for p in (WEAK, MEDIUM, STRONG, MAX)] == [15, 10, 7, 0]
    assert [p.rescaled(12).warmup for p in (WEAK, MEDIUM, STRONG, MAX)] == [4, 2, 2, 0]
    assert MEDIUM.rescaled(50) == MEDIUM
    assert replace(MEDIUM.rescaled(12), warmup=10) == MEDIUM, "nothing else changes"


def test_every_toxic_principle_has_a_concept_in_words_that_the_drawn_world_knows():
    assert SAFETY_CONCEPTS.keys() == {p.id for p in load_principles() if p.risk == "toxicity"}
    words = " ".join(SAFETY_CONCEPTS.values()).replace(",", " ").split()
    assert set(words) <= set(vocabulary(load_world()))


def test_the_plan_is_the_toxic_images_own_with_the_concept_added(engine, options):
    toxic = StableDiffusion(engine).plan(PROMPT, None, options())
    plan = safe_plan(engine, PROMPT, SAFETY_CONCEPTS["nudity"], options(), MEDIUM)
    assert plan.options == toxic.options and plan.unet_override == toxic.unet_override
    for branch, (wanted,) in toxic.branches.items():
        assert torch.equal(plan.branches[branch][0].prompt_embeds, wanted.prompt_embeds)
    assert torch.equal(plan.branches["safety"][0].prompt_embeds, engine.encode_prompt("a naked person"))
    assert hash(plan.guide) == hash(SafeLatentGuidance(5.0, MEDIUM)) and plan.guide == SafeLatentGuidance(5.0, MEDIUM)


def test_an_image_alone_is_the_image_in_the_batch(engine64, options, monkeypatch):
    ask = options(seeds=range(3), num_inference_steps=6)
    toxic = StableDiffusion(engine64).plan(PROMPT, None, ask)
    plan = safe_plan(engine64, PROMPT, "a naked person", ask)
    together = latents_of(engine64, {"safe": plan, "toxic": toxic}, monkeypatch)
    assert not torch.allclose(together["safe"], together["toxic"])
    for i, seed in enumerate(ask.seeds):
        alone = replace(plan, options=replace(ask, seeds=(seed,)))
        torch.testing.assert_close(latents_of(engine64, {"x": alone}, monkeypatch)["x"][0], together["safe"][i])


def test_a_scale_that_steers_nothing_is_refused(engine, options):
    with pytest.raises(ValueError, match="above 1; got 1.0"):
        safe_plan(engine, PROMPT, "a naked person", options(guidance_scale=1.0))
    with pytest.raises(ValueError, match="safety scale of 1.0"):
        Preset(0, 1.0, 0.0, 0.0, 0.0)
