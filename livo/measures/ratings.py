"""What ratings by people say, as pure functions of numbers: Krippendorff's alpha, Bradley-Terry with ties, variances.

Knows nothing about studies, files or pages. Arrays are (U, R): U units by R raters, NaN where a rater gave no value.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from livo.measures.bootstrap import codes_of, drawn_weights, middle_of
from livo.measures.estimates import Estimate

Level = Literal["nominal", "ordinal", "interval"]


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
    ratings: np.ndarray, clusters: Sequence[object], level: Level = "ordinal", draws: int = 2_000, seed: int = 0
) -> Estimate:
    """Alpha with a 95 % interval: whole clusters of units (prompts) are drawn again.

    Args:
        clusters: (U,) the cluster of each unit.

    Raises:
        ValueError: as `krippendorff_alpha`.
    """
    counts, values = _unit_counts(ratings)
    alpha = float(_alphas(counts, values, level, np.ones((1, len(counts))))[0])
    codes = codes_of(clusters)
    weights = drawn_weights(codes.max() + 1, draws, np.random.default_rng(seed))[:, codes]
    drawn = _alphas(counts, values, level, weights)
    return Estimate(alpha, *middle_of(drawn, alpha), int((counts.sum(axis=1) >= 2).sum()))


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
    ties = bool(table[:, :, 2].sum() > 0)
    size = len(names) + ties
    theta = np.zeros(size)
    for _ in range(200):
        gradient, hessian = -ridge * theta, -ridge * np.eye(size)
        for i, j in itertools.combinations(range(len(names)), 2):
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
    y, r, p = np.asarray(values, dtype=np.float64), codes_of(raters), codes_of(prompts)
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
