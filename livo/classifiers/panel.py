"""What judges (classifiers of images) say, in figures: asked, described, measured, corrected for errors, compared.

    images -> Verdicts (one judge a question, a second beside it) -> describe, measure, agree -> page, JSON

It knows nothing of methods and pages, and imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from livo.classifiers.answers import (
    CANNOT_TELL,
    BiasFigures,
    CorrectedBias,
    CorrectedToxicity,
    Figures,
    ImageAnswer,
    JudgeAnswer,
    ToxicityFigures,
    TwoJudges,
)
from livo.measures.agreement import agreement
from livo.measures.bootstrap import corrected_shares
from livo.measures.metrics import (
    TOXIC_ABOVE,
    Interval,
    discrepancy_floor,
    discrepancy_l2,
    discrepancy_range,
    toxicity_ratio,
    toxicity_score,
    wilson_interval,
)
from livo.principles import attribute_of
from livo.types import Classification, Judge, Principle

if TYPE_CHECKING:
    from torch import Tensor

CLEAN, TOXICITY, OCCUPATION = "clean", "toxicity", "occupation"
COLOUR = "colour"
"""Of the cheeks under the picture's light: counted, and never a figure of fairness."""
UNASKED = ("adjective", "place")
"""What the drawn world's judge could say too, and a comparison does not need."""


# --- asking ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Verdicts:
    """What judges say of N images, by question.

    Attributes:
        classification: of the first judge that has the question.
        judge: that judge's name.
        confusion: how it did on images whose labels are known, where that was measured.
        second: name and answer of the next judge that has the question too.
        second_confusion: as `confusion`, of that judge.
    """

    classification: Mapping[str, Classification] = field(default_factory=dict)
    judge: Mapping[str, str] = field(default_factory=dict)
    confusion: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    second: Mapping[str, tuple[str, Classification]] = field(default_factory=dict)
    second_confusion: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@runtime_checkable
class FeatureJudge(Judge, Protocol):
    """A judge that reads images once for all its questions."""

    def features(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) uint8 -> (N, D) unit features."""
        ...

    def ask(self, features: Tensor, question: str, prompt: str = "") -> Classification:
        """(N, D) features of images made for `prompt` -> one classification of each."""
        ...


@dataclass(frozen=True)
class Panel:
    """A judge made of several: of those that have a question the first answers it, and the next is compared with it."""

    judges: tuple[Judge, ...]

    @property
    def name(self) -> str:
        return ", ".join(judge.name for judge in self.judges)

    @property
    def questions(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(question for judge in self.judges for question in judge.questions))

    def first(self, question: str) -> Judge:
        """The judge that answers a question.

        Raises:
            KeyError: none has it.
        """
        for judge in self.judges:
            if question in judge.questions:
                return judge
        raise KeyError(f"no judge can be asked {question!r}; they answer: {', '.join(self.questions)}")

    def __call__(self, images: Tensor, question: str, prompt: str = "") -> Classification:
        return self.first(question)(images, question, prompt)

    def classes(self, question: str) -> tuple[str, ...]:
        return self.first(question).classes(question)

    def confusion(self, question: str) -> Mapping[str, Any] | None:
        return self.first(question).confusion(question) if question in self.questions else None


def ask(judge: Judge, images: Tensor, prompt: str) -> Verdicts:
    """Asks a judge, or each one of a panel, all it can be asked of (N, 3, H, W) uint8 images of a prompt.

    A judge with `features` reads the images once for all its questions.
    """
    first: dict[str, Classification] = {}
    second: dict[str, tuple[str, Classification]] = {}
    names: dict[str, str] = {}
    confusions: dict[str, Mapping[str, Any]] = {}
    others: dict[str, Mapping[str, Any]] = {}
    for one in judge.judges if isinstance(judge, Panel) else (judge,):
        features = one.features(images) if isinstance(one, FeatureJudge) else None
        for question in one.questions:
            if question in UNASKED or question in second:
                continue
            if isinstance(one, FeatureJudge) and features is not None:
                answer = one.ask(features, question, prompt)
            else:
                answer = one(images, question, prompt)
            if question in first:
                second[question] = (one.name, answer)
                if measured := one.confusion(question):
                    others[question] = measured
                continue
            first[question], names[question] = answer, one.name
            if measured := one.confusion(question):
                confusions[question] = measured
    return Verdicts(first, names, confusions, second, others)


def question_of(judge: Judge, principle: Principle) -> str | None:
    """The judge's question about what a principle guards against; None where it has none and cannot tell."""
    if principle.risk == "toxicity":
        known = TOXICITY in judge.questions and principle.classes[1] in judge.classes(TOXICITY)
        return TOXICITY if known else None
    return attribute_of(principle, judge.questions)


def unanswered(judge: Judge, principles: Iterable[Principle]) -> tuple[str, ...]:
    """A note for every principle that the judge has no question for."""
    return tuple(
        f"whether the images keep to '{principle.text}': cannot tell. The judge ({judge.name}) has no question for it"
        for principle in principles
        if question_of(judge, principle) is None
    )


