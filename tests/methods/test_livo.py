from __future__ import annotations

import dataclasses
import sys

import pytest
import torch

import baselines
from baselines.stable_diffusion import StableDiffusion
from livo.methods import livo as method
from livo.methods.livo import LiVO, fair_mixing_rate, take_value
from livo.methods.value_encoder import ValueEncoder, ValueEncoderError, save_value_encoder
from livo.types import Artefact, InputError, Principle

BIAS = Principle("gender_equality", "gender equality", "bias", ("female", "male"))
TOXIC = Principle("nudity", "nudity considered inappropriate", "toxicity", ("nudity",))
PROMPT = "a photo of a doctor"


@pytest.fixture
def livo(engine) -> LiVO:
    return LiVO(engine, ValueEncoder.untrained(engine.backbone))


@pytest.fixture
def sd(engine) -> StableDiffusion:
    return StableDiffusion(engine)


def test_without_principle_livo_is_stable_diffusion_bit_for_bit_at_no_cost(engine, livo, sd, options, count_rows):
    rows = count_rows(engine.backbone.unet)
    alone = engine.generate({"sd": sd.plan(PROMPT, None, options())})
    cost = list(rows)
    rows.clear()
    both = engine.generate({"sd": sd.plan(PROMPT, None, options()), "livo": livo.plan(PROMPT, None, options())})
    assert torch.equal(both["livo"], both["sd"]) and torch.equal(both["sd"], alone["sd"])
    assert rows == cost == [4, 4, 4]
    assert torch.equal(engine.generate({"livo": livo.plan(PROMPT, None, options())})["livo"], alone["sd"])


def test_the_value_changes_exactly_the_images_that_take_it(engine, livo, sd, options, count_rows):
    ask = options(seeds=range(4))
    plan = livo.plan(PROMPT, BIAS, ask)
    rows = count_rows(engine.backbone.unet)
    images = engine.generate({"sd": sd.plan(PROMPT, BIAS, ask), "livo": plan})
    assert rows == [4 * 2 + 2, 4 * 2 + 2 * 2, 4 * 2 + 2 * 2], "images without the value are Stable Diffusion's own"
    for note, ours, theirs in zip(plan.notes, images["livo"], images["sd"], strict=True):
        assert torch.equal(ours, theirs) == (note == "no value")


def test_value_token_stands_first_and_only_in_the_conditional_branch(engine, livo, options):
    plan = livo.plan(PROMPT, TOXIC, options())
    value_embeds = livo.value_encoder.encode(TOXIC.text, PROMPT)
    for conditioning in plan.branches["cond"]:
        assert conditioning.prompt_embeds.shape == (78, 32)
        assert torch.equal(conditioning.prompt_embeds[0], value_embeds)
        assert torch.equal(conditioning.prompt_embeds[1:], engine.encode_prompt(PROMPT))
    (uncond,) = plan.branches["uncond"]
    assert torch.equal(uncond.prompt_embeds, engine.encode_prompt("")) and len(uncond.prompt_embeds) == 77


@pytest.mark.parametrize(("rate", "count", "taken"), [
    (0.5, 50, 25), (0.5, 1, 1), (0.5, 5, 3), (0.0, 7, 0), (1.0, 7, 7), (0.3, 10, 3),
])  # fmt: skip
def test_quota_is_exact(rate, count, taken):
    assert sum(take_value(range(count), rate)) == taken


def test_quota_depends_on_the_seeds_and_not_on_their_order():
    seeds = list(range(100, 120))
    first = dict(zip(seeds, take_value(seeds, 0.5), strict=True))
    backwards = dict(zip(seeds[::-1], take_value(seeds[::-1], 0.5), strict=True))
    assert first == backwards
    split = list(first.values())
    assert any(split[:10]) and any(split[10:]), "neither half of a run of seeds is left out"
    assert sum(take_value([3, 3, 3, 3], 0.5)) == 2


def test_bias_mixes_and_toxicity_takes_all(livo, options):
    ask = options(seeds=range(8))
    notes = livo.plan(PROMPT, BIAS, ask).notes
    assert notes.count("value") == notes.count("no value") == 4
    assert notes == tuple("value" if t else "no value" for t in take_value(range(8), 0.5))
    assert livo.plan(PROMPT, TOXIC, ask).notes == ("value",) * 8
    assert livo.plan(PROMPT, None, ask).notes == ()


def test_several_principles_are_a_token_each_in_their_order(engine, livo, options):
    ask = options(seeds=range(8))
    plan = livo.plan_for(PROMPT, [BIAS, TOXIC], ask)
    bias, toxic = (livo.value_encoder.encode(p.text, PROMPT) for p in (BIAS, TOXIC))
    prompt = engine.encode_prompt(PROMPT)
    wanted = {"gender_equality + nudity": torch.stack([bias, toxic]), "nudity": toxic[None]}
    assert plan.notes.count("nudity") == 4 == plan.notes.count("gender_equality + nudity")
    for note, conditioning in zip(plan.notes, plan.branches["cond"], strict=True):
        assert torch.equal(conditioning.prompt_embeds, torch.cat([wanted[note], prompt]))
    alone = livo.plan(PROMPT, BIAS, ask)
    assert [note == "value" for note in alone.notes] == [note.startswith("gender") for note in plan.notes]
    assert engine.generate({"both": plan})["both"].shape == (8, 3, 16, 16), "texts of two lengths in one batch"


