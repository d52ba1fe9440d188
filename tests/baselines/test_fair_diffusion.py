from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
import torch
from plans import latents_of

from baselines.fair_diffusion import Concept, FairDiffusion, SemanticGuidance, deal_classes, load
from baselines.stable_diffusion import StableDiffusion
from livo.diffusion.engine import ClassifierFreeGuidance, Engine
from livo.miniature.captions import vocabulary
from livo.miniature.world import load_world
from livo.types import Principle, Step

PROMPT = "a photo of a doctor"
GENDER = Principle("gender_equality", "gender equality", "bias", ("male", "female"))
RACE = Principle("racial_equality", "racial equality", "bias", ("white", "black", "indian", "asian", "latino"))
TOXIC = Principle("nudity", "nudity considered inappropriate", "toxicity", ("clean", "nudity"))
PAIR = SemanticGuidance(7.0, (Concept("a", 4.0, 0.9, 2, reverse=True), Concept("b", 4.0, 0.9, 2)), 0.5, 0.6)


def predictions(*more: str, dtype=torch.float64) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {b: torch.randn(2, 4, 8, 8, generator=generator).to(dtype) for b in ("uncond", "cond", "a", "b", *more)}


@pytest.mark.parametrize(("count", "classes"), [(50, 2), (50, 5), (7, 2), (1, 2), (3, 5), (12, 5)])
def test_the_quota_is_exact(count, classes):
    counts = Counter(deal_classes(range(count), classes))
    assert all(count // classes <= counts[k] <= -(-count // classes) for k in range(classes))
    assert sum(counts.values()) == count


def test_the_quota_depends_on_the_seeds_and_not_on_their_order():
    seeds = list(range(100, 121))
    first = dict(zip(seeds, deal_classes(seeds, 2), strict=True))
    assert first == dict(zip(seeds[::-1], deal_classes(seeds[::-1], 2), strict=True))
    assert set(deal_classes(seeds[:10], 2)) == set(list(first.values())[:10]) == {0, 1}, "no half of a run is left out"
    assert sorted(deal_classes([3, 3, 3, 3], 2)) == [0, 0, 1, 1]


def test_what_is_left_over_does_not_always_go_to_one_class():
    assert len({deal_classes([seed], 5) for seed in range(60)}) == 5


def test_before_the_warm_up_ends_it_is_classifier_free_guidance_bit_for_bit():
    preds, memory = predictions(dtype=torch.float32), {}
    for index in (0, 1):
        step = Step(index, 0, 10, memory)
        assert torch.equal(PAIR(preds, step), ClassifierFreeGuidance(7.0)(preds, step))
    assert not torch.equal(PAIR(preds, Step(2, 0, 10, memory)), ClassifierFreeGuidance(7.0)(preds, Step(2, 0, 10)))


def test_momentum_gathers_from_the_first_step_and_stays_in_one_run():
    preds, memory = predictions(), {}
    for index in range(3):
        last = PAIR(preds, Step(index, 0, 10, memory))
    shift = sum(c.shift(preds[c.branch], preds["uncond"]) for c in PAIR.concepts)
    nu, total = 0, 0
    for _ in range(3):
        total = shift + 0.5 * nu
        nu = 0.6 * nu + 0.4 * total
    torch.testing.assert_close(last, ClassifierFreeGuidance(7.0)(preds, Step(2, 0, 10)) + total)
    torch.testing.assert_close(memory["momentum"], nu)
    assert not torch.allclose(last, PAIR(preds, Step(2, 0, 10, {}))), "another run begins without it"


def test_a_shift_keeps_the_largest_part_of_each_channel():
    preds = predictions()
    shift = Concept("a", 4.0, 0.9, 0).shift(preds["a"], preds["uncond"])
    full = 4.0 * (preds["a"] - preds["uncond"])
    assert ((shift != 0).flatten(2).sum(2) == 7).all(), "a tenth of 64, rounded up"
    kept = torch.where(shift != 0, full.abs(), torch.inf).flatten(2).amin(2)
    left = torch.where(shift == 0, full.abs(), 0).flatten(2).amax(2)
    assert (kept > left).all() and torch.equal(shift[shift != 0], full[shift != 0])
    assert torch.equal(Concept("a", 4.0, 0.9, 0, reverse=True).shift(preds["a"], preds["uncond"]), -shift)


def test_half_precision_works():
    assert PAIR(predictions(dtype=torch.float16), Step(2, 0, 10)).dtype == torch.float16


@pytest.mark.parametrize("first", [{"cooldown": 3}, {"weight": 0.0}], ids=str)
def test_no_weight_left_is_no_edit_and_not_0_by_0(first):
    a, b = PAIR.concepts
    guide = replace(PAIR, concepts=(replace(a, warmup=0, **first), replace(b, warmup=8)))
    preds, step = predictions(), Step(4, 0, 10)
    assert torch.equal(guide(preds, step), ClassifierFreeGuidance(7.0)(preds, step))


def test_without_a_principle_it_is_stable_diffusion_at_no_cost(engine, options, count_rows):
    fair, sd = load(engine).plan(PROMPT, None, options()), StableDiffusion(engine).plan(PROMPT, None, options())
    rows = count_rows(engine.backbone.unet)
    images = engine.generate({"fair": fair, "sd": sd})
    assert torch.equal(images["fair"], images["sd"]) and rows == [4, 4, 4] and fair.notes == ()


def test_gender_enhances_the_target_and_suppresses_the_other(engine, options):
    plan = load(engine).plan(PROMPT, GENDER, options(seeds=range(8)))
    assert Counter(plan.notes) == {"toward male": 4, "toward female": 4}
    texts = {name: engine.encode_prompt(f"{name} person") for name in GENDER.classes}
    for note, away, toward in zip(plan.notes, plan.branches["suppress"], plan.branches["enhance"], strict=True):
        target = note.removeprefix("toward ")
        other = "male" if target == "female" else "female"
        assert torch.equal(toward.prompt_embeds, texts[target]) and torch.equal(away.prompt_embeds, texts[other])


def test_of_five_classes_each_is_a_target_and_the_plain_person_is_suppressed(engine, options, monkeypatch):
    words = engine.backbone.tokenizer.get_vocab() | {f"{name}</w>": 0 for name in RACE.classes}
    monkeypatch.setattr(engine.backbone.tokenizer, "get_vocab", lambda: words)
    plan = load(engine).plan(PROMPT, RACE, options(seeds=range(10)))
    assert Counter(plan.notes) == {f"toward {name}": 2 for name in RACE.classes}
    assert {id(c.prompt_embeds) for c in plan.branches["suppress"]} == {id(engine.encode_prompt("person"))}
    wanted = [engine.encode_prompt(f"{note.removeprefix('toward ')} person") for note in plan.notes]
    assert all(torch.equal(c.prompt_embeds, w) for c, w in zip(plan.branches["enhance"], wanted, strict=True))


def test_in_the_drawn_world_race_is_skin_tone_in_words_it_knows(options, monkeypatch):
    from livo.diffusion.backbones import load_backbone

    world, engine, asked = load_world(), Engine(load_backbone("miniature", device="cpu")), []
    monkeypatch.setattr(engine, "encode_prompt", lambda prompt: asked.append(prompt) or torch.zeros(77, 128))
    for principle in (RACE, GENDER):
        plan = load(engine).plan(PROMPT, principle, options(seeds=range(10)))
        names = [f"{tone} skin" for tone in world.tones] if principle is RACE else GENDER.classes
        assert set(plan.notes) == {f"toward {name}" for name in names}
    assert set(" ".join(asked).split()) <= set(vocabulary(world)), asked


def test_constants_are_the_scripts(engine, options):
    for steps, warmup in ((50, 5), (25, 3), (12, 1)):
        plan = load(engine).plan(PROMPT, GENDER, options(num_inference_steps=steps, guidance_scale=7.0))
        suppress = Concept("suppress", 4.0, 0.95, warmup, reverse=True)
        assert plan.guide == SemanticGuidance(7.0, (suppress, Concept("enhance", 4.0, 0.95, warmup)), 0.5, 0.6)
    assert len({load(engine).plan(PROMPT, p, options()).guide for p in (GENDER, RACE)}) == 1, "hashable, one for all"


@pytest.mark.parametrize("guidance_scale", [0.0, 0.5, 1.0])
def test_where_guidance_does_not_act_it_is_the_base_model_and_says_so(engine, options, guidance_scale):
    ask = options(seeds=range(3), guidance_scale=guidance_scale)
    plan, plain = load(engine).plan(PROMPT, GENDER, ask), StableDiffusion(engine).plan(PROMPT, None, ask)
    images = engine.generate({"fair": plan, "sd": plain})
    assert torch.equal(images["fair"], images["sd"]) and len(plan.notes) == 3
    assert plan.notes[0].startswith("no direction") and f"not at {guidance_scale:g}" in plan.notes[0]


@pytest.mark.parametrize("guidance_scale", [1.5, 5.0])
def test_an_image_alone_is_the_image_in_the_batch(engine64, options, monkeypatch, guidance_scale):
    ask = options(seeds=range(4), num_inference_steps=6, guidance_scale=guidance_scale)
    plan, sd = FairDiffusion(engine64).plan(PROMPT, GENDER, ask), StableDiffusion(engine64).plan(PROMPT, None, ask)
    together = latents_of(engine64, {"fair": plan, "sd": sd}, monkeypatch)
    for i, seed in enumerate(ask.seeds):
        branches = {name: (c[i if len(c) > 1 else 0],) for name, c in plan.branches.items()}
        alone = replace(plan, branches=branches, options=replace(ask, seeds=(seed,)), notes=plan.notes[i : i + 1])
        torch.testing.assert_close(latents_of(engine64, {"x": alone}, monkeypatch)["x"][0], together["fair"][i])
        assert not torch.allclose(together["fair"][i], together["sd"][i])


def test_toxicity_is_refused(engine, options):
    with pytest.raises(ValueError, match="bias only; 'nudity' guards against toxicity"):
        load(engine).plan(PROMPT, TOXIC, options())
