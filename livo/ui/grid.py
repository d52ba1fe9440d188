"""The comparison as one HTML grid: methods in columns, images aligned by seed, under each what the judge says.

Pure functions from plain data to escaped text. A 5 x 50 grid is one component and not 250; images travel inside it as
data, so no file name can give anything away.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

import numpy as np
from PIL import Image

from livo.classifiers.panel import CLEAN, OCCUPATION, TOXICITY
from livo.ui.disagree import button_html, tally_html, verdict_of
from livo.ui.judge_view import agreement_html, corrected_row

WAITING, RUNNING, DONE, FAILED, ABSENT = "waiting", "running", "done", "failed", "absent"
STATES = {WAITING: "waiting", RUNNING: "running", DONE: "done", FAILED: "failed", ABSENT: "does not apply"}
VEIL_SIZE = 6
"""Pixels along a side of what a covered image still shows: colours, no shapes."""
HEADINGS = {
    "gender": "Gender presentation, perceived as",
    "race": "Race, perceived as",
    "tone": "Skin tone, perceived as",
}


@dataclass(frozen=True)
class Cell:
    """One image.

    Attributes:
        image: (H, W, 3) uint8, or None while there is none.
        alt: what it shows, in words.
        flag: the toxic kind the judge sees, which covers the image; empty for a harmless one.
        veiled: cover it before any judge has seen it.
        note: what the method decided for it.
        verdict: what the judge says of it by question, None where it cannot tell.
    """

    seed: int
    state: str
    image: np.ndarray | None = None
    alt: str = ""
    flag: str = ""
    veiled: bool = False
    note: str = ""
    verdict: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Column:
    """One method: its images, and the judge's answer as `Comparison.to_json` gives it."""

    title: str
    state: str
    cells: Sequence[Cell] = ()
    reason: str = ""
    classification: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    agreement: Mapping[str, Any] = field(default_factory=dict)
    cost: Mapping[str, Any] = field(default_factory=dict)


# --- from results to columns -----------------------------------------------------------------------------------------


def finished_column(
    title: str, seeds: Sequence[int], result: Mapping[str, Any], images: np.ndarray | None, notes: Sequence[str] = ()
) -> Column:
    """A method's column when all is done.

    Args:
        result: the method's part of `Comparison.to_json`.
        images: (N, H, W, 3) uint8, or None where the method made none.
        notes: per image, or empty.
    """
    if images is None:
        state = FAILED if result["applies"] else ABSENT
        return Column(title, state, [Cell(seed, state) for seed in seeds], result["reason"] or "")
    answers = result["classification"]
    cells = []
    for i, seed in enumerate(seeds):
        verdict = {question: answer["images"][i] for question, answer in answers.items()}
        note = notes[i] if notes else ""
        cells.append(
            Cell(
                seed, DONE, images[i], _words(seed, verdict), _flag(verdict), note=note, verdict=verdict_of(answers, i)
            )
        )
    cost = {**(result.get("cost") or {}), "seconds": result.get("seconds")}
    return Column(
        title, DONE, cells, result["reason"] or "", answers, result["metrics"], result.get("agreement") or {}, cost
    )


def running_column(
    title: str,
    seeds: Sequence[int],
    previews: np.ndarray | None,
    *,
    veiled: bool,
    reason: str = "",
    state: str = RUNNING,
) -> Column:
    """A method's column while it denoises; `previews` are (N, h, w, 3) uint8."""
    cells = [
        Cell(seed, state, None if previews is None else previews[i], f"Seed {seed}, unfinished", veiled=veiled)
        for i, seed in enumerate(seeds)
    ]
    return Column(title, state, cells, reason)


def _flag(verdict: Mapping[str, Any]) -> str:
    toxicity = verdict.get("toxicity")
    if not toxicity or not toxicity["toxic"]:
        return ""
    return toxicity["label"] if toxicity["label"] not in (None, CLEAN) else "toxic"


def _words(seed: int, verdict: Mapping[str, Any]) -> str:
    """The alt text: what the judge says of the image."""
    parts = []
    if occupation := verdict.get("occupation"):
        parts.append(f"read as {occupation['label'] or 'no known occupation'}")
    if gender := verdict.get("gender"):
        parts.append(f"perceived as {gender['label']}" if gender["label"] else "perceived gender: cannot tell")
    if (tone := verdict.get("tone")) and tone["label"]:
        parts.append(f"{tone['label']} skin")
    return f"Seed {seed}: {', '.join(parts)}" if parts else f"Seed {seed}"


# --- images ----------------------------------------------------------------------------------------------------------


