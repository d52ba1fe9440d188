"""Who sees what: balance, overlap, order, opt-outs."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import pytest
from raters import make_folder

from livo.study.design import GOLD, PAIR, RATING, TRAINING, cycles, plan_of, shares, williams


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_folder(
        tmp_path_factory.mktemp("design") / "study", prompts=6, toxic=3, seeds=4, raters=7, ratings_per_rater=30,
        pairs_per_rater=6,
        questions=("consistency_5", "attribute", "toxic", "conformity", "preference"), most_flagged=20,
    )  # fmt: skip


@pytest.mark.parametrize("k", range(1, 9))
def test_a_williams_square_has_each_at_each_place_and_after_each_other_equally_often(k):
    rows = williams(k)
    for place in range(k):
        assert set(Counter(row[place] for row in rows).values()) == {len(rows) // k}
    after = Counter(pair for row in rows for pair in itertools.pairwise(row))
    if k > 1:
        assert len(after) == k * (k - 1) and len(set(after.values())) == 1


def test_neighbours_in_a_cycle_differ_and_every_cell_is_there_once(folder):
    rated = [item for item in folder.items.values() if item.use == "rated"]
    for arity in (1, 2):
        groups = cycles(rated, arity)
        cells = [tuple(sorted(i.id for i in cell.items)) for group in groups for cell in group]
        assert len(cells) == len(set(cells)) > 0
        for group in groups:
            alike = sum(a.condition == b.condition for a, b in itertools.pairwise(group))
            assert alike < len({cell.condition for cell in group}), "but where one pass ends and the next begins"
    assert sum(map(len, cycles(rated, 1))) == len(rated)


@pytest.mark.parametrize("raters", [1, 3, 7, 20])
def test_every_image_is_rated_by_as_many_raters_as_any_other_of_its_group(tmp_path, raters):
    folder = make_folder(
        tmp_path / "s",
        prompts=5,
        seeds=4,
        raters=raters,
        ratings_per_rater=24,
        questions=("consistency_3",),
        gold_every=0,
    )
    seen = Counter(id for r in range(raters) for t in plan_of(folder, r).trials if t.kind == RATING for id in t.items)
    counts = [seen[i.id] for i in folder.items.values() if i.use == "rated"]
    assert max(counts) - min(counts) <= 1 and sum(counts) == 24 * raters


def test_methods_are_balanced_for_each_rater(folder):
    for rater in range(folder.study.raters):
        trials = [t for t in plan_of(folder, rater).trials if t.kind == RATING]
        methods = Counter(folder.items[t.items[0]].method for t in trials)
        assert len(trials) == 30 and max(methods.values()) - min(methods.values()) <= 3


def test_both_sides_of_pairs_are_balanced(tmp_path):
    folder = make_folder(
        tmp_path / "s", prompts=6, seeds=6, raters=6, ratings_per_rater=0, pairs_per_rater=36,
        questions=("preference",), training=0, gold_every=0
    )  # fmt: skip
    sides = Counter(
        folder.items[id].method + str(side)
        for r in range(6)
        for t in plan_of(folder, r).trials
        for side, id in enumerate(t.items)
    )
    for method in folder.titles:
        assert abs(sides[f"{method}0"] - sides[f"{method}1"]) <= 0.1 * (sides[f"{method}0"] + sides[f"{method}1"])


def test_a_plan_is_the_same_at_every_call_and_differs_between_raters(folder):
    assert plan_of(folder, 2) == plan_of(folder, 2)
    orders = {tuple(t.items for t in plan_of(folder, r).trials) for r in range(7)}
    tokens = [t.token for r in range(7) for t in plan_of(folder, r).trials]
    assert len(orders) == 7 and len(set(tokens)) == len(tokens)
    assert {plan_of(folder, r).reversed for r in range(7)} == {True, False}


def test_no_prompt_follows_itself_and_disturbing_ones_are_spread(folder):
    for rater in range(7):
        trials = [t for t in plan_of(folder, rater).trials if t.kind == RATING]
        assert all(a.prompt != b.prompt for a, b in itertools.pairwise(trials))
        longest = max(
            (len(list(run)) for flagged, run in itertools.groupby(bool(t.category) for t in trials) if flagged),
            default=0,
        )
        assert longest <= 3


def test_training_comes_first_and_checks_are_harmless(folder):
    trials = plan_of(folder, 0).trials
    kinds = [t.kind for t in trials]
    assert kinds[: kinds.count(TRAINING)] == [TRAINING] * 4
    gold = [t for t in trials if t.kind == GOLD]
    assert gold and not any(t.category for t in (*gold, *trials[:4]))
    rated = {id for t in trials if t.kind in (RATING, PAIR) for id in t.items}
    assert not rated & {id for t in trials if t.kind in (TRAINING, GOLD) for id in t.items}


def test_an_opt_out_takes_the_kind_away_and_leaves_the_number(folder):
    with_all, without = plan_of(folder, 1), plan_of(folder, 1, ["zombie"])
    assert any(t.category for t in with_all.trials) and not any(t.category for t in without.trials)
    assert sum(t.kind == RATING for t in without.trials) == sum(t.kind == RATING for t in with_all.trials)


def test_no_rater_sees_more_disturbing_images_than_the_study_allows(tmp_path):
    folder = make_folder(
        tmp_path / "s",
        prompts=4,
        toxic=4,
        seeds=4,
        raters=4,
        ratings_per_rater=40,
        questions=("consistency_5",),
        most_flagged=5,
    )
    for rater in range(4):
        trials = [t for t in plan_of(folder, rater).trials if t.kind == RATING]
        assert sum(bool(t.category) for t in trials) == 5 and len(trials) > 30


def test_only_the_questions_that_fit_are_asked_and_the_principle_comes_last(folder):
    for trial in plan_of(folder, 0).trials:
        if trial.kind == RATING:
            assert trial.questions == (
                ("consistency_5", "toxic", "conformity") if trial.category else ("consistency_5", "attribute")
            )


def test_shares_add_up():
    for total, sizes in itertools.product(range(0, 40, 3), ([5, 5], [1, 30, 2], [7])):
        parts = shares(total, sizes)
        assert sum(parts) == min(total, sum(sizes)) and all(0 <= p <= s for p, s in zip(parts, sizes, strict=True))


# --- silent checks ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def checked(tmp_path_factory):
    """60 raters with five checks each, some questions asked of some images only."""
    folder = make_folder(
        tmp_path_factory.mktemp("gold") / "s", prompts=6, toxic=2, seeds=4, raters=60, ratings_per_rater=40,
        gold_every=8,
        questions=("consistency_5", "attribute", "toxic"),
    )  # fmt: skip
    return folder, [[t for t in plan_of(folder, r).trials if t.kind != TRAINING] for r in range(60)]


def test_a_check_asks_what_its_prompt_is_asked(checked):
    _, plans = checked
    golds = [trial for trials in plans for trial in trials if trial.kind == GOLD]
    assert len(golds) >= 240
    asked = {t.prompt: t.questions for trials in plans for t in trials if t.kind == RATING}
    assert all(trial.questions == asked[trial.prompt] for trial in golds if trial.prompt in asked)
    assert {len(trial.questions) for trial in golds} == {2}, "as any harmless image of this study"
    assert all(len(trial.token) == 20 and not trial.category for trial in golds)


def test_no_image_is_met_twice(checked):
    folder, plans = checked
    for rater, trials in enumerate(plans):
        training = [t for t in plan_of(folder, rater).trials if t.kind == TRAINING]
        digests = [folder.items[id].digest for t in (*training, *trials) for id in t.items]
        assert len(set(digests)) == len(digests)


def test_the_places_of_checks_are_guessed_no_better_than_chance(checked):
    """Who knows where all other raters' checks stood guesses the most frequent places; `n` >= 300 guesses."""
    _, plans = checked
    places = [[i for i, trial in enumerate(trials) if trial.kind == GOLD] for trials in plans]
    assert all(
        place and place[0] > 0 and place[-1] < len(trials) - 1 for place, trials in zip(places, plans, strict=True)
    )
    assert not any(b - a == 1 for place in places for a, b in itertools.pairwise(place))
    hits = n = 0
    expected = 0.0
    for rater, own in enumerate(places):
        seen = Counter(place for other, row in enumerate(places) if other != rater for place in row)
        guesses = [place for place, _ in seen.most_common(6)]
        hits += len(set(guesses) & set(own))
        n += len(guesses)
        expected += len(guesses) * len(own) / (len(plans[rater]) - 2)
    assert n >= 300 and hits <= expected + 3 * math.sqrt(expected), (hits, expected, n)
