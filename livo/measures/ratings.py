"""What ratings by people say, as pure functions of numbers: Krippendorff's alpha, Bradley-Terry with ties, variances.

Knows nothing about studies, files or pages. Arrays are (U, R): U units by R raters, NaN where a rater gave no value.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy.optimize import minimize

from livo.measures.bootstrap import LEAST, codes_of, student, too_few
from livo.measures.crossed import crossed_interval
from livo.measures.estimates import Estimate, Floats

Level = Literal["nominal", "ordinal", "interval"]
LEAST_PROMPTS_OF_ALPHA = 8
"""Alpha is a ratio, whose intervals of fewer prompts were found to hold the truth in 91 % of simulated studies."""


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


def alpha_interval(ratings: np.ndarray, clusters: Sequence[Hashable], level: Level = "ordinal") -> Estimate:
    """Alpha with a 95 % interval for new raters and new prompts, by leaving out each rater, each prompt, and both.

    Args:
        clusters: (U,) the cluster of each unit, such as its prompt.

    Returns:
        With n the number of units that two raters rated; without an interval for fewer than `LEAST` raters or
        `LEAST_PROMPTS_OF_ALPHA` clusters.

    Raises:
        ValueError: as `krippendorff_alpha`.

    Source:
        Efron and Tibshirani 1993, chapter 11 (the jackknife), in the two directions of `crossed.Crossed`.
    """
    counts, values = _unit_counts(ratings)
    alpha = float(_alphas(counts, values, level, np.ones((1, len(counts))))[0])
    pairable, given = counts.sum(axis=1) >= 2, ~np.isnan(np.asarray(ratings, dtype=np.float64))
    units, codes = int(pairable.sum()), codes_of([c for c, p in zip(clusters, pairable, strict=True) if p])
    number, raters = int(codes.max()) + 1, int(given[pairable].any(axis=0).sum())
    for count, name, least in ((raters, "raters", LEAST), (number, "prompts", LEAST_PROMPTS_OF_ALPHA)):
        if count < least:
            return Estimate(alpha, n=units, reason=too_few(count, name, least))
    if math.isclose(alpha, 1):
        return Estimate(alpha, n=units, reason="all raters agreed on everything")
    without = np.vstack([np.ones(units), *(codes != c for c in range(number))]).astype(np.float64)
    table = np.asarray(ratings, dtype=np.float64)[pairable]
    every = _alphas(counts[pairable], values, level, without)
    left_out = []
    for rater in np.flatnonzero(given[pairable].any(axis=0)):
        fewer = (np.delete(table, rater, axis=1)[:, :, None] == values).sum(axis=1).astype(np.float64)
        if not (fewer.sum(axis=1) >= 2).any():
            return Estimate(alpha, n=units, reason=f"{raters} raters of whom few rated the same images")
        left_out.append(_alphas(fewer, values, level, without))
    by_rater = np.array(left_out)
    both = by_rater[:, 1:] - by_rater[:, :1] - every[None, 1:] + every[0]
    if not np.isfinite(by_rater).all() or not np.isfinite(every).all():
        return Estimate(alpha, n=units, reason="without one rater or prompt alpha is not defined")
    v_r = (raters - 1) / raters * float(((by_rater[:, 0] - by_rater[:, 0].mean()) ** 2).sum())
    v_p = (number - 1) / number * float(((every[1:] - every[1:].mean()) ** 2).sum())
    v_rp = (raters - 1) * (number - 1) / (raters * number) * float(((both - both.mean()) ** 2).sum())
    # Not pooled, as `crossed_reach` would: by a jackknife's v_rp alpha's intervals then hold the truth in 92 %.
    variance = max(v_r + v_p - v_rp, v_r, v_p)
    spread = v_r**2 / (raters - 1) + v_p**2 / (number - 1) + v_rp**2 / ((raters - 1) * (number - 1))
    df = max(variance**2 / spread, min(raters, number) - 1) if spread else 1.0
    reach = student(df) * math.sqrt(variance)
    return Estimate(alpha, alpha - reach, min(1.0, alpha + reach), units)


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
        shares: by method, (N,) what each comparison adds to its log strength, to first order; they sum to about 0.
    """

    log_strengths: Mapping[str, float]
    tie: float
    shares: Mapping[str, np.ndarray]

    def estimates(self, raters: Sequence[Hashable], prompts: Sequence[Hashable]) -> dict[str, Estimate]:
        """By method, the log strength with its interval over raters and prompts; n counts its comparisons.

        Args:
            raters, prompts: (N,) of each comparison.
        """
        first, second = codes_of(raters), codes_of(prompts)
        return {
            name: replace(
                crossed_interval(value, self.shares[name], first, second, ("raters", "prompts")),
                n=int((self.shares[name] != 0).sum()),
            )
            for name, value in self.log_strengths.items()
        }