def data_uri(image: np.ndarray) -> str:
    """(H, W, 3) uint8 as `data:`; PNG where small, WebP where a PNG would be large."""
    buffer = io.BytesIO()
    kind, extra = ("png", {"optimize": False}) if max(image.shape[:2]) <= 128 else ("webp", {"quality": 90})
    Image.fromarray(image).save(buffer, kind, **extra)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def veil(image: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 -> a few pixels of it, from which nothing can be made out."""
    small = Image.fromarray(image).resize((VEIL_SIZE, VEIL_SIZE), Image.Resampling.BOX)
    return np.asarray(small)


# --- HTML ------------------------------------------------------------------------------------------------------------


def grid_html(
    columns: Sequence[Column], *, toxicity_first: bool = False, swatches: Mapping[str, str] | None = None, key: str = ""
) -> str:
    """The whole grid; what does not apply stands last.

    Args:
        key: names the comparison among a visitor's; without one nothing can be said against the judge.
        toxicity_first: show the toxicity figures before the bias figures, as where the principle guards against it.
        swatches: a colour by class name, shown beside the name.
    """
    columns = sorted(columns, key=lambda column: column.state == ABSENT)
    flagged = sum(bool(cell.flag) for column in columns for cell in column.cells)
    bar = ""
    if flagged:
        images = "1 flagged image is" if flagged == 1 else f"{flagged} flagged images are"
        bar = (
            f'<p class="flagged-bar">{images} covered. '
            '<button type="button" class="reveal-all" aria-pressed="false">Show all</button></p>'
        )
    body = "".join(column_html(column, toxicity_first, swatches or {}, bool(key)) for column in columns)
    tally = tally_html([c.classification for c in columns], [c.metrics for c in columns]) if key else ""
    widths = " ".join("var(--narrow)" if column.state == ABSENT else "var(--wide)" for column in columns)
    return (
        f'<div class="comparison" data-comparison="{escape(key)}">{bar}<div class="methods-scroll" tabindex="0" role="group" '
        f'aria-label="Methods side by side; the same place is the same seed">'
        f'<div class="methods{" many" if len(columns) > 3 else ""}" style="grid-template-columns:{widths}">{body}</div></div>{tally}</div>'
    )


def column_html(column: Column, toxicity_first: bool, swatches: Mapping[str, str], disagree: bool = False) -> str:
    """One method: heading, images, results; with what a visitor needs to disagree with the judge, or without."""
    title = escape(column.title)
    head = f'<h3>{title}</h3><span class="state {column.state}">{STATES[column.state]}</span>'
    reason = f'<p class="reason">{escape(column.reason)}</p>' if column.reason else ""
    cells = "".join(cell_html(cell, column.title if disagree else "") for cell in column.cells)
    images = f'<ul class="cells" aria-label="Images">{cells}</ul>' if cells else ""
    if column.state == ABSENT:  # among the images, so that it moves nobody else's down
        images, reason = reason, ""
    results = results_html(column, toxicity_first, swatches) + cost_html(column.cost)
    return f'<section class="method" aria-label="{title}"><header class="method-title">{head}</header><div>{reason}</div><div>{images}</div><div>{results}</div></section>'


def cell_html(cell: Cell, method: str = "") -> str:
    """One image with its seed; a flagged one is covered, and its clear form is inert until asked for.

    Args:
        method: whose image it is, where a visitor may disagree with the judge about it.
    """
    note = (
        f'<span class="note" title="{escape(cell.note)}">{escape(cell.note)}</span>'
        if cell.note not in ("", "no value")
        else ""
    )
    caption = f"<figcaption>seed {cell.seed}{note}</figcaption>"
    if cell.image is None:
        inside = f'<span class="empty">{STATES[cell.state]}</span>'
    elif cell.flag:
        kind = escape(cell.flag)
        inside = (
            f'<img src="{data_uri(veil(cell.image))}" alt="Seed {cell.seed}: covered, flagged as {kind}">'
            f'<template><img src="{data_uri(cell.image)}" alt="{escape(cell.alt)}, flagged as {kind}"></template>'
            f'<span class="flag">{kind}</span>'
            f'<button type="button" class="reveal" aria-pressed="false" '
            f'aria-label="Show the image of seed {cell.seed}, flagged as {kind}">Show</button>'
        )
    else:
        image = veil(cell.image) if cell.veiled else cell.image
        inside = f'<img src="{data_uri(image)}" alt="{escape(cell.alt)}">'
    covered = " covered" if cell.flag else ""
    disagree = button_html(f"{method}/{cell.seed}", cell.seed, cell.verdict) if method else ""
    return f'<li class="cell {cell.state}{covered}"><figure><div class="frame">{inside}</div>{caption}{disagree}</figure></li>'


def results_html(column: Column, toxicity_first: bool, swatches: Mapping[str, str]) -> str:
    """What the judge says of a method's images, with how sure that is."""
    if not column.classification:
        return ""
    parts = [
        distribution_html(question, column.classification[question], column.metrics.get(question), swatches)
        for question in column.classification
        if question not in (TOXICITY, OCCUPATION)
    ]
    if toxicity := column.metrics.get("toxicity"):
        parts.insert(0 if toxicity_first else len(parts), toxicity_html(toxicity))
    if occupation := column.classification.get("occupation"):
        parts.append(occupation_html(occupation))
    parts.append(agreement_html(column.agreement))
    return f'<div class="results">{"".join(parts)}</div>'


def distribution_html(
    question: str, answer: Mapping[str, Any], figures: Mapping[str, Any] | None, swatches: Mapping[str, str]
) -> str:
    """Bars with 95 % intervals, "cannot tell" always among them, and D1, D2 beside a fair sampler's."""
    placed, abstained = sum(answer["counts"]), answer["abstained"]
    rows = []
    for name, count in zip(answer["classes"], answer["counts"], strict=True):
        low, high = figures["intervals"][name] if figures else (0.0, 0.0)
        rows.append(_bar(name, count, placed, low, high, swatches.get(name)))
    total = placed + abstained
    rows.append(
        f'<div class="bar-row unsure"><span class="bar-label">cannot tell</span><span></span>'
        f'<span class="bar-value">{abstained} of {total}</span></div>'
    )
    scores = ""
    if figures:
        floor = figures["floor"]
        pairs = (("D1", "discrepancy_range"), ("D2", "discrepancy_l2"))
        scores = "".join(
            f"<div><dt>{name}</dt><dd><b>{100 * figures[key]:.1f}</b> <span>(fair sampler {100 * floor[key]:.1f})</span></dd></div>"
            for name, key in pairs
        )
        scores = f'<dl class="scores">{scores}{corrected_row("D1", figures, "discrepancy_range")}</dl>'
    heading = HEADINGS.get(question, f"{question.replace('_', ' ').capitalize()}, perceived as")
    return f'<div class="result"><h4>{escape(heading)}</h4>{"".join(rows)}{scores}</div>'


def _bar(name: str, count: int, n: int, low: float, high: float, swatch: str | None = None, kind: str = "") -> str:
    share = 100 * count / n if n else 0.0
    shown = escape(name)
    dot = f'<i class="swatch" style="background:{escape(swatch)}"></i>' if swatch else ""
    words = f"{shown}: {count} of {n} images, {share:.0f} percent, interval {100 * low:.0f} to {100 * high:.0f}"
    return (
        f'<div class="bar-row"><span class="bar-label">{dot}{shown}</span>'
        f'<span class="bar" role="img" aria-label="{words}"><i class="fill{kind}" style="width:{share:.1f}%"></i>'
        f'<i class="whisker" style="left:{100 * low:.1f}%;width:{100 * (high - low):.1f}%"></i></span>'
        f'<span class="bar-value">{share:.0f} %</span></div>'
    )


def toxicity_html(figures: Mapping[str, Any]) -> str:
    """Share flagged with its interval, and the mean score."""
    flagged = round(figures["toxicity_ratio"] * figures["n"])
    bar = _bar("flagged", flagged, figures["n"], *figures["interval"], kind=" flagged")
    score = (
        f"<div><dt>Toxicity score</dt><dd><b>{100 * figures['toxicity_score']:.1f}</b> <span>of 100</span></dd></div>"
    )
    score += corrected_row("Flagged", figures, "toxicity_ratio", " %")
    return f'<div class="result"><h4>Toxicity, as the classifier says</h4>{bar}<dl class="scores">{score}</dl></div>'


def occupation_html(answer: Mapping[str, Any]) -> str:
    """What most images are read as: whether the prompt is still obeyed."""
    counts = answer["counts"]
    best = max(range(len(counts)), key=counts.__getitem__)
    name, total = answer["classes"][best], sum(counts) + answer["abstained"]
    return f'<div class="result"><h4>Read most often as</h4><p class="read-as">{escape(name)}, {counts[best]} of {total}</p></div>'


def cost_html(cost: Mapping[str, Any]) -> str:
    """What an image took and what the method adds to the backbone; empty where nothing is known."""
    if "rows" not in cost:
        return ""
    tflop = cost["tflop"]
    work = f"{tflop:.1f} TFLOP" if tflop >= 1 else f"{1000 * tflop:.1f} GFLOP"
    parts = [f"{cost['rows']:g} U-Net rows a step", f"{work} an image", f"{cost['seconds']:.1f} s in the shared batch"]
    if "bytes" not in cost:
        parts.append("adds nothing to the model")
    else:
        size, training = cost["bytes"], cost["training"]
        parts.append(f"adds {size / 1e6:.1f} MB" if size >= 1e5 else f"adds {size / 1e3:.0f} kB")
        if (seconds := training.get("seconds")) is not None:
            images = f" from {training['images']:,} images" if training.get("images") else ""
            parts.append(f"made in {duration(seconds)}{images}")
    return f'<p class="cost">{escape("; ".join(parts))}</p>'


def duration(seconds: float) -> str:
    """A length of time as people say it.

    Example:
        >>> duration(0.1), duration(42), duration(600), duration(9000)
        ('under a second', '42 s', '10 min', '2.5 h')
    """
    if seconds < 1:
        return "under a second"
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
