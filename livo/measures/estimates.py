"""A figure with what is known of its error. Every room's figures are of this one type."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:  # the shell looks words up without numpy
    import numpy as np

Floats: TypeAlias = "Sequence[float] | np.ndarray"
"""Numbers as they come: a list of them, or an array of one dimension."""


@dataclass(frozen=True)
class Estimate:
    """A figure with its confidence interval.

    Attributes:
        low, high: `low` <= `high`; both NaN where no interval can be given, so that no comparison with them holds.
        n: what the figure rests on, such as images, prompts or ratings; 0 where that was not counted.
        reason: why there is no interval, in words for a reader.
    """

    value: float
    low: float = math.nan
    high: float = math.nan
    n: int = 0
    reason: str = ""

    @property
    def has_interval(self) -> bool:
        return self.low <= self.high

    @property
    def excludes_zero(self) -> bool:
        """Whether a difference is beyond noise."""
        return self.low > 0 or self.high < 0

    def scaled(self, factor: float) -> Estimate:
        """The same in another unit; the factor is positive."""
        return replace(self, value=factor * self.value, low=factor * self.low, high=factor * self.high)

    def to_json(self) -> dict[str, object]:
        """What JSON can hold of it; bounds are null where there is no interval."""
        low, high = (self.low, self.high) if self.has_interval else (None, None)
        return {"value": self.value, "low": low, "high": high, "n": self.n} | (
            {"reason": self.reason} if self.reason else {}
        )
