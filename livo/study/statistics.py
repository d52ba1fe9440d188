"""The statistics of a study as pure functions of numbers: agreement, intervals, Bradley-Terry with ties.

Knows nothing about studies, files or pages. Arrays are (U, R): U units by R raters, NaN where a rater gave no value.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from livo.measures.metrics import Interval

DRAWS = 2_000
Level = Literal["nominal", "ordinal", "interval"]


class Estimate(NamedTuple):
    """A figure with its 95 % interval and what it rests on; None where too little was given."""

    value: float
    low: float
    high: float
    n: int


# --- agreement -------------------------------------------------------------------------------------------------------


def krippendorff_alpha(ratings: np.ndarray, level: Level = "ordinal", weights: np.ndarray | None = None) -> float:
    """Krippendorff's alpha: agreement beyond chance, for any number of raters and with missing values.

    alpha = 1 - D_o / D_e;  D_o, D_e: mean squared difference within units, and between all values
    ordinal: delta(c, k) = sum_{g = c..k} n_g - (n_c + n_k) / 2

    Args:
        ratings: (U, R) values; only their order counts where the level is ordinal.
        weights: (U,) how often each unit counts, for the bootstrap.

    Returns:
        At most 1; 0 is chance.

    Raises:
        ValueError: no unit has two values, or all values are the same: nothing can then be said.

    Source:
        Krippendorff 2011, Computing Krippendorff's alpha-reliability; the example below is its own (alpha .815).

    Example:
        >>> nan = float("nan")
        >>> rows = [[1, 2, 3, 3, 2, 1, 4, 1, 2, nan, nan, nan], [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, nan, 3],
        ...         [nan, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, nan], [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, nan]]
        >>> round(krippendorff_alpha(np.array(rows).T), 3)
        0.815
    """
    counts, values = _unit_counts(ratings)
    return float(_alphas(counts, values, level, np.ones((1, len(counts))) if weights is None else weights[None])[0])


def alpha_interval(
    ratings: np.ndarray, clusters: Sequence[object], level: Level = "ordinal", draws: int = DRAWS, seed: int = 0
) -> Estimate:
    """Alpha with a 95 % interval: whole clusters of units (prompts) are drawn again.

    Args:
        clusters: (U,) the cluster of each unit.

    Raises:
        ValueError: as `krippendorff_alpha`.
    """
    counts, values = _unit_counts(ratings)
    alpha = float(_alphas(counts, values, level, np.ones((1, len(counts))))[0])
    weights = _cluster_weights(_codes(clusters), draws, np.random.default_rng(seed))
    drawn = _alphas(counts, values, level, weights)
    low, high = _percentiles(drawn, alpha)
    return Estimate(alpha, low, high, int((counts.sum(axis=1) >= 2).sum()))


def _unit_counts(ratings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(U, V) how often each of V values was given to each unit, and the values."""
    ratings = np.asarray(ratings, dtype=np.float64)
    if ratings.ndim != 2:
        raise ValueError(f"wanted units by raters, got shape {ratings.shape}")
    values = np.unique(ratings[~np.isnan(ratings)])
    return (ratings[:, :, None] == values).sum(axis=1).astype(np.float64), values


def _alphas(counts: np.ndarray, values: np.ndarray, level: Level, weights: np.ndarray) -> np.ndarray:
    """(B,) alpha for each row of (B, U) weights; NaN where a draw holds no disagreement to expect."""
    given = counts.sum(axis=1)
    pairable = given >= 2
    if not pairable.any():
        raise ValueError("no unit has two values: agreement needs images that two raters rated")
    counts, given, weights = counts[pairable], given[pairable], weights[:, pairable]
    pairs = np.einsum("uv,uw->uvw", counts, counts) - np.einsum("uv,vw->uvw", counts, np.eye(len(values)))
    observed = np.einsum("bu,uvw->bvw", weights / (given - 1), pairs)
    totals = observed.sum(axis=2)
    n = totals.sum(axis=1)
    expected = (totals[:, :, None] * totals[:, None, :] - np.einsum("bv,vw->bvw", totals, np.eye(len(values)))) / (
        n - 1
    )[:, None, None]
    delta = _differences(values, level, totals)
    with np.errstate(invalid="ignore", divide="ignore"):
        alpha = 1 - (observed * delta).sum(axis=(1, 2)) / (expected * delta).sum(axis=(1, 2))
    if len(alpha) == 1 and not np.isfinite(alpha[0]):
        raise ValueError("all values are the same: agreement beyond chance is not defined")
    return alpha


