"""The one bootstrap: intervals over prompts, or over raters and prompts; and shares corrected for a judge that errs.

Pure functions; nothing here knows of images or files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from livo.measures.estimates import Estimate, Floats


def bootstrap_mean(values: Floats, confidence: float = 0.95, draws: int = 4_000, seed: int = 0) -> Estimate:
    """The mean over prompts, with its percentile bootstrap interval: prompts are drawn again, with replacement.

    Prompts and not images, because another evaluation would have other prompts.

    Args:
        values: one figure a prompt, at least one.

    Raises:
        ValueError: if there are no values, one is not finite, or the confidence is out of range.

    Source:
        Efron and Tibshirani 1993, chapter 13.

    Example:
        >>> bootstrap_mean([0.5, 0.5, 0.5])
        Estimate(value=0.5, low=0.5, high=0.5, n=3, reason='')
    """
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or x.size == 0 or not np.isfinite(x).all():
        raise ValueError(f"wanted one finite figure per prompt, at least one; got {values!r}")
    low, high = _percentiles(confidence)
    # A fixed generator: the same results file gives the same interval.
    drawn = np.random.default_rng(seed).integers(0, x.size, size=(draws, x.size))
    bounds = np.quantile(x[drawn].mean(axis=1), (low, high))
    return Estimate(float(x.mean()), float(bounds[0]), float(bounds[1]), x.size)


def paired_bootstrap(
    one: Floats, other: Floats, confidence: float = 0.95, draws: int = 4_000, seed: int = 0
) -> Estimate:
    """The mean of `one` minus that of `other` over the same prompts, with its interval.

    Paired: prompts differ far more than methods do, and what they have in common drops out.

    Args:
        one, other: one figure a prompt each, the same prompts in the same order.

    Raises:
        ValueError: if they are none or not equally many, or the confidence is out of range.

    Example:
        >>> paired_bootstrap([0.9, 0.2], [0.8, 0.1]).excludes_zero
        True
    """
    if len(one) != len(other):
        raise ValueError(f"a paired difference wants the same prompts: got {len(one)} and {len(other)} figures")
    return bootstrap_mean(
        np.asarray(one, dtype=np.float64) - np.asarray(other, dtype=np.float64), confidence, draws, seed
    )


def bootstrap_of_prompts(
    statistic: Callable[[np.ndarray], float], prompts: int, confidence: float = 0.95, draws: int = 200, seed: int = 0
) -> Estimate:
    """Any figure of pooled prompts, such as FID, with the interval value -+ z s, s its spread under resampled prompts.

    The spread and no percentiles: a resampled set repeats prompts, which shifts a FID upward.

    Args:
        statistic: (P,) how often each prompt counts -> the figure.
        prompts: P, at least 1.

    Raises:
        ValueError: if there is no prompt, or the confidence is out of range.

    Example:
        >>> bootstrap_of_prompts(lambda times: 3.0, 5)
        Estimate(value=3.0, low=3.0, high=3.0, n=5, reason='')
    """
    if prompts < 1:
        raise ValueError(f"{prompts} prompts cannot be drawn again: give at least 1")
    low, _ = _percentiles(confidence)
    z = -NormalDist().inv_cdf(low)
    rng = np.random.default_rng(seed)
    value = float(statistic(np.ones(prompts)))
    drawn = rng.multinomial(prompts, np.full(prompts, 1 / prompts), size=draws)
    spread = float(np.std([statistic(times) for times in drawn], ddof=1)) if prompts > 1 else 0.0
    return Estimate(value, value - z * spread, value + z * spread, prompts)


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
        return Estimate(self.values[group], *middle_of(self.draws[group], self.values[group]), self.counts[group])

    def difference(self, first: str, second: str) -> Estimate:
        """How much higher the first group's mean is; the same raters and prompts in every draw."""
        value = self.values[first] - self.values[second]
        n = min(self.counts[first], self.counts[second])
        return Estimate(value, *middle_of(self.draws[first] - self.draws[second], value), n)


def cluster_bootstrap(
    values: Floats, groups: Sequence[str], raters: Sequence[object], prompts: Sequence[object],
    draws: int = 2_000, seed: int = 0,
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
    r, p = codes_of(raters), codes_of(prompts)
    by_rater = drawn_weights(r.max() + 1, draws, rng)
    by_prompt = drawn_weights(p.max() + 1, draws, rng)
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


def corrected_shares(counts: Sequence[int], confusion: Sequence[Sequence[float]] | np.ndarray) -> list[float]:
    """Shares of K classes, corrected for a judge of known errors.

    q = M^T p, solved for p and clipped to shares; q_j the share read as j, M_ij the probability to read i as j

    For K = 2 that is p = (q + specificity - 1) / (sensitivity + specificity - 1).

    Args:
        counts: images read as each class; K >= 2 integers >= 0.
        confusion: (K, K) counts or shares, rows the truth, columns what was read, abstentions left out.

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
    if q.ndim != 1 or q.size < 2 or m.shape != (q.size, q.size):
        raise ValueError(f"wanted K counts and a (K, K) confusion matrix, K at least 2; got {q.shape} and {m.shape}")
    if (q < 0).any() or q.sum() == 0:
        raise ValueError("counts hold no image, or fewer than none: the share of no images is not 0")
    if (m < 0).any() or (m.sum(axis=1) == 0).any():
        raise ValueError("every class of a confusion matrix needs images")
    m = m / m.sum(axis=1, keepdims=True)
    if np.linalg.cond(m) > 1e6:
        raise ValueError("the judge answers the same whatever is shown: nothing can be corrected")
    p = np.linalg.solve(m.T, q / q.sum()).clip(0)
    return (p / p.sum()).tolist()


def codes_of(labels: Sequence[object]) -> np.ndarray:
    """(N,) labels as 0, 1, ... in the order in which they first come."""
    index = {label: i for i, label in enumerate(dict.fromkeys(labels))}
    return np.array([index[label] for label in labels], dtype=np.int64)


def drawn_weights(k: int, draws: int, rng: np.random.Generator) -> np.ndarray:
    """(B, k) how often each of k clusters was drawn."""
    return rng.multinomial(k, np.full(k, 1 / k), size=draws).astype(np.float64)


def middle_of(drawn: np.ndarray, value: float) -> tuple[float, float]:
    """The middle 95 % of the draws; draws in which the figure is not defined are left out."""
    drawn = drawn[np.isfinite(drawn)]
    if drawn.size == 0:
        return value, value
    low, high = np.percentile(drawn, [2.5, 97.5])
    return float(low), float(high)


def _percentiles(confidence: float) -> tuple[float, float]:
    if not 0 < confidence < 1:
        raise ValueError(f"a confidence of {confidence} is out of range: give a number between 0 and 1, such as 0.95")
    return (1 - confidence) / 2, (1 + confidence) / 2
