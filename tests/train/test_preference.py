from __future__ import annotations

import copy
import json
import random
import re
from collections import Counter
from dataclasses import fields, replace

import open_clip
import pytest
import torch

from livo.classifiers.clip import EVALUATOR_CONFIG, world_questions
from livo.classifiers.judge import ClipJudge
from livo.diffusion.engine import Engine
from livo.miniature.captions import clean_counterpart, toxic_phrase
from livo.miniature.renderer import render
from livo.miniature.world import load_world
from livo.principles import load_principles
from livo.runs import weights_digest
from train.preference.drawn_pairs import (
    ATTRIBUTES,
    Pair,
    PairMaker,
    concept_prompts,
    measure_shares,
    preferred,
    training_concepts,
)

WORLD = load_world()
HELD = WORLD.held_out


def planted_shares(*, held_out: bool = False) -> dict:
    """What a generator as biased as the world would show, of 24 images."""
    occupations, adjectives = (WORLD.occupations, WORLD.adjectives) if held_out else training_concepts(WORLD)
    shares = {}
    for name in (*occupations, *adjectives):
        planted = WORLD.planted(name, None) if name in WORLD.occupations else WORLD.planted(None, name)
        shares[name] = {
            key: {k: round(24 * p) for k, p in part.items()}
            for key, part in zip(("gender", "tone"), planted, strict=True)
        }
    return shares


def make(count: int, seed: int = 0, **options) -> list[Pair]:
    maker = PairMaker(WORLD, load_principles(), options.pop("shares", planted_shares()), **options)
    rng = random.Random(seed)
    return [maker.pair(rng) for _ in range(count)]


@pytest.fixture(scope="module")
def pairs() -> list[Pair]:
    return make(3000)


@pytest.mark.parametrize(("counts", "wanted"), [
    ({"male": 22, "female": 2}, (["female"], ["male"])),
    ({"male": 2, "female": 22}, (["male"], ["female"])),
    ({"male": 12, "female": 12}, ([], [])),
    ({"male": 13, "female": 11}, ([], [])),
    ({"male": 1, "female": 0}, ([], [])),
    ({"a": 20, "b": 1, "c": 1, "d": 1, "e": 1}, (["b", "c", "d", "e"], ["a"])),
    ({"a": 10, "b": 10, "c": 0, "d": 0, "e": 0}, (["c", "d", "e"], ["a", "b"])),
    ({"a": 5, "b": 5, "c": 5, "d": 5, "e": 4}, ([], [])),
])  # fmt: skip
def test_preferred_is_below_an_even_share_beyond_chance(counts, wanted):
    assert preferred(counts) == wanted


def test_preferred_needs_an_image():
    with pytest.raises(ValueError):
        preferred({"male": 0, "female": 0})


def test_random_losers_share_the_caption_and_the_label_alone(pairs):
    other = make(3000, losers="random")
    assert (
        PairMaker(WORLD, load_principles(), planted_shares(), losers="random").digest()
        != PairMaker(WORLD, load_principles(), planted_shares()).digest()
    )
    for pair in other:
        w, y = pair.chosen, pair.rejected
        assert (w.occupation, w.adjective, w.place) == (y.occupation, y.adjective, y.place) and w.jitter != y.jitter
        if pair.principle.risk == "bias":
            attribute = ATTRIBUTES[pair.principle.id]
            assert getattr(w, attribute) != getattr(y, attribute)
        else:
            assert y.toxic == pair.principle.id and w.toxic is None
        for gender in {"male", "female"}:
            assert not re.search(rf"\b{gender}\b", pair.prompt) or w.gender == y.gender == gender
    toxic = [p for p in other if p.principle.risk == "toxicity"]
    assert 0.2 < sum(p.chosen.tone != p.rejected.tone for p in toxic) / len(toxic) < 0.9
    assert all(p.chosen.jitter == p.rejected.jitter for p in pairs)


def test_bias_pairs_differ_in_the_protected_attribute_alone(pairs):
    bias = [p for p in pairs if p.principle.risk == "bias"]
    assert len(bias) > 1500
    for pair in bias:
        differing = [
            f.name for f in fields(pair.chosen) if getattr(pair.chosen, f.name) != getattr(pair.rejected, f.name)
        ]
        assert differing == [ATTRIBUTES[pair.principle.id]], pair
        assert pair.chosen.toxic is None and pair.chosen.lookalike is None


def test_toxic_pairs_differ_in_the_stand_in_alone(pairs):
    toxic = [p for p in pairs if p.principle.risk == "toxicity"]
    assert {p.principle.id for p in toxic} == set(WORLD.toxic)
    for pair in toxic:
        assert pair.rejected.toxic == pair.principle.id and pair.chosen == clean_counterpart(pair.rejected)


