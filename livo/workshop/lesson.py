"""Lesson files: Markdown with YAML front matter in assets/lessons/, one file a lesson, checked when read.

    ---
    title: Guess the set        order, goal, bring and words (term: meaning) stand here too
    ---
    An introduction.

    ## Predict: Fifty doctors   Predict, Observe, Explain, and Change at the end
    ```yaml
    minutes: 2                  `ask`: a question, see `Ask`; `show`: a list of widgets, see `Widget`
    ```
    What students read.
    ### Facilitator             what the guide adds
    ### Worksheet               a list of questions
    ### Key                     a list of as many answers

Numbers are not written into the texts: `{doctor.female}` is looked up in the pack (`livo.workshop.pack`).
"""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Annotated, Literal, Self, get_args

from pydantic import Field, model_validator

from livo.inputs import StrictModel, parse_yaml, read_model
from livo.principles import ASSETS
from livo.types import InputError

FOLDER = ASSETS / "lessons"
KINDS = ("predict", "observe", "explain", "change")
PARTS = ("Facilitator", "Worksheet", "Key")
MOST_ITEMS = 20
_FENCE = re.compile(r"\A\s*```yaml\n(.*?)^```[ ]*$", flags=re.DOTALL | re.MULTILINE)

Line = Annotated[str, Field(min_length=1)]
Lines = Annotated[tuple[Line, ...], Field(strict=False)]
Whole = Annotated[tuple[int, ...], Field(strict=False)]


class Ask(StrictModel):
    """A question that is answered without writing, so that no answer can hold a name.

    Attributes:
        id: short, of the file's questions the only one.
        kind: "number" from `min` to `max`; "choice" of one of `options`; "labels", one of `options` for each picture of
            `album` or each of `items`; "prompt", any number of prompts, see `livo.workshop.traps`.
        right: places of the right options of a choice; empty where all can be defended.
        because: what is said after the answers are closed, as Markdown.
        truth: a fact of the pack that a number is compared with.
    """

    id: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,15}$")]
    kind: Literal["number", "choice", "labels", "prompt"]
    question: Line
    options: Lines = ()
    right: Whole = ()
    because: str = ""
    min: int = 0
    max: int = 100
    unit: str = ""
    truth: str = ""
    album: str = ""
    items: Lines = ()

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Self:
        if self.kind == "number":
            if not self.min < self.max:
                raise ValueError(f"max: {self.max} must be larger than min, {self.min}")
            return self
        if self.kind == "prompt":
            return self
        if not 2 <= len(self.options) <= 8:
            raise ValueError(f"options: {len(self.options)} options are no choice: give 2 to 8")
        if not all(0 <= place < len(self.options) for place in self.right):
            raise ValueError("right: places of the options, counted from 0")
        if self.kind == "labels" and (bool(self.album) == bool(self.items) or len(self.items) > MOST_ITEMS):
            raise ValueError(f"items: labels are asked for an album or for up to {MOST_ITEMS} items, one of both")
        return self


# --- what a step can show; livo/workshop/web/widgets.js draws it ------------------------------------------------------


class SetWidget(StrictModel):
    """Sets of the pack: their pictures, their shares, a guess beside them."""

    widget: Literal["set"]
    sets: Lines
    pictures: bool = False
    bars: bool = False
    ask: str = ""


class RulersWidget(StrictModel):
    """Shapes to move between classes, with D1 and D2."""

    widget: Literal["rulers"]
    counts: Whole
    task: str = ""


class ReferenceWidget(StrictModel):
    """Sets against a reference that the reader chooses."""

    widget: Literal["reference"]
    sets: Lines


class VerdictsWidget(StrictModel):
    """An album: what the reader, the class and the judge say."""

    widget: Literal["verdicts"]
    album: str
    ask: str = ""


class CorrectionWidget(StrictModel):
    """A set's shares, corrected for the judge's errors."""

    widget: Literal["correction"]
    set: str
    album: str = ""
    ask: str = ""


class ChartWidget(StrictModel):
    """A figure of the evaluation."""

    widget: Literal["chart"]
    chart: str


class RetrievalWidget(StrictModel):
    """What the value retriever says of prompts."""

    widget: Literal["retrieval"]
    prompts: Lines
    ask: str = ""


