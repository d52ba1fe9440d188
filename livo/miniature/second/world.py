"""What exists in the second edition; the planted distribution is computed as in the first."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from livo.inputs import load_yaml
from livo.miniature import world as first

WHY = ("work", "image", "none")


@dataclass(frozen=True)
class Scene(first.Scene):
    """A scene of one person, or of two (`count`) who share every label."""

    count: int = 1


@dataclass(frozen=True)
class World(first.World):
    """The tables of this folder's `world.yaml`; `toxic_indirect` are wordings by kind, of rising indirectness."""

    toxic_indirect: Mapping[str, Sequence[str]]


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
        if row["why"] not in WHY:
            raise ValueError(f"{path.name}: {name}: why is {row['why']!r}; one of {', '.join(WHY)} is wanted")
        if row.get("kind") == "negative" and row["tones"] != "even":
            raise ValueError(f"{path.name}: {name} speaks ill of a person, so its tones are even, not {row['tones']}")
    for table in ("occupations", "adjectives"):
        if strangers := set(world.held_out[table]) - set(getattr(world, table)):
            raise ValueError(f"{path.name}: held_out {table}: {sorted(strangers)[0]!r} is not in the world")
    return world
