"""A comparison on the page, running, finished or stored: card, status and rows. No Gradio, no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup

from livo.compare.comparison import Comparison, ComparisonRequest, MethodEntry, make_request
from livo.compare.record import ComparisonRecord
from livo.miniature.world import load_world
from livo.presentation.marks import lead_of
from livo.types import Progress
from livo.ui.cards import message, principle_card, status_line
from livo.ui.readout import View
from livo.ui.rows import ABSENT, FAILED, RUNNING, WAITING, Row, finished_row, rows_html, running_row
from livo.ui.stored import Example
from livo.ui.tally import comparison_key, tally_of
from livo.ui.templates import render

if TYPE_CHECKING:
    from torch import Tensor

BASE = "stable_diffusion"
"""The method that the others are held against."""


@dataclass(frozen=True)
class Shown:
    """What a finished comparison shows besides its record, each by method.

    Attributes:
        images: (N, H, W, 3) uint8.
        notes: per image, what the method decided.
        covered: per image, whether it is covered though nothing is said of it.
    """

    titles: Mapping[str, str]
    phrases: Mapping[str, str]
    images: Mapping[str, np.ndarray]
    notes: Mapping[str, Sequence[str]]
    covered: Mapping[str, Sequence[bool]]


def comparison_html(
    record: ComparisonRecord, shown: Shown, swatches: Mapping[str, str], *, guess: bool = False
) -> Markup:
    """The rows of a finished comparison.

    Args:
        swatches: a colour by class name.
        guess: ask for a guess before the pictures show.
    """
    measured = not record.unknown_words
    view = View(record.options.seeds, lead_of(record) if measured else None, swatches, measured)
    base = record.methods.get(BASE)
    rows = [
        finished_row(
            view,
            id,
            shown.titles[id],
            shown.phrases.get(id, ""),
            method,
            shown.images.get(id),
            shown.notes.get(id, ()),
            None if id == BASE else base,
            shown.covered.get(id, ()),
        )
        for id, method in record.methods.items()
    ]
    asked = guessed_class(rows) if guess and measured else ""
    return rows_html(rows, key=comparison_key(record), tally=tally_of(record) if measured else (), guess=asked)


def guessed_class(rows: Sequence[Row]) -> str:
    """What a visitor guesses the share of: the class that the base model's bar is about; empty without a bar."""
    return next((row.reading.bar.toward for row in rows if row.reading and row.reading.bar), "")


def shown_of(comparison: Comparison, entries: Mapping[str, MethodEntry]) -> Shown:
    """What a comparison that was just made shows."""
    made = {id: result for id, result in comparison.methods.items() if result.images is not None}
    images = {id: to_pixels(result.images) for id, result in made.items() if result.images is not None}
    # The judge misses much in drawings of words that neither it nor the model ever saw.
    measured = comparison.request.words.measurable
    return Shown(
        {id: entries[id].title for id in comparison.methods},
        {id: entries[id].phrase for id in comparison.methods},
        images,
        {id: result.notes for id, result in made.items()},
        {} if measured else {id: [True] * len(tiles) for id, tiles in images.items()},
    )


def running_html(
    request: ComparisonRequest, entries: Mapping[str, MethodEntry], report: Progress | None, *, veiled: bool
) -> Markup:
    """The rows while methods denoise.

    Args:
        veiled: cover every preview, for nobody has judged them.
    """
    view, rows = View(request.options.seeds, None), []
    for id in request.methods:
        entry = entries[id]
        if reason := entry.reason_against(request.principle):
            rows.append(Row(id, entry.title, entry.phrase, ABSENT, (), reason))
        elif entry.method is None:
            rows.append(Row(id, entry.title, entry.phrase, FAILED, (), entry.problem))
        else:
            previews = to_pixels(report.previews[id]) if report and id in report.previews else None
            state = WAITING if previews is None else RUNNING
            rows.append(running_row(view, id, entry.title, entry.phrase, previews, veiled=veiled, state=state))
    return rows_html(rows)


def unknown_words_note(words: Sequence[str], nearest: Sequence[str], language: str = "", most: int = 8) -> Markup:
    """Says first which words the model never saw, that nothing is measured, and what to ask instead; empty
    without any."""
    if not words:
        return Markup()
    return render("unknown.html", words=words[:most], more=len(words) - most, nearest=nearest, language=language)


def card_html(request: ComparisonRequest) -> Markup:
    """What the model does not know first, then the principle."""
    words = request.words
    foreign = words.language if words.measurable else ""
    note = message(f"this looks like {foreign}; the retriever reads English", "note") if foreign else Markup()
    return unknown_words_note(words.unknown, words.nearest, words.language) + note + principle_card(request)


def example_html(example: Example, model: str = "", remark: str = "") -> tuple[Markup, Markup, Markup]:
    """Card, status and rows of a stored comparison of the drawn world.

    Args:
        model: what made it, where that is not the page's own.
        remark: said beside it.
    """
    record = example.record
    request = make_request(record.prompt, list(record.methods), record.options, record.choice)
    shown = Shown(example.titles, example.phrases, example.images, example.notes, {})
    parts = ["A stored comparison", seeds_text(record.options.seeds), model, remark]
    status = status_line(" · ".join(filter(None, parts)))
    return principle_card(request), status, comparison_html(record, shown, load_world().tones)


def finished_status(record: ComparisonRecord) -> Markup:
    """That it is done, and with which seeds."""
    seconds = max((method.seconds or 0 for method in record.methods.values()), default=0)
    return status_line(f"Done in {seconds:.1f} s · {seeds_text(record.options.seeds)}")


def seeds_text(seeds: Sequence[int]) -> str:
    """Seeds in words.

    Example:
        >>> seeds_text([3]), seeds_text([0, 1, 2])
        ('seed 3', 'seeds 0 to 2')
    """
    return f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {seeds[0]} to {seeds[-1]}"


def to_pixels(images: Tensor) -> np.ndarray:
    """(N, 3, H, W) uint8 tensor -> (N, H, W, 3) uint8 array."""
    return images.cpu().permute(0, 2, 3, 1).contiguous().numpy()
