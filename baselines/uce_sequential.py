"""UCE with our repair of its debias loop: each concept is stopped by a sequential test instead of an exact tie.

The test and the steps are in `train/uce.py`. Erasing has no loop, so there is nothing to repair: bias only.
"""

from __future__ import annotations

from livo.diffusion.engine import Engine
from livo.methods.edited_weights import EditedProjections

TITLE = "UCE sequential"
PAPER = "arXiv:2308.14761"
RISKS = ("bias",)
PHRASE = "edited weights"


def load(engine: Engine) -> EditedProjections:
    """Needs `uce_sequential/` in the backbone's folder."""
    return EditedProjections(engine, "uce_sequential", "`python -m train.uce --form sequential` makes it")