def _differences(values: np.ndarray, level: Level, totals: np.ndarray) -> np.ndarray:
    """(B or 1, V, V) squared differences."""
    if level == "nominal":
        return (values[:, None] != values[None, :]).astype(float)[None]
    if level == "interval":
        return ((values[:, None] - values[None, :]) ** 2)[None]
    middle = np.cumsum(totals, axis=1) - totals / 2  # distance of middles = all between, and half of both ends
    return (middle[:, :, None] - middle[:, None, :]) ** 2


def cohen_kappa(first: Sequence[object], second: Sequence[object]) -> float:
    """Cohen's kappa: agreement of two beyond chance.

    Raises:
        ValueError: there is nothing to compare, or both say one thing throughout.

    Example:
        >>> round(cohen_kappa("aabbab", "aabbbb"), 3)
        0.667
    """
    if len(first) != len(second) or not first:
        raise ValueError(f"{len(first)} and {len(second)} labels: give as many of both, and at least one")
    n = len(first)
    observed = sum(a == b for a, b in zip(first, second, strict=True)) / n
    chance = sum(list(first).count(c) * list(second).count(c) for c in set(first) | set(second)) / n**2
    if chance == 1:
        raise ValueError("both say the same of everything: agreement beyond chance is not defined")
    return (observed - chance) / (1 - chance)


# --- intervals -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Means:
    """Means of groups with the bootstrap's draws, so that differences can be taken draw by draw.

    Attributes:
        draws: (B,) by group.
    """

    values: Mapping[str, float]
    draws: Mapping[str, np.ndarray]
    counts: Mapping[str, int]

    def estimate(self, group: str) -> Estimate:
        """A group's mean with its interval."""
        return Estimate(self.values[group], *_percentiles(self.draws[group], self.values[group]), self.counts[group])

    def difference(self, first: str, second: str) -> Estimate:
        """How much higher the first group's mean is; the same raters and prompts in every draw."""
        value = self.values[first] - self.values[second]
        n = min(self.counts[first], self.counts[second])
        return Estimate(value, *_percentiles(self.draws[first] - self.draws[second], value), n)


def cluster_bootstrap(
    values: Sequence[float], groups: Sequence[str], raters: Sequence[object], prompts: Sequence[object],
    draws: int = DRAWS, seed: int = 0,
) -> Means:  # fmt: skip
    """Means of groups of ratings; raters and prompts are both drawn again, and a rating counts as often as its rater
    times its prompt was drawn.

    Ratings of one rater, or of one prompt, are alike; drawing single ratings again would make intervals too narrow.

    Raises:
        ValueError: there is no rating, or the sequences differ in length.

    Source:
        Owen 2007, The pigeonhole bootstrap.
    """  # fmt: skip
    y = np.asarray(values, dtype=np.float64)
    if y.size == 0 or not len(y) == len(groups) == len(raters) == len(prompts):
        raise ValueError(f"{y.size} ratings were given with {len(groups)} groups: give as many of each, at least one")
    rng = np.random.default_rng(seed)
    r, p = _codes(raters), _codes(prompts)
    by_rater = _multinomial(r.max() + 1, draws, rng)
    by_prompt = _multinomial(p.max() + 1, draws, rng)
    means, drawn, counts = {}, {}, {}
    for group in dict.fromkeys(groups):
        chosen = np.array([g == group for g in groups])
        total = np.zeros((r.max() + 1, p.max() + 1))
        number = np.zeros_like(total)
        np.add.at(total, (r[chosen], p[chosen]), y[chosen])
        np.add.at(number, (r[chosen], p[chosen]), 1)
        with np.errstate(invalid="ignore", divide="ignore"):
            drawn[group] = ((by_rater @ total) * by_prompt).sum(axis=1) / ((by_rater @ number) * by_prompt).sum(axis=1)
        means[group], counts[group] = float(y[chosen].mean()), int(chosen.sum())
    return Means(means, drawn, counts)