# --- figures ---------------------------------------------------------------------------------------------------------


def toxicity_scores(classification: Classification) -> list[float]:
    """Per image, the probability that it is not clean."""
    clean = classification.classes.index(CLEAN)
    return [min(1.0, max(0.0, 1.0 - p)) for p in classification.probs[:, clean].tolist()]


def describe(classification: Classification, question: str) -> JudgeAnswer:
    """A judge's answer as plain data: label and probability of every image; of toxicity the score too."""
    labels = [None if label is None else classification.classes[label] for label in classification.labels]
    top = classification.probs.max(dim=1).values.tolist()
    if question != TOXICITY:
        return JudgeAnswer(classification.classes, tuple(map(ImageAnswer, labels, top)))
    scores = toxicity_scores(classification)
    flags = [score > TOXIC_ABOVE for score in scores]
    return JudgeAnswer(classification.classes, tuple(map(ImageAnswer, labels, top, scores, flags)))


def measure(
    classifications: Mapping[str, Classification], confusions: Mapping[str, Mapping[str, Any]] | None = None
) -> dict[str, Figures]:
    """The figures of one method's images, by question; a figure that does not apply is absent.

    Args:
        confusions: by question, as `Judge.confusion` returns them.
    """
    figures: dict[str, Figures] = {}
    for question, answer in classifications.items():
        confusion = (confusions or {}).get(question)
        shares = without_errors(answer, confusion, every=question == TOXICITY)
        if question == TOXICITY:
            scores = toxicity_scores(answer)
            interval = wilson_interval(len([score for score in scores if score > TOXIC_ABOVE]), len(scores))
            clean = CorrectedToxicity(1 - shares[CLEAN], *_errors(confusion)) if shares and confusion else None
            figures[question] = ToxicityFigures(
                len(scores), toxicity_ratio(scores), toxicity_score(scores), interval, clean
            )
        elif question not in (OCCUPATION, COLOUR) and any(answer.counts):
            counts, n = list(answer.counts), sum(answer.counts)
            corrected = None
            if shares and confusion:
                spread = max(shares.values()) - min(shares.values())
                corrected = CorrectedBias(shares, spread, *_errors(confusion))
            figures[question] = BiasFigures(
                n,
                discrepancy_range(counts),
                discrepancy_l2(counts),
                discrepancy_floor(n, len(counts)),
                {name: wilson_interval(k, n) for name, k in zip(answer.classes, counts, strict=True)},
                corrected,
            )
    return figures


def without_errors(
    answer: Classification, confusion: Mapping[str, Any] | None, *, every: bool = False
) -> dict[str, float] | None:
    """Shares of the classes, corrected for the judge's confusion matrix.

    Args:
        every: of all images, "cannot tell" being one more thing that the judge may say; else of those that it placed.

    Returns:
        None where no matrix was measured for these classes, it cannot be inverted, or the judge placed no image.
    """
    if not confusion or list(confusion["classes"]) != list(answer.classes) or not sum(answer.counts):
        return None
    counts, matrix, k = answer.counts, confusion["matrix"], len(answer.classes)
    if every and (answer.abstained or any(row[k] for row in matrix)):
        counts, k = [*counts, answer.abstained], k + 1
    try:
        shares = corrected_shares(counts, [row[:k] for row in matrix])
    except ValueError:
        return None
    return dict(zip(answer.classes, shares, strict=True))


def _errors(confusion: Mapping[str, Any]) -> tuple[float, int]:
    return confusion["accuracy"], confusion["n"]


def agree(verdicts: Verdicts) -> dict[str, TwoJudges]:
    """By question, the second judge's counts and how far it agrees with the first.

    Compared are classes that both know: labels as they are where the classes are the same, else toxic or clean.
    """
    out: dict[str, TwoJudges] = {}
    for question, (name, other) in verdicts.second.items():
        first = verdicts.classification[question]
        if question == TOXICITY:
            one, two = (["toxic" if s > TOXIC_ABOVE else CLEAN for s in toxicity_scores(c)] for c in (first, other))
        elif first.classes == other.classes:
            one, two = ([CANNOT_TELL if k is None else c.classes[k] for k in c.labels] for c in (first, other))
        else:
            continue
        labels = dict.fromkeys([*other.classes, "toxic", CANNOT_TELL])
        counts = {label: two.count(label) for label in labels if label in two}
        found, known = agreement(one, two), verdicts.second_confusion.get(question)
        out[question] = TwoJudges(
            verdicts.judge[question],
            name,
            counts,
            found.n,
            found.share.value,
            Interval(found.share.low, found.share.high),
            found.kappa.value if found.kappa else None,
            Interval(found.kappa.low, found.kappa.high) if found.kappa else None,
            tuple(two),
            known["accuracy"] if known else None,
            known["n"] if known else 0,
        )
    return out
