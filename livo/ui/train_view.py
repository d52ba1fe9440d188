"""A live training as escaped HTML: what the images are perceived as, the same seeds before and now, and three charts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from livo.evaluation.charts import ticks
from livo.live_training import LiveRequest, Look, Shares, Stepped
from livo.measures.metrics import wilson_interval
from livo.miniature.world import World
from livo.principles import find_principle
from livo.ui.grid import data_uri

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


def charts_html(steps: Sequence[Stepped], margins: bool) -> str:
    """The three charts; the shares past the margins only for a loss that has margins."""
    specs = [spec for spec in CHARTS if margins or not spec.percent]
    return f'<div class="live-charts">{"".join(line_chart(spec, steps) for spec in specs)}</div>'


def line_chart(spec: ChartSpec, steps: Sequence[Stepped]) -> str:
    """Lines over the steps so far, on an axis that has all the steps there will be."""
    scale = 100 if spec.percent else 1
    lines = {key: [scale * v for v in smooth([s.numbers[key] for s in steps])] for key in spec.lines}
    values = [v for line in lines.values() for v in line] or [0.0]
    ys = ticks(0, 100, 4) if spec.percent else ticks(min(0.0, *values), max(0.0, *values), 4)
    last = steps[-1].num_steps if steps else 1

    def at(step: float, y: float) -> tuple[float, float]:
        up = (y - ys[0]) / (ys[-1] - ys[0])
        return LEFT + step / last * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)

    parts = []
    for y in ys:
        height = at(0, y)[1]
        parts.append(
            f'<line class="{"zero" if y == 0 else "rule"}" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{height:.1f}" y2="{height:.1f}"/>'
        )
        parts.append(f'<text class="soft" x="{LEFT - 6}" y="{height + 4:.1f}" text-anchor="end">{y:g}</text>')
    parts.append(f'<text class="soft" x="{LEFT}" y="{HEIGHT - 8}">step 0</text>')
    parts.append(f'<text class="soft" x="{WIDTH - RIGHT}" y="{HEIGHT - 8}" text-anchor="end">{last}</text>')
    for i, line in enumerate(lines.values()):
        if line:
            path = "L".join("{:.1f} {:.1f}".format(*at(s.step, v)) for s, v in zip(steps, line, strict=True))
            x, y = at(steps[-1].step, line[-1])
            parts.append(
                f'<g class="s{i}"><path class="line" d="M{path}"/><circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="4"/></g>'
            )
    now = "; ".join(
        f"{name} {line[-1]:.3g}" for name, line in zip(spec.lines.values(), lines.values(), strict=True) if line
    )
    keys = "".join(f'<span class="s{i}"><i></i>{escape(name)}</span>' for i, name in enumerate(spec.lines.values()))
    return (
        f'<figure class="chart-box live-chart"><figcaption>{escape(spec.title)}</figcaption>'
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(spec.title)}: {escape(now or "no step yet")}">'
        f'{"".join(parts)}</svg><p class="live-key">{keys}</p></figure>'
    )


# --- pictures --------------------------------------------------------------------------------------------------------


def strip_html(before: Look | None, now: Look | None, request: LiveRequest) -> str:
    """The same prompts and seeds: Stable Diffusion's above, those with the value below, and the shares in words."""
    if before is None:
        return ""
    looks = [("Before, without the value", before)] + (
        [(f"Now, with the value on, after {now.step} steps", now)] if now else []
    )
    rows = "".join(_row(title, look) for title, look in looks)
    return f'<section class="card live-look">{share_html(before, now, request)}<div class="live-strip">{rows}</div></section>'