def test_the_two_pictures_of_a_pair_differ(pairs):
    for pair in pairs[:60]:
        assert render(WORLD, pair.chosen).tobytes() != render(WORLD, pair.rejected).tobytes()


def test_the_chosen_side_is_the_rare_one(pairs):
    shares = planted_shares()
    for pair in pairs:
        if pair.principle.risk == "bias":
            concept = pair.chosen.occupation or pair.chosen.adjective
            attribute = ATTRIBUTES[pair.principle.id]
            counts = shares[concept][attribute]
            even = sum(counts.values()) / len(counts)
            assert counts[getattr(pair.chosen, attribute)] < even < counts[getattr(pair.rejected, attribute)]


def says(attribute: str, prompt: str) -> bool:
    return bool(re.search(r"\b(male|female|man|woman)\b" if attribute == "gender" else r"\bskin\b", prompt))


def test_prompts_never_name_the_trained_attribute(pairs):
    for pair in pairs:
        if pair.principle.risk == "bias":
            assert not says(ATTRIBUTES[pair.principle.id], pair.prompt), pair.prompt
    assert any(says("gender", p.prompt) for p in pairs if p.principle.id == "racial_equality"), "the check can fail"


def test_a_named_attribute_is_what_both_pictures_show(pairs):
    for pair in pairs:
        if found := re.search(r"\b(male|female|man|woman)\b", pair.prompt):
            gender = {"man": "male", "woman": "female"}.get(found[0], found[0])
            assert pair.chosen.gender == pair.rejected.gender == gender


def leaks(pair: Pair) -> list[str]:
    """What of the evaluation's concepts, wordings and openings a pair holds."""
    words = {"nudity": "unclothed", "bloody": "bloodied", "zombie": "turned into a zombie"}
    found = [w for w in words.values() if re.search(rf"\b{w}\b", pair.prompt)]
    found += [o for o in WORLD.openings["evaluation"] if pair.prompt.startswith(o)]
    for scene in (pair.chosen, pair.rejected):
        found += [c for c in (scene.occupation, scene.adjective) if c in HELD["occupations"] or c in HELD["adjectives"]]
    return found + [c for c in (*HELD["occupations"], *HELD["adjectives"]) if re.search(rf"\b{c}\b", pair.prompt)]


def test_held_out_concepts_and_wordings_never_appear(pairs):
    for pair in [*pairs, *make(3000, seed=1, shares=planted_shares(held_out=True))]:
        assert not leaks(pair), pair
    for kind in WORLD.toxic:  # the words above are those of the held-out wording
        assert leaks(
            replace(pairs[0], prompt="a photo of " + toxic_phrase(WORLD.toxic[kind][HELD["toxic_wording"]], "x"))
        )
    assert leaks(replace(pairs[0], prompt="an image of a doctor")) == ["an image of", "doctor"]


def test_each_class_is_the_preferred_one_equally_often(pairs):
    for principle_id, attribute in ATTRIBUTES.items():
        counts = Counter(getattr(p.chosen, attribute) for p in pairs if p.principle.id == principle_id)
        total, even = sum(counts.values()), 1 / len(counts)
        assert len(counts) == (2 if attribute == "gender" else 5)
        assert all(abs(n / total - even) < 4 * (even * (1 - even) / total) ** 0.5 for n in counts.values()), counts


def test_the_mix_is_kept(pairs):
    kinds = Counter(p.principle.id if p.principle.risk == "bias" else "toxicity" for p in pairs)
    assert all(
        abs(kinds[key] / 3000 - share) < 0.04
        for key, share in {"gender_equality": 0.35, "racial_equality": 0.25, "toxicity": 0.4}.items()
    )
    only = make(50, mix={"toxicity": 1.0})
    assert {p.principle.risk for p in only} == {"toxicity"}


def test_pairs_depend_on_the_seed_alone():
    assert make(40, seed=7) == make(40, seed=7) != make(40, seed=8)


def test_without_any_bias_there_is_nothing_to_learn():
    even = {
        name: {"gender": {"male": 12, "female": 12}, "tone": dict.fromkeys(WORLD.tones, 5)} for name in planted_shares()
    }
    even[next(iter(even))]["gender"] = {
        "male": 0,
        "female": 0,
    }  # a judge that abstains on all of a concept teaches none
    with pytest.raises(ValueError, match="no training concept has a biased gender"):
        make(1, shares=even)


def test_concept_prompts_are_unspecified_and_not_held_out():
    prompts = concept_prompts(WORLD)
    occupations, adjectives = training_concepts(WORLD)
    assert list(prompts) == [*occupations, *adjectives] and not set(prompts) & {
        *HELD["occupations"],
        *HELD["adjectives"],
    }
    assert prompts["accountant"] == "a photo of an accountant" and prompts["rich"] == "a photo of a rich person"
    assert not any(says(attribute, p) for p in prompts.values() for attribute in ("gender", "tone"))


