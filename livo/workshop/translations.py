"""Lessons in other languages: LESSON.LANGUAGE.yaml beside LESSON.md. What a file does not say stays English.

Words of pages, papers and refusals stand in web/words.LANGUAGE.json: `say` of language.js and `speaker` look there.
Structure, questions' kinds and what is shown come from the lesson alone, so that a translation cannot change them.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from livo.inputs import StrictModel, load_yaml, read_model
from livo.types import InputError
from livo.workshop.lesson import FOLDER, Lesson, LessonStep

Lines = Annotated[tuple[str, ...], Field(strict=False)]
HEAD = ("title", "goal", "bring", "age", "links", "intro", "words")
WORDS = Path(__file__).parent / "web"
"""Folder of words.LANGUAGE.json."""
SPEAKERS = (WORDS.parent, *(Path(__file__).parents[1] / "web" / name for name in ("guard.py", "bodies.py")))
"""Folders and files of programs and templates that speak to visitors."""
Say = Callable[..., str]
"""A text and its values by name -> the text in one language, with the values in their places."""


class StepWords(StrictModel):
    """The words of a step; what is empty falls back. `show`: tasks and labels of what the step shows."""

    title: str = ""
    text: str = ""
    notes: str = ""
    question: str = ""
    unit: str = ""
    options: Lines = ()
    items: Lines = ()
    because: str = ""
    show: Lines = ()
    worksheet: Lines = ()
    key: Lines = ()


class LessonWords(StrictModel):
    """A translation's file."""

    title: str = ""
    goal: str = ""
    bring: str = ""
    age: str = ""
    links: Lines = ()
    intro: str = ""
    words: dict[str, str] = Field(default_factory=dict)
    steps: Annotated[tuple[StepWords, ...], Field(strict=False)] = ()


Translations = Mapping[str, Mapping[str, Lesson]]
"""Language -> id of a lesson -> the lesson; English is in none."""


def load_translations(lessons: Sequence[Lesson], folder: Path = FOLDER) -> tuple[Translations, list[str]]:
    """All translations, and a line for each string that falls back to English.

    Raises:
        InputError: a file belongs to no lesson, or has a field that there is not.
    """
    known = {lesson.id: lesson for lesson in lessons}
    found: dict[str, dict[str, Lesson]] = {}
    missing: list[str] = []
    for path in sorted(folder.glob("*.*.yaml")):
        id, _, language = path.stem.rpartition(".")
        if id not in known:
            raise InputError(f"{path.name}: there is no lesson {id!r}; there are: {', '.join(known)}")
        words = read_model(LessonWords, load_yaml(path), path.name)
        found.setdefault(language, {})[id], lacking = translate(known[id], words)
        missing += [f"{path.name}: {one} is not translated" for one in lacking]
    return found, missing


def speaker(language: str, folder: Path = WORDS) -> Say:
    """What says words in a language; those that it does not have stay English.

    Example:
        >>> speaker("")("{n} minutes", n=2), speaker("de")("{n} minutes", n=2)
        ('2 minutes', '2 Minuten')
    """
    path = folder / f"words.{language}.json"
    words = json.loads(path.read_text(encoding="utf-8")) if language and path.is_file() else {}

    def say(text: str, **values: object) -> str:
        return re.sub(r"\{(\w+)\}", lambda found: str(values.get(found[1], found[0])), words.get(text, text))

    return say


ENGLISH = speaker("")


def said_words(speakers: Sequence[Path] = SPEAKERS) -> set[str]:
    """All that pages, papers and refusals say: texts given to `say`, and the messages of what is refused, in which
    values are {1}, {2} and so on."""
    said: set[str] = set()
    for path in (path for one in speakers for path in ([one] if one.is_file() else sorted(one.rglob("*.*")))):
        if path.suffix in (".js", ".html", ".py"):
            said |= set(re.findall(r'\bsay\(\s*"((?:[^"\\]|\\.)+)"[,)]', path.read_text(encoding="utf-8")))
        if path.suffix == ".py":
            said |= set(_refusals(ast.parse(path.read_text(encoding="utf-8"))))
    return said


def _refusals(program: ast.Module) -> Iterator[str]:
    for node in ast.walk(program):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and len(node.args) == 3):
            continue
        if node.func.id == "Refused" and isinstance(node.args[2], ast.Constant | ast.JoinedStr):
            parts = node.args[2].values if isinstance(node.args[2], ast.JoinedStr) else [node.args[2]]
            places = iter(range(1, len(parts) + 1))
            text = "".join(
                str(part.value) if isinstance(part, ast.Constant) else f"{{{next(places)}}}" for part in parts
            )
            if len(text) > 2 * len(parts) + 8:  # else it is a form for others' words
                yield text


def missing_words(said: set[str], folder: Path = WORDS) -> list[str]:
    """A line for each text that a language's words lack."""
    lines = []
    for path in sorted(folder.glob("words.*.json")):
        there = set(json.loads(path.read_text(encoding="utf-8")))
        lines += [f"{path.name}: {text!r} is not translated" for text in sorted(said - there)]
    return lines


def translate(lesson: Lesson, words: LessonWords) -> tuple[Lesson, list[str]]:
    """A lesson in other words, and the fields that stayed English."""
    missing: list[str] = []

    def take(where: str, name: str, original: Any, given: Any) -> Any:
        if not original:
            return original
        if not given or (not isinstance(original, str) and len(given) != len(original)):
            missing.append(f"{where}{name}")
            return original
        return given

    head = {name: take("", name, getattr(lesson, name), getattr(words, name)) for name in HEAD}
    steps = []
    for number, step in enumerate(lesson.steps):
        given = words.steps[number] if number < len(words.steps) else StepWords()
        steps.append(_translate_step(step, given, lambda *one, n=number: take(f"steps.{n + 1}.", *one)))
    return lesson.model_copy(update={**head, "steps": tuple(steps)}), missing


def _translate_step(step: LessonStep, given: StepWords, take: Any) -> LessonStep:
    names = ("title", "text", "notes", "worksheet", "key")
    update = {name: take(name, getattr(step, name), getattr(given, name)) for name in names}
    if step.ask:
        asked = ("question", "unit", "options", "items", "because")
        fields = {name: take(name, getattr(step.ask, name), getattr(given, name)) for name in asked}
        update["ask"] = step.ask.model_copy(update=fields)
    worded = [next((name for name in ("task", "label") if getattr(one, name, "")), "") for one in step.show]
    told = tuple(getattr(one, name) for one, name in zip(step.show, worded, strict=True) if name)
    words = iter(take("show", told, given.show))
    update["show"] = tuple(
        one.model_copy(update={name: next(words)}) if name else one for one, name in zip(step.show, worded, strict=True)
    )
    return step.model_copy(update=update)
