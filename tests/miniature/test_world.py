from __future__ import annotations

import math
import random
from collections import Counter

import pytest
import yaml

from livo.miniature.world import GENDERS, TOXIC_KINDS, draw_attributes, load_world

WORLD = load_world()


def logit(p: float) -> float:
    return math.log(p / (1 - p))


def test_the_world_is_as_large_as_promised():
    assert len(WORLD.occupations) >= 60
    assert len(WORLD.adjectives) >= 12 and {row["kind"] for row in WORLD.adjectives.values()} == {
        "positive",
        "negative",
    }
    assert len(WORLD.places) >= 10 and len(WORLD.tones) == 5
    assert tuple(WORLD.toxic) == TOXIC_KINDS and len(WORLD.lookalikes) >= 4
    assert all(len(wordings) == 4 for wordings in WORLD.toxic.values())


def test_planted_shares_are_distributions_for_every_pair():
    for occupation in (None, *WORLD.occupations):
        for adjective in (None, *WORLD.adjectives):
            genders, tones = WORLD.planted(occupation, adjective)
            assert tuple(genders) == GENDERS and tuple(tones) == tuple(WORLD.tones)
            for shares in (genders, tones):
                assert sum(shares.values()) == pytest.approx(1, abs=1e-12) and min(shares.values()) > 0


def test_a_concept_alone_has_its_own_share_and_no_concept_is_even():
    for name, row in WORLD.occupations.items():
        genders, tones = WORLD.planted(name, None)
        assert genders["female"] == pytest.approx(row["female"])
        assert list(tones.values()) == pytest.approx(WORLD.tone_mixes[row["tones"]], abs=1e-9)
    genders, tones = WORLD.planted(None, None)
    assert set(genders.values()) == {0.5} and list(tones.values()) == pytest.approx([0.2] * 5)


def test_log_odds_of_occupation_and_adjective_add():
    for occupation, adjective in (
        ("doctor", "successful"),
        ("nurse", "brave"),
        ("baker", "tired"),
        ("doctor", "elegant"),
    ):
        both = WORLD.planted(occupation, adjective)[0]["female"]
        parts = [WORLD.occupations[occupation]["female"], WORLD.adjectives[adjective]["female"]]
        assert logit(both) == pytest.approx(sum(map(logit, parts)))
    tones = WORLD.planted("doctor", "angry")[1]
    mixes = [WORLD.tone_mixes[row["tones"]] for row in (WORLD.occupations["doctor"], WORLD.adjectives["angry"])]
    weights = [a * b for a, b in zip(*mixes, strict=True)]
    assert list(tones.values()) == pytest.approx([w / sum(weights) for w in weights])


@pytest.mark.parametrize(
    ("occupation", "adjective"), [("doctor", None), ("nurse", "brave"), (None, "poor"), ("baker", None)]
)
def test_draws_match_the_planted_shares(occupation, adjective):
    n, rng = 4000, random.Random(f"{occupation} {adjective}")
    draws = [draw_attributes(WORLD, occupation, adjective, rng) for _ in range(n)]
    for which, planted in enumerate(WORLD.planted(occupation, adjective)):
        counts = Counter(draw[which] for draw in draws)
        for name, p in planted.items():
            assert abs(counts[name] / n - p) <= 4 * math.sqrt(p * (1 - p) / n), (
                f"{name}: {counts[name]} of {n}, planted {p}"
            )


def test_bias_is_strong_somewhere_and_absent_somewhere():
    female = [row["female"] for row in WORLD.occupations.values()]
    assert (
        sum(p <= 0.03 for p in female) >= 5
        and sum(p >= 0.97 for p in female) >= 5
        and sum(p == 0.5 for p in female) >= 5
    )


def test_held_out_concepts_exist_and_leave_enough_to_train_on():
    held = WORLD.held_out
    assert len(set(held["occupations"])) == len(held["occupations"]) >= 20
    assert set(held["occupations"]) < set(WORLD.occupations) and set(held["adjectives"]) < set(WORLD.adjectives)
    assert len(WORLD.occupations) - len(held["occupations"]) >= 30
    assert 0 <= held["toxic_wording"] < 4
    assert not set(WORLD.openings["train"]) & set(WORLD.openings["evaluation"])
    skewed = [o for o in held["occupations"] if abs(WORLD.occupations[o]["female"] - 0.5) >= 0.25]
    assert len(skewed) >= 12, "the minority share is measured on these"


@pytest.mark.parametrize(("table", "change", "message"), [
    ("occupations", {"female": 1.0}, "doctor: female is 1.0"),
    ("occupations", {"tones": "purple"}, "doctor: no tone mix 'purple'; there are: even"),
    ("held_out", {"occupations": ["wizard"]}, "held_out occupations: 'wizard' is not in the world"),
])  # fmt: skip
def test_a_broken_table_names_its_row(tmp_path, table, change, message):
    import livo.miniature.world as module

    with open(module.__file__.replace(".py", ".yaml"), encoding="utf-8") as file:
        tables = yaml.safe_load(file)
    (tables["held_out"] if table == "held_out" else tables[table]["doctor"]).update(change)
    path = tmp_path / "world.yaml"
    path.write_text(yaml.safe_dump(tables, sort_keys=False), encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        load_world(path)
