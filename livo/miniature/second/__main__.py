"""`python -m livo.miniature.second`: a contact sheet of the second edition, every concept once, and pairs of people."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from livo.miniature.__main__ import concept_scenes, contact_sheet
from livo.miniature.second.renderer import SIZE, render
from livo.miniature.second.world import load_world


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m livo.miniature.second", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("assets/miniature_second/world.png"))
    args = parser.parse_args()
    world = load_world()
    scenes = concept_scenes(world)
    scenes += [replace(scene, count=2) for scene in scenes[:15]]
    pictures = [render(world, scene, 4 * SIZE) for scene in scenes]
    args.out.parent.mkdir(parents=True, exist_ok=True)
    contact_sheet(pictures, columns=12, size=SIZE).quantize(128).save(args.out, optimize=True)
    print(f"written to {args.out}")


if __name__ == "__main__":
    main()
