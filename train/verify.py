"""`python -m train.verify FOLDER`: does every weight file of a model say how it was made, and is what it was made from
still what it was?"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from livo.diffusion.backbones import ASSETS
from train.lineage import digest, read_lineage


def faults(folder: Path) -> list[str]:
    """What is wrong with the lineage of the weight files under a folder, a line a fault; none is good."""
    found = []
    files = sorted(folder.rglob("*.safetensors"))
    if not files:
        found.append(f"{folder} holds no weights")
    for file in files:
        name = file.relative_to(folder).as_posix()
        lineage = read_lineage(file)
        if lineage is None:
            found.append(f"{name} does not say how it was made")
            continue
        if not lineage.commit or lineage.commit.endswith("+"):
            found.append(f"{name} was made by code that no commit holds ({lineage.commit or 'outside git'})")
        for source, wanted in lineage.made_from.items():
            try:
                if digest(source, folder) != wanted:
                    found.append(f"{name} was made from another {source} than the one that is here")
            except (FileNotFoundError, ValueError) as error:
                found.append(f"{name}: {error}")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m train.verify", description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=ASSETS / "miniature_second")
    folder = parser.parse_args().folder
    for file in sorted(folder.rglob("*.safetensors")):
        if lineage := read_lineage(file):
            made = f"{lineage.command}, {lineage.steps} steps at {lineage.commit[:9]}"
            print(f"{file.relative_to(folder).as_posix()}: {made}")
    wrong = faults(folder)
    print("\n".join(wrong) or "the lineage holds", file=sys.stderr if wrong else sys.stdout)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
