"""Intervals of ratings of prompts by raters: both are drawn from many, and each rater rates many prompts.

crossed(values, groups, raters, prompts) -> Crossed -> estimate, difference

Pure functions; `livo.study.coverage` measures how often the intervals hold the truth.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import fdtri

from livo.measures.bootstrap import LEAST, codes_of, student, too_few
from livo.measures.estimates import Estimate, Floats

POOLED = 0.25
"""Chance with which a kind of cluster that adds nothing is taken to add something."""


@dataclass(frozen=True)
class Crossed:
    """Observations of groups, each of a cluster of two kinds that cross: ratings by raters and prompts.

    The variance of a mean, or of a difference of means, is V_1 + V_2 - V_12: between the clusters of the first kind, of
    the second, and of what both share. Each comes from the sums of the observations' contributions c_i (y_i - mean) by
    cluster, so that the design may be sparse and uneven, and an effect that differs by prompt is in it. The interval is
    Student's, with Satterthwaite's degrees of freedom.

    Attributes:
        values: (N,); `groups` (N,); `first` and `second` (N,) codes of the clusters.
        names: what the two kinds are called, for reasons.

    Source:
        Cameron, Gelbach and Miller 2011, Robust inference with multiway clustering; for balanced designs this is the
        analysis of variance with two random factors (Satterthwaite 1946).
    """

    values: np.ndarray
    groups: tuple[str, ...]
    first: np.ndarray
    second: np.ndarray
    names: tuple[str, str] = ("raters", "prompts")

    @property
    def means(self) -> dict[str, float]:
        """By group, in the order in which they first come."""
        return {group: float(self.values[self._of(group)].mean()) for group in dict.fromkeys(self.groups)}

    @property
    def counts(self) -> dict[str, int]:
        return {group: int(self._of(group).sum()) for group in dict.fromkeys(self.groups)}

    def estimate(self, group: str) -> Estimate:
        """A group's mean with its interval."""
        return self._interval({group: 1})

    def difference(self, one: str, other: str) -> Estimate:
        """How much higher the first group's mean is; what its raters and prompts share with the other's drops out."""
        return self._interval({one: 1, other: -1})

    def _of(self, group: str) -> np.ndarray:
        return np.array([name == group for name in self.groups])

    def _interval(self, signs: Mapping[str, int]) -> Estimate:
        """The sum of signed means."""
        of = np.stack([self._of(group) for group in signs])
        means, sizes, used = np.array([self.means[group] for group in signs]), of.sum(axis=1), of.any(axis=0)
        groups, signed = of[:, used].argmax(axis=0), np.array(list(signs.values()))
        shares = signed[groups] * (self.values[used] - means[groups]) / sizes[groups]
        value = float(signed @ means)
        found = crossed_interval(value, shares, self.first[used], self.second[used], self.names, groups)
        return replace(found, n=int(sizes.min()))


def crossed_interval(
    value: float, shares: np.ndarray, first: np.ndarray, second: np.ndarray, names: tuple[str, str],
    groups: np.ndarray | None = None,
) -> Estimate:  # fmt: skip
    """A figure with the interval that `Crossed` describes.

    A cluster's sum counts 1 / (1 - its share of the group), since a mean lies near the clusters that it is made of: in
    a balanced design C / (C - 1), and C_g / (C_g - 1) where each cluster has observations of one group only.

    Args:
        shares: (N,) what each observation adds to the figure, about 0.
        first, second: (N,) codes of its clusters.
        groups: (N,) codes of the means that were taken off, one for all where not given.

    Source:
        Horn, Horn and Duncan 1975, Estimating heteroscedastic variances in linear models (HC2).
    """
    of = np.zeros(len(shares), dtype=int) if groups is None else groups
    codes = of, *(np.unique(kind, return_inverse=True)[1] for kind in (first, second))
    cells = np.zeros([int(kind.max()) + 1 for kind in codes])
    filled = np.zeros(cells.shape)
    np.add.at(cells, codes, shares)
    np.add.at(filled, codes, 1)
    by_row, by_column = filled.sum(axis=2), filled.sum(axis=1)
    for sizes, name in zip((by_row, by_column), names, strict=True):
        fewest = int((sizes > 0).sum(axis=1).min())
        if fewest < LEAST:
            return Estimate(value, reason=too_few(fewest, name))
    up_row, up_column = (1 / np.sqrt(1 - n / n.sum(axis=1, keepdims=True)) for n in (by_row, by_column))
    rows, columns = cells.sum(axis=2), cells.sum(axis=1)
    rest = cells - filled * (rows / np.maximum(by_row, 1))[:, :, None]
    rest -= filled * (columns / np.maximum(by_column, 1))[:, None, :]
    # Of pure chance, what is left in each group's cells once its rows' and columns' means were taken off.
    per_row, per_column = filled / by_row.clip(1)[:, :, None], filled / by_column.clip(1)[:, None, :]
    per_group = filled / filled.sum(axis=(1, 2), keepdims=True)
    left = (per_group * (1 - per_row - per_column + 2 * per_row * per_column - per_group)).sum(axis=(1, 2))
    rest /= np.sqrt(left.clip(1e-9))[:, None, None]
    v_1, v_2, v_12 = (float((part.sum(axis=0) ** 2).sum()) for part in (rows * up_row, columns * up_column, rest))
    free_12 = float(left.mean()) * int(filled.any(axis=0).sum())
    reach = crossed_reach(v_1, v_2, v_12, (_free(by_row), _free(by_column), max(1.0, free_12)))
    if reach < 1e-12:
        return Estimate(value, reason="every answer was the same")
    return Estimate(value, value - reach, value + reach)


