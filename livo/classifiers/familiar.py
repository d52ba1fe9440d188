"""Whether a picture is like any that a judge was trained on; where not, it should not say whom it shows.

    distance = 1 - mean cosine to the 5 nearest of the reference pictures         (N, D) unit features -> (N,)

The threshold is a quantile of held-out renders, so that a stated share of what the judge does know is lost. It finds
photographs and noise. It does not find a picture that a model draws of a word it never saw: that is an ordinary
drawing, and only the prompt tells (`livo/retriever/vocabulary.py`). `familiar.json` beside the weights has the figures
of both; `python -m train.measure --parts familiar` makes both files.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

REFERENCE, FIGURES = "familiar.safetensors", "familiar.json"
NEAREST = 5


@dataclass(frozen=True)
class Familiar:
    """Reference pictures and how far from them is too far.

    Attributes:
        reference: (M, D) unit features.
        threshold: the largest distance of a picture that the judge places.
    """

    reference: Tensor
    threshold: float

    def distance(self, features: Tensor) -> Tensor:
        """(N, D) unit features -> (N,) in [0, 2]: 0 is a reference picture itself, five times over."""
        return 1 - (features @ self.reference.T).topk(min(NEAREST, len(self.reference)), dim=1).values.mean(dim=1)

    def knows(self, features: Tensor) -> Tensor:
        """(N, D) unit features -> (N,) bool."""
        return self.distance(features) <= self.threshold


def read_familiar(folder: Path) -> Familiar | None:
    """What lies in a judge's folder; None where nothing was measured.

    Raises:
        OSError, ValueError, KeyError, SafetensorError: there is something, and it cannot be read.
    """
    if not (folder / FIGURES).exists():
        return None
    threshold = float(json.loads((folder / FIGURES).read_text(encoding="utf-8"))["threshold"])
    return Familiar(load_file(folder / REFERENCE)["features"].float(), threshold)
