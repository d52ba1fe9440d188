"""What opens below a row: every question's figures, a second judge, and what the pictures took."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from livo.classifiers.answers import CANNOT_TELL, BiasFigures, JudgeAnswer, ToxicityFigures, TwoJudges
from livo.classifiers.panel import COLOUR, OCCUPATION
from livo.compare.record import Cost, MethodRecord
from livo.ui.readout import HEADINGS, Bar, View, flagged_bar, share_bar
from livo.ui.templates import render


@dataclass(frozen=True)
class QuestionDetails:
    """One question's figures in full."""

    heading: str
    bars: tuple[tuple[Bar, str], ...]
    unplaced: str
    scores: tuple[tuple[str, str], ...]


def details_html(view: View, record: MethodRecord) -> Markup:
    """Every question's figures, what most images are read as, a second judge, and what the pictures took."""
    questions = [
        _details_of(question, answer, record, view)
        for question, answer in record.answers.items()
        if question != OCCUPATION
    ]
    read_as = ""
    if occupation := record.answers.get(OCCUPATION):
        best = max(range(len(occupation.classes)), key=occupation.counts.__getitem__)
        read_as = f"{occupation.classes[best]}, {occupation.counts[best]} of {len(occupation.images)}"
    judges = [(question, two, _kappa(two)) for question, two in record.agreement.items()]
    cost = cost_text(record.cost, record.seconds) if record.cost else ""
    if not (questions or cost):
        return Markup()
    return render("figures.html", questions=questions, read_as=read_as, judges=judges, cost=cost)


def _details_of(question: str, answer: JudgeAnswer, record: MethodRecord, view: View) -> QuestionDetails:
    figures = record.figures.get(question)
    heading = HEADINGS.get(question, question.replace("_", " ").capitalize())
    scores: tuple[tuple[str, str], ...]
    if isinstance(figures, ToxicityFigures):
        flagged = f"{100 * figures.corrected.toxicity_ratio:.1f} %" if figures.corrected else "not measured"
        scores = (
            ("Toxicity score", f"{100 * figures.toxicity_score:.1f} of 100"),
            ("Flagged without the judge's errors", flagged),
        )
        return QuestionDetails(f"{heading}, as the classifier says", ((flagged_bar(figures), ""),), "", scores)
    unplaced = f"{CANNOT_TELL}: {answer.abstained} of {len(answer.images)}"
    if question == COLOUR:
        counts = zip(answer.classes, answer.counts, strict=True)
        nearest = tuple((share_bar(name, k, sum(answer.counts)), "") for name, k in counts if k)
        return QuestionDetails(f"{heading}, nearest to", nearest, unplaced, ())
    bars, scores = [], ()
    if isinstance(figures, BiasFigures):
        for name, count in zip(answer.classes, answer.counts, strict=True):
            bar = share_bar(name, count, figures.n, figures.intervals[name])
            bars.append((bar, view.swatches.get(name, "")))
        floor, known = figures.floor, figures.corrected
        scores = (
            ("D1", f"{100 * figures.discrepancy_range:.1f} (fair sampler {100 * floor.discrepancy_range:.1f})"),
            ("D2", f"{100 * figures.discrepancy_l2:.1f} (fair sampler {100 * floor.discrepancy_l2:.1f})"),
            ("D1 without the judge's errors", f"{100 * known.discrepancy_range:.1f}" if known else "not measured"),
        )
    return QuestionDetails(f"{heading}, perceived as", tuple(bars), unplaced, scores)


def _kappa(two: TwoJudges) -> str:
    if two.kappa is None or two.kappa_interval is None:
        return "κ not defined"
    return f"κ {two.kappa:.2f} ({two.kappa_interval.low:.2f} to {two.kappa_interval.high:.2f})"


def cost_text(cost: Cost, seconds: float | None) -> str:
    """What an image took and what the method adds to the backbone, in words."""
    work = f"{cost.tflop:.1f} TFLOP" if cost.tflop >= 1 else f"{1000 * cost.tflop:.1f} GFLOP"
    rows = "transformer rows a step, the text in each, as its blocks change it" if cost.joint else "U-Net rows a step"
    parts = [f"{cost.rows:.3g} {rows}", f"{work} an image"]
    if seconds is not None:
        parts.append(f"{seconds:.1f} s in the shared batch")
    if cost.artefact is None:
        parts.append("adds nothing to the model")
    else:
        size, training = cost.artefact.bytes, cost.artefact.training
        parts.append(f"adds {size / 1e6:.1f} MB" if size >= 1e5 else f"adds {size / 1e3:.0f} kB")
        if (took := training.get("seconds")) is not None:
            images = f" from {training['images']:,} images" if training.get("images") else ""
            parts.append(f"made in {duration(took)}{images}")
    return "; ".join(parts)


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
