"""Every statistic against an independent implementation, published values or a law."""

from __future__ import annotations

import itertools
import math

import krippendorff
import numpy as np
import pytest

from livo.measures.ratings import alpha_interval, bradley_terry, krippendorff_alpha, variance_components

NAN = float("nan")
PUBLISHED = np.array([
    [1, 2, 3, 3, 2, 1, 4, 1, 2, NAN, NAN, NAN], [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NAN, 3],
    [NAN, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NAN], [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NAN],
]).T  # fmt: skip
"""Krippendorff 2011, Computing Krippendorff's alpha-reliability, Sec. C to E."""

BASEBALL = {
    "Milwaukee": (0, 7, 9, 7, 7, 9, 11), "Detroit": (6, 0, 7, 5, 11, 9, 9), "Toronto": (4, 6, 0, 7, 7, 8, 12),
    "New York": (6, 8, 6, 0, 6, 7, 10), "Boston": (6, 2, 6, 7, 0, 7, 12), "Cleveland": (4, 4, 5, 6, 6, 0, 6),
    "Baltimore": (2, 4, 1, 3, 1, 7, 0),
}  # fmt: skip
"""Wins in the 1987 American League East, Agresti, Categorical Data Analysis, with his Bradley-Terry estimates."""
AGRESTI = {
    "Milwaukee": 1.58,
    "Detroit": 1.44,
    "Toronto": 1.29,
    "New York": 1.25,
    "Boston": 1.11,
    "Cleveland": 0.68,
    "Baltimore": 0.0,
}


