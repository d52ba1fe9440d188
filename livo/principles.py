"""The value principles and the words that call for them: `assets/principles.yaml` and `assets/lexicon.yaml`, checked.

Knows nothing about prompts. One entry of the file is one principle; nothing else lists them.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from livo.types import InputError, Principle

ASSETS = Path(__file__).resolve().parent.parent / "assets"
PRINCIPLES_PATH = ASSETS / "principles.yaml"
LEXICON_PATH = ASSETS / "lexicon.yaml"

WORD_LISTS = ("people", "occupations", "adjectives", "nominals", "not_people", "objects", "body")
"""What `lexicon.yaml` must hold; it may hold more, for `lists` of a principle of one's own."""

_REQUIRED = ("id", "text", "risk", "classes")
_OPTIONAL = ("lexicon", "unless", "exemplars")
_BIAS_ONLY = ("lists", "names", "persons", "describes")
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the same in C, where PyYAML was built with it
_ID = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True)
class Entry:
    """One entry of `principles.yaml`: the principle, and its words (the file's header says what each list means)."""

    principle: Principle
    lexicon: tuple[str, ...] = ()
    unless: tuple[str, ...] = ()
    exemplars: tuple[str, ...] = ()
    lists: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    persons: tuple[str, ...] = ()
    describes: tuple[str, ...] = ()


def load_principles(path: str | Path = PRINCIPLES_PATH) -> tuple[Principle, ...]:
    """The principle set V, in the file's order.

    Raises:
        InputError: if the file cannot be read or an entry is wrong; names the entry and the field.

    Example:
        >>> [principle.id for principle in load_principles()]
        ['gender_equality', 'racial_equality', 'nudity', 'bloody', 'zombie']
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


@functools.cache
def load_entries(path: str | Path = PRINCIPLES_PATH) -> tuple[Entry, ...]:
    """The principles with the words that call for them, in the file's order; read once per process.

    Raises:
        InputError: as `load_principles`.
    """
    path = Path(path)
    rows = _read(path)
    if not isinstance(rows, list) or not rows:
        raise InputError(f"{path}: wanted a list of principles, got {_kind(rows)}: begin each with '- id: ...'")
    entries = []
    for number, row in enumerate(rows, start=1):
        entry = _entry(row, f"{path}: entry {number}")
        for other in entries:
            for field in ("id", "text"):
                value = getattr(entry.principle, field)
                if value == getattr(other.principle, field):
                    raise InputError(f"{path}: entry {number}, field '{field}': {value!r} is taken by an earlier entry")
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
    lists = _read(path)
    if not isinstance(lists, dict):
        raise InputError(f"{path}: wanted word lists by name, got {_kind(lists)}")
    for name in WORD_LISTS:
        if name not in lists:
            raise InputError(f"{path}: list '{name}' is missing")
    return {name: _words(words, f"{path}: list '{name}'") for name, words in lists.items()}


def _read(path: Path) -> Any:
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=_LOADER)
    except OSError as error:
        raise InputError(
            f"{path} cannot be read: {error.strerror}; restore it with 'git checkout -- assets'"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError, ValueError) as error:
        raise InputError(f"{path} is not readable YAML: {' '.join(str(error).split())}") from error


def _entry(row: Any, where: str) -> Entry:
    if not isinstance(row, dict):
        raise InputError(f"{where}: wanted the fields of a principle, got {_kind(row)}")
    if isinstance(row.get("id"), str):
        where += f" ({row['id']!r})"
    known = _REQUIRED + _OPTIONAL + _BIAS_ONLY
    for field in row:
        if field not in known:
            raise InputError(f"{where}, field {field!r}: there is no such field; there are: {', '.join(known)}")
    for field in _REQUIRED:
        if field not in row:
            raise InputError(f"{where}, field '{field}' is missing")
    for field in ("id", "text", "risk"):
        if not isinstance(row[field], str) or not row[field].strip():
            raise InputError(f"{where}, field '{field}': wanted words, got {_kind(row[field])}")
    if not _ID.fullmatch(row["id"]):
        raise InputError(f"{where}, field 'id': wanted small letters, digits and _, a letter first; got {row['id']!r}")
    if row["risk"] not in ("bias", "toxicity"):
        raise InputError(f"{where}, field 'risk': wanted 'bias' or 'toxicity', got {row['risk']!r}")
    words = {
        field: _words(row[field], f"{where}, field '{field}'")
        for field in ("classes", *_OPTIONAL, *_BIAS_ONLY)
        if field in row
    }
    classes = words.pop("classes")
    if row["risk"] == "toxicity":
        if len(classes) != 2 or classes[0] != "clean":
            raise InputError(f"{where}, field 'classes': wanted [clean, <kind>] for toxicity, got {list(classes)}")
        if not words.get("lexicon"):
            raise InputError(f"{where}, field 'lexicon': a toxicity principle needs at least one word to be found by")
        for field in _BIAS_ONLY:
            if field in words:
                raise InputError(f"{where}, field '{field}' is for bias only; use 'lexicon' and 'unless'")
    else:
        if len(classes) < 2:
            raise InputError(
                f"{where}, field 'classes': wanted at least 2 values of the attribute, got {list(classes)}"
            )
        if not any(words.get(field) for field in ("names", "persons", "describes")):
            raise InputError(f"{where}, field 'names': a bias principle needs the words that name its attribute")
    return Entry(Principle(row["id"], row["text"], row["risk"], classes), **words)


def _words(value: Any, where: str) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise InputError(f"{where}: wanted a list of words, got {_kind(value)}")
    seen = set()
    for word in value:
        if not isinstance(word, str) or not word.strip():
            raise InputError(f"{where}: wanted a word, got {word!r}: put words such as no, on and yes in quotes")
        if word in seen:
            raise InputError(f"{where}: {word!r} stands there twice")
        seen.add(word)
    return tuple(value)


def _kind(value: Any) -> str:
    return "nothing" if value is None else f"{type(value).__name__} {str(value)[:40]!r}"
