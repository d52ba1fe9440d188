"""Charts as SVG, by hand: no library draws what the page can also colour for light and dark and make clickable."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from html import escape

from livo.evaluation.figures import Chart, Point, pareto_front
from livo.evaluation.parts import LIVO

WIDE, NARROW = (640, 400), (360, 340)
"""Sizes in pixels: of a file or a desktop, and of a phone, where a scaled chart could not be read."""
LEFT, RIGHT, TOP, BOTTOM = 58, 22, 20, 48
LETTER, LINE = 6.7, 15
"""Width of a letter and height of a line, about."""
STYLE = """
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
"""
"""Of a file of its own; the page has its own colours for the same classes."""

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


def chart_svg(chart: Chart, size: tuple[int, int] = WIDE, *, standalone: bool = True) -> str:
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

    parts = [_axes(chart, xs, ys, at)]
    parts += [
        f'<line class="level" x1="{LEFT}" x2="{width - RIGHT}" y1="{at(0, y)[1]:.1f}" y2="{at(0, y)[1]:.1f}"/>'
        for _, y in chart.levels
    ]
    if chart.front:
        parts.append(_path([at(p.x, p.y.value) for p in pareto_front(points)], "front"))
    for i, series in reversed(list(enumerate(chart.series))):  # the first, of the methods, lies on top
        line = _path([at(p.x, p.y.value) for p in series.points], "line") if series.joined else ""
        parts.append(f'<g class="s{i % 4}">{line}{"".join(_point(p, at) for p in series.points)}</g>')
    parts.append(_labels(chart, at, width))
    style = f'<style>{STYLE}</style><rect width="100%" height="100%" fill="#fff"/>' if standalone else ""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="chart {"wide" if size == WIDE else "narrow"}" '
        f'viewBox="0 0 {width} {height}" role="group" '
        f'aria-label="{escape(chart.caption)}">{style}{"".join(parts)}</svg>'
    )


def _axes(chart: Chart, xs: Sequence[float], ys: Sequence[float], at: Callable[[float, float], Place]) -> str:
    (left, bottom), (right, top) = at(xs[0], ys[0]), at(xs[-1], ys[-1])
    parts = []
    for y in ys:
        height = at(xs[0], y)[1]
        parts.append(f'<line class="rule" x1="{left:.1f}" x2="{right:.1f}" y1="{height:.1f}" y2="{height:.1f}"/>')
        parts.append(f'<text class="soft" x="{left - 8:.1f}" y="{height + 4:.1f}" text-anchor="end">{y:g}</text>')
    for x in xs:
        parts.append(
            f'<text class="soft" x="{at(x, ys[0])[0]:.1f}" y="{bottom + 18:.1f}" text-anchor="middle">{x:g}</text>'
        )
    parts.append(f'<path class="frame" d="M{left:.1f} {top:.1f}V{bottom:.1f}H{right:.1f}"/>')
    middle = (top + bottom) / 2
    parts.append(
        f'<text x="{(left + right) / 2:.1f}" y="{bottom + BOTTOM - 8:.1f}" '
        f'text-anchor="middle">{escape(chart.x_label)}</text>'
    )
    parts.append(
        f'<text x="14" y="{middle:.1f}" text-anchor="middle" transform="rotate(-90 14 '
        f'{middle:.1f})">{escape(chart.y_label)}</text>'
    )
    return "".join(parts)


def _path(places: Sequence[Place], kind: str) -> str:
    return f'<path class="{kind}" d="M{"L".join(f"{x:.1f} {y:.1f}" for x, y in places)}"/>'


def _point(point: Point, at: Callable[[float, float], Place]) -> str:
    x, y = at(point.x, point.y.value)
    words, bar = f"{point.label}: {point.x:.3g}; {point.y.value:.1f}", ""
    if point.y.has_interval:
        low, high = at(point.x, point.y.low)[1], at(point.x, point.y.high)[1]
        words += f" ({point.y.low:.1f} to {point.y.high:.1f})"
        bar = f'<line class="bar" x1="{x:.1f}" x2="{x:.1f}" y1="{low:.1f}" y2="{high:.1f}"/>'
    return (
        f'<g class="point{" own" if point.method == LIVO else ""}" data-method="{escape(point.method)}" tabindex="0" '
        'role="button" '
        f'aria-label="{escape(words)}"><title>{escape(words)}</title>'
        f'{bar}<circle class="halo" cx="{x:.1f}" cy="{y:.1f}" r="12" fill="transparent"/><circle class="dot" '
        f'cx="{x:.1f}" cy="{y:.1f}" r="6"/></g>'
    )


def _labels(chart: Chart, at: Callable[[float, float], Place], width: int) -> str:
    """Names of points, of levels and of series, where they cover each other and the points least."""
    taken: list[Box] = []
    inside = (LEFT, 2, width, at(0, 0)[1])
    for series in chart.series:
        for p in series.points:
            x, y = at(p.x, p.y.value)
            taken.append((x - 6, y - 6, x + 6, y + 6))
    parts = list(_legend([series.name for series in chart.series], taken, width - RIGHT - 8))
    for name, y in chart.levels:
        height = at(0, y)[1]
        spots = [
            (side, height + dy, anchor)
            for dy in (-4, 12)
            for side, anchor in ((width - RIGHT, "end"), (LEFT + 6, "start"), (width / 2, "start"))
        ]
        parts.append(_text(f"{name} {y:.1f}", spots, taken, inside, "soft"))
    for series in chart.series:
        for p in series.points if series.labelled else ():
            x, y = at(p.x, p.y.value)
            spots = [
                (x + 9, y - 6, "start"),
                (x + 9, y + 14, "start"),
                (x - 9, y - 6, "end"),
                (x - 9, y + 14, "end"),
                (x, y - 12, "middle"),
                (x, y + 22, "middle"),
            ]
            spots += [(x + 9, y + dy, "start") for dy in (-22, 30, -38, 46)]
            parts.append(_text(p.label, spots, taken, inside, ""))
    return f'<g pointer-events="none">{"".join(parts)}</g>'


def _text(text: str, spots: Sequence[tuple[float, float, str]], taken: list[Box], inside: Box, kind: str) -> str:
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
    return (
        f'<text class="label {kind}" x="{best[0]:.1f}" y="{best[1]:.1f}" text-anchor="{best[2]}">{escape(text)}</text>'
    )


def _legend(names: Sequence[str], taken: list[Box], x: float) -> Iterator[str]:
    """The names of the series, where there are several, in the upper right corner."""
    for i, name in enumerate(names if len(names) > 1 else ()):
        y = TOP + 8 + 18 * i
        taken.append((x - 16 - LETTER * len(name), y - 8, x + 8, y + 8))
        yield f'<g class="s{i % 4}"><circle class="dot" cx="{x}" cy="{y}" r="5"/></g>'
        yield f'<text class="label" x="{x - 12}" y="{y + 4}" text-anchor="end">{escape(name)}</text>'
