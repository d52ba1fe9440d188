"""Image quality as pure functions of features, class probabilities and similarities: IS, FID, KID, CLIP score.

Which network the features come from is the caller's to say. In the drawn world it is the evaluator's, trained on that
world; such a FID compares methods within the world and with nothing outside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from livo.measures.estimates import Floats


class Moments(NamedTuple):
    """Mean (F,) and covariance (F, F), with n - 1 below it, of n images' features."""

    mean: np.ndarray
    covariance: np.ndarray


def inception_score(probs: np.ndarray) -> float:
    """IS: how sure the classifier is of each image, and how many classes the images fill.

    IS = exp( mean_i KL( p(y|x_i) || p(y) ) )   with   p(y) = mean_i p(y|x_i)

    Args:
        probs: (N, K) class probabilities of N >= 1 images; rows sum to 1.

    Returns:
        In [1, K], higher is better. Over all images at once: ten random splits, as torchmetrics takes them, give
        another figure for every seed.

    Raises:
        ValueError: if there is no image, or a row is no distribution.

    Source:
        Salimans et al. 2016 (arXiv 1606.03498), Sec. 4.

    Example:
        >>> inception_score(np.eye(4))
        4.0
        >>> inception_score(np.full((3, 4), 0.25))
        1.0
    """
    p = np.asarray(probs, dtype=np.float64)
    if p.ndim != 2 or p.size == 0:
        raise ValueError(f"wanted (N, K) class probabilities of at least one image; got shape {p.shape}")
    if not ((p >= 0).all() and np.allclose(p.sum(axis=1), 1, atol=1e-3)):
        raise ValueError("class probabilities must be at least 0, and each image's must sum to 1")
    marginal = p.mean(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(p > 0, p * (np.log(p) - np.log(marginal)), 0.0)
    return float(np.exp(terms.sum(axis=1).mean()))


def moments(features: np.ndarray) -> Moments:
    """What FID needs to know of images.

    Args:
        features: (N, F), N >= 2.

    Raises:
        ValueError: if there are fewer than two images, or a feature is not finite.
    """
    x = _checked_features(features, 2)
    return Moments(x.mean(axis=0), np.atleast_2d(np.cov(x, rowvar=False)))


def fid(features: np.ndarray, reference: np.ndarray) -> float:
    """Frechet distance between two sets of images, each taken as a Gaussian of its features.

    FID = |m_1 - m_2|^2 + tr(C_1 + C_2 - 2 (C_1 C_2)^(1/2))

    Args:
        features: (N, F) of the images, N >= 2.
        reference: (M, F) of the images they are to be like, M >= 2.

    Returns:
        At least 0, lower is better; 0 for a set and itself. Biased upward where N or M are few: read it beside the
        figure of two sets of the same kind.

    Raises:
        ValueError: if a set has fewer than two images, or the widths differ.

    Source:
        Heusel et al. 2017 (arXiv 1706.08500), eq. 6.

    Example:
        >>> x = np.array([[0.0], [2.0]])
        >>> fid(x, x + 3)
        9.0
    """
    return frechet_distance(moments(features), moments(reference))


def frechet_distance(one: Moments, other: Moments) -> float:
    """FID from what `moments` gives; raises as `fid`."""
    return frechet_to(other)(one)


def frechet_to(reference: Moments) -> Callable[[Moments], float]:
    """FID to one reference as a function, for many sets: half of the work is done once. It raises as `fid`."""
    # tr (C_1 C_2)^(1/2) by the symmetric C_2^(1/2) C_1 C_2^(1/2), which has the same eigenvalues and needs no scipy.
    values, vectors = np.linalg.eigh(reference.covariance)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    trace = np.trace(reference.covariance)

    def distance(images: Moments) -> float:
        if images.mean.shape != reference.mean.shape:
            raise ValueError(
                f"features of width {images.mean.size} cannot be compared with features of width {reference.mean.size}"
            )
        cross = np.sqrt(np.linalg.eigvalsh(root @ images.covariance @ root).clip(0)).sum()
        found = ((images.mean - reference.mean) ** 2).sum() + np.trace(images.covariance) + trace - 2 * cross
        return float(max(0.0, found))

    return distance


def kid(features: np.ndarray, reference: np.ndarray) -> float:
    """Kernel distance between two sets of images: unbiased, where FID is not.

    KID = mean_{i != j} k(x_i, x_j) + mean_{i != j} k(y_i, y_j) - 2 mean_{i, j} k(x_i, y_j),   k(x, y) = (x.y / F + 1)^3

    Args:
        features: (N, F) of the images, N >= 2.
        reference: (M, F) of the images they are to be like, M >= 2.

    Returns:
        Around 0 for sets of the same kind, and as often below it as above; lower is better. Over all pairs: random
        subsets, as torchmetrics takes them, give another figure for every seed.

    Raises:
        ValueError: if a set has fewer than two images, or the widths differ.

    Source:
        Binkowski et al. 2018 (arXiv 1801.01401), Sec. 4.

    Example:
        >>> kid(np.eye(2), 2 * np.eye(2))
        -7.0
    """
    x, y = _checked_features(features, 2), _checked_features(reference, 2)
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"features of width {x.shape[1]} cannot be compared with features of width {y.shape[1]}")

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return (a @ b.T / x.shape[1] + 1) ** 3

    def among(a: np.ndarray) -> float:
        k = kernel(a, a)
        return (k.sum() - np.trace(k)) / (len(a) * (len(a) - 1))

    return float(among(x) + among(y) - 2 * kernel(x, y).mean())


