from __future__ import annotations

from collections import Counter

import pytest

from livo.evaluation.parts import (
    CHUNK,
    KEPT,
    SamplingSetting,
    benign_items,
    bias_items,
    choose_parts,
    chunks,
    evaluation_parts,
    named_items,
    toxic_items,
    validation_items,
)
from livo.miniature.captions import toxic_phrase, vocabulary
from livo.miniature.world import TOXIC_KINDS, load_world
from livo.retriever import retrieve
from livo.types import InputError

WORLD = load_world()
SETTING = SamplingSetting(12, 2.0)
FULL = {part.name: part for part in evaluation_parts(WORLD, SETTING)}
KINDS = {
    "gender": ["male", "female"], "tone": list(WORLD.tones), "toxicity": ["clean"],
    "occupation": [*WORLD.occupations, "person"], "adjective": list(WORLD.adjectives),
}  # fmt: skip


def test_it_has_the_papers_shape():
    assert len(FULL["bias"].items) >= 24 and len(FULL["bias"].seeds) == 50
    assert (
        Counter(item.kind for item in FULL["toxicity"].items) == dict.fromkeys(TOXIC_KINDS, 12)
        and len(FULL["toxicity"].seeds) == 50
    )
    assert {"career", "positive", "negative"} == {item.kind for item in FULL["bias"].items}
    assert len(FULL["large"].items) >= 4 and len(FULL["large"].seeds) == 1_000
    assert {"stable_diffusion", "fair_diffusion", "livo"} == set(FULL["large"].methods)


@pytest.mark.parametrize(
    "items", [bias_items(WORLD), toxic_items(WORLD), named_items(WORLD, 8), benign_items(WORLD, 3)]
)
def test_every_prompt_is_of_held_out_concepts_openings_and_wordings(items):
    held, words = {*WORLD.held_out["occupations"], *WORLD.held_out["adjectives"]}, set(vocabulary(WORLD))
    trained = [
        toxic_phrase(w, "x")
        for texts in WORLD.toxic.values()
        for i, w in enumerate(texts)
        if i != WORLD.held_out["toxic_wording"]
    ]
    for item in items:
        assert item.prompt.startswith(tuple(WORLD.openings["evaluation"])) and not item.prompt.startswith(
            tuple(WORLD.openings["train"])
        )
        named = {name for question, name in item.wants if question in ("occupation", "adjective")} - {"person"}
        assert named and named <= held
        assert not any(text.replace("x", name) in item.prompt for text in trained for name in named)
        assert words.issuperset(item.prompt.split())
        assert all(name in KINDS[question] for question, name in item.wants)
    assert len({item.prompt for item in items}) == len(items)


def test_validation_prompts_are_none_of_the_evaluations_and_of_no_toxic_subject_of_its():
    bias, toxic = validation_items(WORLD)
    every = {item.prompt for part in FULL.values() for item in part.items}
    assert len(bias) >= 10 and len(toxic) == 6 * len(TOXIC_KINDS)
    assert not every & {item.prompt for item in (*bias, *toxic)}
    assert not {i.subject for i in toxic} & {i.subject for i in FULL["toxicity"].items}
    assert not {i.subject for i in bias} & {i.subject for i in FULL["bias"].items}
    chosen = {p.name: p for p in evaluation_parts(WORLD, SETTING, encoders=["a"], validation=True)}
    assert chosen["bias"].items == bias and chosen["toxicity"].items == toxic


def test_a_benign_prompt_is_harmless_to_the_retriever():
    assert {retrieve(item.prompt).principle.risk for item in benign_items(WORLD, 3)} == {"bias"}


@pytest.mark.parametrize(
    "other", [{"quick": True}, {"encoders": ["fraction-20"]}, {"encoders": ["a"], "every": 3, "images": 10}]
)
def test_a_smaller_set_is_a_part_of_the_whole(other):
    for part in evaluation_parts(WORLD, SETTING, **other):
        if part.name in ("bias", "toxicity", "reference"):
            whole = {item.prompt: item for item in FULL[part.name].items}
            assert {item.prompt for item in part.items} <= set(whole)
            assert all(item.wants == whole[item.prompt].wants for item in part.items)
            assert set(part.seeds) <= set(FULL[part.name].seeds)


def test_the_reference_has_other_seeds_and_each_prompt_once_clean_ones_too():
    reference = FULL["reference"]
    assert not set(reference.seeds) & set(FULL["bias"].seeds)
    prompts = [item.prompt for item in reference.items]
    assert len(set(prompts)) == len(prompts)
    assert {item.clean for item in FULL["toxicity"].items} <= set(prompts)


@pytest.mark.parametrize("parts", [tuple(FULL.values()), evaluation_parts(WORLD, SETTING, quick=True)])
def test_chunks_hold_every_image_once(parts):
    seen = Counter((c.part.name, c.item.prompt, str(c.setting), seed) for c in chunks(parts) for seed in c.seeds)
    assert set(seen.values()) == {1}
    assert len(seen) == sum(len(p.items) * len(p.settings) * len(p.seeds) for p in parts)
    assert all(0 < c.stop - c.start <= CHUNK for c in chunks(parts)) and KEPT <= CHUNK


def test_parts_are_chosen_by_name():
    assert [p.name for p in choose_parts(tuple(FULL.values()), "toxicity, bias")] == ["bias", "toxicity"]
    assert choose_parts(tuple(FULL.values()), "") == tuple(FULL.values())
    with pytest.raises(InputError, match="no part 'bais'; there are: bias"):
        choose_parts(tuple(FULL.values()), "bais")


def test_sweeps_vary_one_thing_at_a_time():
    for name in ("guidance", "samplers"):
        for setting in FULL[name].settings:
            changed = {
                key for key in ("steps", "guidance", "sampler") if getattr(setting, key) != getattr(SETTING, key)
            }
            assert changed in ({"guidance"}, {"steps"}, {"steps", "sampler"})
