"""The planner: what it expects is what simulated studies find."""

from __future__ import annotations

import numpy as np
import pytest

from livo.measures.crossed import crossed
from livo.study.planning import Spread, balanced_difference, balanced_mean, precision_of

RATERS, PROMPTS, IMAGES = 6, 10, 2


def simulated(gap: float, studies: int = 300) -> tuple[float, float, float]:
    """Share of studies whose interval excludes 0, half of its width, and that of a mean's, on average."""
    rng, spread = np.random.default_rng(0), Spread()
    shape = (RATERS, PROMPTS, 2, IMAGES)
    rater, prompt, method = (kind.ravel() for kind in np.indices(shape)[:3])
    found, halves, means = [], [], []
    for _ in range(studies):
        y = 50 + gap * (method == 0) + rng.normal(0, spread.rest, method.size)
        y += rng.normal(0, spread.raters, RATERS)[rater] + rng.normal(0, spread.prompts, PROMPTS)[prompt]
        y += rng.normal(0, spread.raters_within, (RATERS, 2))[rater, method]
        y += rng.normal(0, spread.prompts_within, (PROMPTS, 2))[prompt, method]
        study = crossed(y, list(map(str, method)), rater.tolist(), prompt.tolist())
        difference, mean = study.difference("0", "1"), study.estimate("0")
        found.append(difference.excludes_zero)
        halves.append((difference.high - difference.low) / 2)
        means.append((mean.high - mean.low) / 2)
    return float(np.mean(found)), float(np.mean(halves)), float(np.mean(means))


def test_power_and_widths_are_what_simulated_studies_have():
    n = RATERS * PROMPTS * IMAGES
    plan = balanced_difference(RATERS, PROMPTS, n)
    gap = plan.detectable()
    power, half, mean = simulated(gap)
    assert plan.power(gap) == pytest.approx(0.8, abs=0.001) and power == pytest.approx(0.8, abs=0.08)
    assert half == pytest.approx(plan.half_width, rel=0.12)
    assert mean == pytest.approx(balanced_mean(RATERS, PROMPTS, n).half_width, rel=0.12)
    assert half < 0.85 * mean, "what prompts and raters have in common drops out"


def test_a_design_is_planned_as_its_balanced_formula():
    cells = [(r, p, m) for r in range(6) for p in range(8) for m in "ab" for _ in range(2)]
    raters, prompts, methods = zip(*cells, strict=True)
    weights = [(1 if m == "a" else -1) / 96 for m in methods]
    assert precision_of(weights, raters, prompts, methods).error == pytest.approx(balanced_difference(6, 8, 96).error)
    of_a = [1 / 96] * 96
    chosen = [[row[i] for row in cells if row[2] == "a"] for i in range(3)]
    assert precision_of(of_a, *chosen).error == pytest.approx(balanced_mean(6, 8, 96).error)


def test_unshared_prompts_do_not_drop_out():
    shared = precision_of([0.5, 0.5, -0.5, -0.5], "rsrs", "pqpq", "aabb")
    apart = precision_of([0.5, 0.5, -0.5, -0.5], "rsrs", "pqtu", "aabb")
    assert apart.error > 1.1 * shared.error


@pytest.mark.parametrize("raters", [5, 6, 20, 200, 1_000])
@pytest.mark.parametrize("prompts", [5, 12, 500])
def test_every_size_of_study_can_be_planned(raters, prompts):
    """The tails of Student's distribution off its centre are at times no numbers."""
    for ratings in (1, 30, 100_000):
        plan = balanced_difference(raters, prompts, ratings)
        assert plan.power(plan.detectable()) == pytest.approx(0.8, abs=0.01)
        powers = [plan.power(k * plan.error) for k in (0, 1, 2, 4, 6, 8, 9)]
        assert powers == sorted(powers) and powers[0] == pytest.approx(0.05, abs=0.001) and powers[-1] == 1


def test_below_five_raters_or_prompts_nothing_is_promised():
    for few in (balanced_difference(4, 12, 100), balanced_difference(12, 4, 100)):
        assert few.half_width is None and few.power(50) is None and few.detectable() is None
    more = [balanced_difference(r, p, n).detectable() for r, p, n in ((5, 12, 60), (50, 12, 600), (50, 120, 600))]
    assert more[0] > more[1] > more[2] and balanced_difference(5, 12, 60).power(500) == 1
    with pytest.raises(ValueError):
        balanced_mean(0, 1, 1)
