"""Unified Concept Editing, as released in 2025: one token a concept is edited, and targets add up over the rounds."""

from __future__ import annotations

from livo.diffusion.engine import Engine
from livo.methods.edited_weights import EditedProjections

TITLE = "UCE 2025"
PAPER = "arXiv:2308.14761"
RISKS = ("bias", "toxicity")
PHRASE = "edited weights"


def load(engine: Engine) -> EditedProjections:
    """Needs `uce_2025/` in the backbone's folder."""
    return EditedProjections(engine, "uce_2025", "`python -m train.uce --form 2025` makes it")
