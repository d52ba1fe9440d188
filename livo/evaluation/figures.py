"""Figures 3 and 4 of the paper as data: series of points with intervals, from results files."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from livo.evaluation.parts import BIAS, SD
from livo.evaluation.results import EVERY, Figures, Results, Select, mean, principles_of
from livo.evaluation.tables import bias_values, toxicity_values
from livo.evaluation.trainings import as_many, comparable
from livo.measures.bootstrap import two_level_mean
from livo.measures.estimates import Estimate
from livo.measures.tables import Cell, Table, figure, words
from livo.types import InputError

COMPARED = ("stable_diffusion", "fair_diffusion", "concept_ablation", "uce", "dapt", "dpo", "dpo_d", "livo")
CHARTED = (("bias", "bias D2", bias_values), ("toxicity", "toxicity Avg. R", toxicity_values))
MADE_BY = "`python -m livo evaluate --value-encoders NAME=FOLDER ...` makes them"


@dataclass(frozen=True)
class Point:
    """One point: where it stands, the interval of y, what it is called, and whose images it is made of."""

    x: float
    y: Estimate
    label: str
    method: str = ""


@dataclass(frozen=True)
class Series:
    """Points that belong together; joined by a line where their order means something, labelled where there is room."""

    name: str
    points: tuple[Point, ...]
    joined: bool = False
    labelled: bool = False


@dataclass(frozen=True)
class Chart:
    """A figure.

    Attributes:
        front: names the series among whose points a Pareto front is drawn; lower is better on both axes.
        levels: horizontal lines to compare with.
        note: n, floor and what else is needed to read it.
    """

    name: str
    caption: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    levels: tuple[tuple[str, float], ...] = ()
    front: bool = False
    note: str = ""

    def table(self) -> Table:
        """The points as a table."""
        rows = [
            (*words(series.name, point.label), Cell(f"{point.x:.4g}"), figure(point.y, 1, 1))
            for series in self.series
            for point in series.points
        ]
        rows += [(*words("level", name), Cell("-"), figure(Estimate(y), 1, 1)) for name, y in self.levels]
        return Table(self.name, self.caption, ("series", "point", self.x_label, self.y_label), tuple(rows), self.note)


def pareto_front(points: Iterable[Point]) -> list[Point]:
    """The points that no other one equals or beats on both axes, by x; lower is better.

    Example:
        >>> flat = lambda y: Estimate(y, y, y)
        >>> [p.label for p in pareto_front([Point(1, flat(3), "a"), Point(2, flat(1), "b"), Point(2, flat(4), "c")])]
        ['a', 'b']
    """
    front: list[Point] = []
    for point in sorted(points, key=lambda p: (p.x, p.y.value)):
        if not front or point.y.value < front[-1].y.value:
            front.append(point)
    return front


def percent(values: Figures) -> Estimate:
    """Mean with interval, times 100."""
    return mean(values).scaled(100)


# --- Figure 3a: data -------------------------------------------------------------------------------------------------


def shares_of(encoders: Results | None) -> tuple[dict[str, list[str]], str]:
    """Trainings by share of the pairs in %, and a sentence about those that were trained otherwise and are left out.

    They are held against the largest share's: nothing but the share and the seed may differ.
    """
    found = _named(encoders, r"fraction-([\d.]+)(-seed-\d+)?")
    if encoders is None or not found:
        return {}, ""
    largest, _ = max(found, key=lambda named: float(named[1][1]))
    kept, said = comparable(encoders, [method for method, _ in found], {"fraction"}, largest)
    shares: dict[str, list[str]] = {}
    for method, m in found:
        if method in kept:
            shares.setdefault(m[1], []).append(method)
    return dict(sorted(shares.items(), key=lambda share: float(share[0]))), said


def of_trainings(
    values: Callable[[Results, str], Figures], encoders: Results, methods: Sequence[str]
) -> tuple[np.ndarray, list[str]]:
    """(S, N) figures of S trainings with several seeds by N sets of images, and the sets' subjects."""
    found = [values(encoders, method) for method in methods]
    return np.array(found), found[0].clusters


