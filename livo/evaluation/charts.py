"""Charts as SVG: where everything stands; `templates/chart.svg` draws it.

By hand: no library draws what the page can also colour for light and dark and make clickable.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from livo.evaluation.figures import Chart, Point, pareto_front
from livo.evaluation.parts import LIVO
from livo.web.templates import make_environment

WIDE, NARROW = (640, 400), (360, 340)
"""Sizes in pixels: of a file or a desktop, and of a phone, where a scaled chart could not be read."""
LEFT, RIGHT, TOP, BOTTOM = 58, 22, 20, 48
LETTER, LINE = 6.7, 15
"""Width of a letter and height of a line, about."""
STYLE = Markup("""
.chart { font: 12px system-ui, sans-serif; }
.chart .frame { fill: none; stroke: #8592a2; } .chart .rule { stroke: #d8dee6; }
.chart text { fill: #18212c; } .chart .soft { fill: #4a5868; } \
.chart .label { stroke: #fff; stroke-width: 3; paint-order: stroke; }
.chart .bar { stroke: currentColor; stroke-width: 1.5; opacity: .7; } \
.chart .line { fill: none; stroke: currentColor; stroke-width: 2; }
.chart .dot { fill: currentColor; stroke: #fff; stroke-width: 1.5; }
.chart .own .dot { stroke: #18212c; stroke-width: 2.5; } \
.chart .front { fill: none; stroke: #4a5868; stroke-dasharray: 5 4; }
.chart .level { stroke: #8592a2; stroke-dasharray: 2 3; }
.s0 { color: #0f6e64; } .s1 { color: #b4531a; } .s2 { color: #5b4bb0; } .s3 { color: #a11d2b; }
""")
"""Of a file of its own; the page has its own colours for the same classes."""

_TEMPLATE = make_environment(Path(__file__).parent / "templates").get_template("chart.svg")

Place = tuple[float, float]
Box = tuple[float, float, float, float]


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers from at most `low` to at least `high`, two of them at least.

    Example:
        >>> ticks(3, 47)
        [0.0, 10.0, 20.0, 30.0, 40.0, 50.0]
    """
    if high <= low:
        high = low + 1
    raw = (high - low) / about
    step = min((m * 10 ** math.floor(math.log10(raw)) for m in (1, 2, 5, 10)), key=lambda s: abs(s - raw))
    first, last = math.floor(low / step), math.ceil(high / step)
    return [round(float(i * step), 10) for i in range(first, last + 1)]


@dataclass(frozen=True)
class Dot:
    """A point where it is drawn; `bar` holds the heights of its interval's ends."""

    method: str
    own: bool
    words: str
    x: float
    y: float
    bar: Place | None


@dataclass(frozen=True)
class Label:
    """A text where it is drawn."""

    text: str
    x: float
    y: float
    anchor: str
    kind: str


def chart_svg(chart: Chart, size: tuple[int, int] = WIDE, *, standalone: bool = True) -> Markup:
    """A chart; y begins at 0, for these are shares and distances.

    Args:
        size: (width, height) in pixels.
        standalone: with its own colours, as a file; else without, for the page. Points then carry `data-method`.
    """
    (width, height), points = size, [p for series in chart.series for p in series.points]
    xs = ticks(
        0 if any(s.joined for s in chart.series) else min(p.x for p in points),
        max(p.x for p in points),
        about=width // 120,
    )
    ys = ticks(0, max([p.y.high if p.y.has_interval else p.y.value for p in points] + [y for _, y in chart.levels]))

    def at(x: float, y: float) -> Place:
        across = (x - xs[0]) / (xs[-1] - xs[0])
        up = min(1.0, max(0.0, (y - ys[0]) / (ys[-1] - ys[0])))
        return LEFT + across * (width - LEFT - RIGHT), height - BOTTOM - up * (height - TOP - BOTTOM)

    def places(points: Sequence[Point]) -> list[Place]:
        return [at(p.x, p.y.value) for p in points]

    (left, bottom), (right, top) = at(xs[0], ys[0]), at(xs[-1], ys[-1])
    taken = [(x - 6, y - 6, x + 6, y + 6) for x, y in places(points)]
    legend = list(_legend([series.name for series in chart.series], taken, width - RIGHT - 8))
    svg = _TEMPLATE.render(
        chart=chart, kind="wide" if size == WIDE else "narrow", width=width, height=height,
        style=STYLE if standalone else "", left=left, right=right, top=top, bottom=bottom,
        rules=[(y, at(xs[0], y)[1]) for y in ys], columns=[(x, at(x, ys[0])[0]) for x in xs],
        levels=[at(0, y)[1] for _, y in chart.levels],
        front=places(pareto_front(points)) if chart.front else [],
        groups=[(places(s.points) if s.joined else [], [_dot(p, at) for p in s.points]) for s in chart.series],
        legend=legend, labels=list(_labels(chart, at, width, taken)),
    )  # fmt: skip
    return Markup(re.sub(r">\s+<", "><", svg).strip())


def _dot(point: Point, at: Callable[[float, float], Place]) -> Dot:
    words, bar = f"{point.label}: {point.x:.3g}; {point.y.value:.1f}", None
    if point.y.has_interval:
        words += f" ({point.y.low:.1f} to {point.y.high:.1f})"
        bar = at(point.x, point.y.low)[1], at(point.x, point.y.high)[1]
    return Dot(point.method, point.method == LIVO, words, *at(point.x, point.y.value), bar)


def _labels(chart: Chart, at: Callable[[float, float], Place], width: int, taken: list[Box]) -> Iterator[Label]:
    """Names of levels and of points, where they cover each other and what is `taken` least."""
    inside = (LEFT, 2, width, at(0, 0)[1])
    for name, y in chart.levels:
        height = at(0, y)[1]
        sides = ((width - RIGHT, "end"), (LEFT + 6, "start"), (width / 2, "start"))
        spots = [(side, height + dy, anchor) for dy in (-4, 12) for side, anchor in sides]
        yield _label(f"{name} {y:.1f}", spots, taken, inside, "soft")
    for series in chart.series:
        for p in series.points if series.labelled else ():
            x, y = at(p.x, p.y.value)
            spots = [(x + dx, y + dy, "start" if dx > 0 else "end") for dx in (9, -9) for dy in (-6, 14)]
            spots += [(x, y - 12, "middle"), (x, y + 22, "middle")]
            spots += [(x + 9, y + dy, "start") for dy in (-22, 30, -38, 46)]
            yield _label(p.label, spots, taken, inside, "")


def _label(text: str, spots: Sequence[tuple[float, float, str]], taken: list[Box], inside: Box, kind: str) -> Label:
    """The text at the first spot that is free and inside, else where it covers least; that spot is then taken."""

    def box(spot: tuple[float, float, str]) -> Box:
        x, y, anchor = spot
        long = LETTER * len(text)
        left = {"start": x, "end": x - long, "middle": x - long / 2}[anchor]
        return left, y - LINE + 4, left + long, y + 3

    def covers(spot: tuple[float, float, str]) -> float:
        a = box(spot)
        outside = 1e4 * (a[0] < inside[0] or a[1] < inside[1] or a[2] > inside[2] or a[3] > inside[3])
        return outside + sum(
            max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1])) for b in taken
        )

    best = min(spots, key=covers)
    taken.append(box(best))
    return Label(text, *best, kind)


def _legend(names: Sequence[str], taken: list[Box], x: float) -> Iterator[tuple[str, float, int]]:
    """The names of the series, where there are several, with the places of their dots in the upper right corner."""
    for i, name in enumerate(names if len(names) > 1 else ()):
        y = TOP + 8 + 18 * i
        taken.append((x - 16 - LETTER * len(name), y - 8, x + 8, y + 8))
        yield name, x, y
