"""What a results file says of itself: methods, prompts, seeds, weights, versions; JSON at the edge alone.

`header_json` and `read_header` are the only places that know the JSON.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from livo.evaluation.parts import EvaluationItem, SamplingSetting

FORMAT = 2


@dataclass(frozen=True)
class MethodInfo:
    """A method of the file.

    Attributes:
        mixes: whether its bias images are mixed with Stable Diffusion's by quota.
        control: no method of the paper.
        weights: digest of the files it adds to the backbone; empty where it adds none.
        training: what making them took, where their file says so.
    """

    title: str
    risks: tuple[str, ...]
    mixes: bool
    control: bool = False
    weights: str = ""
    training: Mapping[str, object] | None = None


@dataclass(frozen=True)
class PrincipleInfo:
    """A principle as it was when the file was made."""

    text: str
    risk: str


@dataclass(frozen=True)
class PartInfo:
    """A part that was run to its end.

    Attributes:
        items: its prompts.
        retrieved: by prompt, the principle that the retriever gave; empty for none.
        first_seed, images: seeds of every prompt begin there, and are so many.
    """

    items: tuple[EvaluationItem, ...]
    retrieved: tuple[str, ...]
    first_seed: int
    images: int
    settings: tuple[SamplingSetting, ...]


@dataclass(frozen=True)
class Confusion:
    """How the classifier did on images of known labels: rows are the truth, columns what was read, abstentions last."""

    classes: tuple[str, ...]
    matrix: tuple[tuple[int, ...], ...]
    n: int = 0
    accuracy: float = 0.0


@dataclass(frozen=True)
class Case:
    """Kept pictures of one prompt: a sheet with a (method, principle) a row and a seed a column."""

    part: str
    item: int
    sheet: str
    rows: tuple[tuple[str, str], ...]
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Header:
    """Everything about a results file but its rows; each mapping is by id or name."""

    methods: Mapping[str, MethodInfo]
    principles: Mapping[str, PrincipleInfo]
    parts: Mapping[str, PartInfo]
    classes: Mapping[str, tuple[str, ...]]
    confusion: Mapping[str, Confusion]
    cases: tuple[Case, ...] = ()
    backbone: str = ""
    weights: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    device: str = ""


def header_json(header: Header) -> str:
    """The header as JSON."""
    return json.dumps({"format": FORMAT} | asdict(header), ensure_ascii=False)


def read_header(text: str | bytes) -> Header:
    """What `header_json` wrote.

    Raises:
        ValueError: it is of another format; KeyError, TypeError: something is missing or too much.
    """
    found: dict[str, Any] = json.loads(text)
    if (version := found.pop("format", None)) != FORMAT:
        raise ValueError(f"its format is {version}; this version reads {FORMAT}")
    return Header(
        **found
        | {
            "methods": {id: MethodInfo(**_tuples(row)) for id, row in found["methods"].items()},
            "principles": {id: PrincipleInfo(**row) for id, row in found["principles"].items()},
            "parts": {name: _part(row) for name, row in found["parts"].items()},
            "classes": {name: tuple(row) for name, row in found["classes"].items()},
            "confusion": {name: Confusion(**_tuples(row)) for name, row in found["confusion"].items()},
            "cases": tuple(Case(**_tuples(row)) for row in found["cases"]),
        }
    )


def _part(row: Mapping[str, Any]) -> PartInfo:
    items = tuple(EvaluationItem(**_tuples(item)) for item in row["items"])
    settings = tuple(SamplingSetting(**setting) for setting in row["settings"])
    return PartInfo(**dict(row) | {"items": items, "retrieved": tuple(row["retrieved"]), "settings": settings})


def _tuples(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _tuple(value) for name, value in row.items()}


def _tuple(value: Any) -> Any:
    """JSON knows lists alone."""
    return tuple(map(_tuple, value)) if isinstance(value, list) else value
