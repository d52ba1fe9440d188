"""Whether a step looks first which pictures still have a gradient."""

from __future__ import annotations


class Activity:
    """Share of the pictures whose loss still has a gradient, as a running mean: it decides whether to look first.

    Looking costs one forward pass of all rows and saves the pass with gradients, about 2.1 forward passes, of those
    past their margins; it pays below an active share of about one half.
    """

    PAYS_BELOW = 0.5

    def __init__(self) -> None:
        self.share = 1.0

    def update(self, active: float) -> None:
        self.share += 0.1 * (active - self.share)

    @property
    def look_first(self) -> bool:
        return self.share < self.PAYS_BELOW

    def state_dict(self) -> dict[str, float]:
        return {"share": self.share}

    def load_state_dict(self, state: dict[str, float]) -> None:
        self.share = state["share"]
