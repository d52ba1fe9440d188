"""Intervals hold the truth as often as they say; `python -m livo.study.coverage` is the long form of this."""

from __future__ import annotations

import pytest

from livo.study.coverage import Population, coverage, truths

WORLD = Population()


@pytest.fixture(scope="module")
def truth():
    return truths(WORLD, 5, exactness=0.05)


@pytest.mark.parametrize("prompts", [1, 3])
def test_few_prompts_give_no_interval(prompts, truth):
    assert set(coverage(WORLD, 5, prompts, 2, truth).values()) == {None}


def test_printed_intervals_hold_the_truth(truth):
    found = coverage(WORLD, 5, 5, 80, truth)
    assert found["alpha, ordinal"] is None is found["alpha, nominal"]
    printed = {name: share for name, share in found.items() if share is not None}
    assert len(printed) == 7 and all(share.high >= 0.95 for share in printed.values()), printed


def test_a_wrong_truth_is_not_held(truth):
    """The simulation can fail: of a truth that is ten points off, intervals of means do not hold 95 %."""
    off = {name: value + 25 for name, value in truth.items()}
    assert coverage(WORLD, 5, 5, 30, off)["mean rating"].high < 0.9