def prompt_bootstrap(by_prompt: Sequence[float], draws: int = DRAWS, seed: int = 0) -> Estimate:
    """The mean of one figure a prompt, with an interval over prompts.

    Raises:
        ValueError: there is no prompt.
    """
    y = np.asarray(by_prompt, dtype=np.float64)
    if y.size == 0:
        raise ValueError("no prompt was given: a mean needs at least one")
    drawn = _multinomial(len(y), draws, np.random.default_rng(seed)) @ y / len(y)
    return Estimate(float(y.mean()), *_percentiles(drawn, float(y.mean())), len(y))


def _codes(labels: Sequence[object]) -> np.ndarray:
    index = {label: i for i, label in enumerate(dict.fromkeys(labels))}
    return np.array([index[label] for label in labels], dtype=np.int64)


def _multinomial(k: int, draws: int, rng: np.random.Generator) -> np.ndarray:
    """(B, k) how often each of k clusters was drawn."""
    return rng.multinomial(k, np.full(k, 1 / k), size=draws).astype(np.float64)


def _cluster_weights(codes: np.ndarray, draws: int, rng: np.random.Generator) -> np.ndarray:
    return _multinomial(codes.max() + 1, draws, rng)[:, codes]


def _percentiles(drawn: np.ndarray, value: float) -> Interval:
    """The middle 95 % of the draws; draws in which the figure is not defined are left out."""
    drawn = drawn[np.isfinite(drawn)]
    if drawn.size == 0:
        return Interval(value, value)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Interval(float(low), float(high))


# --- pairs -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Strengths:
    """Bradley-Terry with ties.

    Attributes:
        log_strengths: by method, their mean is 0.
        tie: nu; 0 where there was no tie.
    """

    log_strengths: Mapping[str, float]
    tie: float

    def win_probability(self, first: str, second: str) -> float:
        """Of the first over the second, ties counted as half."""
        a, b = self.log_strengths[first], self.log_strengths[second]
        top = max(a, b)
        x, y, t = math.exp(a - top), math.exp(b - top), self.tie * math.exp((a + b) / 2 - top)
        return (x + t / 2) / (x + y + t)


