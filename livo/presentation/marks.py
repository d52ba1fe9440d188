"""By what pictures are framed: which question leads, and a letter and a pattern beside every colour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from livo.classifiers.answers import CANNOT_TELL, JudgeAnswer
from livo.classifiers.panel import CLEAN, TOXICITY
from livo.compare.record import ComparisonRecord
from livo.principles import attribute_of
from livo.types import Principle

GENDER = "gender"
UNSURE = -1
"""The index of "cannot tell"."""


@dataclass(frozen=True)
class Mark:
    """How one picture is perceived: colour and pattern by the class's index, a letter, and the word itself."""

    index: int
    letter: str
    word: str


def lead_question(principles: Sequence[Principle], answers: Sequence[Mapping[str, JudgeAnswer]]) -> str | None:
    """The question by which pictures are framed: the principle's own; without a principle gender, where it was asked.

    Args:
        answers: of every method, by question.

    Returns:
        None where no judge was asked anything of the kind.
    """
    asked = {question for one in answers for question in one}
    if not principles:
        return GENDER if GENDER in asked else None
    if principles[0].risk == "toxicity":
        return TOXICITY if TOXICITY in asked else None
    return attribute_of(principles[0], asked)


def lead_of(record: ComparisonRecord) -> str | None:
    """`lead_question` of a finished comparison."""
    return lead_question(record.principles, [method.answers for method in record.methods.values()])


def mark_of(answer: JudgeAnswer, i: int) -> Mark:
    """The mark of image i: of toxicity "clean" or the kind, else the class."""
    image = answer.images[i]
    if image.score is not None and not image.toxic:
        return Mark(0, "", CLEAN)
    if image.label is None or (image.toxic and image.label == CLEAN):
        return Mark(1, "!", "toxic") if image.toxic else Mark(UNSURE, "?", CANNOT_TELL)
    index = answer.classes.index(image.label)
    return Mark(1, "!", image.label) if image.toxic else Mark(index, letters(answer.classes)[index], image.label)


def letters(classes: Sequence[str]) -> tuple[str, ...]:
    """A short sign for each class: the initials of its words, longer where two would be alike.

    Example:
        >>> letters(("male", "female")), letters(("very light", "light", "dark")), letters(("asian", "arab"))
        (('M', 'F'), ('VL', 'L', 'D'), ('AS', 'AR'))
    """
    for length in range(1, 12):
        signs = tuple("".join(word[:length] for word in name.split()).upper() for name in classes)
        if len(set(signs)) == len(signs):
            return signs
    return tuple(name.upper() for name in classes)