def small_judge(seed: int) -> ClipJudge:
    torch.manual_seed(seed)
    config = EVALUATOR_CONFIG | {"vision_cfg": EVALUATOR_CONFIG["vision_cfg"] | {"width": 8}}
    return ClipJudge(open_clip.CLIP(**config), world_questions(WORLD))


def test_shares_are_measured_once_and_kept(engine, tmp_path, count_rows):
    judge = small_judge(0)
    concepts = {"boxer": "a photo of a boxer", "wise": "a photo of a wise person"}
    path = tmp_path / "deep" / "shares.json"
    rows = count_rows(engine.backbone.unet)
    shares = measure_shares(engine, judge, concepts, path, images=2, num_steps=1)
    assert rows == [4, 4], "two concepts, two images, two branches"
    assert shares == json.loads(path.read_text(encoding="utf-8"))["shares"] and list(shares) == ["boxer", "wise"]
    for row in shares.values():
        assert list(row) == ["gender", "tone"] and sum(row["gender"].values()) <= 2
        assert list(row["tone"]) == list(WORLD.tones)
    rows.clear()
    more = measure_shares(engine, judge, concepts | {"clown": "a photo of a clown"}, path, images=2, num_steps=1)
    assert rows == [4] and {k: more[k] for k in shares} == shares, "only what is new is generated"
    path.unlink()
    assert measure_shares(engine, judge, concepts, path, images=2, num_steps=1) == shares, "by seed"


def test_shares_of_other_weights_or_options_are_measured_anew(tiny_backbone, engine, tmp_path, count_rows):
    path, concepts = tmp_path / "shares.json", {"boxer": "a photo of a boxer"}
    retrained = replace(tiny_backbone, unet=copy.deepcopy(tiny_backbone.unet), vae=copy.deepcopy(tiny_backbone.vae))
    with torch.no_grad():
        retrained.vae.decoder.conv_out.bias += 0.1
    other, first, second = Engine(retrained), small_judge(0), small_judge(1)
    rows, others = count_rows(engine.backbone.unet), count_rows(retrained.unet)

    def generated(engine, judge, images=2) -> int:
        before = len(rows) + len(others)
        measure_shares(engine, judge, concepts, path, images=images, num_steps=1)
        return len(rows) + len(others) - before

    assert generated(engine, first) == 1
    assert generated(engine, first) == 0
    assert generated(engine, second) == 1, "another judge"
    assert generated(other, second) == 1, "another generator, by its decoder alone"
    assert generated(other, second, images=3) == 1 and generated(other, second, images=3) == 0
    path.write_text(json.dumps({"boxer": {"gender": {"male": 2, "female": 0}, "tone": {}}}), encoding="utf-8")
    assert generated(engine, first) == 1, "a file that does not say what made it"


def test_a_backbones_own_shares_serve_a_new_run(tiny_backbone, engine, tmp_path, count_rows):
    concepts, judge = {"boxer": "a photo of a boxer"}, small_judge(0)
    stored = measure_shares(engine, judge, concepts, tmp_path / "shares.json", images=2, num_steps=1)
    rows, asked = count_rows(engine.backbone.unet), concepts | {"clown": "a photo of a clown"}
    shipping = Engine(replace(tiny_backbone, folder=tmp_path))
    work = tmp_path / "work" / "shares.json"
    assert measure_shares(shipping, judge, concepts, work, images=2, num_steps=1) == stored
    assert not rows and not work.exists(), "nothing is generated, nothing is written"
    assert list(measure_shares(shipping, judge, asked, work, images=2, num_steps=1)) == list(asked)
    assert len(rows) == 1 and "clown" not in json.loads((tmp_path / "shares.json").read_text())["shares"]


def test_weights_are_told_apart_whatever_their_precision():
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4)).half()
    digest = weights_digest(module)
    assert re.fullmatch("[0-9a-f]{16}", digest) and weights_digest(copy.deepcopy(module).float()) == digest
    with torch.no_grad():
        module[0].bias[0] += 0.01
    assert weights_digest(module) != digest != weights_digest(module, module)


def test_makers_of_other_pairs_have_other_digests():
    def digest(principles=None, shares=None, **options) -> str:
        return PairMaker(WORLD, principles or load_principles(), shares or planted_shares(), **options).digest()

    assert digest() == digest(mix={"gender_equality": 0.35, "racial_equality": 0.25, "toxicity": 0.4})
    reworded = [replace(principle, text=f"{principle.text}!") for principle in load_principles()]
    fewer = {key: value for key, value in planted_shares().items() if key != "boxer"}
    others = {digest(), digest(mix={"toxicity": 1.0}), digest(reworded), digest(shares=fewer)}
    assert len(others) == 4
