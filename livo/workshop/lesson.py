"""Lesson files: Markdown with YAML front matter in assets/lessons/, one file a lesson, checked when read.

    ---
    title: Guess the set        order, goal, bring and words (term: meaning) stand here too
    ---
    An introduction.

    ## Predict: Fifty doctors   Predict, Observe, Explain, and Change at the end
    ```yaml
    minutes: 2                  `ask`: a question, see `Ask`; `show`: a list of things to see, see `WIDGETS`
    ```
    What students read.
    ### Facilitator             what the guide adds
    ### Worksheet               a list of questions
    ### Key                     a list of as many answers

Numbers are not written into the texts: `{doctor.female}` is looked up in the pack (`livo.workshop.pack`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from livo.principles import ASSETS
from livo.types import InputError

FOLDER = ASSETS / "lessons"
KINDS = ("predict", "observe", "explain", "change")
WIDGETS: Mapping[str, Mapping[str, type]] = {
    "set": {"sets": list, "pictures": bool, "bars": bool, "ask": str},
    "rulers": {"counts": list, "task": str},
    "reference": {"sets": list},
    "verdicts": {"album": str, "ask": str},
    "correction": {"set": str, "album": str, "ask": str},
    "chart": {"chart": str},
    "retrieval": {"prompts": list, "ask": str},
    "tab": {"tab": str, "label": str},
}
"""What a step can show, with its fields; `livo/workshop/web/widgets.js` draws them."""
HEAD = {"title": str, "order": int, "goal": str, "bring": str, "words": dict}
STEP = {"minutes": int, "ask": dict, "show": list, "school": bool}
PARTS = ("Facilitator", "Worksheet", "Key")
MOST_ITEMS = 20
_IDENTIFIER = re.compile(r"[a-z][a-z0-9-]{0,15}")
_FENCE = re.compile(r"\A\s*```yaml\n(.*?)^```[ ]*$", flags=re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Ask:
    """A question that is answered without writing, so that no answer can hold a name.

    Attributes:
        id: short, of the file's questions the only one.
        kind: "number" from `min` to `max`; "choice" of one of `options`; "labels", one of `options` for each picture of
            `album` or each of `items`.
        right: places of the right options of a choice; empty where all can be defended.
        because: what is said after the answers are closed, as Markdown.
        truth: a fact of the pack that a number is compared with.
    """

    id: str
    kind: str
    question: str
    options: tuple[str, ...] = ()
    right: tuple[int, ...] = ()
    because: str = ""
    min: int = 0
    max: int = 100
    unit: str = ""
    truth: str = ""
    album: str = ""
    items: tuple[str, ...] = ()


@dataclass(frozen=True)
class Step:
    """One step; texts are Markdown with facts still to be filled in.

    Attributes:
        show: things to see, each with "widget" and the fields of `WIDGETS`.
        worksheet, key: questions on paper, and as many answers.
        school: whether it is there in school mode.
    """

    kind: str
    title: str
    minutes: int
    text: str
    notes: str
    ask: Ask | None = None
    show: tuple[Mapping[str, Any], ...] = ()
    worksheet: tuple[str, ...] = ()
    key: tuple[str, ...] = ()
    school: bool = True


@dataclass(frozen=True)
class Lesson:
    """A lesson.

    Attributes:
        id: the file's name.
        bring: what the facilitator needs.
        words: term -> meaning.
    """

    id: str
    order: int
    title: str
    goal: str
    bring: str
    words: Mapping[str, str]
    intro: str
    steps: tuple[Step, ...] = field(default=())

    @property
    def minutes(self) -> int:
        """Of all steps."""
        return sum(step.minutes for step in self.steps)

    def for_room(self, school: bool) -> Lesson:
        """The lesson as a room sees it: in school mode without the steps that are not for schools."""
        kept = tuple(step for step in self.steps if step.school or not school)
        return Lesson(**{f.name: getattr(self, f.name) for f in fields(self)} | {"steps": kept})


def load_lessons(folder: Path = FOLDER) -> list[Lesson]:
    """All lessons in their order.

    Raises:
        InputError: a file is wrong, naming it and the field; or two have one place.
    """
    lessons = sorted((load_lesson(path) for path in sorted(folder.glob("*.md"))), key=lambda lesson: lesson.order)
    if not lessons:
        raise InputError(f"there is no lesson in {folder}: it holds one Markdown file a lesson")
    for one, next_one in zip(lessons, lessons[1:], strict=False):
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
    head = _mapping(match[1], file)
    _check_fields(head, HEAD, f"{file}: ", needed=HEAD)
    if not all(isinstance(key, str) and isinstance(value, str) for key, value in head["words"].items()):
        raise InputError(f"{file}: words: each term has a meaning, as text")
    intro, *sections = re.split(r"^## ", text[match.end() :], flags=re.MULTILINE)
    steps = tuple(_step(section, file) for section in sections)
    lesson = Lesson(id, **head, intro=intro.strip(), steps=steps)
    _check_order(lesson, file)
    return lesson


def _step(section: str, file: str) -> Step:
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
    told = _mapping(fence[1], where)
    _check_fields(told, STEP, f"{where}: ", needed=("minutes",))
    if not 1 <= told["minutes"] <= 15:
        raise InputError(f"{where}: minutes: {told['minutes']} is no time for a step: give 1 to 15")
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
    ask = _ask(told["ask"], f"{where}: ask") if "ask" in told else None
    show = tuple(_widget(one, f"{where}: show") for one in told.get("show", ()))
    if kind == "predict" and ask is None:
        raise InputError(f"{where}: ask: a prediction is asked for")
    if kind == "observe" and not show:
        raise InputError(f"{where}: show: there is nothing to observe")
    return Step(
        kind,
        title,
        told["minutes"],
        text.strip(),
        found["Facilitator"],
        ask,
        show,
        worksheet,
        key,
        told.get("school", True),
    )


def _ask(told: Mapping[str, Any], where: str) -> Ask:
    types = {
        "id": str, "kind": str, "question": str, "options": list, "right": list, "because": str, "min": int, "max": int,
        "unit": str, "truth": str, "album": str, "items": list,
    }  # fmt: skip
    _check_fields(told, types, f"{where}.", needed=("id", "kind", "question"))
    made = {name: tuple(value) if isinstance(value, list) else value for name, value in told.items()}
    ask = Ask(**made)
    if not _IDENTIFIER.fullmatch(ask.id):
        raise InputError(f"{where}.id: {ask.id!r} is no id: give up to 16 small letters, digits and hyphens")
    if not all(isinstance(one, str) and one for one in (*ask.options, *ask.items)):
        raise InputError(f"{where}.options: options and items are texts")
    if ask.kind == "number":
        if not ask.min < ask.max:
            raise InputError(f"{where}.max: {ask.max} must be larger than min, {ask.min}")
    elif ask.kind in ("choice", "labels"):
        if not 2 <= len(ask.options) <= 8:
            raise InputError(f"{where}.options: {len(ask.options)} options are no choice: give 2 to 8")
        if not all(type(place) is int and 0 <= place < len(ask.options) for place in ask.right):
            raise InputError(f"{where}.right: places of the options, counted from 0")
        if ask.kind == "labels" and (bool(ask.album) == bool(ask.items) or len(ask.items) > MOST_ITEMS):
            raise InputError(
                f"{where}.items: labels are asked for an album or for up to {MOST_ITEMS} items, one of both"
            )
    else:
        raise InputError(f"{where}.kind: no kind {ask.kind!r}; there are: number, choice, labels")
    return ask


def _widget(told: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(told, dict) or told.get("widget") not in WIDGETS:
        raise InputError(f"{where}.widget: there are: {', '.join(WIDGETS)}")
    wanted = WIDGETS[told["widget"]]
    _check_fields(
        {name: value for name, value in told.items() if name != "widget"}, wanted, f"{where}.{told['widget']}."
    )
    return told


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
            if "ask" in one and one["ask"] not in ids:
                raise InputError(
                    f"{file}: step {step.title!r}: show.{one['widget']}.ask: there is no question {one['ask']!r}"
                )
    if not any(step.worksheet for step in lesson.steps):
        raise InputError(f"{file}: Worksheet: no step has a question for the worksheet")


def _mapping(text: str, where: str) -> dict[str, Any]:
    try:
        told = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"{where}: this is no YAML ({' '.join(str(error).split())})") from error
    if not isinstance(told, dict):
        raise InputError(f"{where}: fields with values are wanted, such as minutes: 2")
    return told


def _check_fields(
    told: Mapping[str, Any], types: Mapping[str, type], where: str, needed: Sequence[str] | Mapping = ()
) -> None:
    for name, value in told.items():
        if name not in types:
            raise InputError(f"{where}{name}: there is no such field; there are: {', '.join(types)}")
        if type(value) is not types[name]:
            raise InputError(f"{where}{name}: {value!r} is no {types[name].__name__}")
    for name in needed:
        if name not in told:
            raise InputError(f"{where}{name}: it is missing")


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