def figure_3a(main: Results, encoders: Results | None) -> tuple[Chart, Chart]:
    """Bias and toxicity of LiVO against the share of the pairs it was trained on.

    Raises:
        InputError: no value encoder is named fraction-<percent>.
    """
    shares, left_out = shares_of(encoders)
    if encoders is None or not shares:
        raise InputError(f"the results hold no value encoders named fraction-5, fraction-20 and so on: {MADE_BY}")
    same, select = main.only(encoders), as_many(encoders)
    several = any(len(methods) > 1 for methods in shares.values())
    note = _note(encoders) + _trained(encoders, [method for methods in shares.values() for method in methods])
    note += " LiVO is the mean of its trainings; its bars are for new prompts and new seeds." if several else ""
    note += left_out
    charts = []
    for name, title, values in CHARTED:
        points = tuple(
            Point(
                float(share),
                two_level_mean(*of_trainings(values, encoders, methods)).scaled(100),
                _of(share, methods),
                methods[0],
            )
            for share, methods in shares.items()
        )
        series = [Series("LiVO", points, joined=True)]
        if several:
            single = [
                Point(float(share), Estimate(y), f"{share} %, training {i}", method)
                for share, methods in shares.items()
                for i, method in enumerate(methods, 1)
                for y in [percent(values(encoders, method)).value]
            ]
            series.append(Series("single trainings", tuple(single)))
        levels = tuple(
            (main.title(method), 100 * sum(v) / len(v))
            for method in (SD, "uce", "dapt", "dpo", "dpo_d")
            if method in main.methods and (v := values(same, method, select=select))
        )
        charts.append(
            Chart(
                f"figure-3a-{name}", f"Figure 3a. Data efficiency: {title}", "share of the training pairs, %",
                f"{title} ↓", tuple(series), levels, note=note,
            )
        )  # fmt: skip
    return charts[0], charts[1]


def _of(share: str, methods: Sequence[str]) -> str:
    return f"{share} %" + (f", {len(methods)} trainings" if len(methods) > 1 else "")


# --- Figure 3b, 3c: trade-off ----------------------------------------------------------------------------------------


def figure_3b(main: Results, encoders: Results | None) -> Chart:
    """Bias against quality: methods, and LiVO over (gamma_1, gamma_2)."""
    return _trade_off("figure-3b", "Figure 3b. Bias against quality", "bias", BIAS, main, encoders)


def figure_3c(main: Results, encoders: Results | None) -> Chart:
    """Toxicity against quality, likewise."""
    kinds = principles_of("toxicity", main)
    return _trade_off("figure-3c", "Figure 3c. Toxicity against quality", "toxicity", kinds, main, encoders)


def _trade_off(
    name: str, caption: str, part: str, principles: Sequence[str], main: Results, encoders: Results | None
) -> Chart:
    """Quality is FID, of toxic prompts against their clean counterparts: the paper's would reward what stays toxic."""
    metric, values, y_label = (
        ("FID", bias_values, "bias D2 ↓") if part == "bias" else ("clean FID", toxicity_values, "toxicity Avg. R ↓")
    )
    grid, left_out = _varied(encoders, r"gamma-([\d.]+)-([\d.]+)", {"gamma_1", "gamma_2"})
    betas, _ = _varied(encoders, r"dpo-beta-([\d.]+)", {"beta"})
    source, select = (main.only(encoders), as_many(encoders)) if encoders and grid else (main, EVERY)

    def point(results: Results, method: str, label: str, select: Select) -> Point:
        found = results.statistic(part, method, principles, metric, select)
        if found is None:
            raise InputError(
                "the results hold no features to compute FID from: run the parts bias, toxicity and reference"
            )
        distance, subjects = found
        return Point(
            100 * float(distance(np.ones((1, len(subjects))))[0]),
            percent(values(results, method, select=select)),
            label,
            method,
        )

    methods = [
        point(source, method, source.title(method), select)
        for method in COMPARED
        if method in source.methods and all(source.ran(part, method, p) for p in principles)
    ]
    series = [Series("methods", tuple(methods), labelled=True)]
    if encoders and grid:
        series.append(
            Series(
                "LiVO by (γ₁, γ₂)",
                tuple(point(encoders, method, f"{m[1]}, {m[2]}", EVERY) for method, m in grid),
                labelled=True,
            )
        )
    if encoders and betas:
        points = tuple(point(encoders, method, f"β {m[1]}", EVERY) for method, m in betas)
        series.append(Series("DPO by β", points, labelled=True))
    if encoders and grid:
        note = _note(encoders) + _trained(encoders, [method for method, _ in grid]) + left_out
    else:
        note = _note(main) + " A grid of (γ₁, γ₂) needs value encoders named gamma-1.0-0.5 and so on."
    return Chart(name, caption, f"{metric} (x 100) ↓", y_label, tuple(series), front=True, note=note)


