"""How far two who label the same images agree: the share alike, and Cohen's kappa, each with an interval.

Pure functions; nothing here knows who the two are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from livo.measures.estimates import Estimate
from livo.measures.metrics import ratio

RESAMPLES = 2_000


@dataclass(frozen=True)
class Agreement:
    """Two sets of labels of the same n images.

    Attributes:
        share: labelled alike, in [0, 1], with Wilson's 95 % interval.
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


def agreement(first: Sequence[str], second: Sequence[str], seed: int = 0) -> Agreement:
    """How far two agree on n images; an abstention is a label like any other.

    kappa = (p_o - p_e) / (1 - p_e),   p_o the share alike, p_e what two with these habits would share by chance

    Its interval is a percentile bootstrap over images; resamples in which it is not defined are left out.

    Raises:
        ValueError: there is no image, or the labels are not equally many.

    Source:
        Cohen 1960.

    Example:
        >>> found = agreement("aabbab", "aabbbb")
        >>> found.n, round(found.share.value, 3), round(found.kappa.value, 3)
        (6, 0.833, 0.667)
    """
    if len(first) != len(second) or not len(first):
        raise ValueError(f"{len(first)} and {len(second)} labels: give as many of both, and at least one")
    n, names = len(first), sorted({*first, *second})
    table = np.zeros((len(names), len(names)))
    np.add.at(table, ([names.index(x) for x in first], [names.index(x) for x in second]), 1)
    same = int(np.trace(table))
    drawn = np.random.default_rng(seed).multinomial(n, table.ravel() / n, size=RESAMPLES).reshape(-1, *table.shape)
    draws = _kappa(drawn)
    draws = draws[np.isfinite(draws)]
    informative = (table.sum(axis=0) > 0).sum() > 1 and (table.sum(axis=1) > 0).sum() > 1
    kappa = None
    if informative:
        low, high = np.quantile(draws, (0.025, 0.975))
        kappa = Estimate(float(_kappa(table[None])[0]), float(low), float(high), n)
    return Agreement(n, ratio(same, n), kappa)


def _kappa(tables: np.ndarray) -> np.ndarray:
    """(B, K, K) counts -> (B,) kappas; not a number where chance alone explains everything."""
    shares = tables / tables.sum(axis=(1, 2), keepdims=True)
    observed = np.trace(shares, axis1=1, axis2=2)
    chance = (shares.sum(axis=2) * shares.sum(axis=1)).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(chance < 1 - 1e-12, (observed - chance) / (1 - chance), np.nan)
