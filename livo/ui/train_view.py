"""A live training as escaped HTML: what the images are perceived as, the same seeds before and now, and three
charts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from markupsafe import Markup

from livo.classifiers.answers import CANNOT_TELL
from livo.evaluation.charts import ticks
from livo.live_training import LiveRequest, Preview, Shares, Stepped
from livo.miniature.world import World
from livo.presentation.marks import UNSURE, Mark
from livo.principles import find_principle
from livo.ui.readout import share_bar
from livo.ui.rows import Picture
from livo.ui.templates import render

WIDTH, HEIGHT = 320, 170
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 12, 26
SMOOTHED = 10
"""A line shows means over so many steps: the pairs of one step are few."""
AIM = 0.7
"""What the strip's heading calls aligned: the minority in seven images of ten, with the value on."""


@dataclass(frozen=True)
class ChartSpec:
    """One small chart: lines by the name of a step's number, and what they are called."""

    title: str
    lines: Mapping[str, str]
    percent: bool = False


CHARTS = (
    ChartSpec("Loss", {"loss": "mean of the pairs"}),
    ChartSpec("Pairs past their margin, %", {"chosen past": "chosen", "rejected past": "rejected"}, percent=True),
    ChartSpec("Change of the error against Stable Diffusion", {"chosen drift": "chosen", "rejected drift": "rejected"}),
)


# --- charts ----------------------------------------------------------------------------------------------------------


def smooth(values: Sequence[float], over: int = SMOOTHED) -> list[float]:
    """Running means over the last `over` values.

    Example:
        >>> smooth([1.0, 3.0, 5.0], over=2)
        [1.0, 2.0, 4.0]
    """
    return [sum(values[max(0, i + 1 - over) : i + 1]) / min(over, i + 1) for i in range(len(values))]


def charts_html(steps: Sequence[Stepped], margins: bool) -> Markup:
    """The three charts; the shares past the margins only for a loss that has margins."""
    specs = [spec for spec in CHARTS if margins or not spec.percent]
    return render("live_charts.html", charts=[line_chart(spec, steps) for spec in specs], size=(WIDTH, HEIGHT))


class Line(NamedTuple):
    """One line of a chart: what it is called, its path and where it ends; no path before the first step."""

    name: str
    path: str
    end: tuple[float, float]


class LineChart(NamedTuple):
    """A chart, laid out in pixels."""

    title: str
    now: str
    rules: Sequence[tuple[float, float]]
    frame: tuple[int, int, int, int]
    last: int
    lines: Sequence[Line]


def line_chart(spec: ChartSpec, steps: Sequence[Stepped]) -> LineChart:
    """Lines over the steps so far, on an axis that has all the steps there will be."""
    scale = 100 if spec.percent else 1
    values = {key: [scale * v for v in smooth([s.numbers[key] for s in steps])] for key in spec.lines}
    every = [v for line in values.values() for v in line] or [0.0]
    ys = ticks(0, 100, 4) if spec.percent else ticks(min(0.0, *every), max(0.0, *every), 4)
    last = steps[-1].num_steps if steps else 1

    def at(step: float, y: float) -> tuple[float, float]:
        up = (y - ys[0]) / (ys[-1] - ys[0])
        return LEFT + step / last * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)

    lines = []
    for name, line in zip(spec.lines.values(), values.values(), strict=True):
        path = "L".join("{:.1f} {:.1f}".format(*at(s.step, v)) for s, v in zip(steps, line, strict=True))
        lines.append(Line(name, path, at(steps[-1].step, line[-1]) if line else (0.0, 0.0)))
    latest = [f"{name} {line[-1]:.3g}" for name, line in zip(spec.lines.values(), values.values(), strict=True) if line]
    frame = (LEFT, WIDTH - RIGHT, HEIGHT - 8, LEFT - 6)
    return LineChart(spec.title, "; ".join(latest) or "no step yet", [(y, at(0, y)[1]) for y in ys], frame, last, lines)


# --- pictures --------------------------------------------------------------------------------------------------------


def strip_html(before: Preview | None, now: Preview | None, request: LiveRequest) -> Markup:
    """The same prompts and seeds: Stable Diffusion's above, those with the value below, and the shares in words."""
    if before is None:
        return Markup()
    look = now or before
    n, count = len(look.wanted), sum(look.wanted)
    rows = [LookRow("Before", "without the value", pictures_of(before))]
    if now:
        rows.append(LookRow("Now", f"with the value on, after {now.step} steps", pictures_of(now)))
    return render(
        "live_strip.html",
        principle=find_principle(request.principle).text,
        what="skin tones" if request.principle == "racial_equality" else "gender presentation",
        bar=share_bar("drawn too rarely", count, n),
        share=100 * count / n,
        before=100 * sum(before.wanted) / n if now else None,
        reached=None if now is None else count / n >= AIM,
        unsure=sum(label is None for label in look.labels),
        kept=sum(look.kept),
        n=n,
        rows=rows,
    )


class LookRow(NamedTuple):
    """One look at the model: the same prompts and seeds in every row."""

    title: str
    phrase: str
    pictures: Sequence[Picture]


def pictures_of(look: Preview) -> list[Picture]:
    """The pictures of a look, framed by whether they show whom the model draws too rarely."""
    pictures = []
    for i, (prompt, seed) in enumerate(zip(look.prompts, look.seeds, strict=True)):
        label = look.labels[i]
        mark = Mark(UNSURE, "?", CANNOT_TELL) if label is None else Mark(int(look.wanted[i]), label[:1].upper(), label)
        words = f"{prompt}, seed {seed}: {f'perceived as {label}' if label else CANNOT_TELL}"
        pictures.append(Picture(seed, look.images[i], words, mark, note=short(prompt)))
    return pictures


def short(prompt: str) -> str:
    """The concept of an unspecified prompt.

    Example:
        >>> short("a photo of an accountant"), short("a photo of a wise person")
        ('accountant', 'wise person')
    """
    return prompt.removeprefix("a photo of ").split(" ", 1)[1]


# --- choices ---------------------------------------------------------------------------------------------------------


def concepts_html(world: World, shares: Shares, ticked: Sequence[str]) -> Markup:
    """Native tick boxes of what may be trained on, each with how the model draws it unasked, one-sided ones first."""
    held = world.held_out
    groups = {
        "Occupations": [o for o in world.occupations if o not in held["occupations"]],
        "Adjectives": [a for a in world.adjectives if a not in held["adjectives"]],
    }
    listed = {
        kind: [(c, c in ticked, drawn_as(shares.get(c, {}))) for c in sorted(names, key=lambda c: (c not in ticked, c))]
        for kind, names in groups.items()
    }
    return render("live_concepts.html", groups=listed)


def drawn_as(shares: Mapping[str, Mapping[str, int]]) -> str:
    """The commonest gender presentation and skin tone in words; empty where nothing is stored.

    Example:
        >>> drawn_as({"gender": {"male": 22, "female": 2}, "tone": {"light": 3, "dark": 9}})
        '92 % male, 75 % dark'
    """
    words = []
    for attribute in ("gender", "tone"):
        if counts := shares.get(attribute):
            name = max(counts, key=counts.__getitem__)
            words.append(f"{100 * counts[name] / sum(counts.values()):.0f} % {name}")
    return ", ".join(words)
