"""Finished comparisons that the page shows before anyone asks, stored in `assets/examples/first.json` and one sheet of
pictures each (methods in rows, seeds in columns); `python -m livo.ui.examples` makes them."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from livo.compare.record import ComparisonRecord

FOLDER = Path(__file__).resolve().parents[2] / "assets" / "examples"
INDEX = "first.json"
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
