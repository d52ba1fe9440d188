"""The end of a row: a bar with its interval, strips of classes, D1 beside a fair sampler's, and the word. Plain
data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from livo.classifiers.answers import BiasFigures, JudgeAnswer, ToxicityFigures
from livo.classifiers.panel import COLOUR, TOXICITY
from livo.compare.record import MethodRecord
from livo.measures.metrics import wilson_interval
from livo.presentation.marks import letters
from livo.presentation.verdict import Verdict, bias_verdict, toxicity_verdict

HEADINGS = {
    "gender": "Gender presentation", "race": "Race", "tone": "Skin tone", TOXICITY: "Toxicity",
    COLOUR: "Colour of the cheeks under this light",
}  # fmt: skip
STRIPS = ("tone", "race")
"""Questions that a row shows as a strip beside the one that leads."""


@dataclass(frozen=True)
class View:
    """What is the same for every row of a comparison.

    Attributes:
        lead: the question by which pictures are framed; None where nothing is measured.
        swatches: a colour by class name.
        measured: whether figures may be shown at all; pictures are still covered by what the judge flags.
    """

    seeds: tuple[int, ...]
    lead: str | None
    swatches: Mapping[str, str] = field(default_factory=dict)
    measured: bool = True


@dataclass(frozen=True)
class Segment:
    """One class's part of a strip; shares in percent."""

    name: str
    letter: str
    share: float
    count: int
    index: int
    colour: str


@dataclass(frozen=True)
class Bar:
    """A share with its interval, in percent.

    Attributes:
        left, right: what stands below the ends.
        two_ended: between two classes, with the middle marked; else a filled share.
        toward: the class whose share it is, for a guess.
    """

    share: float
    low: float
    high: float
    left: str
    right: str
    words: str
    two_ended: bool = False
    toward: str = ""


@dataclass(frozen=True)
class Reading:
    """The end of a row: what its pictures come to."""

    bar: Bar | None = None
    strips: tuple[tuple[str, tuple[Segment, ...]], ...] = ()
    d1: float | None = None
    fair: float | None = None
    verdict: Verdict | None = None
    unplaced: int = 0


def reading_of(view: View, record: MethodRecord, base: MethodRecord | None) -> Reading | None:
    """What a method's pictures come to under the question that leads; None where the judge said nothing of it."""
    figures = record.figures.get(view.lead or "")
    if isinstance(figures, ToxicityFigures):
        before = base.figures.get(TOXICITY) if base else None
        verdict = toxicity_verdict(figures, before if isinstance(before, ToxicityFigures) else None)
        return Reading(flagged_bar(figures), verdict=verdict)
    if view.lead is None or view.lead not in record.answers:
        return None
    answer = record.answers[view.lead]
    if not isinstance(figures, BiasFigures):
        return Reading(unplaced=answer.abstained)
    strips = [question for question in STRIPS if question in record.answers and question != view.lead]
    own = ((view.lead, segments(answer, view)),) if len(answer.classes) > 2 else ()
    others = tuple((question, segments(record.answers[question], view)) for question in strips[:1])
    verdict = bias_verdict(answer, figures, base.answers.get(view.lead) if base else None)
    bar = two_ended_bar(answer, figures) if len(answer.classes) == 2 else largest_bar(answer, figures)
    fair = 100 * figures.floor.discrepancy_range
    return Reading(bar, own + others, 100 * figures.discrepancy_range, fair, verdict, answer.abstained)


def two_ended_bar(answer: JudgeAnswer, figures: BiasFigures) -> Bar:
    """The second class's share between two classes."""
    (first, second), (k, m) = answer.classes, answer.counts
    low, high = figures.intervals[second]
    shares = (100 * k / figures.n, 100 * m / figures.n)
    words = (
        f"perceived {second}: {m} of {figures.n} images, {shares[1]:.0f} percent, "
        f"95 % interval {100 * low:.0f} to {100 * high:.0f}"
    )
    ends = (f"{first} {shares[0]:.0f} %", f"{second} {shares[1]:.0f} %")
    return Bar(shares[1], 100 * low, 100 * high, *ends, words, two_ended=True, toward=second)


def largest_bar(answer: JudgeAnswer, figures: BiasFigures) -> Bar:
    """The commonest class's share, where there are more than two."""
    name = answer.classes[answer.counts.index(max(answer.counts))]
    return share_bar(name, max(answer.counts), figures.n, figures.intervals[name])


def flagged_bar(figures: ToxicityFigures) -> Bar:
    """The share of the images that is flagged."""
    return share_bar("flagged", figures.flagged, figures.n, figures.interval)


def share_bar(name: str, count: int, n: int, interval: Sequence[float] | None = None) -> Bar:
    """A count of n as a filled bar; its interval is Wilson's where none is given."""
    low, high = interval or wilson_interval(count, n)
    words = f"{name}: {count} of {n} images, 95 % interval {100 * low:.0f} to {100 * high:.0f} percent"
    return Bar(100 * count / n, 100 * low, 100 * high, name, f"{count} of {n}", words, toward=name)


def segments(answer: JudgeAnswer, view: View) -> tuple[Segment, ...]:
    """The classes of an answer with their shares of the images that were placed."""
    placed = sum(answer.counts)
    signs = letters(answer.classes)
    return tuple(
        Segment(name, signs[i], 100 * count / placed if placed else 0.0, count, i, view.swatches.get(name, ""))
        for i, (name, count) in enumerate(zip(answer.classes, answer.counts, strict=True))
    )
