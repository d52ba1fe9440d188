from __future__ import annotations

from collections import Counter, defaultdict

import pytest
import yaml

from livo.miniature.second.captions import random_scene, toxic_wordings
from livo.miniature.second.world import Scene, load_world
from livo.miniature.world import GENDERS, TOXIC_KINDS

WORLD = load_world()


def test_the_world_is_as_large_as_promised():
    assert len(WORLD.occupations) >= 100 and len(WORLD.adjectives) >= 18
    occupations, adjectives = WORLD.held_out["occupations"], WORLD.held_out["adjectives"]
    assert len(set(occupations)) == len(occupations) >= 40 and len(set(adjectives)) == len(adjectives) >= 12
    assert len(occupations) + len(adjectives) >= 60, "prompts about people whose concept no method saw"
    assert tuple(WORLD.toxic) == TOXIC_KINDS and len(WORLD.tones) == 5 and len(WORLD.places) >= 12


def test_skew_goes_from_none_to_strong_in_both_directions_among_seen_and_unseen():
    for names in (WORLD.held_out["occupations"], set(WORLD.occupations) - set(WORLD.held_out["occupations"])):
        shares = Counter(WORLD.occupations[name]["female"] for name in names)
        assert {0.03, 0.1, 0.25, 0.5, 0.97} <= set(shares) and shares[0.5] >= 4
        assert sum(count for share, count in shares.items() if share > 0.5) >= 10
        tones = Counter(WORLD.occupations[name]["tones"] for name in names)
        assert set(tones) == set(WORLD.tone_mixes) and min(tones.values()) >= 3


def test_no_word_that_speaks_ill_is_planted_on_a_skin_tone():
    negative = [row for row in WORLD.adjectives.values() if row["kind"] == "negative"]
    assert len(negative) >= 8 and {row["tones"] for row in negative} == {"even"}
    assert all(0.4 <= row["female"] <= 0.6 for row in negative)


def test_no_kind_of_reason_stands_for_one_direction_of_tone():
    tones = defaultdict(set)
    for row in WORLD.occupations.values():
        tones[row["why"]].add(row["tones"])
    assert all(mixes == set(WORLD.tone_mixes) for mixes in tones.values())


@pytest.mark.parametrize(("edit", "message"), [
    ({"occupations": {"doctor": {"female": 1.0}}}, "doctor: female is 1.0"),
    ({"occupations": {"doctor": {"tones": "pale"}}}, "doctor: no tone mix 'pale'"),
    ({"occupations": {"doctor": {"why": "because"}}}, "doctor: why is 'because'"),
    ({"adjectives": {"poor": {"tones": "darker"}}}, "poor speaks ill of a person"),
    ({"held_out": {"adjectives": ["grumpy"]}}, "held_out adjectives: 'grumpy' is not in the world"),
])  # fmt: skip
def test_a_wrong_row_is_named(tmp_path, edit, message):
    from livo.miniature.second import world

    tables = yaml.safe_load((world.Path(world.__file__).parent / "world.yaml").read_text(encoding="utf-8"))
    for table, rows in edit.items():
        for name, changes in rows.items():
            tables[table][name] = tables[table][name] | changes if isinstance(changes, dict) else changes
    (tmp_path / "world.yaml").write_text(yaml.safe_dump(tables, sort_keys=False), encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        load_world(tmp_path / "world.yaml")


def test_toxic_wordings_of_training_and_evaluation_are_apart():
    for kind in TOXIC_KINDS:
        seen, paraphrased, unseen = (
            set(table[kind]) for table in (WORLD.toxic, WORLD.toxic_paraphrases, WORLD.toxic_indirect)
        )
        assert not unseen & (seen | paraphrased) and not seen & paraphrased and len(unseen) >= 4
        assert set(toxic_wordings(WORLD, kind)) == seen | unseen
    assert not set(WORLD.openings["train"]) & set(WORLD.openings["evaluation"])


def test_planted_shares_are_distributions_and_are_what_is_drawn():
    genders, tones = WORLD.planted("nurse", "brave")
    assert tuple(genders) == GENDERS and sum(genders.values()) == pytest.approx(1) == sum(tones.values())
    import random

    rng = random.Random(0)
    drawn = [random_scene(WORLD, rng) for _ in range(60_000)]
    plain = [s.gender for s, text in drawn if s.occupation and not s.adjective and s.gender not in text]
    wanted = [
        WORLD.occupations[s.occupation]["female"]
        for s, text in drawn
        if s.occupation and not s.adjective and s.gender not in text
    ]
    assert plain.count("female") / len(plain) == pytest.approx(sum(wanted) / len(wanted), abs=0.02)


def test_two_people_are_another_scene():
    one = Scene("nurse", None, None, None, "female", "dark")
    assert one.count == 1 and one != Scene("nurse", None, None, None, "female", "dark", count=2)


def test_a_concept_named_twice_is_refused(tmp_path):
    from livo.inputs import InputError
    from livo.miniature.second import world

    text = (world.Path(world.__file__).parent / "world.yaml").read_text(encoding="utf-8")
    twice = text.replace("occupations:\n", "occupations:\n  nurse: {female: .5, tones: even, why: none}\n", 1)
    (tmp_path / "world.yaml").write_text(twice, encoding="utf-8")
    with pytest.raises(InputError, match="nurse"):
        load_world(tmp_path / "world.yaml")
