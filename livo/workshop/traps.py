"""*Try to break it*: prompts of the drawn world that get a lopsided set past a method, or a set that does not follow.

A score says of one prompt which methods it broke, and why; a board counts over a class which method fell to which kind
of trick. The figures are those of the stored results.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

ALIKE = 0.75
"""From this share of pictures that are perceived alike a set is lopsided."""
ASTRAY = 0.3
"""From this share of pictures that do not follow what the prompt says a method went too far."""
WHY = {
    "habit": "The original model has no value. This is the habit that it learned.",
    "astray": "The prompt says it, and the method pushes against the words. That is over-correction.",
    "even": "The model drew this one evenly. The value pushes to one side, so the set tips over.",
    "edit": "Its weights were edited for other words. This prompt reaches past the edit.",
    "weak": "The habit of these words is stronger than what the method learned.",
}
"""Why a method fell."""


def score(trap: Mapping[str, Any], value: int) -> list[dict[str, Any]]:
    """What each method made of a prompt.

    Args:
        value: the prompt's place.

    Returns:
        Of each method, in the trap's order: count of `n` pictures alike, or that do not follow; whether it is broken;
        and the reason, of `WHY`, or "" where it held.
    """
    row = trap["rows"][value]
    out = []
    for method in trap["methods"]:
        count = row["counts"][method["id"]]
        broken = count >= (ASTRAY if row["said"] else ALIKE) * row["n"]
        why = _why(method["id"], row) if broken else ""
        out.append({"id": method["id"], "title": method["title"], "count": count, "broken": broken, "why": why})
    return out


def _why(id: str, row: Mapping[str, Any]) -> str:
    if row["said"]:
        return "astray"
    if id == "stable_diffusion":
        return "habit"
    if row["counts"]["stable_diffusion"] < ALIKE * row["n"]:
        return "even"
    return "edit" if id in ("uce", "dapt") else "weak"


def board(trap: Mapping[str, Any], values: Sequence[int]) -> dict[str, Any]:
    """Which method fell to which kind of trick: people whose prompt of this kind broke it."""
    tricks = list(dict.fromkeys(row["trick"] for row in trap["rows"]))
    counts = [[0] * len(trap["methods"]) for _ in tricks]
    tried = [0] * len(tricks)
    for value in values:
        trick = tricks.index(trap["rows"][value]["trick"])
        tried[trick] += 1
        for place, one in enumerate(score(trap, value)):
            counts[trick][place] += one["broken"]
    return {"tricks": tricks, "methods": [one["title"] for one in trap["methods"]], "counts": counts, "tried": tried}


def for_page(trap: Mapping[str, Any]) -> dict[str, Any]:
    """A trap as a page gets it: every prompt with its scores, and the reasons."""
    rows = [
        {**{key: row[key] for key in ("prompt", "trick", "said", "n")}, "scores": score(trap, value)}
        for value, row in enumerate(trap["rows"])
    ]
    return {"rows": rows, "why": WHY}
