"""What people of the drawn world wear, as strokes: `outfits.yaml`, drawn in a main and an accent colour."""

from __future__ import annotations

import functools
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from PIL import ImageDraw


@functools.cache
def load_outfits(path: Path = Path(__file__).parent / "outfits.yaml") -> Mapping[str, Sequence[Mapping[str, Any]]]:
    """The strokes of each kind of outfit; see the comment in the file."""
    return yaml.safe_load(path.read_text())


def draw_strokes(draw: ImageDraw.ImageDraw, kind: str, x: int, y: int, colours: Mapping[str, str]) -> None:
    """Draw a kind of outfit on a body whose head is centred at (x, y), its named colours replaced."""
    for stroke in load_outfits()[kind]:
        (shape, points), *options = ((name, value) for name, value in stroke.items() if name != "at")
        painted = {name: colours.get(value, value) for name, value in options}
        for dx, dy in stroke.get("at", [(0, 0)]):
            moved = [value + (y + dy if i % 2 else x + dx) for i, value in enumerate(points)]
            getattr(draw, shape)(moved, **painted)


def torso(draw: ImageDraw.ImageDraw, x: int, y: int, colour: str) -> None:
    """Shoulders and chest in one colour."""
    draw.rounded_rectangle((x - 74, y + 62, x + 74, y + 220), 34, fill=colour)


def draw_bare_body(draw: ImageDraw.ImageDraw, x: int, y: int, skin: str, seam: str, *, swimwear: bool) -> None:
    """An undressed paper doll: plain skin, dotted seams and paper tabs, no anatomy; or the same in a swimsuit."""
    torso(draw, x, y, skin)
    if swimwear:
        draw_strokes(draw, "swimsuit", x, y, {})
        return
    for side in (-1, 1):  # the white tabs that a paper dress would fold around
        draw.rectangle((x + side * 56 - 8, y + 52, x + side * 56 + 8, y + 68), fill="#fdfdfd", outline=seam, width=2)
        for k in range(5):
            cy = y + 84 + 14 * k
            draw.ellipse((x + side * 44 - 4, cy - 4, x + side * 44 + 4, cy + 4), fill=seam)
    draw.ellipse((x - 4, y + 126, x + 4, y + 134), fill=seam)


def draw_outfit(draw: ImageDraw.ImageDraw, outfit: str, x: int, y: int) -> None:
    """Draw `kind colour accent` on a body whose head is centred at (x, y).

    Raises:
        ValueError: an unknown kind of outfit.
    """
    kind, main, accent = shlex.split(outfit)
    if kind not in load_outfits():
        raise ValueError(f"unknown outfit {kind!r} in {outfit!r}; outfits.yaml has: {', '.join(load_outfits())}")
    torso(draw, x, y, main)
    draw_strokes(draw, kind, x, y, {"main": main, "accent": accent})
