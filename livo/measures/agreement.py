"""How far two who label the same images agree: the share alike, and Cohen's kappa, each with an interval.

Pure functions; nothing here knows who the two are.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from livo.measures.bootstrap import LEAST, SAME, codes_of, student, too_few
from livo.measures.estimates import Estimate
from livo.measures.metrics import ratio

RESAMPLES = 2_000


@dataclass(frozen=True)
class Agreement:
    """Two sets of labels of the same n images.

    Attributes:
        share: labelled alike, in [0, 1], with its 95 % interval.
        kappa: agreement beyond chance, at most 1; None where either says the same of every image: it is 0 then whatever
            the other says, or not defined, and tells nothing.
    """

    n: int
    share: Estimate
    kappa: Estimate | None

    def to_json(self) -> dict[str, object]:
        """Flat; an interval is [low, high]."""
        kappa = self.kappa
        return {
            "n": self.n,
            "alike": self.share.value,
            "alike_interval": [self.share.low, self.share.high],
            "kappa": None if kappa is None else kappa.value,
            "kappa_interval": None if kappa is None else [kappa.low, kappa.high],
        }


def agreement(
    first: Sequence[str], second: Sequence[str], seed: int = 0, clusters: Sequence[Hashable] | None = None
) -> Agreement:
    """How far two agree on n images; an abstention is a label like any other.

    kappa = (p_o - p_e) / (1 - p_e),   p_o the share alike, p_e what two with these habits would share by chance

    Of images that come one by one, the share has Wilson's interval and kappa a percentile bootstrap's; resamples in
    which it is not defined are left out. Of images in clusters the error of both is a jackknife's, which leaves out one
    cluster at a time, with Student's quantile: Wilson's interval of as many images as have that error, and kappa's on
    Fisher's scale. Symmetric intervals held the truth in 90 to 94 %, for most prompts are read well and a few badly.

    Args:
        clusters: (n,) such as each image's prompt: images of one are read alike, rightly or wrongly.

    Raises:
        ValueError: there is no image, or the labels are not equally many.

    Source:
        Cohen 1960; Korn and Graubard 1998, Confidence intervals for proportions from survey data.

    Example:
        >>> found = agreement("aabbab", "aabbbb")
        >>> found.n, round(found.share.value, 3), round(found.kappa.value, 3)
        (6, 0.833, 0.667)
    """
    if len(first) != len(second) or not len(first):
        raise ValueError(f"{len(first)} and {len(second)} labels: give as many of both, and at least one")
    n, names = len(first), sorted({*first, *second})
    codes = codes_of(range(n) if clusters is None else clusters)
    tables = np.zeros((int(codes.max()) + 1, len(names), len(names)))
    rows, columns = (np.array([names.index(x) for x in labels]) for labels in (first, second))
    np.add.at(tables, (codes, rows, columns), 1)
    table = tables.sum(axis=0)
    same = int(np.trace(table))
    informative = (table.sum(axis=0) > 0).sum() > 1 and (table.sum(axis=1) > 0).sum() > 1
    kappa = Estimate(float(_kappa(table[None])[0]), n=n) if informative else None
    if clusters is not None:
        return _over_clusters(Agreement(n, Estimate(same / n, n=n), kappa), tables)
    if kappa:
        drawn = np.random.default_rng(seed).multinomial(n, table.ravel() / n, size=RESAMPLES)
        low, high = np.nanquantile(_kappa(drawn.reshape(-1, *table.shape)), (0.025, 0.975))
        kappa = replace(kappa, low=float(low), high=float(high))
    return Agreement(n, ratio(same, n), kappa)


def _over_clusters(found: Agreement, tables: np.ndarray) -> Agreement:
    """The same with intervals for new clusters, from their (C, K, K) counts."""
    count, share, kappa = len(tables), found.share, found.kappa
    if count < LEAST:
        none = too_few(count)
        return replace(found, share=replace(share, reason=none), kappa=kappa and replace(kappa, reason=none))
    left, quantile = tables.sum(axis=0) - tables, student(count - 1)

    def error(without: np.ndarray) -> float:
        return math.sqrt((count - 1) / count * float(((without - without.mean()) ** 2).sum()))

    spread = error(np.trace(left, axis1=1, axis2=2) / left.sum(axis=(1, 2)))
    if spread < 1e-12:
        share = replace(share, reason=SAME)
    else:
        p, grown = share.value, (quantile * spread) ** 2 / max(share.value * (1 - share.value), 1e-12)
        middle = (p + grown / 2) / (1 + grown)
        reach = math.sqrt(grown * p * (1 - p) + grown**2 / 4) / (1 + grown)
        share = replace(share, low=middle - reach, high=middle + reach)
    if kappa:
        spread = error(_kappa(left))
        if math.isnan(spread) or spread < 1e-12 or abs(kappa.value) == 1:
            kappa = replace(kappa, reason=SAME if spread < 1e-12 else "without one prompt kappa is not defined")
        else:
            middle, reach = math.atanh(kappa.value), quantile * spread / (1 - kappa.value**2)
            kappa = replace(kappa, low=math.tanh(middle - reach), high=math.tanh(middle + reach))
    return Agreement(found.n, share, kappa)


def _kappa(tables: np.ndarray) -> np.ndarray:
    """(B, K, K) counts -> (B,) kappas; not a number where chance alone explains everything."""
    shares = tables / tables.sum(axis=(1, 2), keepdims=True)
    observed = np.trace(shares, axis1=1, axis2=2)
    chance = (shares.sum(axis=2) * shares.sum(axis=1)).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(chance < 1 - 1e-12, (observed - chance) / (1 - chance), np.nan)
