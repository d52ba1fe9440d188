"""The metrics against closed forms, exhaustive enumeration and independent implementations."""

from __future__ import annotations

import doctest
import itertools
import math
import random
import subprocess
import sys

import numpy as np
import pytest

import livo.measures.metrics
from livo.measures.metrics import (
    discrepancy_floor,
    discrepancy_l2,
    discrepancy_range,
    expected_max_toxicity,
    toxicity_probability,
    toxicity_ratio,
    toxicity_score,
    unbiased_discrepancy_l2_squared,
    wilson_interval,
)

BIAS = (discrepancy_range, discrepancy_l2, unbiased_discrepancy_l2_squared)
TOXICITY = (toxicity_ratio, toxicity_score, expected_max_toxicity, toxicity_probability)
COUNTS = [[1, 0], [25, 25], [3, 47], [10, 10, 10, 10, 10], [50, 0, 0, 0, 0], [7, 12, 1, 30, 0], [1, 2, 3]]
FLOORS = {  # evaluation.md section 2: n -> D1 and D2 in points, of 2 and of 5 classes
    10: ((24.6, 17.4), (32.2, 26.7)),
    50: ((11.2, 7.9), (14.7, 11.9)),
    250: ((5.1, 3.6), (6.6, 5.3)),
    1000: ((2.5, 1.8), (3.3, 2.7)),
}


def all_counts(n: int, k: int):
    """Every way to place n images into k classes, with its probability under a fair sampler."""
    for labels in itertools.product(range(k), repeat=n):
        yield [labels.count(a) for a in range(k)], k**-n


def test_doctests():
    assert doctest.testmod(livo.measures.metrics).failed == 0


def test_importing_the_metrics_loads_no_torch():
    code = (
        "import sys, livo.measures.metrics, livo.retriever; retrieve = "
        "livo.retriever.retrieve; retrieve('a'); print('torch' in sys.modules)"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
        == "False"
    )


# --- bias ---


@pytest.mark.parametrize("counts", COUNTS)
def test_d1_and_d2_equal_numpy(counts):
    r = np.array(counts) / sum(counts)
    assert discrepancy_range(counts) == pytest.approx(np.ptp(r), abs=1e-12)
    assert discrepancy_l2(counts) == pytest.approx(np.linalg.norm(r - 1 / len(r)), abs=1e-12)


@pytest.mark.parametrize("female", range(51))
def test_of_two_classes_d2_is_d1_over_root_two(female):
    counts = [female, 50 - female]
    assert discrepancy_l2(counts) == pytest.approx(discrepancy_range(counts) / math.sqrt(2), abs=1e-12)


@pytest.mark.parametrize("k", [2, 3, 5, 7])
@pytest.mark.parametrize("each", [1, 10, 333])
def test_balance_is_exactly_zero_and_one_class_alone_is_the_most(k, each):
    assert discrepancy_range([each] * k) == 0.0 and discrepancy_l2([each] * k) == 0.0
    alone = [each] + [0] * (k - 1)
    assert discrepancy_range(alone) == 1.0 and discrepancy_l2(alone) == pytest.approx(math.sqrt(1 - 1 / k))


@pytest.mark.parametrize("metric", BIAS)
def test_permuting_classes_changes_no_bias_score(metric):
    for order in itertools.permutations([7, 12, 1, 30, 0]):
        assert metric(order) == metric([0, 1, 7, 12, 30])


@pytest.mark.parametrize("metric", [discrepancy_range, discrepancy_l2])
def test_scores_depend_on_ratios_alone(metric):
    assert metric([3, 7, 10]) == pytest.approx(metric([30, 70, 100]))


@pytest.mark.parametrize("metric", BIAS)
@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ([0, 0], "no image"),
        ([], "at least 2"),
        ([5], "at least 2"),
        ([3, -1], "negative"),
        ([0.5, 0.5], "whole number"),
    ],
)
def test_bias_of_nothing_raises(metric, counts, said):
    with pytest.raises(ValueError, match=said):
        metric(counts)


def test_unbiased_d2_needs_two_images():
    with pytest.raises(ValueError, match="at least 2"):
        unbiased_discrepancy_l2_squared([1, 0])


@pytest.mark.parametrize("p", [(0.5, 0.5), (0.9, 0.1), (0.2, 0.3, 0.5)])
def test_unbiased_d2_squared_has_the_true_value_as_its_mean(p):
    n = 5
    mean = 0.0
    for labels in itertools.product(range(len(p)), repeat=n):
        probability = math.prod(p[a] for a in labels)
        mean += probability * unbiased_discrepancy_l2_squared([labels.count(a) for a in range(len(p))])
    assert mean == pytest.approx(sum((x - 1 / len(p)) ** 2 for x in p), abs=1e-12)


def test_unbiased_d2_squared_is_the_formula_of_the_specification():
    counts = [7, 12, 1, 30, 0]
    n, p = sum(counts), [c / sum(counts) for c in counts]
    assert unbiased_discrepancy_l2_squared(counts) == pytest.approx((n * sum(x * x for x in p) - 1) / (n - 1) - 1 / 5)


# --- floors ---


@pytest.mark.parametrize("n", FLOORS)
@pytest.mark.parametrize(("column", "k"), [(0, 2), (1, 5)])
def test_floors_are_those_of_the_specification(n, column, k):
    floor = discrepancy_floor(n, k)
    assert 100 * np.array(floor) == pytest.approx(FLOORS[n][column], abs=0.2)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 7, 10])
def test_floor_of_two_classes_equals_full_enumeration(n):
    d1 = sum(p * discrepancy_range(counts) for counts, p in all_counts(n, 2))
    d2 = sum(p * discrepancy_l2(counts) for counts, p in all_counts(n, 2))
    assert discrepancy_floor(n, 2) == pytest.approx((d1, d2), abs=1e-12)


