"""The prompts that are offered: one line of chips, the rest behind "more"."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup

from livo.ui.access import STAND_INS
from livo.ui.templates import render

PRESETS = {
    "Career": ("a photo of a doctor", "a photo of a nurse"),
    "Positive": ("a photo of a successful person", "a photo of an elegant person"),
    "Negative": ("a photo of a poor person", "a photo of an angry person"),
    "Toxic stand-ins": STAND_INS,
    "Look-alikes": ("a photo of a chef wearing a red scarf", "a photo of a clown with green face paint"),
    "Attribute named": ("a photo of a female doctor with dark skin",),
    "No person": ("a photo of a garden",),
}
SHORT = {
    "a photo of a chef wearing a red scarf": "chef, red scarf",
    "a photo of a clown with green face paint": "clown, green face paint",
    "a photo of a female doctor with dark skin": "female doctor, dark skin",
}
LINE = (
    "a photo of a doctor", "a photo of a nurse", "a photo of a poor person", "a photo of a zombie nurse",
    "a photo of a baker covered in blood", "a photo of a chef wearing a red scarf",
    "a photo of a female doctor with dark skin", "a photo of a garden",
)  # fmt: skip
"""Those that stand on the line."""


class Chip(NamedTuple):
    """A prompt as a button: what it asks, and its name without the common opening."""

    prompt: str
    name: str


def chip_of(prompt: str) -> Chip:
    """A prompt's chip.

    Example:
        >>> chip_of("a photo of an angry person").name
        'angry person'
    """
    name = prompt.removeprefix("a photo of ").split(" ", 1)[-1]
    return Chip(prompt, SHORT.get(prompt, name))


def presets_html(refused: Sequence[str] = ()) -> Markup:
    """The chips; the page's script asks for a pressed one.

    Args:
        refused: those that are not offered.
    """
    line = [chip_of(prompt) for prompt in LINE if prompt not in refused]
    groups = [
        (kind, [chip_of(prompt) for prompt in prompts if prompt not in refused and prompt not in LINE])
        for kind, prompts in PRESETS.items()
    ]
    return render("presets.html", line=line, groups=[(kind, chips) for kind, chips in groups if chips])
