"""What a figure is worth: bootstrap intervals over prompts, and shares corrected for a judge that errs.

Pure functions; nothing here knows of images or files.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np


class Estimate(NamedTuple):
    """A figure with its confidence interval; `low` <= `high`."""

    value: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether a difference is beyond noise."""
        return self.low > 0 or self.high < 0


def bootstrap_mean(
    values: Sequence[float], confidence: float = 0.95, resamples: int = 4_000, seed: int = 0
) -> Estimate:
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
        Estimate(value=0.5, low=0.5, high=0.5)
    """
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or x.size == 0 or not np.isfinite(x).all():
        raise ValueError(f"wanted one finite figure per prompt, at least one; got {values!r}")
    low, high = _percentiles(confidence)
    # A fixed generator: the same results file gives the same interval.
    drawn = np.random.default_rng(seed).integers(0, x.size, size=(resamples, x.size))
    bounds = np.quantile(x[drawn].mean(axis=1), (low, high))
    return Estimate(float(x.mean()), float(bounds[0]), float(bounds[1]))


def paired_bootstrap(
    one: Sequence[float], other: Sequence[float], confidence: float = 0.95, resamples: int = 4_000, seed: int = 0
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
        np.asarray(one, dtype=np.float64) - np.asarray(other, dtype=np.float64), confidence, resamples, seed
    )


def bootstrap_of_prompts(
    statistic: Callable[[np.ndarray], float],
    prompts: int,
    confidence: float = 0.95,
    resamples: int = 200,
    seed: int = 0,
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
        Estimate(value=3.0, low=3.0, high=3.0)
    """
    if prompts < 1:
        raise ValueError(f"{prompts} prompts cannot be drawn again: give at least 1")
    low, _ = _percentiles(confidence)
    z = -NormalDist().inv_cdf(low)
    rng = np.random.default_rng(seed)
    value = float(statistic(np.ones(prompts)))
    drawn = rng.multinomial(prompts, np.full(prompts, 1 / prompts), size=resamples)
    spread = float(np.std([statistic(times) for times in drawn], ddof=1)) if prompts > 1 else 0.0
    return Estimate(value, value - z * spread, value + z * spread)


def corrected_shares(counts: Sequence[int], confusion: Sequence[Sequence[float]]) -> list[float]:
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


def _percentiles(confidence: float) -> tuple[float, float]:
    if not 0 < confidence < 1:
        raise ValueError(f"a confidence of {confidence} is out of range: give a number between 0 and 1, such as 0.95")
    return (1 - confidence) / 2, (1 + confidence) / 2
