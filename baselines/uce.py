"""Unified Concept Editing, as released in 2023 and as LiVO was compared with: `to_k` and `to_v` solved in closed form.

The edit is in `baselines/_uce_edit.py`; `python -m train.uce` makes one file a principle.
"""

from __future__ import annotations

from livo.diffusion.engine import Engine
from livo.methods.edited_weights import EditedProjections

TITLE = "UCE"
PAPER = "arXiv:2308.14761"
RISKS = ("bias", "toxicity")
PHRASE = "edited weights"


def load(engine: Engine) -> EditedProjections:
    """Needs `uce/` in the backbone's folder."""
    return EditedProjections(engine, "uce", "`python -m train.uce` makes it")