def _free(sizes: np.ndarray) -> int:
    """Degrees of freedom of (G, C) clusters: less one for each group where no cluster has two of them, else one."""
    groups, clusters = sizes.shape
    return clusters - (groups if (sizes > 0).sum(axis=0).max() == 1 else 1)


def crossed_reach(v_1: float, v_2: float, v_12: float, free: tuple[float, float, float]) -> float:
    """Half of an interval: Student's quantile times the root of V_1 + V_2 - V_12, as `pooled` finds them."""
    variance, df = pooled(v_1, v_2, v_12, free)
    return student(df) * math.sqrt(variance) if variance else 0.0


def pooled(v_1: float, v_2: float, v_12: float, free: tuple[float, float, float]) -> tuple[float, float]:
    """V_1 + V_2 - V_12 with Satterthwaite's degrees of freedom, never below those of the kind with fewer clusters.

    A kind whose variance is no larger than chance would have it (an F test at `POOLED`) adds nothing of its own, and is
    pooled with the rest. Without that, intervals held the truth in up to 99 % where raters and prompts hardly differ;
    where all that is not larger was pooled, in up to 98 %; tested at 10 %, in as few as 90 %.

    Args:
        free: degrees of freedom of the three: in a balanced design R - 1, P - 1 and (R - 1) (P - 1).

    Source:
        Bancroft 1964, Analysis and inference for incompletely specified models involving preliminary tests.

    Example:
        >>> pooled(4.0, 1.0, 1.0, (5, 9, 45))[0], round(pooled(1.0, 1.0, 1.0, (5, 9, 45))[1])
        (4.0, 59)
    """
    kinds, shared = ((v_1, free[0]), (v_2, free[1])), free[2]
    own = [(v, df) for v, df in kinds if v > v_12 * fdtri(df, shared, 1 - POOLED)]
    rest = [(v_12, shared), *(kind for kind in kinds if kind not in own)]
    df_rest = sum(df for _, df in rest)
    v_rest, times = sum(v * df for v, df in rest) / df_rest, 1 - len(own)
    variance = sum(v for v, _ in own) + times * v_rest
    spread = sum(v**2 / df for v, df in own) + (times * v_rest) ** 2 / df_rest
    least = min(free[:2])
    return variance, max(variance**2 / spread, least) if spread else least


def crossed(
    values: Floats, groups: Sequence[str], first: Sequence[Hashable], second: Sequence[Hashable],
    names: tuple[str, str] = ("raters", "prompts"),
) -> Crossed:  # fmt: skip
    """Observations by group, with the two kinds of clusters that they come from.

    Raises:
        ValueError: there is no observation, or the sequences differ in length.

    Example:
        >>> found = crossed([1.0, 2.0, 3.0, 4.0], "aabb", "1212", "pppp").estimate("a")
        >>> found.value, found.reason
        (1.5, '2 raters: an interval needs 5')
    """
    y = np.asarray(values, dtype=np.float64)
    if y.size == 0 or not len(y) == len(groups) == len(first) == len(second):
        raise ValueError(f"{y.size} ratings were given with {len(groups)} groups: give as many of each, at least one")
    return Crossed(y, tuple(groups), codes_of(first), codes_of(second), names)
