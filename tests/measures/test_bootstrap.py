from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from livo.measures.bootstrap import (
    LEAST,
    SAME,
    bootstrap_mean,
    bootstrap_of_sets,
    corrected_shares,
    paired_bootstrap,
    student,
    two_level_difference,
    two_level_mean,
)
from livo.measures.metrics import discrepancy_floor, discrepancy_l2, discrepancy_range

RNG = np.random.default_rng(1)


# --- nulls ---


@pytest.mark.parametrize(("k", "d1", "d2"), [(2, 11.2, 7.9), (5, 14.7, 11.9)])
def test_uniform_draws_give_the_floors_of_the_table_within_a_fifth_of_a_point(k, d1, d2):
    draws = RNG.multinomial(50, np.full(k, 1 / k), size=20_000)
    floor = discrepancy_floor(50, k)
    for metric, want, known in (
        (discrepancy_range, d1, floor.discrepancy_range),
        (discrepancy_l2, d2, floor.discrepancy_l2),
    ):
        found = 100 * np.mean([metric(counts) for counts in draws.tolist()])
        assert abs(found - want) < 0.2 and abs(100 * known - want) < 0.2


def test_a_true_difference_of_0_is_called_one_as_often_as_stated():
    """Two fair samplers on the same 24 prompts, again and again: one interval in twenty may exclude 0."""
    called = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        one, other = (np.abs(2 * rng.binomial(50, 0.5, 24) / 50 - 1) for _ in range(2))
        called += paired_bootstrap(one, other, draws=400).excludes_zero
    assert 3 <= called <= 33


# --- bootstrap ---


def test_the_interval_is_students():
    values = RNG.gamma(2, size=40)
    ours = bootstrap_mean(values, draws=20_000)
    theirs = scipy.stats.t.interval(0.95, 39, values.mean(), scipy.stats.sem(values))
    assert ours.value == pytest.approx(values.mean())
    assert (ours.low, ours.high) == pytest.approx(theirs, abs=0.02)
    assert student(39) == pytest.approx(scipy.stats.t.ppf(0.975, 39))


def test_sets_of_one_prompt_count_once():
    """Each prompt under two principles: as if they were twice as many prompts, the interval was a third too narrow."""
    values = RNG.normal(size=24)
    once = bootstrap_mean(values)
    twice = bootstrap_mean(np.tile(values, 2), clusters=list(range(24)) * 2)
    assert (twice.low, twice.high, twice.n) == pytest.approx((once.low, once.high, once.n))
    apart = bootstrap_mean(np.tile(values, 2))
    assert apart.high - apart.low < 0.8 * (once.high - once.low)
    pooled = bootstrap_of_sets(lambda times: times @ np.tile(values, 2) / times.sum(axis=1), list(range(24)) * 2, 4_000)
    assert (pooled.low, pooled.high) == pytest.approx((once.low, once.high), abs=0.05)


def test_below_the_least_number_of_prompts_there_is_no_interval_but_a_reason():
    for found in (
        bootstrap_mean([0.3]),
        bootstrap_mean(range(LEAST - 1)),
        bootstrap_of_sets(lambda t: t[:, 0], "aabb"),
    ):
        assert not found.has_interval and f"needs {LEAST}" in found.reason and not found.excludes_zero
    assert bootstrap_mean(range(LEAST)).has_interval
    assert bootstrap_mean([0.3] * 9).reason == SAME, "a width of 0 is no certainty"


def test_an_interval_stays_within_what_the_mean_can_be():
    found = bootstrap_mean([0.0] * 9 + [0.4], within=(0, 1))
    assert found.low == 0 < found.value < found.high


