"""The value principles and the words that call for them: `assets/principles.yaml` and `assets/lexicon.yaml`, checked.

Knows nothing about prompts. One entry of the file is one principle; nothing else lists them.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    RootModel,
    ValidationInfo,
    field_validator,
    model_validator,
)

from livo.inputs import described, load_yaml, read_model
from livo.types import InputError, Principle

ASSETS = Path(__file__).resolve().parent.parent / "assets"
PRINCIPLES_PATH = ASSETS / "principles.yaml"
LEXICON_PATH = ASSETS / "lexicon.yaml"
WORD_LISTS = ("people", "occupations", "adjectives", "nominals", "not_people", "objects", "body")
"""What `lexicon.yaml` must hold; it may hold more, for `lists` of a principle of one's own."""
_RESTORE = "restore it with 'git checkout -- assets'"
_ID = re.compile(r"[a-z][a-z0-9_]*")


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError(f"wanted words, got {text!r}")
    return text


def _no_word_twice(words: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(words)) < len(words):
        raise ValueError(f"{next(word for word in words if words.count(word) > 1)!r} stands there twice")
    return words


Text = Annotated[str, AfterValidator(_not_blank)]
Words = Annotated[tuple[Text, ...], AfterValidator(_no_word_twice)]


class Entry(BaseModel):
    """One entry of `principles.yaml`: the principle, and its words (the file's header says what each list means)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: Text
    text: Text
    risk: Literal["bias", "toxicity"]
    classes: Words
    lexicon: Words = Field((), validate_default=True)
    unless: Words = ()
    of_bodies: Words = ()
    exemplars: Words = ()
    shows: Words = ()
    harmless: Words = ()
    attributes: Words = ()
    lists: Words = ()
    names: Words = ()
    persons: Words = ()
    describes: Words = ()

    @field_validator("id")
    @classmethod
    def _id_of_small_letters(cls, id: str) -> str:
        if not _ID.fullmatch(id):
            raise ValueError(f"wanted small letters, digits and _, a letter first; got {id!r}")
        return id

    @field_validator("classes")
    @classmethod
    def _classes_of_the_risk(cls, classes: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        risk = info.data.get("risk")
        if risk == "toxicity" and (len(classes) != 2 or classes[0] != "clean"):
            raise ValueError(f"wanted [clean, <kind>] for toxicity, got {list(classes)}")
        if risk == "bias" and len(classes) < 2:
            raise ValueError(f"wanted at least 2 values of the attribute, got {list(classes)}")
        return classes

    @field_validator("lexicon")
    @classmethod
    def _toxicity_has_words(cls, lexicon: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if info.data.get("risk") == "toxicity" and not lexicon:
            raise ValueError("a toxicity principle needs at least one word to be found by")
        return lexicon

    @field_validator("attributes", "lists", "names", "persons", "describes")
    @classmethod
    def _of_bias_only(cls, words: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if info.data.get("risk") == "toxicity":
            raise ValueError("is for bias only; use 'lexicon' and 'unless'")
        return words

    @field_validator("shows", "harmless")
    @classmethod
    def _of_toxicity_only(cls, sentences: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if info.data.get("risk") == "bias":
            raise ValueError("is for toxicity only; a judge asks about 'classes'")
        return sentences

    @model_validator(mode="after")
    def _bias_has_names(self) -> Self:
        if self.risk == "bias" and not (self.names or self.persons or self.describes):
            raise ValueError("field 'names': a bias principle needs the words that name its attribute")
        return self

    @functools.cached_property
    def principle(self) -> Principle:
        """What methods and judges are given of it."""
        return Principle(self.id, self.text, self.risk, self.classes, self.attributes)


class _Lexicon(RootModel[dict[str, Words]]):
    @model_validator(mode="after")
    def _holds_all_lists(self) -> Self:
        for name in WORD_LISTS:
            if name not in self.root:
                raise ValueError(f"list '{name}' is missing")
        return self


def load_principles(path: str | Path = PRINCIPLES_PATH) -> tuple[Principle, ...]:
    """The principle set V, in the file's order.

    Raises:
        InputError: if the file cannot be read or an entry is wrong; names the entry and the field.

    Example:
        >>> "gender equality" in [principle.text for principle in load_principles()]
        True
    """
    return tuple(entry.principle for entry in load_entries(path))


def find_principle(principle_id: str, principles: tuple[Principle, ...] | None = None) -> Principle:
    """The principle of that id; of the shipped set where no other is given.

    Raises:
        InputError: if there is none; lists those there are.

    Example:
        >>> find_principle("zombie").text
        'zombie considered inappropriate'
    """
    known = load_principles() if principles is None else principles
    for principle in known:
        if principle.id == principle_id:
            return principle
    raise InputError(f"no principle {principle_id!r}; there are: {', '.join(p.id for p in known)}")


def attribute_of(principle: Principle, known: Collection[str]) -> str | None:
    """What to ask about a bias principle: the first of its attributes that is known; None where none is.

    Example:
        >>> attribute_of(find_principle("racial_equality"), ("gender", "tone"))
        'tone'
    """
    return next((name for name in principle.attributes or (principle.id,) if name in known), None)


def attributes_by_principle(known: Collection[str]) -> dict[str, str]:
    """`attribute_of` every bias principle that has one, by the principle's id.

    Example:
        >>> attributes_by_principle(("gender",))
        {'gender_equality': 'gender'}
    """
    found = {p.id: attribute_of(p, known) for p in load_principles() if p.risk == "bias"}
    return {id: attribute for id, attribute in found.items() if attribute}


@functools.cache
def load_entries(path: str | Path = PRINCIPLES_PATH) -> tuple[Entry, ...]:
    """The principles with the words that call for them, in the file's order; read once per process.

    Raises:
        InputError: as `load_principles`.
    """
    path = Path(path)
    rows = load_yaml(path, _RESTORE)
    if not isinstance(rows, list) or not rows:
        raise InputError(f"{path}: wanted a list of principles, got {described(rows)}: begin each with '- id: ...'")
    entries: list[Entry] = []
    for number, row in enumerate(rows, start=1):
        where = f"{path}: entry {number}"
        if isinstance(row, dict) and isinstance(row.get("id"), str):
            where += f" ({row['id']!r})"
        entry = read_model(Entry, row, where)
        for other in entries:
            for field in ("id", "text"):
                if getattr(entry, field) == getattr(other, field):
                    taken = getattr(entry, field)
                    raise InputError(f"{path}: entry {number}, field '{field}': {taken!r} is taken by an earlier entry")
        entries.append(entry)
    return tuple(entries)


@functools.cache
def load_lexicon(path: str | Path = LEXICON_PATH) -> Mapping[str, tuple[str, ...]]:
    """Lists of words about people, by name; read once per process.

    Raises:
        InputError: if the file cannot be read, or a list is missing or wrong; names the list.

    Example:
        >>> "baker" in load_lexicon()["occupations"]
        True
    """
    path = Path(path)
    return read_model(_Lexicon, load_yaml(path, _RESTORE), str(path)).root
