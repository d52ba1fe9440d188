"""`python -m train.shipped`: every weight of the drawn world's folder from nothing, in order, in one lineage.

Each part is made by its own command, which goes on where a kill left it, and says in its files' headers what it was
made from. A part that says so already, of what lies there now, is left as it is: after a change only what depends on it
is made anew. `--show` tells what that would be.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from livo.classifiers.familiar import REFERENCE
from livo.classifiers.judge import WEIGHTS
from livo.diffusion.backbones import ASSETS
from livo.live_training import SHARES
from train.lineage import Lineage, digest, read_lineage, read_tensors, stamp, this_commit

FOLDER = ASSETS / "miniature"
WORLD, DRAWINGS = "livo/miniature/second/world.yaml", "livo/miniature/second/drawings.yaml"


@dataclass(frozen=True)
class ShippedPart:
    """What one command makes.

    Attributes:
        command: module and flags, without `--work` and `--threads`.
        files: folders of weight files, from the model's folder.
        made_from: as in `Lineage`.
        minutes: of one core; the generator's from the seconds of single steps, the others' what the first edition took.
        stamps: whether the command writes the headers itself, a stage at a time.
    """

    command: str
    files: tuple[str, ...]
    made_from: tuple[str, ...]
    minutes: int
    stamps: bool = False

    @property
    def name(self) -> str:
        """The first thing that it makes."""
        return self.files[0]

    def weights(self, folder: Path) -> list[Path]:
        """Its weight files that are there, without the judge's reference pictures, which are measured afterwards."""
        found = [path for file in self.files for path in sorted((folder / file).rglob("*.safetensors"))]
        return [path for path in found if path.name != REFERENCE]


GENERATOR = "train.miniature.second --out assets/miniature --stages"
MODEL = ("text_encoder", "unet", "vae", WORLD)
JUDGE = tuple(f"evaluator/{name}" for name in WEIGHTS)
PARTS = (
    ShippedPart(f"{GENERATOR} text", ("text_encoder",), (WORLD,), 20, stamps=True),
    ShippedPart(
        f"{GENERATOR} autoencoder,denoiser,decoder", ("unet", "vae"), ("text_encoder", WORLD, DRAWINGS), 400, True
    ),
    ShippedPart(f"{GENERATOR} evaluator", ("evaluator",), (WORLD, DRAWINGS), 105, stamps=True),
    ShippedPart("train.value_encoder", ("value_encoder",), (*MODEL, *JUDGE), 50),
    ShippedPart("train.dpo", ("dpo",), (*MODEL, *JUDGE), 40),
    ShippedPart("train.dpo --variant dpo-d", ("dpo_d",), (*MODEL, *JUDGE), 40),
    ShippedPart("train.uce", ("uce",), (*MODEL, *JUDGE), 16),
    ShippedPart("train.uce --form 2025", ("uce_2025",), (*MODEL, *JUDGE), 19),
    ShippedPart("train.uce --form sequential", ("uce_sequential",), (*MODEL, *JUDGE), 21),
    ShippedPart("train.concept_ablation", ("concept_ablation",), MODEL, 20),
    ShippedPart("train.dapt --num-steps 300", ("dapt",), (*MODEL, DRAWINGS), 25),
)
"""In the order in which they are made."""


def digests(part: ShippedPart, folder: Path) -> dict[str, str]:
    """Of what a part is made from, as it lies there now.

    Raises:
        FileNotFoundError: some of it is not there.
    """
    return {source: digest(source, folder) for source in part.made_from}


def is_made(part: ShippedPart, folder: Path) -> bool:
    """Whether all that a part makes is there, and says that it was made of what lies there now."""
    if not all(any((folder / file).rglob("*.safetensors")) for file in part.files):
        return False
    try:
        for path in part.weights(folder):
            lineage = read_lineage(path)
            if lineage is None or not (part.stamps or set(lineage.made_from) == set(part.made_from)):
                return False
            if any(digest(source, folder) != found for source, found in lineage.made_from.items()):
                return False
    except FileNotFoundError:
        return False
    return True


def steps_of(path: Path) -> int:
    """Steps or rounds that a trainer wrote into a file's header; 0 where it did not."""
    told = json.loads(read_tensors(path)[0].get("__metadata__", {}).get("training", "{}"))
    return int(told.get("steps", told.get("rounds", 0)))


def run(words: Sequence[str]) -> None:
    """A command of this repository.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    subprocess.run(words, check=True, cwd=ASSETS.parent)


def make(part: ShippedPart, folder: Path, work: Path, threads: int, commit: str) -> None:
    """Run a part's command and write into its files how they were made.

    Raises:
        subprocess.CalledProcessError: the command failed.
    """
    sources = digests(part, folder)
    key = hashlib.sha256(json.dumps(sources).encode()).hexdigest()[:8]
    module, *flags = part.command.split()
    own = work / f"{part.name}-{key}"  # a state that other weights led to is not gone on from
    run([sys.executable, "-m", module, *flags, "--work", str(own), "--threads", str(threads)])
    if (measured := own / SHARES).exists():
        shutil.copy(measured, folder / SHARES)
    if not part.stamps:
        for path in part.weights(folder):
            stamp(path, Lineage(f"python -m {part.command}", commit, 0, threads, steps_of(path), sources))


def main(arguments: Sequence[str] | None = None) -> int:
    names = [part.name for part in PARTS]
    parser = argparse.ArgumentParser(prog="python -m train.shipped", description=__doc__.split("\n\n")[0])
    parser.add_argument("--parts", default=",".join(names), help="which, by comma (%(default)s)")
    parser.add_argument("--show", action="store_true", help="say what is to be made, and make nothing")
    parser.add_argument("--work", type=Path, default=Path("runs/shipped"), help="to resume from (%(default)s)")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args(arguments)
    if unknown := set(args.parts.split(",")) - set(names):
        parser.error(f"unknown part {sorted(unknown)[0]!r}; there are: {', '.join(names)}")
    commit, left = this_commit(), 0
    for part in (part for part in PARTS if part.name in args.parts.split(",")):
        if is_made(part, FOLDER):
            print(f"{part.name}: made, of what lies there")
            continue
        left += part.minutes
        print(f"{part.name}: about {part.minutes} core-minutes, python -m {part.command}", flush=True)
        if args.show:
            continue
        began = time.perf_counter()
        try:
            make(part, FOLDER, args.work, args.threads, commit)
        except (FileNotFoundError, subprocess.CalledProcessError) as error:
            print(f"{part.name}: {error}; the same command goes on from there", file=sys.stderr)
            return 1
        print(f"{part.name}: {(time.perf_counter() - began) / 60:.1f} minutes")
    print(f"about {left} core-minutes to go" if args.show else "all is made; `python -m train.verify` checks it")
    return 0


if __name__ == "__main__":
    sys.exit(main())
