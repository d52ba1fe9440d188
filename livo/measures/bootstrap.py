"""Intervals of figures whose observations come in clusters: prompts, raters, trainings.

    one way       a figure a prompt, or any figure of pooled prompts: the cluster bootstrap
    two levels    figures of prompts by trainings; ratings of prompts by raters are `livo.measures.crossed`'s

Whole clusters count, because another evaluation would have other prompts. An interval is given only where there are
`LEAST` clusters of each kind: below, its coverage cannot be promised. Pure functions; `livo.measures.coverage` measures
how often the intervals hold the truth.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit

from livo.measures.estimates import Estimate, Floats

LEAST = 5
"""Clusters of a kind below which no interval is given."""
SAME = "every prompt gave the same figure"
"""Why an estimate has no interval though it has prompts enough: they say nothing about the spread."""


def too_few(count: int, what: str = "prompts", least: int = LEAST) -> str:
    """Why there is no interval.

    Example:
        >>> too_few(3)
        '3 prompts: an interval needs 5'
    """
    return f"{count} {what}: an interval needs {least}"


# --- one way ---------------------------------------------------------------------------------------------------------


def bootstrap_mean(
    values: Floats,
    clusters: Sequence[Hashable] | None = None,
    within: tuple[float, float] = (-math.inf, math.inf),
    draws: int = 4_000,
    seed: int = 0,
) -> Estimate:
    """A mean with its cluster bootstrap's 95 % interval: whole clusters are drawn again, with replacement.

    value -+ sqrt(C / (C - 1)) t_{C-1} s,   C the clusters, s the spread of the mean over the draws

    The root takes the bootstrap's shrinkage back, and Student's t knows that s itself is estimated: plain percentiles
    are too narrow for few clusters, and cannot leave the range of the values.

    Args:
        values: one figure a set of images, at least one.
        clusters: the cluster of each, such as its prompt; each is one of its own where not given.
        within: what the mean can be; the interval is cut there.

    Returns:
        With n the number of clusters; without an interval where they are fewer than `LEAST`, or all alike.

    Raises:
        ValueError: if there are no values, one is not finite, or the clusters are not as many.

    Source:
        Efron and Tibshirani 1993, chapters 12 and 13; Hesterberg 2015, What teachers should know about the bootstrap.

    Example:
        >>> found = bootstrap_mean([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
        >>> round(found.value, 2), round(found.low, 1), round(found.high, 1), found.n
        (0.35, 0.2, 0.5, 6)
    """
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or x.size == 0 or not np.isfinite(x).all():
        raise ValueError(f"wanted one finite figure per prompt, at least one; got {values!r}")
    codes = np.arange(x.size) if clusters is None else codes_of(clusters)
    if len(codes) != x.size:
        raise ValueError(f"{x.size} figures of {len(codes)} clusters: give the cluster of each")
    value, count = float(x.mean()), int(codes.max()) + 1
    sums, sizes = np.bincount(codes, x), np.bincount(codes)
    if count < LEAST:
        return Estimate(value, n=count, reason=too_few(count))
    if np.ptp(sums / sizes) < 1e-12:
        return Estimate(value, n=count, reason=SAME)
    times = drawn_weights(count, draws, np.random.default_rng(seed))
    reach = student_reach(np.std((times @ sums) / (times @ sizes), ddof=1), count)
    return Estimate(value, max(within[0], value - reach), min(within[1], value + reach), count)


def paired_bootstrap(
    one: Floats,
    other: Floats,
    clusters: Sequence[Hashable] | None = None,
    within: tuple[float, float] = (-math.inf, math.inf),
    draws: int = 4_000,
    seed: int = 0,
) -> Estimate:
    """The mean of `one` minus that of `other` over the same sets of images, with its interval, as `bootstrap_mean`.

    Paired: prompts differ far more than methods do, and what they have in common drops out.

    Args:
        one, other: one figure a set each, the same sets in the same order.

    Raises:
        ValueError: if they are none or not equally many.

    Example:
        >>> paired_bootstrap([0.9, 0.2, 0.5, 0.3, 0.8, 0.7], [0.8, 0.1, 0.4, 0.1, 0.7, 0.6]).excludes_zero
        True
    """
    if len(one) != len(other):
        raise ValueError(f"a paired difference wants the same prompts: got {len(one)} and {len(other)} figures")
    difference = np.asarray(one, dtype=np.float64) - np.asarray(other, dtype=np.float64)
    return bootstrap_mean(difference, clusters, within, draws, seed)


def bootstrap_of_sets(
    statistic: Callable[[np.ndarray], np.ndarray], clusters: Sequence[Hashable], draws: int = 200, seed: int = 0
) -> Estimate:
    """Any figure of pooled sets of images, such as FID, with the interval of `bootstrap_mean`.

    One draw counts all sets of a cluster alike. A resampled set repeats prompts, which shifts a FID upward, and its
    percentiles with it; the spread is not touched by that.

    Args:
        statistic: (B, N) how often each set counts, B times -> (B,) the figure.
        clusters: (N,) the cluster of each set, at least one.

    Raises:
        ValueError: if there is no set.

    Example:
        >>> bootstrap_of_sets(lambda times: times.mean(axis=1), "abc").reason
        '3 prompts: an interval needs 5'
    """
    if not len(clusters):
        raise ValueError("0 sets cannot be drawn again: give at least 1")
    codes = codes_of(clusters)
    value, count = float(statistic(np.ones((1, len(codes))))[0]), int(codes.max()) + 1
    if count < LEAST:
        return Estimate(value, n=count, reason=too_few(count))
    times = drawn_weights(count, draws, np.random.default_rng(seed))[:, codes]
    reach = student_reach(np.std(statistic(times), ddof=1), count)
    return Estimate(value, value - reach, value + reach, count)


# --- two levels -----------------------------------------------------------------------------------------------------


def two_level_mean(values: np.ndarray, clusters: Sequence[Hashable]) -> Estimate:
    """The mean over trainings and prompts, with an interval for new ones of both; of one training, over prompts alone.

    Args:
        values: (S, N) figures of S trainings with several seeds, by set of images.
        clusters: (N,) the cluster of each set.

    Raises:
        ValueError: as `bootstrap_mean`.
    """
    return two_level_difference(values, np.zeros((1, values.shape[1])), clusters)


class TwoLevel(NamedTuple):
    """An estimate, how much of its variance comes from trainings, in [0, 1], and how many a side has at the least."""

    estimate: Estimate
    share: float = 0.0
    trainings: int = 1


def two_level_difference(one: np.ndarray, other: np.ndarray, clusters: Sequence[Hashable]) -> Estimate:
    """`two_level`'s estimate."""
    return two_level(one, other, clusters).estimate


def two_level(one: np.ndarray, other: np.ndarray, clusters: Sequence[Hashable]) -> TwoLevel:
    """The mean of (S, N) `one` minus that of (T, N) `other` over the same N sets, of S and T trainings.

    The spread over prompts is `paired_bootstrap`'s; what seeds add to it is the variance between a side's trainings,
    with Satterthwaite's degrees of freedom. A side of one training adds nothing, which the caller has to say.

    Raises:
        ValueError: as `two_level_mean`.
    """
    if one.shape[1] != other.shape[1]:
        raise ValueError(f"a difference wants the same prompts: got {one.shape[1]} and {other.shape[1]} figures")
    found = paired_bootstrap(one.mean(axis=0), other.mean(axis=0), clusters)
    codes = codes_of(clusters)
    sizes = np.bincount(codes)
    means = [[float((np.bincount(codes, row) / sizes).mean()) for row in side] for side in (one, other)]
    return with_trainings(found, *means)


def bootstrap_of_trainings(
    one: Sequence[Callable[[np.ndarray], np.ndarray]],
    other: Sequence[Callable[[np.ndarray], np.ndarray]],
    clusters: Sequence[Hashable],
    draws: int = 200,
) -> TwoLevel:
    """As `two_level`, of figures of pooled sets: a statistic a training, as `bootstrap_of_sets` takes them."""

    def gap(times: np.ndarray) -> np.ndarray:
        first, second = (np.mean([of(times) for of in side], axis=0) for side in (one, other))
        return np.asarray(first - second)

    every = np.ones((1, len(clusters)))
    means = [[float(of(every)[0]) for of in side] for side in (one, other)]
    return with_trainings(bootstrap_of_sets(gap, clusters, draws), *means)


def with_trainings(found: Estimate, *sides: Sequence[float]) -> TwoLevel:
    """An estimate with an interval over prompts alone, widened by what trainings move.

    Trainings drawn again with replacement would have the variance (S - 1) / S x s^2 / S, s^2 between a side's S
    trainings; with the bootstrap's shrinkage taken back, as everywhere here, that is s^2 / S without any draw. What
    prompts and trainings do together is counted at both levels, so that the interval is rather too wide.

    Args:
        sides: the figure of every training of a side; a side of one adds nothing.
    """
    several = [side for side in sides if len(side) > 1]
    least = min((len(side) for side in several), default=1)
    if not several or not found.has_interval:
        return TwoLevel(found, trainings=least)
    spread = (found.high - found.low) / 2 / student(found.n - 1)
    seeds = [(float(np.var(side, ddof=1)) / len(side), len(side) - 1) for side in several]
    terms = [(spread**2, found.n - 1), *seeds]
    variance = sum(v for v, _ in terms)
    if not variance:
        return TwoLevel(found, trainings=least)
    reach = student(variance**2 / sum(v**2 / free for v, free in terms)) * math.sqrt(variance)
    widened = replace(found, low=found.value - reach, high=found.value + reach)
    return TwoLevel(widened, sum(v for v, _ in seeds) / variance, least)


# --- the classifier's errors ------------------------------------------------------------------------------------------


def corrected_shares(counts: Sequence[int], confusion: Sequence[Sequence[float]] | np.ndarray) -> list[float]:
    """Shares of K classes, corrected for a judge of known errors.

    q = M^T p, solved for p (by least squares where C > K) and clipped to shares; q_j the share read as j, M_ij the
    probability to read i as j

    For K = 2 that is p = (q + specificity - 1) / (sensitivity + specificity - 1).

    Args:
        counts: images read as each of C >= K >= 2 things, the K classes first; integers >= 0.
        confusion: (K, C) counts or shares, rows the truth, columns what was read; C is K where abstentions are left
            out, else K + 1.

    Returns:
        K numbers >= 0 that sum to 1.

    Raises:
        ValueError: if there is no image, the shapes differ, or the judge's answers say nothing about the truth.

    Source:
        Rogan and Gladen 1978 for K = 2.

    Example:
        >>> [round(p, 3) for p in corrected_shares([60, 40], [[90, 10], [20, 80]])]
        [0.571, 0.429]
    """
    q, m = np.asarray(counts, dtype=np.float64), np.asarray(confusion, dtype=np.float64)
    if q.ndim != 1 or m.ndim != 2 or m.shape[1] != q.size or not 2 <= len(m) <= q.size:
        raise ValueError(f"wanted C counts and a (K, C) confusion matrix, 2 <= K <= C; got {q.shape} and {m.shape}")
    if (q < 0).any() or q.sum() == 0:
        raise ValueError("counts hold no image, or fewer than none: the share of no images is not 0")
    if (m < 0).any() or (m.sum(axis=1) == 0).any():
        raise ValueError("every class of a confusion matrix needs images")
    m = m / m.sum(axis=1, keepdims=True)
    if np.linalg.cond(m) > 1e6:
        raise ValueError("the judge answers the same whatever is shown: nothing can be corrected")
    q /= q.sum()
    p = (np.linalg.solve(m.T, q) if len(m) == q.size else np.linalg.lstsq(m.T, q)[0]).clip(0)
    if not p.sum():
        raise ValueError("what was read was never read of any class: nothing can be corrected")
    return (p / p.sum()).tolist()


# --- parts -----------------------------------------------------------------------------------------------------------


def student(df: float) -> float:
    """The 97.5 % quantile of Student's t.

    Example:
        >>> round(student(4), 3), round(student(1e9), 3)
        (2.776, 1.96)
    """
    return float(stdtrit(df, 0.975))


def student_reach(spread: np.floating | float, count: int) -> float:
    """Half of an interval, from the bootstrap's spread over so many clusters."""
    return math.sqrt(count / (count - 1)) * student(count - 1) * float(spread)


def codes_of(labels: Sequence[Hashable]) -> np.ndarray:
    """(N,) labels as 0, 1, ... in the order in which they first come."""
    index = {label: i for i, label in enumerate(dict.fromkeys(labels))}
    return np.array([index[label] for label in labels], dtype=np.int64)


def drawn_weights(k: int, draws: int, rng: np.random.Generator) -> np.ndarray:
    """(B, k) how often each of k clusters was drawn."""
    return rng.multinomial(k, np.full(k, 1 / k), size=draws).astype(np.float64)
