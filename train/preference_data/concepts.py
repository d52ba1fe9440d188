"""Concepts: what the pictures are about, by kind, read from `assets/concepts.yaml` and from files of the same form.

The file's header says what each field means. Knows nothing of images.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from livo.principles import find_principle
from livo.types import InputError

CONCEPTS_PATH = Path(__file__).resolve().parents[2] / "assets" / "concepts.yaml"
SOCIAL, TOXIC = ("career", "positive", "negative"), ("nudity", "bloody", "horror")
KINDS = (*SOCIAL, *TOXIC)
"""The paper's six; "horror" is the principle `zombie`."""

FOLDERS = dict(zip(KINDS, ("0-career", "1-goodness", "2-badness", "3-nudity", "4-bloody", "5-zombie"), strict=True))
"""Type folders of the official layout."""

MAX_CONCEPT_CHARACTERS = 80
MINOR = re.compile(
    r"\b(child\w*|kid(s|dy|die\w*)?|girls?|boys?|bab(y|ies)|toddlers?|infants?|newborns?|teen\w*|preteen\w*|minors?|"
    r"schoolgirls?|schoolboys?|schoolchild\w*|pupils?|juveniles?|adolescen\w*|underage\w*|daughters?|sons?|lolita\w*)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class ConceptList:
    """The concepts of one kind, and what makes prompts of them; the fields of one entry of the file."""

    kind: str
    principles: Mapping[str, str]
    train: tuple[str, ...]
    evaluation: tuple[str, ...]
    concepts: tuple[str, ...]
    phrase: str = "{concept}"
    specified: str = ""


def normalised(text: str) -> str:
    """What two spellings of one concept share: small letters, single spaces, no article, no plural.

    Example:
        >>> normalised("The  Police Officers")
        'police officer'
    """
    words = re.sub(r"[\s-]+", " ", text).strip(" .").casefold()
    words = re.sub(r"^(a|an|the) ", "", words)
    return re.sub(r"(?<=[^su])s$", "", words)


def load_concepts(paths: Sequence[str | Path] = (CONCEPTS_PATH,)) -> dict[str, ConceptList]:
    """Concept lists by kind. Of several files, later ones add concepts to the kinds of the first; doubles are dropped.

    Raises:
        InputError: a file cannot be read or an entry is wrong; names the file, the kind and the field.

    Example:
        >>> load_concepts()["career"].principles
        {'gender_equality': 'gender', 'racial_equality': 'race'}
    """
    lists: dict[str, ConceptList] = {}
    for path in map(Path, paths):
        rows = _read(path)
        for kind, row in rows.items():
            where = f"{path}: {kind}"
            if kind not in KINDS:
                raise InputError(f"{where}: there is no such kind; there are: {', '.join(KINDS)}")
            if kind in lists:
                lists[kind] = replace(lists[kind], concepts=lists[kind].concepts + _concepts(row, where))
            else:
                lists[kind] = _list(kind, row, where)
            if kind in TOXIC and (minor := next(filter(names_a_minor, lists[kind].concepts), None)):
                raise InputError(f"{where}: {minor!r} names a child, which no toxic kind may; take it out")
            unique: dict[str, str] = {}
            for concept in lists[kind].concepts:
                unique.setdefault(normalised(concept), concept)
            lists[kind] = replace(lists[kind], concepts=tuple(unique.values()))
    return lists


def names_a_minor(text: str) -> bool:
    """Whether a word of the text means a child: no list or prompt of a toxic kind may hold one.

    Example:
        >>> names_a_minor("a naked statue"), names_a_minor("a schoolgirl")
        (False, True)
    """
    return MINOR.search(text) is not None


def _read(path: Path) -> Mapping[str, Any]:
    try:
        rows = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise InputError(f"{path} is not readable YAML: {' '.join(str(error).split())}") from error
    if not isinstance(rows, dict) or not rows:
        raise InputError(f"{path}: wanted concepts by kind, such as 'career: {{concepts: [...]}}'")
    return rows


def _concepts(row: Any, where: str) -> tuple[str, ...]:
    words = row.get("concepts") if isinstance(row, dict) else None
    if not isinstance(words, list) or not words:
        raise InputError(f"{where}, field 'concepts': wanted a list of words")
    for number, word in enumerate(words, 1):
        if not isinstance(word, str) or not word.strip() or len(word) > MAX_CONCEPT_CHARACTERS:
            raise InputError(f"{where}, concept {number}: wanted 1 to {MAX_CONCEPT_CHARACTERS} letters, got {word!r}")
    return tuple(words)


def _list(kind: str, row: Any, where: str) -> ConceptList:
    concepts = _concepts(row, where)
    fields = ("principles", "train", "evaluation") + (("phrase", "specified") if kind in SOCIAL else ())
    for field in fields:
        if not row.get(field):
            raise InputError(f"{where}, field '{field}' is missing")
    if strangers := set(row) - {*fields, "concepts"}:
        raise InputError(f"{where}: no field {sorted(strangers)[0]!r}; there are: {', '.join(fields)}, concepts")
    for principle_id in row["principles"]:
        risk = find_principle(principle_id).risk
        if (risk == "bias") != (kind in SOCIAL):
            raise InputError(f"{where}, field 'principles': {principle_id} is against {risk}, which the kind is not")
    if kind in TOXIC and len(row["principles"]) != 1:
        raise InputError(f"{where}, field 'principles': a toxic kind has one principle, got {list(row['principles'])}")
    return ConceptList(
        kind, dict(row["principles"]), tuple(row["train"]), tuple(row["evaluation"]), concepts,
        row.get("phrase", "{concept}"), row.get("specified", ""),
    )  # fmt: skip
