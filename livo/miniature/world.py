"""What exists in the drawn world, and the planted distribution P(gender, tone | occupation, adjective).

Everything is read from `world.yaml`; scenes are drawn from it with one `random.Random` a scene, so that a seed makes
the same picture and caption anywhere.
"""

from __future__ import annotations

import functools
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from livo.inputs import load_yaml

GENDERS = ("male", "female")
TOXIC_KINDS = ("nudity", "bloody", "zombie")
WHY = ("work", "image", "none")


@dataclass(frozen=True)
class Scene:
    """Everything that one picture shows. Labels are exact: they are what was drawn, "as perceived".

    `jitter` seeds what has no label: position, hair colour, background tint. Of two people (`count`) each has every
    label.
    """

    occupation: str | None
    adjective: str | None
    place: str | None
    age: str | None
    gender: str
    tone: str
    toxic: str | None = None
    lookalike: str | None = None
    jitter: int = 0
    count: int = 1

    def with_attribute(self, attribute: str, value: str) -> Scene:
        """The same scene with another "gender" or "tone"."""
        return replace(self, gender=value) if attribute == "gender" else replace(self, tone=value)


@dataclass(frozen=True)
class World:
    """The tables of `world.yaml`; see the comments there.

    `toxic_indirect` are wordings by kind, of rising indirectness; an edition may have none.
    """

    tones: Mapping[str, str]
    tone_mixes: Mapping[str, Sequence[float]]
    occupations: Mapping[str, Mapping[str, Any]]
    adjectives: Mapping[str, Mapping[str, Any]]
    places: Sequence[str]
    ages: Sequence[str]
    toxic: Mapping[str, Sequence[str]]
    toxic_paraphrases: Mapping[str, Sequence[str]]
    lookalikes: Mapping[str, str]
    held_out: Mapping[str, Any]
    openings: Mapping[str, Sequence[str]]
    toxic_indirect: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def planted(self, occupation: str | None, adjective: str | None) -> tuple[dict[str, float], dict[str, float]]:
        """P(gender | occupation, adjective) and P(tone | occupation, adjective), independent of each other.

        Log-odds of the occupation and the adjective add; a person without either is drawn evenly.

        Returns:
            Shares by gender and shares by tone; each sums to 1.
        """
        rows = [self.occupations[occupation]] if occupation else []
        rows += [self.adjectives[adjective]] if adjective else []
        logit = sum(math.log(row["female"] / (1 - row["female"])) for row in rows)
        female = 1 / (1 + math.exp(-logit))
        weights = [math.prod(self.tone_mixes[row["tones"]][k] for row in rows) for k in range(len(self.tones))]
        tones = {tone: weight / sum(weights) for tone, weight in zip(self.tones, weights, strict=True)}
        return {"male": 1 - female, "female": female}, tones


@functools.cache
def load_world(path: Path = Path(__file__).parent / "world.yaml") -> World:
    """Read the world's tables.

    Raises:
        InputError: the file cannot be read, or names a concept twice.
        ValueError: a share outside (0, 1), an unknown tone mix or reason, or a planted tone of an adjective that speaks
            ill of a person, naming the row.
    """
    world = World(**load_yaml(path))
    for name, row in {**world.occupations, **world.adjectives}.items():
        if not 0 < row["female"] < 1:
            raise ValueError(f"{path.name}: {name}: female is {row['female']}; strictly between 0 and 1 is wanted")
        if row["tones"] not in world.tone_mixes:
            raise ValueError(
                f"{path.name}: {name}: no tone mix {row['tones']!r}; there are: {', '.join(world.tone_mixes)}"
            )
        if "why" not in row:  # the first edition gives no reasons
            continue
        if row["why"] not in WHY:
            raise ValueError(f"{path.name}: {name}: why is {row['why']!r}; one of {', '.join(WHY)} is wanted")
        if row.get("kind") == "negative" and row["tones"] != "even":
            raise ValueError(f"{path.name}: {name} speaks ill of a person, so its tones are even, not {row['tones']}")
    for table in ("occupations", "adjectives"):
        if strangers := set(world.held_out[table]) - set(getattr(world, table)):
            raise ValueError(f"{path.name}: held_out {table}: {sorted(strangers)[0]!r} is not in the world")
    return world


def draw_attributes(world: World, occupation: str | None, adjective: str | None, rng: random.Random) -> tuple[str, str]:
    """One (gender, tone) from the planted distribution."""
    genders, tones = world.planted(occupation, adjective)
    return (rng.choices(list(genders), list(genders.values()))[0], rng.choices(list(tones), list(tones.values()))[0])
