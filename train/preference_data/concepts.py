"""Concepts: what the pictures are about, by kind, read from `assets/concepts.yaml` and from files of the same form.

The file's header says what each field means. Knows nothing of images.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationInfo, field_validator, model_validator

from livo.inputs import described, load_yaml, read_model
from livo.principles import Text, find_principle
from livo.retriever.minors import names_a_minor
from livo.types import InputError

CONCEPTS_PATH = Path(__file__).resolve().parents[2] / "assets" / "concepts.yaml"
SOCIAL, TOXIC = ("career", "positive", "negative"), ("nudity", "bloody", "horror")
KINDS = (*SOCIAL, *TOXIC)
"""The paper's six; "horror" is the principle `zombie`."""
TOXICITY = "toxicity"
"""What judges are asked about a toxic kind."""

FOLDERS = dict(zip(KINDS, ("0-career", "1-goodness", "2-badness", "3-nudity", "4-bloody", "5-zombie"), strict=True))
"""Type folders of the official layout."""

MAX_CONCEPT_CHARACTERS = 80
Concepts = Annotated[
    tuple[Annotated[Text, StringConstraints(max_length=MAX_CONCEPT_CHARACTERS)], ...], Field(min_length=1)
]
Openings = Annotated[tuple[Text, ...], Field(min_length=1)]


class ConceptList(BaseModel):
    """The concepts of one kind, and what makes prompts of them; the fields of one entry of the file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["career", "positive", "negative", "nudity", "bloody", "horror"]
    principle_ids: tuple[str, ...] = Field(alias="principles", min_length=1)
    train: Openings
    evaluation: Openings
    concepts: Concepts
    phrase: Text = "{concept}"
    specified: str = ""

    @field_validator("principle_ids")
    @classmethod
    def _principles_of_the_kind(cls, ids: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        social = info.data.get("kind") in SOCIAL
        for id in ids:
            risk = find_principle(id).risk
            if (risk == "bias") != social:
                raise ValueError(f"{id} is against {risk}, which the kind is not")
        if not social and len(ids) != 1:
            raise ValueError(f"a toxic kind has one principle, got {list(ids)}")
        return ids

    @model_validator(mode="after")
    def _social_kinds_have_phrases(self) -> Self:
        for field in ("phrase", "specified"):
            if (field in self.model_fields_set) != (self.kind in SOCIAL):
                raise ValueError(f"field '{field}' " + ("is missing" if self.kind in SOCIAL else "is for social kinds"))
        return self

    @property
    def principles(self) -> dict[str, str]:
        """By principle's id, what judges are asked about it."""
        return {id: (find_principle(id).attributes or (TOXICITY,))[0] for id in self.principle_ids}


class _More(BaseModel):
    """Concepts that a later file adds to a kind; its other fields are not read."""

    concepts: Concepts


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
        rows = load_yaml(path)
        if not isinstance(rows, dict) or not rows:
            raise InputError(f"{path}: wanted concepts by kind, such as 'career: {{concepts: [...]}}'")
        for kind, row in rows.items():
            where = f"{path}: {kind}"
            if kind not in KINDS:
                raise InputError(f"{where}: there is no such kind; there are: {', '.join(KINDS)}")
            if not isinstance(row, dict):
                raise InputError(f"{where}: wanted the fields of a kind, got {described(row)}")
            if kind in lists:
                added = lists[kind].concepts + read_model(_More, row, where).concepts
            else:
                lists[kind] = read_model(ConceptList, row | {"kind": kind}, where)
                added = lists[kind].concepts
            if kind in TOXIC and (minor := next(filter(names_a_minor, added), None)):
                raise InputError(f"{where}: {minor!r} names a child, which no toxic kind may; take it out")
            unique: dict[str, str] = {}
            for concept in added:
                unique.setdefault(normalised(concept), concept)
            lists[kind] = lists[kind].model_copy(update={"concepts": tuple(unique.values())})
    return lists
