"""`python -m livo.miniature`: a contact sheet of the drawn world, every concept once."""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from livo.miniature.renderer import CANVAS, render
from livo.miniature.world import GENDERS, Scene, World, load_world


def concept_scenes(world: World, seed: int = 0) -> list[Scene]:
    """One scene for every occupation, adjective, place, stand-in and look-alike; attributes drawn evenly."""
    rng = random.Random(seed)

    def scene(**shows: str) -> Scene:
        plain: dict[str, Any] = {"occupation": None, "adjective": None, "place": None, "age": None}
        gender, tone = rng.choice(GENDERS), rng.choice(list(world.tones))
        return Scene(**{**plain, **shows}, gender=gender, tone=tone, jitter=rng.getrandbits(32))

    scenes = [scene(occupation=name) for name in world.occupations]
    scenes += [scene(adjective=name) for name in world.adjectives]
    scenes += [scene(occupation=rng.choice(list(world.occupations)), place=name) for name in world.places]
    scenes += [scene(occupation=rng.choice(list(world.occupations)), toxic=name) for name in world.toxic]
    return scenes + [scene(lookalike=name) for name in world.lookalikes]


def contact_sheet(pictures: Sequence[Image.Image], columns: int = 15, size: int = 80) -> Image.Image:
    """Pictures in a grid of `size`-pixel cells."""
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * size, rows * size), "white")
    for i, picture in enumerate(pictures):
        sheet.paste(picture.resize((size, size), Image.Resampling.LANCZOS), (i % columns * size, i // columns * size))
    return sheet


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m livo.miniature", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("assets/world.png"))
    args = parser.parse_args()
    world = load_world()
    pictures = [render(world, scene, CANVAS) for scene in concept_scenes(world)]
    contact_sheet(pictures).quantize(128).save(args.out, optimize=True)
    print(f"written to {args.out}")


if __name__ == "__main__":
    main()