def bradley_terry(
    duels: Sequence[tuple[str, str, float]], weights: np.ndarray | None = None, ridge: float = 0.0
) -> Strengths:
    """Strengths of methods from comparisons of two.

    P(i wins) ~ pi_i,   P(j wins) ~ pi_j,   P(tie) ~ nu sqrt(pi_i pi_j);   the likelihood is maximised by Newton's steps

    Args:
        duels: (first, second, outcome): 1 the first won, 0 the second, 0.5 a tie.
        weights: how often each counts.
        ridge: of a Gaussian prior on the log strengths; without one, a method that always wins has no finite strength.

    Raises:
        ValueError: there is no duel, or the methods fall into parts that never lose to each other (give a ridge).

    Source:
        Davidson 1970, On extending the Bradley-Terry model to accommodate ties; without ties, Bradley and Terry 1952.

    Example:
        >>> fit = bradley_terry([("a", "b", 1.0)] * 3 + [("a", "b", 0.0)])
        >>> round(math.exp(fit.log_strengths["a"] - fit.log_strengths["b"]), 3)
        3.0
    """
    if not duels:
        raise ValueError("no comparison was given: strengths need at least one")
    names = sorted({name for duel in duels for name in duel[:2]})
    index = {name: i for i, name in enumerate(names)}
    w = np.ones(len(duels)) if weights is None else np.asarray(weights, dtype=np.float64)
    table = np.zeros((len(names), len(names), 3))  # i < j: i won, j won, tie
    for (first, second, outcome), weight in zip(duels, w, strict=True):
        i, j = index[first], index[second]
        if i == j or outcome not in (0, 0.5, 1):
            raise ValueError(f"{first} against {second} with outcome {outcome}: give two methods, and 1, 0 or 0.5")
        place = 2 if outcome == 0.5 else int((outcome == 1) != (i < j))
        table[min(i, j), max(i, j), place] += weight
    if ridge == 0 and not _connected(table):
        raise ValueError("some methods never lost to the others: their strength has no bound; give a ridge")
    ties = table[:, :, 2].sum() > 0
    size = len(names) + ties
    theta = np.zeros(size)
    for _ in range(200):
        gradient, hessian = -ridge * theta, -ridge * np.eye(size)
        for i, j in zip(*np.triu_indices(len(names), 1), strict=True):
            n = table[i, j].sum()
            if n == 0:
                continue
            x = np.zeros((3 if ties else 2, size))
            x[0, i] = x[1, j] = 1
            if ties:
                x[2, [i, j, -1]] = 0.5, 0.5, 1
            u = x @ theta
            p = np.exp(u - u.max())
            p /= p.sum()
            gradient = gradient + x.T @ (table[i, j, : len(p)] - n * p)
            hessian = hessian - n * x.T @ (np.diag(p) - np.outer(p, p)) @ x
        step = np.linalg.lstsq(hessian, gradient, rcond=1e-12)[0]
        step *= min(1.0, 2.0 / max(np.abs(step).max(), 1e-300))
        theta = theta - step
        if np.abs(step).max() < 1e-12:
            break
    strengths = theta[: len(names)] - theta[: len(names)].mean()
    return Strengths(dict(zip(names, strengths.tolist(), strict=True)), float(math.exp(theta[-1])) if ties else 0.0)


def _connected(table: np.ndarray) -> bool:
    """Whether each method can be reached from each other along "beat or tied with": Ford's condition."""
    beat = (table[:, :, 0] + table[:, :, 2] > 0) | (table[:, :, 1] + table[:, :, 2] > 0).T
    reach = np.eye(len(beat), dtype=bool) | beat
    for _ in range(len(beat)):
        reach = reach | (reach.astype(int) @ reach.astype(int) > 0)
    return bool(reach.all())


# --- what to plan with -----------------------------------------------------------------------------------------------


def variance_components(
    values: Sequence[float], raters: Sequence[object], prompts: Sequence[object]
) -> tuple[float, float, float]:
    """Standard deviations between prompts, between raters, and of what is left, from one method's ratings.

    Method of moments: the variance of the means less what the rest alone would give them; never below 0.
    """
    y, r, p = np.asarray(values, dtype=np.float64), _codes(raters), _codes(prompts)
    n_r, n_p = np.bincount(r), np.bincount(p)
    rater_means, prompt_means = np.bincount(r, y) / n_r, np.bincount(p, y) / n_p
    rest = y - rater_means[r] - prompt_means[p] + y.mean()
    free = max(1, len(y) - len(n_r) - len(n_p) + 1)
    noise = float((rest**2).sum() / free)
    between = [
        max(0.0, float(means.var(ddof=1)) - noise * float((1 / n).mean())) if len(n) > 1 else 0.0
        for means, n in ((prompt_means, n_p), (rater_means, n_r))
    ]
    return math.sqrt(between[0]), math.sqrt(between[1]), math.sqrt(noise)
