"""The README's figures are the measured ones, and a missed target is marked."""

from __future__ import annotations

import json
from pathlib import Path

from train.figures import FIGURES, table

README = Path(__file__).resolve().parent.parent.parent / "README.md"


def test_the_readme_prints_the_measured_figures() -> None:
    assert table(json.loads(FIGURES.read_text())) in README.read_text(encoding="utf-8")


def test_a_missed_target_is_marked() -> None:
    row = {"accuracy": 0.98, "n": 100}
    judge = {"gender": row, "tone": row, "toxicity": row, "occupation": row, "lookalikes": {"n": 100, "flagged": 1}}
    lines = table({"judge": judge}).splitlines()
    assert [line.endswith("**(missed)** |") for line in lines[2:]] == [True, True, True, False, False]