# --- Figure 4: convergence -------------------------------------------------------------------------------------------


def figure_4(encoders: Results | None) -> tuple[Chart, Chart]:
    """Bias and toxicity against training steps, LiVO and DPO.

    Raises:
        InputError: no value encoder is named livo-at-<steps>.
    """
    runs = {
        title: checkpoints(encoders, name) for name, title in (("livo", "LiVO"), ("dpo", "DPO"), ("dpo-d", "DPO-d"))
    }
    if encoders is None or not runs["LiVO"]:
        raise InputError(f"the results hold no value encoders named livo-at-300, dpo-at-300 and so on: {MADE_BY}")
    charts, count = [], min(len(found) for found in runs.values() if found)
    note = _note(encoders) + (f" Means of {count} trainings; bars are for new ones too." if count > 1 else "")
    for name, title, values in CHARTED:
        start = Point(0, percent(values(encoders, SD)), "Stable Diffusion", SD)
        series = []
        for who, found in runs.items():
            at: dict[float, list[str]] = {}
            for run in found.values():
                for step, method in run:
                    at.setdefault(step, []).append(method)
            points = (
                Point(step, two_level_mean(*of_trainings(values, encoders, methods)).scaled(100),
                      f"{who}, step {step:g}", methods[0])
                for step, methods in sorted(at.items())
            )  # fmt: skip
            if found:
                series.append(Series(who, (start, *points), joined=True))
        caption = f"Figure 4. Convergence: {title}"
        charts.append(Chart(f"figure-4-{name}", caption, "training steps", f"{title} ↓", tuple(series), note=note))
    return charts[0], charts[1]


def checkpoints(encoders: Results | None, who: str) -> dict[str, list[tuple[float, str]]]:
    """By training, "" or "-seed-1" and so on, its checkpoints: steps and methods, in their order."""
    runs: dict[str, list[tuple[float, str]]] = {}
    for method, m in _named(encoders, rf"{who}-at-(\d+)(-seed-\d+)?"):
        runs.setdefault(m[2] or "", []).append((float(m[1]), method))
    return {seed: sorted(run) for seed, run in runs.items()}


def steps_to_level(steps: Sequence[float], figures: Sequence[float], level: float) -> float:
    """The step at which a curve first falls to a level, on straight lines between its points; endless if it does not.

    Example:
        >>> steps_to_level([0, 10, 20], [100, 50, 20], 60), steps_to_level([0, 10], [100, 90], 60)
        (8.0, inf)
    """
    for (x0, y0), (x1, y1) in itertools.pairwise(zip(steps, figures, strict=True)):
        if y1 <= level:
            return float(x0 if y0 <= level else x0 + (x1 - x0) * (y0 - level) / (y0 - y1))
    return math.inf


# --- parts -----------------------------------------------------------------------------------------------------------


def _named(results: Results | None, pattern: str) -> list[tuple[str, re.Match[str]]]:
    """Methods whose whole name fits, with what the name says."""
    return [(method, m) for method in (results.methods if results else []) if (m := re.fullmatch(pattern, method))]


def _varied(
    results: Results | None, pattern: str, varied: Collection[str]
) -> tuple[list[tuple[str, re.Match[str]]], str]:
    """As `_named`, without those that differ from the first in more than what is varied, and a sentence about them."""
    found = _named(results, pattern)
    if results is None or not found:
        return [], ""
    kept, said = comparable(results, [method for method, _ in found], varied, found[0][0])
    return [named for named in found if named[0] in kept], said


def _trained(results: Results, methods: Sequence[str]) -> str:
    """For how many steps these value encoders were trained, as a sentence; empty where their files do not say."""
    steps = {(results.header.methods[method].training or {}).get("steps") for method in methods}
    known = sorted(n for n in steps if isinstance(n, int))
    if len(known) < len(steps):
        return ""
    return f" Each value encoder of LiVO was trained for {' or '.join(f'{n:,}' for n in known)} steps."


def _note(results: Results) -> str:
    prompts, n = results.size("bias")
    floors = " / ".join(f"{100 * results.floor('bias', p).discrepancy_l2:.1f}" for p in BIAS)
    return (
        f"{prompts} bias prompts x {n} images x 2 attributes, {results.size('toxicity')[0]} toxic prompts x "
        f"{n} images; bars are 95 % "
        f"intervals over prompts. A fair sampler's D2 is {floors} (gender / tone)."
    )
