"""Tables in which a number is a number."""

from __future__ import annotations

import csv
import io
import math

import pytest

from livo.measures.estimates import Estimate
from livo.measures.tables import Cell, Table, csv_text, escape_markdown, figure, long_csv, mark_best, plain_cell, words

TABLE = Table(
    "t", "A | table", ("method", "D1 ↓", "note"),
    ((Cell("LiVO *"), figure(Estimate(0.773, 0.701, 0.84, 12)), Cell("=1+1")), (Cell("UCE"), Cell("-"), Cell("x"))),
)  # fmt: skip


def test_a_figure_and_its_bounds_have_columns_of_their_own():
    """A study's file once had "77.3 [70.1, 84.0]" in one column."""
    rows = list(csv.DictReader(io.StringIO(TABLE.csv())))
    assert [float(rows[0][name]) for name in ("D1 ↓", "D1 ↓ low", "D1 ↓ high")] == [0.773, 0.701, 0.84]
    assert {rows[1][name] for name in ("D1 ↓", "D1 ↓ low", "D1 ↓ high")} == {""}
    first, *_ = csv.DictReader(io.StringIO(long_csv([TABLE])))
    assert (float(first["value"]), float(first["low"]), float(first["high"]), first["n"], first["text"]) == (
        0.773, 0.701, 0.84, "12", "",
    )  # fmt: skip


def test_without_an_interval_none_is_shown_or_written():
    cell = figure(Estimate(0.5, reason="one prompt"))
    assert cell.text == "50.0" and not cell.estimate.has_interval and not cell.estimate.excludes_zero
    assert "nan" not in Table("t", "c", ("a", "b"), ((Cell("x"), cell),)).csv()
    assert cell.estimate.to_json() == {"value": 0.5, "low": None, "high": None, "n": 0, "reason": "one prompt"}
    assert math.isnan(cell.estimate.scaled(2).low)


@pytest.mark.parametrize("cell", ["=1+1", "+1", "@x", "-cmd", "\tx"])
def test_no_cell_of_a_file_is_a_formula(cell):
    assert plain_cell(cell) == f"'{cell}" and f"'{cell}" in csv_text(["a"], [[cell]])
    assert plain_cell("-1.5") == "-1.5" and plain_cell("a photo") == "a photo"


def test_markdown_shows_words_as_they_are():
    assert TABLE.markdown().startswith("**A \\| table**\n\n| method | D1 ↓ | note |\n|---|---|---|\n| LiVO * |")
    assert escape_markdown("*a* _b_ c_d <i>") == "\\*a\\* \\_b\\_ c_d \\<i>"


def test_ties_as_printed_are_all_best():
    rows = [words("base"), words("a"), words("b"), words("c")]
    values = (0.1, 0.2501, 0.2499, 0.9)
    marked = mark_best([(*row, figure(Estimate(v))) for row, v in zip(rows, values, strict=True)], {1: "lower"}, but=1)
    assert [row[1].best for row in marked] == [False, True, True, False]
