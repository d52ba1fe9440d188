"""Intervals over raters and prompts: against the analysis of variance, and by studies whose truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from livo.measures.bootstrap import student
from livo.measures.crossed import crossed, pooled

RNG = np.random.default_rng(0)


def ratings(rng, raters=5, prompts=60, images=1, rater_sd=0.3, prompt_sd=0.3):
    r, p, _ = (kind.ravel() for kind in np.indices((raters, prompts, images)))
    y = rng.normal(0, rater_sd, raters)[r] + rng.normal(0, prompt_sd, prompts)[p] + rng.normal(0, 0.3, r.shape)
    return y, r, p


def test_crossed_is_the_analysis_of_variance_of_a_balanced_design():
    raters, prompts, k = 6, 9, 3
    r, p, _ = (axis.ravel() for axis in np.indices((raters, prompts, k)))
    y = RNG.normal(0, 1, raters)[r] + RNG.normal(0, 2, prompts)[p] + RNG.normal(0, 1, len(r))
    cube = y.reshape(raters, prompts, k)
    by_rater, by_prompt, cells = cube.mean(axis=(1, 2)), cube.mean(axis=(0, 2)), cube.mean(axis=2)
    ms_r = prompts * k * by_rater.var(ddof=1)
    ms_p = raters * k * by_prompt.var(ddof=1)
    rest = cells - by_rater[:, None] - by_prompt + y.mean()
    ms_rp = k * (rest**2).sum() / ((raters - 1) * (prompts - 1))
    variance = (ms_r + ms_p - ms_rp) / y.size
    parts = zip((ms_r, ms_p, ms_rp), (raters - 1, prompts - 1, (raters - 1) * (prompts - 1)), strict=True)
    df = (ms_r + ms_p - ms_rp) ** 2 / sum(ms**2 / free for ms, free in parts)
    found = crossed(y, ["m"] * len(y), r.tolist(), p.tolist()).estimate("m")
    assert found.high - found.value == pytest.approx(student(max(df, raters - 1)) * variance**0.5)


def test_crossed_intervals_cover_what_single_ratings_do_not():
    """The mean over new raters and prompts is 0; 95 % intervals hold it as often, and i.i.d. ones do not."""
    rng, hits, naive, turns = np.random.default_rng(4), 0, 0, 400
    for _ in range(turns):
        y, r, p = ratings(rng, raters=5, prompts=12)
        found = crossed(y, ["m"] * len(y), r, p).estimate("m")
        hits += found.low <= 0 <= found.high
        naive += abs(y.mean()) <= 1.96 * y.std(ddof=1) / math.sqrt(len(y))
    assert 0.92 < hits / turns < 0.985, hits / turns
    assert naive / turns < 0.75, naive / turns


def test_crossed_laws():
    y, r, p = ratings(np.random.default_rng(5))
    twice = crossed([*y, *y], ["a"] * len(y) + ["b"] * len(y), [*r, *r], [*p, *p])
    same = twice.difference("a", "b")
    assert same.value == pytest.approx(0) and not same.has_interval, "the same ratings under two names do not differ"
    first = crossed(y, ["a"] * len(y), r, p).estimate("a")
    shuffled = np.random.default_rng(0).permutation(len(y))
    again = crossed(y[shuffled], ["a"] * len(y), [r[i] for i in shuffled], [p[i] for i in shuffled]).estimate("a")
    assert (first.low, first.high) == pytest.approx((again.low, again.high)), "the order of ratings is nothing"
    with pytest.raises(ValueError):
        crossed([], [], [], [])


def test_kinds_that_add_nothing_are_pooled_with_the_rest():
    """V_1 + V_2 - V_12 of chance alone is chance; its larger term was taken, with few degrees of freedom."""
    assert pooled(1.0, 1.2, 1.0, (4, 11, 44)) == pytest.approx(((4 + 13.2 + 44) / 59, 59))
    assert pooled(9.0, 1.0, 1.0, (4, 11, 44)) == pytest.approx((9.0, 4))
    rng, held = np.random.default_rng(6), 0
    for _ in range(400):
        y, r, p = ratings(rng, 5, 8, rater_sd=0, prompt_sd=0)
        found = crossed(y, ["m"] * len(y), r.tolist(), p.tolist()).estimate("m")
        held += found.low <= 0 <= found.high
    assert 0.92 < held / 400 < 0.985, held / 400


def test_groups_of_other_raters_are_compared_as_such():
    """Raters of one scale less those of the other: each group's spread is its own raters', and few give none."""
    rng, held = np.random.default_rng(7), 0
    for _ in range(300):
        y, r, p = ratings(rng, 10, 6, rater_sd=0.6)
        found = crossed(y, list(map(str, r % 2)), r.tolist(), p.tolist()).difference("0", "1")
        held += found.low <= 0 <= found.high
    assert 0.92 < held / 300 < 0.985, held / 300
    y, r, p = ratings(rng, 9, 6)
    none = crossed(y, list(map(str, r % 2)), r.tolist(), p.tolist()).difference("0", "1")
    assert none.reason == "4 raters: an interval needs 5"