def share_html(before: Look, now: Look | None, request: LiveRequest) -> str:
    """How many images show who the model draws too rarely, with the interval that so few images allow."""
    what = "skin tones" if request.principle == "racial_equality" else "gender presentation"
    look = now or before
    n, count, kept = len(look.wanted), sum(look.wanted), sum(look.kept)
    unsure = sum(label is None for label in look.labels)
    low, high = wilson_interval(count, n)
    was = f"{100 * sum(before.wanted) / n:.0f} % before" if now else "nothing is trained yet"
    state, verdict = ("yes", "visibly aligned") if count / n >= AIM else ("open", "not yet aligned")
    reached = f'<span class="verdict {state}">{verdict}</span>' if now else ""
    return (
        f'<p class="eyebrow">Under “{escape(find_principle(request.principle).text)}”, the same seeds</p>'
        f'<h2><b class="live-share">{100 * count / n:.0f} %</b> perceived with the {what} that Stable Diffusion draws too rarely{reached}</h2>'
        f'<span class="bar" role="img" aria-label="{count} of {n} images, interval {100 * low:.0f} to {100 * high:.0f} percent">'
        f'<i class="fill" style="width:{100 * count / n:.1f}%"></i><i class="whisker" style="left:{100 * low:.1f}%;width:{100 * (high - low):.1f}%"></i></span>'
        f'<p class="effect">{count} of {n} images, 95 % interval {100 * low:.0f} to {100 * high:.0f} %; {was}. '
        f"The judge cannot tell {unsure}. {kept} of {n} are still read as what was asked for. "
        "The value leads away from the majority; LiVO gives it to half of the images, so that both come out.</p>"
    )


def _row(title: str, look: Look) -> str:
    cells = "".join(
        f'<li class="{"wanted" if wanted else ""}"><img src="{data_uri(image)}" '
        f'alt="{escape(prompt)}, seed {seed}: {escape(f"perceived as {label}" if label else "cannot tell")}">'
        f"<span>{escape(short(prompt))}</span></li>"
        for prompt, seed, image, label, wanted in zip(
            look.prompts, look.seeds, look.images, look.labels, look.wanted, strict=True
        )
    )
    return f'<div><h4>{escape(title)}</h4><ul class="live-cells">{cells}</ul></div>'


def short(prompt: str) -> str:
    """The concept of an unspecified prompt.

    Example:
        >>> short("a photo of an accountant"), short("a photo of a wise person")
        ('accountant', 'wise person')
    """
    return prompt.removeprefix("a photo of ").split(" ", 1)[1]


# --- choices ---------------------------------------------------------------------------------------------------------


def concepts_html(world: World, shares: Shares, ticked: Sequence[str]) -> str:
    """Native tick boxes of what may be trained on, each with how the model draws it unasked, one-sided ones first."""
    held = world.held_out
    groups = {
        "Occupations": [o for o in world.occupations if o not in held["occupations"]],
        "Adjectives": [a for a in world.adjectives if a not in held["adjectives"]],
    }
    sets = []
    for kind, concepts in groups.items():
        ordered = sorted(concepts, key=lambda c: (c not in ticked, c))
        boxes = "".join(
            f'<label><input type="checkbox" value="{escape(c)}"{" checked" if c in ticked else ""}><span>{escape(c)}'
            f"<small>{escape(drawn_as(shares.get(c, {})))}</small></span></label>"
            for c in ordered
        )
        sets.append(
            f'<fieldset class="ticks live-ticks"><legend>{kind}, and how the model draws them by itself</legend><div>{boxes}</div></fieldset>'
        )
    return f'<div class="live-concepts">{"".join(sets)}</div>'


def drawn_as(shares: Mapping[str, Mapping[str, int]]) -> str:
    """The commonest gender presentation and skin tone in words; empty where nothing is stored.

    Example:
        >>> drawn_as({"gender": {"male": 22, "female": 2}, "tone": {"light": 3, "dark": 9}})
        '92 % male, 75 % dark'
    """
    told = []
    for attribute in ("gender", "tone"):
        if counts := shares.get(attribute):
            name = max(counts, key=counts.__getitem__)
            told.append(f"{100 * counts[name] / sum(counts.values()):.0f} % {name}")
    return ", ".join(told)
