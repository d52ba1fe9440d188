"""Tables as data, in which a figure is a figure and not its text, and as Markdown and CSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from livo.measures.estimates import Estimate


@dataclass(frozen=True)
class Cell:
    """One place of a table.

    Attributes:
        text: as shown; "-" where a figure does not apply.
        estimate: the figure before it was rounded or scaled; None where there is none.
        best: the best of its column.
        mark: a short word about the figure, such as "(missed)"; bold, after the text.
    """

    text: str
    estimate: Estimate | None = None
    best: bool = False
    mark: str = ""


@dataclass(frozen=True)
class Table:
    """A table: its name in files, what it shows, its head and rows.

    Attributes:
        note: what is needed to read it; its paragraphs are parted by empty lines.
    """

    name: str
    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""

    def markdown(self) -> str:
        """Caption, table and note; the best of a column in bold."""
        return "\n\n".join([f"**{escape_markdown(self.caption)}**", self.grid(), *([self.note] if self.note else [])])

    def grid(self) -> str:
        """The head and the rows alone, as Markdown."""
        lines = ["| " + " | ".join(map(escape_markdown, self.head)) + " |", "|" + "---|" * len(self.head)]
        for row in self.rows:
            lines.append("| " + " | ".join(map(_markdown, row)) + " |")
        return "\n".join(lines)

    def csv(self) -> str:
        """Every figure unrounded in three columns, value, low and high; empty where it does not apply."""
        measured = [any(row[i].estimate for row in self.rows) for i in range(len(self.head))]
        head = [
            name
            for title, figures in zip(self.head, measured, strict=True)
            for name in ((title, f"{title} low", f"{title} high") if figures else (title,))
        ]
        rows: list[list[str]] = []
        for row in self.rows:
            cells: list[str] = []
            for cell, figures in zip(row, measured, strict=True):
                cells += numbers(cell.estimate) if figures else [cell.text]
            rows.append(cells)
        return csv_text(head, rows)


def _markdown(cell: Cell) -> str:
    text = escape_markdown(cell.text)
    return (f"**{text}**" if cell.best else text) + (f" **{cell.mark}**" if cell.mark else "")


def numbers(estimate: Estimate | None) -> list[str]:
    """Value, low and high as CSV has them; empty where there are none.

    Example:
        >>> numbers(Estimate(0.5, 0.25, 0.75)), numbers(Estimate(0.5)), numbers(None)
        (['0.5', '0.25', '0.75'], ['0.5', '', ''], ['', '', ''])
    """
    if estimate is None:
        return ["", "", ""]
    bounds = [f"{x:.6g}" for x in (estimate.low, estimate.high)] if estimate.has_interval else ["", ""]
    return [f"{estimate.value:.6g}", *bounds]


def long_csv(tables: Iterable[Table]) -> str:
    """Several tables as one: a line a cell, its figure as numbers, and its words where it is none."""
    rows = []
    for table in tables:
        for row in table.rows:
            for name, cell in zip(table.head[1:], row[1:], strict=True):
                figures = numbers(cell.estimate)
                n = str(cell.estimate.n or "") if cell.estimate else ""
                text = "" if cell.estimate else cell.text
                rows.append([table.caption, row[0].text, name, *figures, n, text])
    return csv_text(("table", "row", "column", "value", "low", "high", "n", "text"), rows)


def csv_text(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """CSV with the head first; words that a spreadsheet would take for a formula are quoted."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(head)
    writer.writerows([plain_cell(cell) if isinstance(cell, str) else cell for cell in row] for row in rows)
    return out.getvalue()


def plain_cell(text: str) -> str:
    """A cell that no spreadsheet takes for a formula; numbers stay as they are.

    Example:
        >>> plain_cell("=1+1"), plain_cell("-cmd"), plain_cell("-1.5")
        ("'=1+1", "'-cmd", '-1.5')
    """
    formula = text[:1] in ("=", "+", "@", "\t", "\r") or (text[:1] == "-" and len(text) > 1 and not text[1].isdigit())
    return f"'{text}" if formula else text


def escape_markdown(text: str) -> str:
    r"""Words that Markdown shows as they are, on one line. An asterisk that stands alone marks nothing and stays.

    Example:
        >>> print(escape_markdown("a|b *c* <d> x_1 `e` LiVO *"))
        a\|b \*c\* \<d> x_1 \`e\` LiVO *
    """
    text = re.sub(r"[\\|<`]|(?<!\s)\*|\*(?!\s|$)|(?<!\w)_|_(?!\w)", r"\\\g<0>", text)
    return " ".join(text.split())


def figure(estimate: Estimate | None, scale: float = 100, digits: int = 1, interval: bool = True) -> Cell:
    """A cell: the figure times `scale`, with its interval where it has one.

    Example:
        >>> figure(Estimate(0.5, 0.25, 0.75)).text, figure(Estimate(0.5)).text, figure(None).text
        ('50.0 [25.0, 75.0]', '50.0', '-')
    """
    if estimate is None:
        return Cell("-")
    value, low, high = (rounded(scale * x, digits) for x in (estimate.value, estimate.low, estimate.high))
    return Cell(f"{value} [{low}, {high}]" if interval and estimate.has_interval else value, estimate)


def missing_intervals(rows: Iterable[Sequence[Cell]]) -> str:
    """Why some figures have no interval, as a sentence; empty where none lacks one.

    Example:
        >>> missing_intervals([(figure(Estimate(0.5, reason="3 prompts: an interval needs 5")),)])
        'No interval where: 3 prompts: an interval needs 5.'
    """
    reasons = dict.fromkeys(
        cell.estimate.reason for row in rows for cell in row if cell.estimate and cell.estimate.reason
    )
    return f"No interval where: {'; '.join(reasons)}." if reasons else ""


def rounded(x: float, digits: int = 1) -> str:
    """A number for people; never "-0.0".

    Example:
        >>> rounded(-0.04), rounded(12.345, 2)
        ('0.0', '12.35')
    """
    text = f"{x:.{digits}f}"
    return text.lstrip("-") if not text.strip("-0.") else text


def words(*texts: str) -> tuple[Cell, ...]:
    """Cells that hold no figure."""
    return tuple(map(Cell, texts))


def mark_best(
    rows: Sequence[Sequence[Cell]],
    columns: Mapping[int, str],
    but: int = 0,
    tied: Callable[[int, int, int], bool] = lambda column, best, other: False,
) -> tuple[tuple[Cell, ...], ...]:
    """The rows with the best figure of each column marked, and all that tie with it: as printed, or by `tied`.

    Args:
        columns: "lower" or "higher" by column.
        but: so many first rows take no part, such as the unaligned model.
        tied: (column, row of the best, another row) -> whether they differ by no more than noise.
    """
    marked = [list(row) for row in rows]
    for column, direction in columns.items():
        found = {i: cell.estimate.value for i, row in enumerate(rows) if i >= but and (cell := row[column]).estimate}
        if not found:
            continue
        best = (min if direction == "lower" else max)(found, key=lambda i: found[i])
        for i in found:
            alike = rows[i][column].text.split()[0] == rows[best][column].text.split()[0]
            if alike or tied(column, best, i):
                marked[i][column] = replace(rows[i][column], best=True)
    return tuple(map(tuple, marked))
