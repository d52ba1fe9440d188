"""`python -m livo compare --prompts FILE`: many prompts in one run that a kill cannot lose, and one table at the end.

    OUT/run.json                 what was asked for; another run is not mixed in
    OUT/0001/comparison.json     a prompt, written last: with it the prompt is done
    OUT/prompts.csv              a line a prompt and method
    OUT/table.csv                methods side by side, over all prompts

Both tables are made of the stored comparisons alone, so that a run that was stopped and went on ends in the same ones.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from livo.classifiers.answers import BiasFigures, ToxicityFigures
from livo.classifiers.panel import OCCUPATION, TOXICITY
from livo.commands.prompt_file import FilePrompt
from livo.compare.outlook import spoken
from livo.compare.record import ComparisonRecord
from livo.measures.bootstrap import bootstrap_mean
from livo.measures.estimates import Estimate
from livo.measures.tables import Cell, Table, csv_text, figure, missing_intervals, rounded
from livo.runs import check_writable, write_whole
from livo.types import InputError

RUN, COMPARISON = "run.json", "comparison.json"


@dataclass(frozen=True)
class Place:
    """A prompt of the file, and the folder of its comparison."""

    asked: FilePrompt
    out: Path

    def stored(self, seeds: Sequence[int]) -> ComparisonRecord | None:
        """The finished comparison of this prompt and its seeds; None where there is none, or none with pictures."""
        wanted = tuple(seeds) if self.asked.seed is None else (self.asked.seed,)
        try:
            record = ComparisonRecord.from_json(json.loads((self.out / COMPARISON).read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError):
            return None
        if (record.prompt, record.options.seeds) != (self.asked.prompt, wanted):
            return None
        return record if any(method.seconds is not None for method in record.methods.values()) else None


@dataclass(frozen=True)
class FileRun:
    """A run over a file's prompts, new or gone on with.

    Attributes:
        asked: what decides what the pictures and figures are, but for the prompts.
    """

    out: Path
    asked: Mapping[str, str]
    places: tuple[Place, ...]

    def begin(self) -> None:
        """Marks the folder as this run's."""
        write_whole(self.out / RUN, (json.dumps(dict(self.asked), indent=2) + "\n").encode())


def open_run(out: Path, asked: Mapping[str, Any], prompts: Sequence[FilePrompt]) -> FileRun:
    """The run in a folder; nothing is written yet.

    Raises:
        InputError: the folder cannot be written, or holds a run that was asked for otherwise.
    """
    check_writable(out)
    wanted = {key: str(value) for key, value in asked.items()}
    try:
        before = json.loads((out / RUN).read_text(encoding="utf-8"))
    except FileNotFoundError:
        before = wanted
    except (OSError, ValueError):
        before = None
    if before != wanted:
        was = before if isinstance(before, dict) else {}
        other = next((key for key in wanted if was.get(key) != wanted[key]), "more").replace("_", "-")
        raise InputError(f"{out} holds another run (--{other} was not the same): give another --out")
    digits = max(4, len(str(len(prompts))))
    return FileRun(out, wanted, tuple(Place(prompt, out / f"{i:0{digits}}") for i, prompt in enumerate(prompts, 1)))


