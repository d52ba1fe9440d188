"""What decides a claim: differences with 95 % intervals, and the verdict that follows from them.

A difference counts where its interval excludes 0. What is alike within `MARGIN` is called equivalent, zeros against
zeros are tied at the floor, and what no interval can tell is unresolved.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from livo.measures.bootstrap import LEAST, SAME
from livo.measures.estimates import Estimate

REPRODUCED, REFUTED, EQUIVALENT, TIED = "reproduced", "refuted", "equivalent", "tied at the floor"
UNRESOLVED, UNTESTED = "unresolved", "not tested"
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
    """A difference, what it is called, and whether both sides are 0 in every set of images."""

    estimate: Estimate
    words: str
    floor: bool = False


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


def subjects_wanted(d: Estimate) -> int:
    """How many subjects would tell a difference from 0, or show it to be within the margin, if it stays as it is.

    n (w / max(|d|, margin - |d|))^2,   w half of the interval that n subjects give

    Example:
        >>> subjects_wanted(Estimate(0.01, -0.03, 0.05, 24)), subjects_wanted(Estimate(0.1, -0.1, 0.3, 12))
        (24, 48)
    """
    if not d.has_interval:
        return LEAST
    return math.ceil(d.n * ((d.high - d.low) / 2 / max(abs(d.value), MARGIN - abs(d.value))) ** 2 - 1e-9)


def decide(text: str, source: str, rule: str, found: Sequence[Compared]) -> Claim:
    """A claim whose differences are all to be below 0; an open one says how many subjects would settle it."""
    said, shown = verdict(found), "; ".join(c.words for c in found)
    if said == UNRESOLVED:
        open_ones = [c.estimate for c in found if not below(c.estimate) and not inside(c.estimate) and not c.floor]
        shown += f" (about {max(map(subjects_wanted, open_ones)):,} subjects would settle it)"
    return Claim(text, source, rule, shown, said)
