"""What decides a claim: differences with 95 % intervals, and the verdict that follows from them.

A difference counts where its interval excludes 0. What is alike within `MARGIN` is called equivalent, zeros against
zeros are tied at the floor, and what no interval can tell is unresolved.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from livo.measures.bootstrap import LEAST, SAME, TwoLevel
from livo.measures.estimates import Estimate

REPRODUCED, REFUTED, EQUIVALENT, TIED = "reproduced", "refuted", "equivalent", "tied at the floor"
UNRESOLVED, UNTESTED = "unresolved", "not tested"
FEWER = "every difference is below 0, in bias D2 and Avg. R"
MARGIN = 0.05
"""What "little", "no loss" and "equivalent" mean here: 5 points."""
SURE = 6
"""Subjects that must all show one and the same difference to be sure of its sign (2 * 0.5^6 < 0.05)."""


@dataclass(frozen=True)
class Claim:
    """One claim: its words and place in the paper, the rule, what was found here, and the verdict."""

    text: str
    source: str
    rule: str
    found: str
    verdict: str


@dataclass(frozen=True)
class Compared:
    """A difference.

    Attributes:
        words: what it is called.
        floor: whether both sides are 0 in every set of images.
        share: of its variance, what comes from trainings.
        trainings: how many a side with several has.
    """

    estimate: Estimate
    words: str
    floor: bool = False
    share: float = 0.0
    trainings: int = 1


def two_levels(d: TwoLevel, words: str, floor: bool = False) -> Compared:
    """A difference over prompts and trainings."""
    return Compared(d.estimate, words, floor, d.share, d.trainings)


def below(d: Estimate, bound: float = 0.0) -> bool:
    """Whether a difference is surely below a bound."""
    return d.high < bound or (d.reason == SAME and d.n >= SURE and d.value < bound)


def above(d: Estimate, bound: float = 0.0) -> bool:
    """Whether a difference is surely above a bound."""
    return d.low > bound or (d.reason == SAME and d.n >= SURE and d.value > bound)


def inside(d: Estimate, margin: float = MARGIN) -> bool:
    """Whether a difference is surely smaller than a margin."""
    return below(d, margin) and above(d, -margin)


def verdict(found: Sequence[Compared]) -> str:
    """Of differences that a claim says are all below 0.

    Example:
        >>> [verdict([Compared(Estimate(*d), "")]) for d in ((-2, -3, -1), (-2, -3, 1), (2, 1, 3), (0, -0.01, 0.02))]
        ['reproduced', 'unresolved', 'refuted', 'equivalent']
    """
    if any(above(c.estimate) for c in found):
        return EQUIVALENT if all(inside(c.estimate) for c in found) else REFUTED
    left = [c for c in found if not below(c.estimate)]
    if not left:
        return REPRODUCED
    if all(c.floor for c in left):
        return TIED
    return EQUIVALENT if all(c.floor or inside(c.estimate) for c in left) else UNRESOLVED


def points(d: Estimate) -> str:
    """A difference for people.

    Example:
        >>> points(Estimate(-0.125, -0.25, 0.0)), points(Estimate(0.0))
        ('-12.5 [-25.0, 0.0]', '0.0')
    """
    value, low, high = (
        f"{100 * x:+.1f}".replace("+0.0", "0.0").replace("-0.0", "0.0") for x in (d.value, d.low, d.high)
    )
    return f"{value} [{low}, {high}]" if d.has_interval else value


def wanted(c: Compared, distance: float) -> tuple[int, int]:
    """Subjects and trainings a side with which the interval's half would be `distance`, if all else stays as it is.

    With p of the variance from n subjects and s from S trainings, p / k + s / j = (distance / w)^2 of today's w^2. More
    subjects alone are asked for where those are enough and weigh more, more trainings alone where those do, else k = j.

    Example:
        >>> wanted(Compared(Estimate(0.01, -0.03, 0.05, 24), ""), 0.04)
        (24, 1)
        >>> wanted(Compared(Estimate(0, -1, 1, 10), ""), 0.5)
        (40, 1)
        >>> wanted(Compared(Estimate(0, -1, 1, 10), "", share=0.9, trainings=4), 0.5)
        (10, 24)
    """
    d = c.estimate
    if not d.has_interval:
        return LEAST, c.trainings
    goal = (max(distance, 1e-3) / ((d.high - d.low) / 2)) ** 2
    prompts, seeds, k, j = 1 - c.share, c.share, 1.0, 1.0
    if prompts >= seeds and seeds < goal:
        k = prompts / (goal - seeds)
    elif seeds > prompts and prompts < goal:
        j = seeds / (goal - prompts)
    else:
        k = j = 1 / goal
    return max(d.n, math.ceil(d.n * k - 1e-9)), max(c.trainings, math.ceil(c.trainings * j - 1e-9))


def to_settle(left: Sequence[tuple[Compared, float]]) -> str:
    """What would settle a claim: of its open differences, each with its distance to the nearest bound, the largest."""
    if not left:
        return ""
    subjects, trainings = (max(counts) for counts in zip(*(wanted(c, far) for c, far in left), strict=True))
    have_n, have_s = max(c.estimate.n for c, _ in left), max(c.trainings for c, _ in left)
    words = [f"{subjects:,} subjects"] if subjects > have_n or trainings <= have_s else []
    words += [f"{trainings:,} trainings each"] if trainings > have_s else []
    return f" (about {' and '.join(words)} would settle it)"


def decide(text: str, source: str, rule: str, found: Sequence[Compared]) -> Claim:
    """A claim whose differences are all to be below 0; an open one says what would settle it."""
    said, shown = verdict(found), "; ".join(c.words for c in found)
    if said == UNRESOLVED:
        left = [c for c in found if not below(c.estimate) and not inside(c.estimate) and not c.floor]
        shown += to_settle([(c, max(abs(c.estimate.value), MARGIN - abs(c.estimate.value))) for c in left])
    return Claim(text, source, rule, shown, said)
