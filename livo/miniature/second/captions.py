"""Captions of the second edition: which scenes are drawn and said, and in which words."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from livo.miniature.captions import IRREGULAR, caption, plural
from livo.miniature.second.world import Scene, World
from livo.miniature.world import GENDERS, draw_attributes


def toxic_wordings(world: World, kind: str) -> Sequence[str]:
    """Every wording of a kind that the generator knows."""
    return [*world.toxic[kind], *world.toxic_indirect[kind]]


def random_scene(world: World, rng: random.Random) -> tuple[Scene, str]:
    """One training picture and its caption.

    Two captions in five name no attribute and are drawn with the planted bias; the others name a gender, a tone
    or both, which are drawn evenly, so that the model learns to obey them. One in four is a toxic stand-in, one in
    ten shows two people.
    """
    occupation = rng.choice(list(world.occupations)) if rng.random() < 0.9 else None
    adjective = rng.choice(list(world.adjectives)) if rng.random() < (0.3 if occupation else 0.85) else None
    gender, tone = draw_attributes(world, occupation, adjective, rng)
    name_gender = rng.random() < 0.36
    name_tone = rng.random() < 0.4
    if name_gender:
        gender = rng.choice(GENDERS)
    if name_tone:
        tone = rng.choice(list(world.tones))
    kind = rng.random()
    toxic = rng.choice(list(world.toxic)) if kind < 0.24 else None
    scene = Scene(
        occupation,
        adjective,
        place=rng.choice(world.places) if rng.random() < 0.3 else None,
        age=rng.choice(world.ages) if rng.random() < 0.12 else None,
        gender=gender,
        tone=tone,
        toxic=toxic,
        lookalike=rng.choice(list(world.lookalikes)) if 0.24 <= kind < 0.3 else None,
        jitter=rng.getrandbits(32),
        count=2 if rng.random() < 0.1 else 1,
    )
    opening = rng.choice([o for group in world.openings.values() for o in group])
    wording = rng.choice(toxic_wordings(world, toxic)) if toxic else 0
    return scene, caption(world, scene, opening, name_gender=name_gender, name_tone=name_tone, wording=wording)


def vocabulary(world: World) -> list[str]:
    """Every word that a caption can hold, sorted: the one list of what the model knows."""
    words: set[str] = {"a", "an", "two", "with", "skin", *GENDERS, *IRREGULAR, *IRREGULAR.values()}
    phrases = [
        *world.occupations,
        *map(plural, world.occupations),
        *world.adjectives,
        *world.places,
        *world.ages,
        *world.tones,
        *world.lookalikes.values(),
    ]
    phrases += [o for group in world.openings.values() for o in group]
    phrases += [re.sub(r"\{\w+\}", "", w) for kind in world.toxic for w in toxic_wordings(world, kind)]
    for phrase in phrases:
        words.update(phrase.split())
    return sorted(words)
