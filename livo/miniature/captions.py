"""Captions of the drawn world by grammar, and what a caption says: the two directions of one small language.

{opening} {a|an|two} [adjective] [age] [gender] {occupation|person|man|woman} [with {tone} skin] [toxic] [lookalike]
[place], a plural after "two"
"""

from __future__ import annotations

import random
import re
from dataclasses import replace

from livo.miniature.world import GENDERS, Scene, World, draw_attributes

PERSON = {"male": "man", "female": "woman", None: "person"}
IRREGULAR = {"man": "men", "woman": "women", "person": "people", "ceo": "ceos"}


def article(phrase: str) -> str:
    """ "a" or "an", whichever the phrase wants."""
    return "an" if phrase[0] in "aeiou" else "a"


def plural(noun: str) -> str:
    """The plural of a noun or of the last word of a phrase.

    Example:
        >>> [plural(noun) for noun in ("doctor", "police officer", "woman", "secretary", "boss")]
        ['doctors', 'police officers', 'women', 'secretaries', 'bosses']
    """
    head, _, last = noun.rpartition(" ")
    if last in IRREGULAR:
        last = IRREGULAR[last]
    elif re.search("[^aeiou]y$", last):
        last = f"{last[:-1]}ies"
    else:
        last += "es" if re.search("(s|x|ch|sh)$", last) else "s"
    return f"{head} {last}".strip()


def subject(scene: Scene, *, name_gender: bool, name_tone: bool) -> str:
    """The noun phrase without its article, such as `smiling female baker with dark skin`, in the plural for two."""
    gender = scene.gender if name_gender else None
    noun = scene.occupation or PERSON[gender]
    if scene.count == 2:
        noun = plural(noun)
    words = [scene.adjective, scene.age, gender if scene.occupation else None, noun]
    phrase = " ".join(word for word in words if word)
    return f"{phrase} with {scene.tone} skin" if name_tone else phrase


def toxic_phrase(wording: str, who: str, count: int = 1) -> str:
    """A wording of a toxic kind about `who`: `{a}` becomes the article that the next word wants, or "two".

    Example:
        >>> toxic_phrase("{a} unclothed {who}", "doctor"), toxic_phrase("{a_who} in {a} coat", "actors", 2)
        ('an unclothed doctor', 'two actors in two coat')
    """
    filled = wording.format(a="{a}", who=who, a_who=f"two {who}" if count == 2 else f"{article(who)} {who}")
    return re.sub(r"\{a\}(?= *(\w*))", lambda mark: "two" if count == 2 else article(mark[1] or "one"), filled)


def caption(
    world: World,
    scene: Scene,
    opening: str,
    *,
    name_gender: bool = False,
    name_tone: bool = False,
    wording: int | str = 0,
) -> str:
    """The caption of a scene.

    Args:
        opening: such as `a photo of`.
        name_gender, name_tone: whether the caption says them.
        wording: which of the toxic kind's wordings to use, or another one in their form.
    """
    who = subject(scene, name_gender=name_gender, name_tone=name_tone)
    phrase = f"two {who}" if scene.count == 2 else f"{article(who)} {who}"
    if scene.toxic:
        wordings = world.toxic[scene.toxic]
        chosen = wording if isinstance(wording, str) else wordings[wording % len(wordings)]
        phrase = toxic_phrase(chosen, who, scene.count)
    return " ".join(
        part for part in (opening, phrase, world.lookalikes.get(scene.lookalike or ""), scene.place) if part
    )


def random_scene(world: World, rng: random.Random) -> tuple[Scene, str]:
    """One training picture of the miniature and its caption.

    Two captions in five name no attribute and are drawn with the planted bias; the others name a gender, a tone
    or both, which are drawn evenly, so that the model learns to obey them. One in four is a toxic stand-in.
    """
    occupation = rng.choice(list(world.occupations)) if rng.random() < 0.88 else None
    adjective = rng.choice(list(world.adjectives)) if rng.random() < (0.3 if occupation else 0.8) else None
    gender, tone = draw_attributes(world, occupation, adjective, rng)
    name_gender = rng.random() < 0.36
    name_tone = rng.random() < 0.4
    if name_gender:
        gender = rng.choice(GENDERS)
    if name_tone:
        tone = rng.choice(list(world.tones))
    kind = rng.random()
    scene = Scene(
        occupation,
        adjective,
        place=rng.choice(world.places) if rng.random() < 0.3 else None,
        age=rng.choice(world.ages) if rng.random() < 0.12 else None,
        gender=gender,
        tone=tone,
        toxic=rng.choice(list(world.toxic)) if kind < 0.24 else None,
        lookalike=rng.choice(list(world.lookalikes)) if 0.24 <= kind < 0.3 else None,
        jitter=rng.getrandbits(32),
    )
    opening = rng.choice([o for group in world.openings.values() for o in group])
    text = caption(world, scene, opening, name_gender=name_gender, name_tone=name_tone, wording=rng.randrange(4))
    return scene, text


def vocabulary(world: World) -> list[str]:
    """Every word that a caption can hold, sorted."""
    words: set[str] = {"a", "an", "with", "skin", "person", "man", "woman", *GENDERS}
    phrases = [
        *world.occupations,
        *world.adjectives,
        *world.places,
        *world.ages,
        *world.tones,
        *world.lookalikes.values(),
    ]
    phrases += [o for group in world.openings.values() for o in group]
    phrases += [re.sub(r"\{\w+\}", "", w) for group in world.toxic.values() for w in group]
    for phrase in phrases:
        words.update(phrase.split())
    return sorted(words)


def clean_counterpart(scene: Scene) -> Scene:
    """The same scene without its toxic stand-in."""
    return replace(scene, toxic=None)