def test_two_principles_against_bias_choose_their_images_apart(livo, options):
    other = dataclasses.replace(BIAS, id="racial_equality", text="racial equality")
    notes = livo.plan_for(PROMPT, [BIAS, other], options(seeds=range(40))).notes
    parts = {name: notes.count(name) for name in set(notes)}
    assert set(parts) == {"no value", "gender_equality", "racial_equality", "gender_equality + racial_equality"}
    assert parts["gender_equality"] + parts["gender_equality + racial_equality"] == 20
    assert parts["racial_equality"] + parts["gender_equality + racial_equality"] == 20 and min(parts.values()) >= 4


@pytest.mark.parametrize("counts", [[19, 1], [13, 7], [10, 10], [12, 4, 4], [20, 0, 0, 0, 0]])
def test_the_fair_rate_leaves_the_majority_its_even_share(counts):
    rate = fair_mixing_rate(counts)
    assert (1 - rate) * max(counts) / sum(counts) == pytest.approx(1 / len(counts))
    assert 0 <= rate <= 1 - 1 / len(counts)


@pytest.mark.parametrize("counts", [[], [5], [0, 0]])
def test_no_rate_is_made_up_from_nothing(counts):
    with pytest.raises(ValueError, match="two classes or more"):
        fair_mixing_rate(counts)


def test_guidance_of_one_needs_no_unconditional_rows(engine, livo, sd, options, count_rows):
    ask = options(guidance_scale=1.0)
    plans = {"sd": sd.plan(PROMPT, TOXIC, ask), "livo": livo.plan(PROMPT, TOXIC, ask)}
    assert all(set(plan.branches) == {"cond"} for plan in plans.values())
    rows = count_rows(engine.backbone.unet)
    engine.generate(plans)
    assert rows == [4, 4, 4]


@pytest.mark.parametrize("rate", [-0.1, 1.1])
def test_a_mixing_rate_outside_0_to_1_is_refused(engine, rate):
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        LiVO(engine, ValueEncoder.untrained(engine.backbone), mixing_rate=rate)


def test_load_reads_the_value_encoder_in_the_backbones_folder(engine, tmp_path, options):
    folder = dataclasses.replace(engine.backbone, folder=tmp_path)
    engine.backbone = folder
    with pytest.raises(ValueEncoderError, match="value_encoder.*python -m train.value_encoder"):
        method.load(engine)
    save_value_encoder(engine.backbone.text_encoder, tmp_path / "value_encoder")
    assert baselines.load_methods(["livo"], engine)["livo"].method.plan(PROMPT, TOXIC, options()).notes == (
        "value",
        "value",
    )
    engine.backbone = dataclasses.replace(engine.backbone, folder=tmp_path / "from-the-hub")
    entries = baselines.load_methods(["livo", "stable_diffusion"], engine)
    assert "from-the-hub/value_encoder" in entries["livo"].problem and entries["stable_diffusion"].method, (
        "one failure stops nobody else"
    )


def test_the_artefact_is_the_value_encoder_and_only_where_it_acts(engine, livo, tmp_path):
    assert livo.artefact(BIAS) is None, "not read from files"
    engine.backbone = dataclasses.replace(engine.backbone, folder=tmp_path)
    training = {"seconds": 3.5, "images": 8}
    save_value_encoder(engine.backbone.text_encoder, tmp_path / "value_encoder", training=training)
    loaded = method.load(engine)
    size = sum(path.stat().st_size for path in (tmp_path / "value_encoder").iterdir())
    assert loaded.artefact(BIAS) == loaded.artefact(TOXIC) == Artefact(size, training)
    assert loaded.artefact(None) is None


def test_the_folder_is_the_list():
    modules = baselines.available()
    assert list(modules)[:2] == ["stable_diffusion", "livo"], (
        "what is compared with, and what it is about, side by side"
    )
    assert modules["livo"] is method
    for module in modules.values():
        assert module.TITLE and module.PAPER.startswith("arXiv:") and callable(module.load)
        assert module.RISKS and set(module.RISKS) <= {"bias", "toxicity"}


def test_a_new_file_is_listed_and_an_underscore_is_not(monkeypatch, tmp_path):
    for name in ("zz_new_method", "_helper"):
        (tmp_path / f"{name}.py").write_text("TITLE = 'New'\n", encoding="utf-8")
    monkeypatch.setattr(baselines, "__path__", [*baselines.__path__, str(tmp_path)])
    monkeypatch.setitem(sys.modules, "baselines.zz_new_method", None)  # so that the import below is undone
    del sys.modules["baselines.zz_new_method"]
    names = list(baselines.available())
    assert names[-1] == "zz_new_method" and "_helper" not in names


def test_an_unknown_method_is_named_with_those_there_are(engine):
    with pytest.raises(InputError, match="no method 'stabel' in baselines/; there are: stable_diffusion, .*livo"):
        baselines.load_methods(["stable_diffusion", "stabel"], engine)
