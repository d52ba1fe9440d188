"""Lessons in other languages: LESSON.LANGUAGE.yaml beside LESSON.md. What a file does not say stays English.

Structure, questions' kinds and what is shown come from the lesson alone, so that a translation cannot change them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from livo.inputs import StrictModel, load_yaml, read_model
from livo.types import InputError
from livo.workshop.lesson import FOLDER, Lesson, LessonStep

Lines = Annotated[tuple[str, ...], Field(strict=False)]
ENGLISH = "en"


class StepWords(StrictModel):
    """The words of a step; what is empty falls back."""

    title: str = ""
    text: str = ""
    notes: str = ""
    question: str = ""
    unit: str = ""
    options: Lines = ()
    items: Lines = ()
    because: str = ""
    worksheet: Lines = ()
    key: Lines = ()


class LessonWords(StrictModel):
    """A translation's file."""

    title: str = ""
    goal: str = ""
    bring: str = ""
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


def missing_words(scripts: Path) -> list[str]:
    """A line for each string of the pages that a language's words lack: words.LANGUAGE.json beside the scripts."""
    said = {
        text
        for script in scripts.glob("*.js")
        for text in re.findall(r'\bsay\(\s*"([^"]+)"[,)]', script.read_text(encoding="utf-8"))
    }
    lines = []
    for path in sorted(scripts.glob("words.*.json")):
        lacking = said - set(json.loads(path.read_text(encoding="utf-8")))
        lines += [f"{path.name}: {text!r} is not translated" for text in sorted(lacking)]
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

    head = {name: take("", name, getattr(lesson, name), getattr(words, name)) for name in ("title", "goal", "bring")}
    head["intro"] = take("", "intro", lesson.intro, words.intro)
    head["words"] = take("", "words", lesson.words, words.words)
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
    return step.model_copy(update=update)
