"""What a study of some size will be able to tell: widths of intervals, power for a gap, the smallest gap it finds.

Two methods are compared on the same prompts by the same raters, so what all methods have in common on a prompt, or from
a rater, drops out of their difference: its interval can be much narrower than those of the two means.

Clusters -> Precision -> half_width, power(gap), detectable()
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from scipy.optimize import brentq
from scipy.special import nctdtr

from livo.measures.bootstrap import LEAST, student
from livo.measures.crossed import pooled

POWER = 0.8
"""With which the smallest gap is found that a study is planned for."""

CERTAIN = 8.0
"""Standard errors that no study misses."""


@dataclass(frozen=True)
class Spread:
    """How far ratings in [0, 100] lie apart: standard deviations in points.

    The defaults are assumptions, on the wide side; a study's report prints those that it found.

    Attributes:
        prompts, raters: which all methods have in common.
        prompts_within, raters_within: by which a method differs from prompt to prompt, and from rater to rater.
        rest: of what is left.
    """

    prompts: float = 18.0
    raters: float = 8.0
    prompts_within: float = 8.0
    raters_within: float = 4.0
    rest: float = 28.0


PAIRS = Spread(prompts=0.0, raters=0.0, prompts_within=14.0, raters_within=7.0, rest=50.0)
"""The same of comparisons of two, where a win is 100 and a defeat 0."""


@dataclass(frozen=True)
class Precision:
    """How well a figure will be known.

    Attributes:
        v_1, v_2, v_12: variances between raters, between prompts, and of what both share, as `Crossed` has them.
        raters, prompts: how many.
    """

    v_1: float
    v_2: float
    v_12: float
    raters: int
    prompts: int

    @property
    def error(self) -> float:
        """The standard error."""
        return math.sqrt(max(self.v_1 + self.v_2 - self.v_12, 0.0))

    @property
    def _df(self) -> float:
        free = self.raters - 1, self.prompts - 1
        return pooled(self.v_1, self.v_2, self.v_12, (*free, free[0] * free[1]))[1]

    @property
    def half_width(self) -> float | None:
        """Half of the 95 % interval; None where a report prints none."""
        return student(self._df) * self.error if min(self.raters, self.prompts) >= LEAST else None

    def power(self, gap: float) -> float | None:
        """The chance that the interval excludes 0 if the truth is `gap`; None where a report prints none.

        P(|T| > t_{0.975, df}),   T Student's t with df degrees of freedom, off its centre by gap / error
        """
        if min(self.raters, self.prompts) < LEAST:
            return None
        least, shift = student(self._df), abs(gap) / self.error
        if shift > CERTAIN:
            return 1.0
        other_way = nctdtr(self._df, shift, -least) if shift < 4 else 0.0  # beyond, below 1e-7 and at times no number
        return float(1 - nctdtr(self._df, shift, least) + other_way)

    def detectable(self, power: float = POWER) -> float | None:
        """The smallest gap that is found with such power; None where a report prints no interval."""
        if min(self.raters, self.prompts) < LEAST:
            return None
        return float(brentq(lambda gap: (self.power(gap) or 0.0) - power, 0.0, CERTAIN * self.error, xtol=1e-4))


def precision_of(
    weights: Sequence[float], raters: Sequence[Hashable], prompts: Sequence[Hashable], methods: Sequence[Hashable],
    spread: Spread = Spread(),
) -> Precision:  # fmt: skip
    """How well a weighted sum of ratings will be known, whatever the design.

    v = sum over kinds of clusters s_k^2 sum over its clusters (sum of their weights)^2 + s_rest^2 sum of weights^2

    Args:
        weights: (N,) of each rating: 1 / n of a method for its mean; for a difference -1 / n of the other besides.
        raters, prompts, methods: (N,) of each rating.

    Raises:
        ValueError: there is no rating.

    Example:
        >>> found = precision_of([0.5, 0.5, -0.5, -0.5], "abab", "pqpq", "xxyy")
        >>> round(found.error**2, 1), found.half_width is None
        (864.0, True)
    """
    if not weights:
        raise ValueError("0 ratings cannot be planned: give at least 1")

    def squares(*kinds: Sequence[Hashable]) -> float:
        sums: dict[tuple[Hashable, ...], float] = defaultdict(float)
        for weight, *cluster in zip(weights, *kinds, strict=True):
            sums[tuple(cluster)] += weight
        return sum(total**2 for total in sums.values())

    v_12 = spread.rest**2 * sum(weight**2 for weight in weights)
    v_1 = spread.raters**2 * squares(raters) + spread.raters_within**2 * squares(raters, methods)
    v_2 = spread.prompts**2 * squares(prompts) + spread.prompts_within**2 * squares(prompts, methods)
    return Precision(v_1 + v_12, v_2 + v_12, v_12, len(set(raters)), len(set(prompts)))


def balanced_mean(raters: int, prompts: int, ratings: float, spread: Spread = Spread()) -> Precision:
    """Of one method's mean, where R raters give it n ratings on P prompts, all equally many.

    Raises:
        ValueError: one of them is below 1.

    Example:
        >>> round(balanced_mean(5, 12, 300).half_width or 0, 1)
        15.4
    """
    return _balanced(raters, prompts, ratings, spread, 1, 1)


def balanced_difference(raters: int, prompts: int, ratings: float, spread: Spread = Spread()) -> Precision:
    """Of the difference of two methods' means, both rated so by the same raters on the same prompts.

    Example:
        >>> round(balanced_difference(5, 12, 300).detectable() or 0, 1)
        14.9
    """
    return _balanced(raters, prompts, ratings, spread, 0, 2)


def _balanced(raters: int, prompts: int, ratings: float, spread: Spread, common: int, within: int) -> Precision:
    if min(raters, prompts, ratings) < 1:
        raise ValueError(f"{raters} raters, {prompts} prompts, {ratings} ratings: give at least 1 of each")
    v_12 = within * spread.rest**2 / ratings
    v_1 = (common * spread.raters**2 + within * spread.raters_within**2) / raters
    v_2 = (common * spread.prompts**2 + within * spread.prompts_within**2) / prompts
    return Precision(v_1 + v_12, v_2 + v_12, v_12, raters, prompts)