class LouderWidget(StrictModel):
    """What the table plants and what the model draws, of several sets on one axis."""

    widget: Literal["louder"]
    sets: Lines


class GuidanceWidget(StrictModel):
    """What the table plants, and what guidance does to it, on the same axis."""

    widget: Literal["guidance"]
    prompts: Lines


class MixWidget(StrictModel):
    """A target that the class chooses, and the mixing rate that meets it."""

    widget: Literal["mix"]
    prompts: Lines


class BoardWidget(StrictModel):
    """Which method fell to which kind of trick, of the prompts that the class sent."""

    widget: Literal["board"]
    ask: str


class TabWidget(StrictModel):
    """A link to a tab of the demo."""

    widget: Literal["tab"]
    tab: str
    label: str


Widget = Annotated[
    SetWidget
    | RulersWidget
    | ReferenceWidget
    | VerdictsWidget
    | CorrectionWidget
    | ChartWidget
    | RetrievalWidget
    | LouderWidget
    | GuidanceWidget
    | MixWidget
    | BoardWidget
    | TabWidget,
    Field(discriminator="widget"),
]


WIDGETS = frozenset(str(get_args(kind.model_fields["widget"].annotation)[0]) for kind in get_args(get_args(Widget)[0]))
"""Names of all kinds of things to see."""


class _Fence(StrictModel):
    """The fields of a step."""

    minutes: Annotated[int, Field(ge=1, le=15)]
    ask: Ask | None = None
    show: Annotated[tuple[Widget, ...], Field(strict=False)] = ()
    school: bool = True


class LessonStep(_Fence):
    """One step; texts are Markdown with facts still to be filled in.

    Attributes:
        show: things to see.
        worksheet, key: questions on paper, and as many answers.
        school: whether it is there in school mode.
    """

    kind: Literal["predict", "observe", "explain", "change"]
    title: Line
    text: str
    notes: str
    worksheet: Lines = ()
    key: Lines = ()


class _FrontMatter(StrictModel):
    title: Line
    order: int
    goal: Line
    bring: Line
    words: dict[str, Line]
    age: str = ""
    links: Lines = ()


class Lesson(_FrontMatter):
    """A lesson.

    Attributes:
        id: the file's name.
        bring: what the facilitator needs.
        age: of the learners, such as "13 and older".
        links: to curricula: a framework, a colon and what of it the lesson teaches.
        words: term -> meaning.
    """

    id: str
    intro: str
    steps: tuple[LessonStep, ...] = ()

    @property
    def minutes(self) -> int:
        """Of all steps."""
        return sum(step.minutes for step in self.steps)

    def ask(self, id: str) -> Ask | None:
        """A question by its id; None where there is none, as of a step that is not there in school mode."""
        return next((step.ask for step in self.steps if step.ask and step.ask.id == id), None)

    def for_room(self, school: bool) -> Lesson:
        """The lesson as a room sees it: in school mode without the steps that are not for schools."""
        return self.model_copy(update={"steps": tuple(step for step in self.steps if step.school or not school)})


def load_lessons(folder: Path = FOLDER) -> list[Lesson]:
    """All lessons in their order.

    Raises:
        InputError: a file is wrong, naming it and the field; or two have one place.
    """
    lessons = sorted((load_lesson(path) for path in sorted(folder.glob("*.md"))), key=lambda lesson: lesson.order)
    if not lessons:
        raise InputError(f"there is no lesson in {folder}: it holds one Markdown file a lesson")
    for one, next_one in itertools.pairwise(lessons):
        if one.order == next_one.order:
            raise InputError(f"{next_one.id}.md: order: {one.order} is {one.id}.md's already")
    return lessons


def load_lesson(path: Path) -> Lesson:
    """One file; raises as `load_lessons`."""
    return parse_lesson(path.stem, path.read_text(encoding="utf-8"))