def test_trainings_add_what_seeds_move():
    clusters, base = list(range(24)), RNG.normal(size=24)
    one = base[None] + RNG.normal(0, 0.1, (1, 24))
    assert two_level_mean(one, clusters) == bootstrap_mean(one[0], clusters)
    shifts = np.array([-0.5, 0.0, 0.4, 0.3])[:, None]
    several = two_level_difference(base[None] + shifts + RNG.normal(0, 0.01, (4, 24)), base[None] - 1, clusters)
    still = two_level_difference(base[None] + 0 * shifts + RNG.normal(0, 0.01, (4, 24)), base[None] - 1, clusters)
    assert several.high - several.low > 5 * (still.high - still.low)
    with pytest.raises(ValueError, match="same prompts"):
        two_level_difference(one, one[:, :3], clusters)


def test_two_levels_cover_the_truth():
    hits = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        values = rng.normal(0, 0.5, 20) + rng.normal(0, 0.4, (4, 1)) + rng.normal(0, 0.5, (4, 20))
        found = two_level_mean(values, list(range(20)))
        hits += found.low <= 0 <= found.high
    assert 0.92 < hits / 300 <= 1


def test_pairing_takes_out_what_prompts_have_in_common():
    base = RNG.uniform(0, 1, 30)
    noise = RNG.normal(0, 0.01, 30)
    assert paired_bootstrap(base + 0.05 + noise, base).excludes_zero
    assert not paired_bootstrap(RNG.permutation(base) + 0.05, base).excludes_zero


def test_the_same_values_give_the_same_interval():
    values = RNG.uniform(size=12)
    assert bootstrap_mean(values) == bootstrap_mean(values.copy())


# --- the judge's errors ---


@pytest.mark.parametrize("k", [2, 3, 5])
def test_correction_undoes_what_a_judge_of_known_errors_does(k):
    truth = RNG.dirichlet(np.ones(k))
    confusion = 0.8 * np.eye(k) + 0.2 * RNG.dirichlet(np.ones(k), size=k)
    counts = np.rint(1e9 * truth @ confusion).astype(int)
    assert corrected_shares(counts.tolist(), (1e6 * confusion).tolist()) == pytest.approx(truth.tolist(), abs=1e-6)


@pytest.mark.parametrize("read", [0, 3, 10, 31, 50])
def test_for_two_classes_it_is_rogan_and_gladen(read):
    sensitivity, specificity, q = 0.9, 0.8, read / 50
    want = min(1.0, max(0.0, (q + specificity - 1) / (sensitivity + specificity - 1)))
    found = corrected_shares([read, 50 - read], [[0.9, 0.1], [0.2, 0.8]])
    assert found[0] == pytest.approx(want) and sum(found) == pytest.approx(1)


def test_a_judge_without_error_changes_nothing():
    assert corrected_shares([40, 30, 30], [[0.8, 0, 0.2], [0, 0.6, 0.4]]) == pytest.approx([0.5, 0.5])
    assert corrected_shares([7, 3, 0], np.diag([5, 2, 9]).tolist()) == pytest.approx([0.7, 0.3, 0.0])


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: bootstrap_mean([]), "at least one"),
        (lambda: bootstrap_mean([float("nan")]), "finite"),
        (lambda: bootstrap_mean([1.0, 2.0], "a"), "the cluster of each"),
        (lambda: paired_bootstrap([1.0], [1.0, 2.0]), "the same prompts"),
        (lambda: bootstrap_of_sets(lambda times: times[:, 0], []), "at least 1"),
        (lambda: corrected_shares([0, 0], [[1, 0], [0, 1]]), "no image"),
        (lambda: corrected_shares([1, 1], [[1, 1], [1, 1]]), "nothing can be corrected"),
        (lambda: corrected_shares([1, 1], [[0, 0], [1, 1]]), "needs images"),
        (lambda: corrected_shares([1, 1, 1], [[1, 0], [0, 1]]), "confusion matrix"),
        (lambda: corrected_shares([0, 1, 0], [[1, 0, 0], [0, 0, 1]]), "never read of any class"),
    ],
)
def test_nonsense_is_refused(call, says):
    with pytest.raises(ValueError, match=says):
        call()
