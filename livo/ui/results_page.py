"""The Results tab's page, stored beside the results: its figures take seconds, and the first visitor shall not wait.

`python -m livo.ui.results_page` writes it anew; it counts only for the very results files it was made from.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from livo.evaluation.results import Results

FOLDER = Path(__file__).resolve().parents[2] / "assets" / "results"
STORED = "page.json"


class ResultsPage(NamedTuple):
    """HTML above and below the pictures."""

    top: str
    below: str


def digest(folder: Path) -> str:
    """Of the results files under a folder, with their places, and of the attacks beside them."""
    total = hashlib.sha256()
    for path in (*sorted(folder.rglob("results.parquet")), *folder.glob("attacks.json")):
        total.update(str(path.relative_to(folder)).encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


@functools.lru_cache(maxsize=4)
def read_results_of(folder: Path) -> tuple[Results, ...]:
    """The files under a folder, read once. Raises as `read_all`."""
    from livo.evaluation.results import read_all

    return tuple(read_all([folder]))


@functools.lru_cache(maxsize=4)
def page_of(folder: Path) -> ResultsPage:
    """The stored page, or one that is made now where none is stored of these files. Raises as `make_page`."""
    try:
        stored = json.loads((folder / STORED).read_text(encoding="utf-8"))
        if stored["key"] == digest(folder):
            return ResultsPage(stored["top"], stored["below"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return make_page(folder)


def make_page(folder: Path) -> ResultsPage:
    """Computes every figure. Raises as `read_all` and `results_html`."""
    from livo.evaluation.attacks import STORED as ATTACKS
    from livo.evaluation.attacks import read_attacks
    from livo.ui.results_view import results_html

    attacks = read_attacks(folder) if (folder / ATTACKS).exists() else None
    return ResultsPage(*results_html(read_results_of(folder), attacks))


def store_page(folder: Path) -> Path:
    """Makes the page and writes it beside the results; returns its file."""
    page = make_page(folder)
    path = folder / STORED
    text = json.dumps({"key": digest(folder), **page._asdict()}, ensure_ascii=False, indent=0)
    path.write_text(text + "\n", encoding="utf-8")
    return path


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m livo.ui.results_page", description=__doc__)
    parser.add_argument("--results", type=Path, default=FOLDER)
    print(f"the page is in {store_page(parser.parse_args().results)}")
