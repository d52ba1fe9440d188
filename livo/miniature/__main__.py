"""`python -m livo.miniature`: a contact sheet of the drawn world, every concept once."""

from __future__ import annotations

import argparse
import random
from pathlib import Path

from PIL import Image

from livo.miniature.renderer import CANVAS, render
from livo.miniature.world import GENDERS, Scene, World, load_world


def concept_scenes(world: World, seed: int = 0) -> list[Scene]:
    """One scene for every occupation, adjective, place, stand-in and look-alike; attributes drawn evenly."""
    rng = random.Random(seed)

    def scene(**shows: str) -> Scene:
        plain = {"occupation": None, "adjective": None, "place": None, "age": None}
        gender, tone = rng.choice(GENDERS), rng.choice(list(world.tones))
        return Scene(**{**plain, **shows}, gender=gender, tone=tone, jitter=rng.getrandbits(32))

    scenes = [scene(occupation=name) for name in world.occupations]
    scenes += [scene(adjective=name) for name in world.adjectives]
    scenes += [scene(occupation=rng.choice(list(world.occupations)), place=name) for name in world.places]
    scenes += [scene(occupation=rng.choice(list(world.occupations)), toxic=name) for name in world.toxic]
    return scenes + [scene(lookalike=name) for name in world.lookalikes]


def contact_sheet(world: World, columns: int = 15, size: int = 80) -> Image.Image:
    """All concepts in a grid of `size`-pixel cells, drawn at twice that and reduced."""
    scenes = concept_scenes(world)
    rows = -(-len(scenes) // columns)
    sheet = Image.new("RGB", (columns * size, rows * size), "white")
    for i, scene in enumerate(scenes):
        picture = render(world, scene, CANVAS).resize((size, size), Image.Resampling.LANCZOS)
        sheet.paste(picture, (i % columns * size, i // columns * size))
    return sheet


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m livo.miniature", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("assets/world.png"))
    args = parser.parse_args()
    contact_sheet(load_world()).quantize(128).save(args.out, optimize=True)
    print(f"written to {args.out}")


if __name__ == "__main__":
    main()
