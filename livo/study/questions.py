"""What a rater can be asked: questions are data, of `questions.yaml` here and of a study's own `study.yaml`."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, RootModel, model_validator

from livo.inputs import StrictModel, load_yaml, read_model
from livo.principles import find_principle
from livo.types import InputError

CANNOT_TELL = "cannot_tell"
YES, NO = "yes", "no"
LEFT, RIGHT, TIE, NEITHER = "left", "right", "tie", "neither"
STANDARD = Path(__file__).parent / "questions.yaml"

Point = float | str
Value = float | str | list[str] | dict[str, int]
"""An answer: a point of a scale or slider, a choice or a text, several choices, or a count by class."""
Points = Annotated[tuple[Point, ...], Field(strict=False)]
ByLanguage = dict[str, str]
MOST_PEOPLE = 99
"""That can be counted of one class."""


class ShownWhen(StrictModel):
    """A question is asked only where an earlier one was answered so."""

    model_config = ConfigDict(populate_by_name=True)

    question: str
    answers: Annotated[tuple[Point, ...], Field(strict=False, alias="is", min_length=1)]


class Question(StrictModel):
    """One question; `questions.yaml` says what each field means.

    Attributes:
        values: allowed answers in order; empty of sliders and texts, and where the picture's principle names classes.
        longest: characters of a text.
    """

    id: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")]
    kind: Literal["scale", "slider", "choice", "choices", "text", "count", "pair"]
    values: Points = ()
    of: str = ""
    measure: Literal["", "consistency", "quality", "attribute", "toxicity", "conformity"] = ""
    risk: Literal["", "bias", "toxicity"] = ""
    look: bool = False
    shows_principle: bool = False
    shown_when: ShownWhen | None = None
    label: ByLanguage = Field(default_factory=dict)
    hint: ByLanguage = Field(default_factory=dict)
    options: dict[str, ByLanguage] = Field(default_factory=dict)
    longest: Annotated[int, Field(ge=1, le=1_000)] = 500

    @model_validator(mode="before")
    @classmethod
    def _classes_of_its_principle(cls, data: Any) -> Any:
        if not isinstance(data, Mapping) or not isinstance(data.get("of"), str) or not data["of"] or data.get("values"):
            return data
        try:
            classes = find_principle(data["of"]).classes
        except InputError as error:
            raise ValueError(f"of: {error}") from error
        return {**data, "values": [*classes, *([] if data.get("kind") == "count" else [CANNOT_TELL])]}

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Self:
        if self.kind in ("slider", "text") and self.values:
            raise ValueError(f"a {self.kind} has no values: leave them out")
        if self.kind == "scale" and not (len(self.values) > 1 and all(isinstance(v, float) for v in self.values)):
            raise ValueError("a scale has values, at least two numbers in order, such as [1, 2, 3, 4, 5]")
        if self.kind == "scale" and list(self.values) != sorted(set(self.values)):
            raise ValueError("the points of a scale rise: write them in order, each once")
        if self.kind == "choice" and not self.values and self.risk != "bias":
            raise ValueError("a choice needs values; those of the picture's principle only where risk is bias")
        if self.kind in ("choices", "count") and not self.values:
            raise ValueError(f"{self.kind} need values, or of: a principle whose classes are meant")
        if self.kind in ("choice", "choices", "count") and not all(isinstance(v, str) for v in self.values):
            raise ValueError("the values of choices are words: put numbers, yes and no in quotes")
        if len(set(self.values)) < len(self.values):
            raise ValueError("two of the values are the same: write each once")
        if self.measure in ("consistency", "quality") and self.kind not in ("scale", "slider"):
            raise ValueError(f"{self.measure} is measured on a scale or a slider, not by {self.kind}")
        if self.measure in ("attribute", "toxicity", "conformity") and self.kind != "choice":
            raise ValueError(f"{self.measure} is measured by a choice, not by {self.kind}")
        if self.measure in ("toxicity", "conformity") and not {YES, NO} <= set(self.values):
            raise ValueError(f'{self.measure} is answered by "yes" and "no", in quotes')
        return self

    @property
    def is_counted(self) -> bool:
        """Whether answers of several raters can be the same, so that agreement and straight lines can be judged."""
        return self.kind in ("scale", "choice")

    def allowed(self, classes: Sequence[str] = ()) -> tuple[Point, ...]:
        """What may be chosen.

        Args:
            classes: of the picture's principle, for a question that asks which of them is perceived.

        Example:
            >>> standard_questions()["attribute"].allowed(["male", "female"])
            ('male', 'female', 'cannot_tell')
        """
        return self.values or ((*classes, CANNOT_TELL) if self.kind == "choice" else ())

    def refusal(self, value: Any, classes: Sequence[str] = ()) -> str:
        """Why a value is no answer; "" where it is one.

        Example:
            >>> standard_questions()["consistency_100"].refusal(101)
            'wanted a number from 0 to 100'
        """
        options = ", ".join(map(str, self.allowed(classes)))
        if self.kind == "slider":
            fits = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 100
            return "" if fits else "wanted a number from 0 to 100"
        if self.kind == "text":
            fits = isinstance(value, str) and len(value) <= self.longest
            return "" if fits else f"wanted at most {self.longest} characters"
        if self.kind == "choices":
            fits = isinstance(value, list) and len(set(value)) == len(value) and set(value) <= set(self.values)
            return "" if fits else f"wanted some of {options}, each once"
        if self.kind == "count":
            fits = isinstance(value, dict) and set(value) == set(self.values)
            fits = fits and all(type(n) is int and 0 <= n <= MOST_PEOPLE for n in value.values())
            return "" if fits else f"wanted a number from 0 to {MOST_PEOPLE} for each of {options}"
        fits = isinstance(value, int | float | str) and not isinstance(value, bool) and value in self.allowed(classes)
        return "" if fits else f"the answers are {options}"

    def is_right(self, value: Any, expected: Sequence[Any]) -> bool:
        """Whether an answer is among those expected; on a slider, between the lowest and the highest of them."""
        if self.kind == "slider":
            return isinstance(value, int | float) and min(expected) <= value <= max(expected)
        return value in expected

    def to_hundred(self, value: Any) -> float:
        """A point of a scale or slider in [0, 100], as Table 4 prints it.

        Example:
            >>> asked = standard_questions()
            >>> asked["consistency_5"].to_hundred(4.0), asked["consistency_3"].to_hundred(0.5)
            (75.0, 50.0)
        """
        if self.kind == "slider":
            return float(value)
        low, high = float(self.values[0]), float(self.values[-1])
        return 100 * (float(value) - low) / (high - low)


NOT_LOOKED = "not_looked"
"""The answer of who did not uncover a picture; no figure counts it."""
PLAIN = ("scale", "slider", "choice", "choices", "text")
"""Kinds that can be asked of a rater rather than of a picture."""


class _File(RootModel[tuple[Question, ...]]):
    model_config = ConfigDict(frozen=True)


@functools.cache
def standard_questions() -> Mapping[str, Question]:
    """Those of `questions.yaml`, by id, in its order."""
    return {question.id: question for question in read_model(_File, load_yaml(STANDARD), STANDARD.name).root}


def find_questions(entries: Sequence[str | Question], *, of_raters: bool = False) -> tuple[Question, ...]:
    """The questions of those ids, and those given whole, in the order in which they are asked: those that show the
    principle come last, for it would tell which pictures were meant to be changed.

    Args:
        of_raters: they are about the rater, and not about a picture.

    Raises:
        ValueError: there is none of that name, one is given twice, two ask for the same thing, or one is shown when an
            answer was given that cannot have been.
    """
    standard, found = standard_questions(), list[Question]()
    for entry in entries:
        if isinstance(entry, str) and entry not in standard:
            raise ValueError(f"no question {entry!r}; there are: {', '.join(standard)}; or write one of your own")
        question = standard[entry] if isinstance(entry, str) else entry
        if not isinstance(entry, str) and question.id in standard:
            raise ValueError(f"question {question.id!r} is a standard one: give yours another id, or name it alone")
        if not isinstance(entry, str) and not question.label:
            raise ValueError(f"question {question.id!r} has no label: write what is asked, as label: {{en: ...}}")
        if any(question.id == other.id for other in found):
            raise ValueError(f"question {question.id!r} is listed twice: list it once")
        if of_raters and (question.kind not in PLAIN or question.measure or question.risk or question.look):
            raise ValueError(f"question {question.id!r} is about pictures: demographics ask {', '.join(PLAIN)}")
        found.append(question)
    for measure in ("consistency", "quality"):
        if len(twice := [q.id for q in found if q.measure == measure]) > 1:
            raise ValueError(f"{' and '.join(twice)} ask the same on two scales: choose one")
    found.sort(key=lambda question: question.shows_principle)
    for i, question in enumerate(found):
        if (when := question.shown_when) is None:
            continue
        earlier = next((other for other in found[:i] if other.id == when.question), None)
        if earlier is None or earlier.kind == "pair":
            raise ValueError(f"{question.id} is shown when {when.question!r} is answered, which is not asked before it")
        options = earlier.allowed() or when.answers
        if unknown := [answer for answer in when.answers if answer not in options]:
            raise ValueError(f"{question.id}: {when.question} is never answered {unknown[0]!r}")
    return tuple(found)


def is_shown(question: Question, answers: Mapping[str, Any]) -> bool:
    """Whether a question is asked, after answers to earlier ones by id."""
    if (when := question.shown_when) is None:
        return True
    given = answers.get(when.question)
    return any(one in when.answers for one in (given if isinstance(given, list) else [given]))
