"""What is rated: `items.json`, which `create` writes and nobody is ever served."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from livo.study.questions import Point, Question
from livo.types import Principle


@dataclass(frozen=True)
class Item:
    """One image that is rated.

    Attributes:
        id: opaque; also the image's file name.
        method, seed: what made it; a rater never learns them.
        category: the kind of disturbing content that the prompt asks for, which covers the image; empty for a harmless
            prompt. It belongs to the prompt and not to the image, or the cover would tell the methods apart.
        judge: the automatic judge's labels by question ("gender", "toxicity"); "" where it abstained.
        digest: SHA-256 of the image's file.
        use: "rated", or "training" or "gold", which have an expected answer; or "example", shown with the instructions.
        expected: by question, the answers that are right; a check asks what its prompt's images are asked, and only
            these answers are scored.
        explanation: shown after a training answer.
        veil_digest: SHA-256 of the veiled image's file; "" in studies made before it was kept.
    """

    id: Annotated[str, Field(pattern=r"^[0-9a-f]{20,64}$")]
    prompt: str
    method: str
    seed: int
    principle: Principle | None = None
    category: str = ""
    judge: Mapping[str, str] = field(default_factory=dict)
    digest: str = ""
    use: Literal["rated", "training", "gold", "example"] = "rated"
    expected: Mapping[str, tuple[float | str, ...]] = field(default_factory=dict)
    explanation: str = ""
    veil_digest: str = ""

    def questions(self, asked: Sequence[Question]) -> tuple[Question, ...]:
        """Of those asked, the ones that this image is asked; training asks only what it explains."""
        risk = self.principle.risk if self.principle else ""
        chosen = [q for q in asked if q.kind != "pair" and q.risk in ("", risk)]
        return tuple(q for q in chosen if self.use != "training" or q.id in self.expected)

    @property
    def classes(self) -> tuple[str, ...]:
        """Of its principle; none where it has none."""
        return self.principle.classes if self.principle else ()

    def allowed(self, question: Question) -> tuple[Point, ...]:
        """What may be chosen of this image."""
        return question.allowed(self.classes)


class ItemsFile(BaseModel):
    """`items.json`: titles of the methods, by id, and what is rated."""

    model_config = ConfigDict(frozen=True)

    methods: dict[str, str]
    items: tuple[Item, ...]


def dump_items(items: Sequence[Item], titles: Mapping[str, str]) -> str:
    """`items.json`."""
    payload = {"methods": dict(titles), "items": [asdict(item) for item in items]}
    return json.dumps(payload, indent=1, ensure_ascii=False) + "\n"
