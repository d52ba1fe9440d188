"""Finished comparisons that the page shows before anyone asks: made by `python -m livo.ui.examples`, read from
`assets/examples/first.json` and one sheet of pictures each (methods in rows, seeds in columns)."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from livo.record import ComparisonRecord

if TYPE_CHECKING:
    from livo.ui.workbench import Workbench

FOLDER = Path(__file__).resolve().parents[2] / "assets" / "examples"
INDEX = "first.json"
PROMPTS = ("a photo of a doctor", "a photo of a zombie nurse", "a photo of a female doctor with dark skin")
SEEDS = tuple(range(8))


@dataclass(frozen=True)
class Example:
    """A stored comparison.

    Attributes:
        titles, phrases: of the methods, by id.
        notes: per image, by method.
        images: (N, H, W, 3) uint8 by method.
    """

    record: ComparisonRecord
    titles: Mapping[str, str]
    phrases: Mapping[str, str]
    notes: Mapping[str, Sequence[str]]
    images: Mapping[str, np.ndarray]

    def to_json(self, sheet: str) -> dict[str, Any]:
        """A row of the index; `sheet` is the file with its pictures."""
        return {
            "answer": self.record.to_json(),
            "titles": dict(self.titles),
            "phrases": dict(self.phrases),
            "notes": {id: list(notes) for id, notes in self.notes.items()},
            "rows": list(self.images),
            "sheet": sheet,
        }


def load_examples(folder: Path = FOLDER) -> list[Example]:
    """The stored comparisons in their order; none where they are missing or broken, for the page works without."""
    try:
        rows = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        return [_load(row, folder) for row in rows]
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"livo: no stored comparison to show ({error}); `python -m livo.ui.examples` makes them", file=sys.stderr)
        return []


def _load(row: Mapping[str, Any], folder: Path) -> Example:
    with Image.open(folder / Path(row["sheet"]).name) as sheet:
        pixels = np.asarray(sheet.convert("RGB"))
    record = ComparisonRecord.from_json(row["answer"])
    ids, seeds = row["rows"], record.options.seeds
    height, width = pixels.shape[0] // len(ids), pixels.shape[1] // len(seeds)
    if (height * len(ids), width * len(seeds)) != pixels.shape[:2] or not height * width:
        raise ValueError(f"{row['sheet']} has {pixels.shape[:2]} pixels, no {len(ids)} x {len(seeds)} pictures")
    tiles = pixels.reshape(len(ids), height, len(seeds), width, 3).swapaxes(1, 2)
    return Example(record, row["titles"], row["phrases"], row["notes"], dict(zip(ids, tiles, strict=True)))


def store_examples(examples: Sequence[Example], folder: Path = FOLDER) -> None:
    """Writes comparisons for `load_examples`; pictures without loss."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number, example in enumerate(examples, start=1):
        sheet = np.concatenate([np.concatenate(list(tiles), axis=1) for tiles in example.images.values()])
        Image.fromarray(sheet).save(folder / f"{number}.webp", lossless=True, method=6)
        rows.append(example.to_json(f"{number}.webp"))
    (folder / INDEX).write_text(json.dumps(rows, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def make_example(prompt: str, bench: Workbench, seeds: Sequence[int] = SEEDS) -> Example:
    """Runs one comparison on a workbench: the methods shown first, at the backbone's own settings."""
    from baselines import SHOWN_FIRST
    from livo.compare import Comparison, compare, make_request
    from livo.types import SamplingOptions
    from livo.ui.comparison_view import shown_of

    d = bench.defaults
    options = SamplingOptions(tuple(seeds), d.num_inference_steps, d.guidance_scale, d.height, d.width)
    ids = [id for id in bench.entries if id in SHOWN_FIRST]
    request = make_request(prompt, ids, options, vocabulary=bench.vocabulary)
    assert bench.engine is not None
    *_, result = compare(request, engine=bench.engine, methods=bench.entries, judge=bench.judge)
    assert isinstance(result, Comparison)
    shown = shown_of(result, bench.entries)
    return Example(result.record(), shown.titles, shown.phrases, shown.notes, shown.images)


def main() -> int:
    """`python -m livo.ui.examples [PROMPT ...]`"""
    parser = argparse.ArgumentParser(prog="python -m livo.ui.examples", description=__doc__)
    parser.add_argument("prompts", nargs="*", metavar="PROMPT", default=PROMPTS, help="what to store, in this order")
    parser.add_argument("--backbone", default="miniature")
    parser.add_argument("--out", type=Path, default=FOLDER)
    args = parser.parse_args()
    from livo.ui.workbench import load_workbench

    bench = load_workbench(args.backbone)
    problems = [bench.problem, *(entry.problem for entry in bench.entries.values())]
    if any(problems):
        print(f"livo: {' '.join(filter(None, problems))}", file=sys.stderr)
        return 2
    store_examples([make_example(prompt, bench) for prompt in args.prompts], args.out)
    print(f"{len(args.prompts)} comparisons are in {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
