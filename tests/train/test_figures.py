"""The model card's figures are the measured ones, and a missed target is marked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from livo.evaluation.results import Results
from train.figures import FIGURES, RESULTS, replace_table, table
from train.measure import log_odds, slope

README = Path(__file__).resolve().parents[2] / "assets" / "miniature" / "README.md"


def test_the_card_prints_the_measured_figures() -> None:
    figures, readme = json.loads(FIGURES.read_text()), README.read_text(encoding="utf-8")
    assert table(figures, Results.read(RESULTS)) in readme


def test_a_missed_target_is_marked() -> None:
    row = {"accuracy": 0.98, "n": 100}
    judge = {"gender": row, "tone": row, "toxicity": row, "occupation": row, "lookalikes": {"n": 100, "flagged": 1}}
    lines = table({"judge": judge}, None).splitlines()
    assert [line.endswith("**(missed)** |") for line in lines[2:]] == [True, True, True, False, True]


def test_a_table_is_replaced_where_its_head_stands() -> None:
    text = "one\n| a | b |\n|---|---|\n| 1 | 2 |\n| 3 | 4 |\n\ntwo\n| c |\n|---|\n| 5 |\n"
    assert replace_table(text, "| a | b |\n|---|---|\n| 9 | 9 |") == text.replace("| 1 | 2 |\n| 3 | 4 |", "| 9 | 9 |")
    with pytest.raises(ValueError, match="no table"):
        replace_table(text, "| z |\n|---|")


def test_the_slope_says_how_much_planted_odds_are_exaggerated() -> None:
    planted = [x / 4 for x in range(-8, 9)]
    found = slope(planted, [2.5 * x + 0.1 for x in planted])
    assert [found["slope"], found["low"], found["high"]] == pytest.approx([2.5] * 3)
    row = found | {"generated": {}}
    assert "| 2.50 [2.50, 2.50], 17 occupations x 50 |" in table({"exaggeration": {"images": 50, "2": row}}, None)
    assert [log_odds(0, 10), log_odds(10, 10)] == pytest.approx([-3.0445, 3.0445], abs=1e-4)