class Clock:
    """The line of progress over all prompts, with the time that is left by the prompts of this process."""

    def __init__(self, done: int, total: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.done, self.total, self.before, self.clock, self.started = done, total, done, clock, clock()

    def line(self, step: int, num_steps: int) -> str:
        """For the prompt at hand, after a step of its sampler.

        Example:
            >>> now = iter((0.0, 60.0))
            >>> Clock(done=1, total=5, clock=lambda: next(now)).line(step=6, num_steps=12)
            'prompt 2 of 5: step 6 of 12, about 7 min left'
        """
        made = self.done - self.before + step / num_steps
        left = (self.clock() - self.started) / made * (self.total - self.before - made)
        return f"prompt {self.done + 1} of {self.total}: step {step} of {num_steps}, about {spoken(left)} left"


# --- the tables ------------------------------------------------------------------------------------------------------


def asks_about(record: ComparisonRecord, question: str) -> bool:
    """Whether a prompt counts for a bias question: a principle that was applied names it, or nobody applied any."""
    named = {name for principle in record.principles for name in (principle.id, *principle.attributes)}
    return question in named or record.choice == "none"


def table_of(records: Sequence[ComparisonRecord], titles: Mapping[str, str]) -> Table:
    """Methods side by side: figures a prompt, averaged over prompts, with intervals over prompts.

    D1 and D2 of an attribute are of the prompts whose principle is about it, toxicity of all; a line without a figure
    is left out.
    """
    values: dict[str, dict[str, list[tuple[str, float]]]] = {}
    floors: dict[str, list[float]] = {}
    for record in records:
        for id, method in record.methods.items():

            def put(name: str, value: float, id: str = id, prompt: str = record.prompt) -> None:
                values.setdefault(name, {}).setdefault(id, []).append((prompt, value))

            for question, figures in method.figures.items():
                if isinstance(figures, BiasFigures) and question != OCCUPATION and asks_about(record, question):
                    pair = (figures.discrepancy_range, figures.discrepancy_l2)
                    for name, value, floor in zip(("D1", "D2"), pair, figures.floor, strict=True):
                        put(f"{question} {name}", 100 * value)
                        floors.setdefault(f"{question} {name}", []).append(100 * floor)
                elif isinstance(figures, ToxicityFigures) and question == TOXICITY:
                    put("toxic images, %", 100 * figures.toxicity_ratio)
                    put("toxicity score", 100 * figures.toxicity_score)
            if method.cost:
                put("TFLOP an image", method.cost.tflop)
    rows = []
    for name, of in values.items():
        cells = [_cell(name, of.get(id, ())) for id in titles]
        fair = f" (fair sampler {rounded(sum(floors[name]) / len(floors[name]))})" if name in floors else ""
        rows.append((Cell(f"{name}, {max(map(len, of.values()))} prompts{fair}"), *cells))
    note = f"{len(records)} prompts. Lower is better; intervals are of 95 %, over prompts. {missing_intervals(rows)}"
    return Table("table", "All prompts", ("figure", *titles.values()), tuple(rows), note.strip())


def _cell(name: str, values: Iterable[tuple[str, float]]) -> Cell:
    if not (values := list(values)):
        return figure(None)
    if name.startswith("TFLOP"):
        mean = sum(value for _, value in values) / len(values)
        return Cell(f"{mean:.4g}", Estimate(mean, n=len(values)))
    return figure(bootstrap_mean([value for _, value in values], [prompt for prompt, _ in values], (0, 100)), 1)


def prompts_csv(made: Iterable[tuple[Place, ComparisonRecord]]) -> str:
    """A line a prompt and method, with its figures where there are any and the reason where there are no pictures."""
    head = ("folder", "prompt", "seeds", "principle", "method", "figure", "value", "reason")
    rows: list[tuple[object, ...]] = []
    for place, record in made:
        seeds = " ".join(map(str, record.options.seeds))
        for id, method in record.methods.items():
            fixed = (place.out.name, record.prompt, seeds, record.principle.id if record.principle else "", id)
            measured = [
                pair
                for question, figures in method.figures.items()
                for pair in (
                    [(f"{question} D1", figures.discrepancy_range), (f"{question} D2", figures.discrepancy_l2)]
                    if isinstance(figures, BiasFigures)
                    else [("toxic images", figures.toxicity_ratio), ("toxicity score", figures.toxicity_score)]
                )
            ]
            rows += [(*fixed, name, f"{value:.6g}", method.reason) for name, value in measured]
            rows += [] if measured else [(*fixed, "", "", method.reason)]
    return csv_text(head, rows)


def table_json(table: Table) -> dict[str, dict[str, Any]]:
    """By line and method's title, its figure; None where it does not apply."""
    cells = [
        (row[0].text, title, cell) for row in table.rows for title, cell in zip(table.head[1:], row[1:], strict=True)
    ]
    out: dict[str, dict[str, Any]] = {}
    for name, title, cell in cells:
        out.setdefault(name, {})[title] = cell.estimate and cell.estimate.to_json()
    return out


def text_of(table: Table) -> str:
    """The table in columns, for a terminal."""
    lines = [table.head, *(tuple(cell.text for cell in row) for row in table.rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *(text.rjust(w) for text, w in zip(line[1:], widths[1:], strict=True))])
        for line in lines
    )
