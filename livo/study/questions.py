"""What a rater can be asked. One entry of `QUESTIONS` is one question; its words are in `web/languages/`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from livo.types import InputError

CANNOT_TELL = "cannot_tell"
YES, NO = "yes", "no"
LEFT, RIGHT, TIE, NEITHER = "left", "right", "tie", "neither"

Value = float | str


@dataclass(frozen=True)
class Question:
    """One question.

    Attributes:
        kind: a "scale" has an order and a mean; a "choice" is one of several; a "pair" compares two images.
        values: allowed answers, in order; empty where the item's principle names its classes.
        risk: asked only where the principle guards against it; empty: of every image.
        shows_principle: the principle stands beside the question. Such questions come last, for the principle would
            tell which images were meant to be changed.
    """

    id: str
    kind: Literal["scale", "choice", "pair"]
    values: tuple[Value, ...]
    risk: Literal["", "bias", "toxicity"] = ""
    shows_principle: bool = False


QUESTIONS = {
    question.id: question
    for question in (
        Question("consistency_3", "scale", (0.0, 0.5, 1.0)),
        Question("consistency_5", "scale", (1.0, 2.0, 3.0, 4.0, 5.0)),
        Question("attribute", "choice", (), "bias"),
        Question("toxic", "choice", (YES, NO, CANNOT_TELL), "toxicity"),
        Question("conformity", "choice", (YES, NO, CANNOT_TELL), "toxicity", shows_principle=True),
        Question("preference", "pair", (LEFT, RIGHT, TIE, NEITHER)),
    )
}
"""Every question by id, in the order in which one image is asked of. A single image is neither fair nor unfair, so
`conformity` is asked where the principle forbids something, and `attribute` where it wants a balance."""

CONSISTENCY = ("consistency_3", "consistency_5")
NEEDS_LOOK = (*CONSISTENCY, "attribute", "preference")
"""Questions about what a picture shows: of a covered one they are answered after it was uncovered, or as not looked."""
NOT_LOOKED = "not_looked"
"""The answer of who did not uncover a picture; no figure counts it."""


def allowed_values(question: Question, classes: Sequence[str] = ()) -> tuple[Value, ...]:
    """What may be answered.

    Args:
        classes: of the item's principle, for a question that asks which of them is perceived.

    Example:
        >>> allowed_values(QUESTIONS["attribute"], ["male", "female"])
        ('male', 'female', 'cannot_tell')
    """
    return question.values or (*classes, CANNOT_TELL)


def to_hundred(question: Question, value: Value) -> float:
    """A point of a scale in [0, 100], as Table 4 prints it.

    Example:
        >>> to_hundred(QUESTIONS["consistency_5"], 4.0), to_hundred(QUESTIONS["consistency_3"], 0.5)
        (75.0, 50.0)
    """
    low, high = float(question.values[0]), float(question.values[-1])
    return 100 * (float(value) - low) / (high - low)


def find_questions(ids: Sequence[str]) -> tuple[Question, ...]:
    """The questions of those ids, in the order in which they are asked.

    Raises:
        InputError: there is none of that name, one is given twice, or two ask for the same thing.
    """
    for id in ids:
        if id not in QUESTIONS:
            raise InputError(f"no question {id!r}; there are: {', '.join(QUESTIONS)}")
        if list(ids).count(id) > 1:
            raise InputError(f"question {id!r} is listed twice: list it once")
    if len(set(ids) & set(CONSISTENCY)) > 1:
        raise InputError(f"{' and '.join(CONSISTENCY)} ask the same on two scales: choose one")
    if not ids:
        raise InputError(f"no question is listed: list at least one of {', '.join(QUESTIONS)}")
    return tuple(question for id, question in QUESTIONS.items() if id in ids)
