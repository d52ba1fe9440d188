"""Intervals hold the truth as often as they say; `python -m livo.study.coverage` is the long form of this."""

from __future__ import annotations

import pytest

from livo.study.coverage import Population, coverage, coverage_table, hold, simulate, truths

WORLD = Population()


@pytest.fixture(scope="module")
def truth():
    return truths(WORLD, 5, exactness=0.05)


@pytest.mark.parametrize("prompts", [1, 3])
def test_few_prompts_give_no_interval(prompts, truth):
    assert set(coverage(hold(WORLD, 5, prompts, n, truth) for n in range(2)).values()) == {None}


def test_printed_intervals_hold_the_truth(truth):
    found = coverage(hold(WORLD, 5, 5, n, truth) for n in range(80))
    none = {"alpha, ordinal", "alpha, nominal", "raters of one scale less of the other"}
    assert {name for name, share in found.items() if share is None} == none
    printed = {name: share for name, share in found.items() if share is not None}
    assert len(printed) == 11 and all(share.high >= 0.95 for share in printed.values()), printed


def test_a_wrong_truth_is_not_held(truth):
    """The simulation can fail: of a truth that is far off, intervals of means do not hold 95 %."""
    off = {name: value + 25 for name, value in truth.items()}
    assert coverage(hold(WORLD, 5, 5, n, off) for n in range(30))["mean rating"].high < 0.9


def test_a_run_that_was_ended_goes_on(tmp_path, monkeypatch):
    out = tmp_path / "coverage.jsonl"
    first = simulate(WORLD, 5, [5], 2, out, exactness=0.005)
    kept = out.read_bytes()
    out.write_bytes(kept[:-40])  # killed within a line
    again = simulate(WORLD, 5, [5], 2, out)
    assert again == first and out.read_bytes() == kept
    monkeypatch.setattr("livo.study.coverage.hold", lambda *_: pytest.fail("it was simulated before"))
    assert simulate(WORLD, 5, [5], 2, out) == first
    assert "| D1 of labels |" in coverage_table({5: coverage(first[5])}, 5, 2).markdown()