def parse_lesson(id: str, text: str) -> Lesson:
    """A lesson from its file's words.

    Raises:
        InputError: they are none, naming the file, the step and the field.
    """
    file = f"{id}.md"
    if not re.fullmatch(r"[a-z0-9-]{1,40}", id):
        raise InputError(f"{file}: a lesson's file is named by small letters, digits and hyphens")
    if not (match := re.match(r"---\n(.*?)\n---\n", text, flags=re.DOTALL)):
        raise InputError(
            f"{file}: front matter is missing: begin with a line ---, title, order, goal, bring, words, and ---"
        )
    where = f"{file}: front matter"
    head = read_model(_FrontMatter, parse_yaml(match[1], where), where)
    intro, *sections = re.split(r"^## ", text[match.end() :], flags=re.MULTILINE)
    steps = tuple(_step(section, file) for section in sections)
    lesson = Lesson(id=id, **dict(head), intro=intro.strip(), steps=steps)
    _check_order(lesson, file)
    return lesson


def _step(section: str, file: str) -> LessonStep:
    heading, _, rest = section.partition("\n")
    kind, colon, title = heading.partition(":")
    kind, title = kind.strip().lower(), title.strip()
    where = f"{file}: step {heading.strip()!r}"
    if kind not in KINDS or not colon or not title:
        raise InputError(
            f"{where}: a step's heading is one of Predict, Observe, Explain and Change, a colon and a title"
        )
    if not (fence := _FENCE.match(rest)):
        raise InputError(f"{where}: minutes: a block ```yaml with minutes must follow the heading")
    fields = read_model(_Fence, parse_yaml(fence[1], where), where)
    text, *parts = re.split(r"^### ", rest[fence.end() :], flags=re.MULTILINE)
    found = {name.strip(): body.strip() for name, _, body in (part.partition("\n") for part in parts)}
    if strangers := set(found) - set(PARTS):
        raise InputError(f"{where}: {min(strangers)}: there are the parts {', '.join(PARTS)}")
    if not found.get("Facilitator"):
        raise InputError(f"{where}: Facilitator: every step has a note for the facilitator")
    worksheet, key = (_list(found.get(name, ""), f"{where}: {name}") for name in ("Worksheet", "Key"))
    if len(worksheet) != len(key):
        raise InputError(
            f"{where}: Key: {len(worksheet)} questions on the worksheet want as many answers, not {len(key)}"
        )
    if kind == "predict" and fields.ask is None:
        raise InputError(f"{where}: ask: a prediction is asked for")
    if kind == "observe" and not fields.show:
        raise InputError(f"{where}: show: there is nothing to observe")
    words = {"title": title, "text": text.strip(), "notes": found["Facilitator"], "worksheet": worksheet, "key": key}
    return read_model(LessonStep, {"kind": kind, **words, **dict(fields)}, where)


def _check_order(lesson: Lesson, file: str) -> None:
    """Predict, observe, explain, any number of times, and a change of mind at the end; in school mode as well."""
    for school in (False, True):
        kinds = [step.kind for step in lesson.for_room(school).steps]
        if not re.fullmatch(r"(p+(o+e+)+)+c", "".join(kind[0] for kind in kinds)):
            raise InputError(
                f"{file}: steps: Predict, Observe and Explain follow each other, and Change comes last; "
                f"{'in school mode ' if school else ''}there are: {', '.join(kinds) or 'none'}"
            )
    ids = [step.ask.id for step in lesson.steps if step.ask]
    if len(set(ids)) < len(ids):
        raise InputError(f"{file}: ask.id: {next(id for id in ids if ids.count(id) > 1)!r} occurs twice")
    for step in lesson.steps:
        for one in step.show:
            asked = getattr(one, "ask", "")
            if asked and asked not in ids:
                raise InputError(f"{file}: step {step.title!r}: show.{one.widget}.ask: there is no question {asked!r}")
    if not any(step.worksheet for step in lesson.steps):
        raise InputError(f"{file}: Worksheet: no step has a question for the worksheet")


def _list(text: str, where: str) -> tuple[str, ...]:
    """The entries of a Markdown list; indented lines go on."""
    if not text:
        return ()
    entries: list[str] = []
    for line in text.splitlines():
        if match := re.match(r"(?:-|\d+\.) +(.*)", line):
            entries.append(match[1])
        elif entries and line.strip():
            entries[-1] += " " + line.strip()
        elif line.strip():
            raise InputError(f"{where}: a list is wanted, its lines beginning with a hyphen; got {line.strip()[:40]!r}")
    return tuple(entries)