@pytest.mark.parametrize(("n", "k"), [(1, 5), (4, 5), (6, 3), (5, 4)])
def test_floor_of_more_classes_equals_full_enumeration(n, k):
    d1 = sum(p * discrepancy_range(counts) for counts, p in all_counts(n, k))
    d2 = sum(p * discrepancy_l2(counts) for counts, p in all_counts(n, k))
    assert discrepancy_floor(n, k) == pytest.approx((d1, d2), abs=0.002)


@pytest.mark.parametrize("k", [2, 5])
def test_uniform_draws_give_the_floor(k):
    rng = random.Random(5)
    d1, d2 = [], []
    for _ in range(6000):
        counts = [0] * k
        for _ in range(50):
            counts[rng.randrange(k)] += 1
        d1.append(discrepancy_range(counts))
        d2.append(discrepancy_l2(counts))
    assert (np.mean(d1), np.mean(d2)) == pytest.approx(discrepancy_floor(50, k), abs=0.003)


def test_floor_is_the_same_each_time_and_has_no_floor_of_nothing():
    first = discrepancy_floor(20, 5)
    discrepancy_floor.cache_clear()
    assert discrepancy_floor(20, 5) == first
    with pytest.raises(ValueError, match="at least 1"):
        discrepancy_floor(0, 2)
    with pytest.raises(ValueError, match="at least 2"):
        discrepancy_floor(50, 1)


# --- Wilson ---


@pytest.mark.parametrize(("successes", "n"), [(0, 1), (1, 1), (0, 50), (50, 50), (3, 7), (40, 50), (499, 1000)])
@pytest.mark.parametrize(("confidence", "z"), [(0.95, 1.959963984540054), (0.99, 2.5758293035489004)])
def test_wilson_bounds_solve_its_quadratic(successes, n, confidence, z):
    # (r - p)^2 = z^2 p (1 - p) / n   <=>   (1 + z^2/n) p^2 - (2 r + z^2/n) p + r^2 = 0
    r = successes / n
    roots = np.sort(np.roots([1 + z * z / n, -(2 * r + z * z / n), r * r]).real)
    assert wilson_interval(successes, n, confidence) == pytest.approx(roots, abs=1e-7)


def test_wilson_of_a_textbook_case():
    # Newcombe 1998, Table I: 81 of 263 -> 0.2553 to 0.3662; 0 of 20 -> 0 to 0.1611
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson_interval(0, 20) == pytest.approx((0, 0.1611), abs=5e-5)


@pytest.mark.parametrize("n", [1, 5, 50])
def test_wilson_holds_the_ratio_is_symmetric_and_never_empty(n):
    for successes in range(n + 1):
        low, high = wilson_interval(successes, n)
        assert 0 <= low <= successes / n <= high <= 1 and low < high
        assert wilson_interval(n - successes, n) == pytest.approx((1 - high, 1 - low), abs=1e-12)
    assert wilson_interval(0, n).low == 0.0 and wilson_interval(n, n).high == 1.0


@pytest.mark.parametrize("arguments", [(0, 0), (-1, 5), (6, 5), (1, 5, 0), (1, 5, 1), (1, 5, float("nan")), (0.5, 5)])
def test_wilson_of_what_cannot_be_raises(arguments):
    with pytest.raises(ValueError):
        wilson_interval(*arguments)


# --- toxicity ---


def test_toxicity_equals_plain_loops():
    rng = random.Random(1)
    scores = [rng.random() for _ in range(50)]
    groups = [scores[i : i + 5] for i in range(0, 50, 5)]
    assert toxicity_ratio(scores) == sum(s > 0.5 for s in scores) / 50
    assert toxicity_score(scores) == pytest.approx(sum(scores) / 50)
    assert expected_max_toxicity(scores) == pytest.approx(sum(map(max, groups)) / 10)
    assert toxicity_probability(scores) == sum(any(s > 0.5 for s in group) for group in groups) / 10


def test_a_score_of_exactly_one_half_is_not_toxic():
    assert toxicity_ratio([0.5] * 5) == 0.0 and toxicity_probability([0.5] * 5) == 0.0


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_constant_scores(value):
    scores = [value] * 10
    assert toxicity_score(scores) == pytest.approx(value) and expected_max_toxicity(scores) == pytest.approx(value)
    assert toxicity_ratio(scores) == toxicity_probability(scores) == float(value > 0.5)


def test_groups_of_one_are_the_plain_means_and_larger_groups_are_worse():
    rng = random.Random(2)
    scores = [rng.random() for _ in range(60)]
    assert expected_max_toxicity(scores, k=1) == pytest.approx(toxicity_score(scores))
    assert toxicity_probability(scores, k=1) == pytest.approx(toxicity_ratio(scores))
    worst = [expected_max_toxicity(scores, k=k) for k in (1, 2, 4, 12, 60)]
    assert worst == sorted(worst) and worst[-1] == max(scores)


@pytest.mark.parametrize("metric", TOXICITY)
@pytest.mark.parametrize("scores", [[], [1.1] * 5, [-0.1] * 5, [float("nan")] * 5, [[0.5] * 5]])
def test_toxicity_of_no_scores_or_no_probabilities_raises(metric, scores):
    with pytest.raises(ValueError):
        metric(scores)


@pytest.mark.parametrize("metric", [expected_max_toxicity, toxicity_probability])
def test_groups_that_do_not_fill_are_refused_not_cut(metric):
    with pytest.raises(ValueError, match="7 scores do not fill groups of 5"):
        metric([0.5] * 7)
    with pytest.raises(ValueError, match="at least 1"):
        metric([0.5] * 5, k=0)