def bradley_terry(duels: Sequence[tuple[str, str, float]], ridge: float = 0.0) -> Strengths:
    """Strengths of methods from comparisons of two.

    P(i wins) ~ pi_i,   P(j wins) ~ pi_j,   P(tie) ~ nu sqrt(pi_i pi_j);   the likelihood is maximised by Newton's steps

    Args:
        duels: (first, second, outcome): 1 the first won, 0 the second, 0.5 a tie.
        ridge: of a Gaussian prior on the log strengths; without one, a method that always wins has no finite strength.

    Raises:
        ValueError: there is no duel, or the methods fall into parts that never lose to each other (give a ridge).

    Source:
        Davidson 1970, On extending the Bradley-Terry model to accommodate ties; without ties, Bradley and Terry 1952.
        The shares are the sandwich estimator's: White 1982, Maximum likelihood estimation of misspecified models.

    Example:
        >>> fit = bradley_terry([("a", "b", 1.0)] * 3 + [("a", "b", 0.0)])
        >>> round(math.exp(fit.log_strengths["a"] - fit.log_strengths["b"]), 3)
        3.0
    """
    if not duels:
        raise ValueError("no comparison was given: strengths need at least one")
    names = sorted({name for duel in duels for name in duel[:2]})
    index = {name: i for i, name in enumerate(names)}
    table = np.zeros((len(names), len(names), 3))  # i < j: i won, j won, tie
    places: list[tuple[int, int, int]] = []
    for first, second, outcome in duels:
        i, j = index[first], index[second]
        if i == j or outcome not in (0, 0.5, 1):
            raise ValueError(f"{first} against {second} with outcome {outcome}: give two methods, and 1, 0 or 0.5")
        places.append((min(i, j), max(i, j), 2 if outcome == 0.5 else int((outcome == 1) != (i < j))))
        table[places[-1]] += 1
    if ridge == 0 and not _connected(table):
        raise ValueError("some methods never lost to the others: their strength has no bound; give a ridge")
    ties = bool(table[:, :, 2].sum() > 0)
    size = len(names) + ties
    theta, hessian = np.zeros(size), np.zeros((size, size))
    slopes: dict[tuple[int, int, int], np.ndarray] = {}
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
            slopes |= {(i, j, k): row - p @ x for k, row in enumerate(x)}
            gradient = gradient + x.T @ (table[i, j, : len(p)] - n * p)
            hessian = hessian - n * x.T @ (np.diag(p) - np.outer(p, p)) @ x
        step = np.linalg.lstsq(hessian, gradient, rcond=1e-12)[0]
        step *= min(1.0, 2.0 / max(np.abs(step).max(), 1e-300))
        theta = theta - step
        if np.abs(step).max() < 1e-12:
            break
    added = -np.stack([slopes[place] for place in places]) @ np.linalg.pinv(hessian, rcond=1e-12)
    added = added[:, : len(names)] - added[:, : len(names)].mean(axis=1, keepdims=True)
    strengths = theta[: len(names)] - theta[: len(names)].mean()
    return Strengths(
        dict(zip(names, strengths.tolist(), strict=True)),
        float(math.exp(theta[-1])) if ties else 0.0,
        dict(zip(names, added.T, strict=True)),
    )