@pytest.mark.parametrize(("level", "value"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
def test_alpha_has_the_published_values(level, value):
    assert round(krippendorff_alpha(PUBLISHED, level), 3) == value


@pytest.mark.parametrize("level", ["nominal", "ordinal", "interval"])
@pytest.mark.parametrize("seed", range(6))
def test_alpha_equals_the_krippendorff_package(level, seed):
    rng = np.random.default_rng(seed)
    truth = rng.integers(1, 6, 40)
    ratings = np.clip(truth[:, None] + rng.integers(-1, 2, (40, 5)), 1, 5).astype(float)
    ratings[rng.random(ratings.shape) < 0.4] = NAN
    theirs = krippendorff.alpha(reliability_data=ratings.T, level_of_measurement=level)
    assert krippendorff_alpha(ratings, level) == pytest.approx(theirs, abs=1e-12)


def test_alpha_has_its_laws():
    rng = np.random.default_rng(1)
    ratings = rng.integers(1, 6, (200, 4)).astype(float)
    assert abs(krippendorff_alpha(ratings)) < 0.06, "chance is 0"
    agreed = np.repeat(ratings[:, :1], 4, axis=1)
    assert krippendorff_alpha(agreed) == pytest.approx(1)
    assert krippendorff_alpha(ratings[:, ::-1]) == pytest.approx(krippendorff_alpha(ratings)), "raters are exchangeable"
    assert krippendorff_alpha(ratings * 10) == pytest.approx(krippendorff_alpha(ratings)), "only the order counts"
    once = np.where(np.arange(4) == 0, ratings, NAN)
    assert krippendorff_alpha(np.vstack([ratings, once])) == pytest.approx(krippendorff_alpha(ratings)), (
        "a unit rated once says nothing"
    )
    twice = krippendorff_alpha(ratings, weights=np.full(200, 2.0))
    assert twice == pytest.approx(krippendorff_alpha(np.vstack([ratings, ratings])))
    for nothing in (once, np.ones((5, 3)), np.full((2, 2), NAN)):
        with pytest.raises(ValueError):
            krippendorff_alpha(nothing)


def test_alphas_interval_holds_it_and_is_wider_for_fewer_prompts():
    rng = np.random.default_rng(2)
    truth = np.repeat(rng.integers(1, 6, 24), 5)
    ratings = np.clip(truth[:, None] + rng.integers(-1, 2, (120, 5)), 1, 5).astype(float)
    by_prompt = alpha_interval(ratings, np.repeat(np.arange(24), 5).tolist())
    by_image = alpha_interval(ratings, list(range(120)))
    assert by_prompt.low < by_prompt.value < by_prompt.high
    assert by_prompt.high - by_prompt.low > by_image.high - by_image.low
    few = alpha_interval(ratings[:35], np.repeat(np.arange(7), 5).tolist())
    assert not few.has_interval and few.reason == "7 prompts: an interval needs 8"
    assert "raters" in alpha_interval(ratings[:, :3], list(range(120))).reason


def season() -> list[tuple[str, str, float]]:
    names = list(BASEBALL)
    return [(a, names[j], 1.0) for a, wins in BASEBALL.items() for j, n in enumerate(wins) for _ in range(n)]


def test_bradley_terry_has_the_published_values():
    fit = bradley_terry(season()).log_strengths
    assert {name: round(fit[name] - fit["Baltimore"], 2) for name in AGRESTI} == pytest.approx(AGRESTI, abs=0.011)


def direct_fit(duels, steps: int = 60_000) -> tuple[dict[str, float], float]:
    """Plain gradient ascent on Davidson's log likelihood: slow, and nothing shared with Newton's code."""
    names = sorted({n for d in duels for n in d[:2]})
    strength, log_nu = dict.fromkeys(names, 0.0), 0.0
    table: dict[tuple[str, str], list[int]] = {}
    for a, b, outcome in duels:
        a, b, outcome = (a, b, outcome) if a < b else (b, a, 1 - outcome)
        table.setdefault((a, b), [0, 0, 0])[{1: 0, 0: 1, 0.5: 2}[outcome]] += 1
    rate = 0.5 / len(duels)
    for _ in range(steps):
        slope, slope_nu = dict.fromkeys(names, 0.0), 0.0
        for (a, b), (won, lost, tied) in table.items():
            x, y = math.exp(strength[a]), math.exp(strength[b])
            t = math.exp(log_nu) * math.sqrt(x * y)
            n, whole = won + lost + tied, x + y + t
            slope[a] += won + tied / 2 - n * (x + t / 2) / whole
            slope[b] += lost + tied / 2 - n * (y + t / 2) / whole
            slope_nu += tied - n * t / whole
        for name in names:
            strength[name] += rate * slope[name]
        log_nu += rate * slope_nu
        if max(map(abs, [*slope.values(), slope_nu])) < 1e-9:
            break
    mean = sum(strength.values()) / len(names)
    return {name: s - mean for name, s in strength.items()}, math.exp(log_nu)


def test_bradley_terry_with_ties_equals_a_direct_fit():
    rng = np.random.default_rng(3)
    names, true, duels = "abcd", (0.8, 0.2, -0.3, -0.7), []
    for i, j in itertools.combinations(range(4), 2):
        for _ in range(40):
            x, y = math.exp(true[i]), math.exp(true[j])
            t = 0.6 * math.sqrt(x * y)
            duels.append((names[i], names[j], [1.0, 0.0, 0.5][rng.choice(3, p=np.array([x, y, t]) / (x + y + t))]))
    fit, (theirs, nu) = bradley_terry(duels), direct_fit(duels)
    assert fit.log_strengths == pytest.approx(theirs, abs=1e-6) and fit.tie == pytest.approx(nu, abs=1e-6)
    turned = bradley_terry([(b, a, 1 - o) for a, b, o in duels])
    assert turned.log_strengths == pytest.approx(fit.log_strengths), "the side an image stood on changes nothing"


def test_a_method_that_never_loses_has_no_bound_without_a_prior():
    duels = [("a", "b", 1.0)] * 5 + [("b", "c", 1.0), ("c", "b", 1.0)]
    with pytest.raises(ValueError, match="ridge"):
        bradley_terry(duels)
    fit = bradley_terry(duels, ridge=0.1).log_strengths
    assert fit["a"] > fit["b"] and all(map(math.isfinite, fit.values()))


def ratings(rng, raters=5, prompts=60, rater_sd=0.3, prompt_sd=0.3):
    r, p = np.meshgrid(np.arange(raters), np.arange(prompts), indexing="ij")
    y = rng.normal(0, rater_sd, raters)[r] + rng.normal(0, prompt_sd, prompts)[p] + rng.normal(0, 0.3, r.shape)
    return y.ravel(), r.ravel().tolist(), p.ravel().tolist()


@pytest.mark.parametrize("kept", [1.0, 0.2])
def test_variance_components_are_found_again_also_in_sparse_designs(kept):
    found = []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        y, r, p = (np.array(x) for x in ratings(rng, 30, 60, 0.4, 0.6))
        shown = rng.random(len(y)) < kept
        kinds = {"prompts": p[shown].tolist(), "raters": r[shown].tolist()}
        parts = variance_components(y[shown], ["m"] * int(shown.sum()), kinds)
        found.append([parts.between["prompts"], parts.between["raters"], parts.rest])
    assert np.mean(found, axis=0) == pytest.approx([0.6, 0.4, 0.3], abs=0.06)


def test_variance_components_say_where_they_cannot_be_estimated():
    y = [1.0, 2.0, 3.0, 4.0]
    assert "2 raters" in variance_components(y, "aaaa", {"raters": "xxyy"})
    assert "share one" in variance_components(y, "aaaa", {"raters": "wxyz"})
    assert "over again" in variance_components(y, "aabc", {"raters": "xxyz"})