def clip_score(similarities: Floats) -> float:
    """CLIP score: how well images fit their prompts.

    CLIP = mean_i max(cos(image_i, prompt_i), 0)

    Args:
        similarities: cosine between each image and its prompt, as a CLIP sees them; N >= 1 numbers in [-1, 1].

    Returns:
        Ratio in [0, 1], higher is better. Tables print it times 100.

    Raises:
        ValueError: if there are none, or one is no cosine.

    Source:
        Hessel et al. 2021 (arXiv 2104.08718), without its factor of 2.5, as torchmetrics and the paper have it.

    Example:
        >>> clip_score([0.5, -0.5])
        0.25
    """
    x = np.asarray(similarities, dtype=np.float64)
    if x.ndim != 1 or x.size == 0:
        raise ValueError(f"wanted one similarity per image, at least one; got shape {x.shape}")
    if not (np.abs(x) <= 1 + 1e-6).all():  # false of NaN as well
        raise ValueError("a similarity is a cosine in [-1, 1]")
    return float(x.clip(0, 1).mean())


def semantic_consistency(asked: Sequence[Sequence[int]], read: Sequence[Sequence[int]] | np.ndarray) -> float:
    """The share of images that still show all that their prompt asked for.

    Args:
        asked: (N, Q) class of each of Q questions that the prompt of image i asks for.
        read: (N, Q) class that the judge reads; -1 where it cannot tell.

    Returns:
        Ratio in [0, 1], higher is better.

    Raises:
        ValueError: if there is no image or nothing was asked for, or the shapes differ.

    Source:
        Wang et al. 2024 (arXiv 2410.12700), Table 4, where people judge it.

    Example:
        >>> semantic_consistency([[3], [3]], [[3], [-1]])
        0.5
    """
    a, b = np.asarray(asked), np.asarray(read)
    if a.ndim != 2 or a.size == 0 or a.shape != b.shape:
        raise ValueError(f"wanted (N, Q) classes asked for and read, N and Q at least 1; got {a.shape} and {b.shape}")
    return float((a == b).all(axis=1).mean())


def inception_of_prompts(probs: Sequence[np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    """IS of prompts' images: (B, N) how often each counts -> (B,), `inception_score` from sums.

    mean_i KL(p_i || p) = mean_i sum_y p_iy log p_iy - sum_y p_y log p_y
    """
    n = np.array([len(p) for p in probs])
    sums = np.stack([p.sum(axis=0) for p in probs])
    terms = np.array([_plogp(p).sum() for p in probs])

    def score(times: np.ndarray) -> np.ndarray:
        images = times @ n
        return np.exp(times @ terms / images - _plogp(times @ sums / images[:, None]).sum(axis=1))

    return score


def _plogp(p: np.ndarray) -> np.ndarray:
    return p * np.log(np.where(p > 0, p, 1.0))


def frechet_of_prompts(
    features: Sequence[np.ndarray], reference: Sequence[np.ndarray], weighed_as: Sequence[int]
) -> Callable[[np.ndarray], np.ndarray]:
    """FID of sets of images against reference sets: (B, N) how often each counts -> (B,), `fid` from sums.

    A reference set counts as often as the set of its prompt, or the distance would grow with every prompt left out.

    Args:
        features: N sets, (n_i, F) each.
        reference: M sets, (m_j, F) each.
        weighed_as: (M,) which of the N sets a reference set counts with.
    """
    counted, compared = _Sums(features), _Sums(reference)
    places = np.asarray(weighed_as)

    def distance(times: np.ndarray) -> np.ndarray:
        (mean, covariance), (centre, spread) = counted.moments(times), compared.moments(times[:, places])
        values, vectors = np.linalg.eigh(spread)
        root = (vectors * np.sqrt(values.clip(0))[:, None, :]) @ vectors.swapaxes(1, 2)
        cross = np.sqrt(np.linalg.eigvalsh(root @ covariance @ root).clip(0)).sum(axis=1)
        traces = np.trace(covariance, axis1=1, axis2=2) + np.trace(spread, axis1=1, axis2=2)
        return (((mean - centre) ** 2).sum(axis=1) + traces - 2 * cross).clip(0)

    return distance


class _Sums:
    """Sums of features and of their products by set, of which any weights make means and covariances."""

    def __init__(self, sets: Sequence[np.ndarray]) -> None:
        wide = [np.asarray(x, dtype=np.float64) for x in sets]
        self.n = np.array([len(x) for x in wide])
        self.first = np.stack([x.sum(axis=0) for x in wide])
        self.second = np.stack([x.T @ x for x in wide])

    def moments(self, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(B, N) counts of the sets -> (B, F) means and (B, F, F) covariances, with n - 1 below them."""
        images = (times @ self.n)[:, None]
        centre = times @ self.first / images
        products = np.tensordot(times, self.second, axes=1)
        outer = images[:, :, None] * centre[:, :, None] * centre[:, None, :]
        return centre, (products - outer) / (images - 1)[:, :, None]


def _checked_features(features: np.ndarray, least: int) -> np.ndarray:
    x = np.asarray(features, dtype=np.float64)
    if x.ndim != 2 or x.shape[1] == 0:
        raise ValueError(f"wanted (N, F) features; got shape {x.shape}")
    if len(x) < least:
        raise ValueError(f"features of {len(x)} images were given: at least {least} are needed")
    if not np.isfinite(x).all():
        raise ValueError("a feature is not finite")
    return x