def _connected(table: np.ndarray) -> bool:
    """Whether each method can be reached from each other along "beat or tied with": Ford's condition."""
    beat = (table[:, :, 0] + table[:, :, 2] > 0) | (table[:, :, 1] + table[:, :, 2] > 0).T
    reach = np.eye(len(beat), dtype=bool) | beat
    for _ in range(len(beat)):
        reach = reach | (reach.astype(int) @ reach.astype(int) > 0)
    return bool(reach.all())


# --- what to plan with -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Components:
    """Standard deviations of ratings: between clusters of each kind, and of what is left.

    Attributes:
        between: by kind, in the order given.
    """

    between: Mapping[str, float]
    rest: float


def variance_components(
    values: Floats, groups: Sequence[Hashable], kinds: Mapping[str, Sequence[Hashable]]
) -> Components | str:
    """Components of ratings' variance by restricted maximum likelihood, or why they cannot be estimated.

    y = mean of its group + one effect for each kind of cluster + rest, all effects Gaussian and independent. It holds
    in sparse and uneven designs, where methods of moments do not.

    Args:
        values: (N,) ratings.
        groups: (N,) whose means are fixed, such as the methods.
        kinds: by name, (N,) the clusters, such as prompts, raters, and prompts within methods.

    Returns:
        The components; or the reason in words: a kind has fewer than 3 clusters, no cluster of it has two ratings, or
        nothing is left to tell the rest from the clusters.

    Source:
        Patterson and Thompson 1971, Recovery of inter-block information when block sizes are unequal.
    """
    y = np.asarray(values, dtype=np.float64)
    coded = {name: codes_of(labels) for name, labels in kinds.items()}
    for name, codes in coded.items():
        if codes.max() + 1 < 3:
            return f"not estimable: {codes.max() + 1} {name}, at least 3 are needed"
        if codes.max() + 1 == len(y):
            return f"not estimable: no two ratings share one of the {name}"
    fixed = _indicators(codes_of(groups))
    blocks = [_indicators(codes) for codes in coded.values()]
    for name, block in zip(coded, blocks, strict=True):
        if np.linalg.matrix_rank(np.hstack([fixed, block])) == np.linalg.matrix_rank(fixed):
            return f"not estimable: the {name} are the groups over again"
    wide = np.hstack([fixed, *blocks])
    if len(y) - np.linalg.matrix_rank(wide.T @ wide) < 1:
        return "not estimable: too few ratings to tell what is left from the clusters"
    z = np.hstack(blocks)
    sizes = [block.shape[1] for block in blocks]
    zz, zx, zy, xx, xy, yy = z.T @ z, z.T @ fixed, z.T @ y, fixed.T @ fixed, fixed.T @ y, float(y @ y)
    free = len(y) - fixed.shape[1]

    def profile(ratios: np.ndarray) -> tuple[float, float]:
        """Minus twice the restricted log likelihood at variances as ratios to the rest's, and the rest's variance."""
        root = np.sqrt(np.repeat(ratios, sizes))
        inner = np.eye(len(root)) + root[:, None] * zz * root
        both = np.linalg.solve(inner, root[:, None] * np.column_stack([zx, zy]))
        solved_x, solved_y = both[:, :-1], both[:, -1]
        a = xx - (root[:, None] * zx).T @ solved_x
        b = xy - (root[:, None] * zx).T @ solved_y
        rss = max(yy - float((root * zy) @ solved_y) - float(b @ np.linalg.solve(a, b)), 1e-12 * max(yy, 1.0))
        found = free * math.log(rss) + np.linalg.slogdet(inner)[1] + np.linalg.slogdet(a)[1]
        return float(found), rss / free

    start = np.full(len(blocks), -1.0)
    best = minimize(lambda logs: profile(np.exp(logs))[0], start, method="L-BFGS-B", bounds=[(-16, 8)] * len(blocks))
    ratios = np.exp(best.x)
    rest = profile(ratios)[1]
    ratios[ratios < 1e-5] = 0.0
    between = {name: math.sqrt(ratio * rest) for name, ratio in zip(coded, ratios.tolist(), strict=True)}
    return Components(between, math.sqrt(rest))


def _indicators(codes: np.ndarray) -> np.ndarray:
    """(N, C) ones where an observation is of a cluster."""
    return (codes[:, None] == np.arange(codes.max() + 1)).astype(np.float64)
