"""Scenarios: prompts made of concepts, in two splits that share neither concepts nor openings.

A social scenario's prompt names no attribute; its cells are the same prompt with every combination of attributes
named, race x gender for photographs, tone x gender in the drawn world's own words. Knows nothing of images.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from livo.inputs import validate_prompt
from livo.miniature.captions import article, caption, subject
from livo.miniature.world import GENDERS, Scene, World
from livo.principles import find_principle
from livo.retriever.minors import names_a_minor
from livo.types import InputError
from train.preference.drawn_pairs import training_concepts
from train.preference_data.concepts import KINDS, SOCIAL, TOXIC, ConceptList, normalised

PAPER_PROMPTS = {"career": 284, "positive": 148, "negative": 96, "nudity": 331, "bloody": 296, "horror": 277}
"""Table 1's training prompts by kind."""

EVALUATION_PERCENT = 35


@dataclass(frozen=True)
class ScenarioCell:
    """One combination of attributes: the class by principle id, and the prompt that names it."""

    classes: Mapping[str, str]
    prompt: str


@dataclass(frozen=True)
class Scenario:
    """One prompt x of the data.

    Attributes:
        principles: the value principles it trains by id, each with its attribute (the judge's question).
        cells: for social kinds, the specified prompts; empty for toxic kinds and for evaluation.
    """

    kind: str
    concept: str
    template: str
    prompt: str
    principles: Mapping[str, str]
    cells: tuple[ScenarioCell, ...] = ()


def with_article(phrase: str) -> str:
    """The phrase after "a" or "an", by sound where the letter misleads.

    Example:
        >>> with_article("honest person"), with_article("university teacher"), with_article("actor")
        ('an honest person', 'a university teacher', 'an actor')
    """
    if re.match(r"(?i)(hon|hour|heir)", phrase):
        return f"an {phrase}"
    return f"a {phrase}" if re.match(r"(?i)(uni[^mn]|use|eu|one\b)", phrase) else f"{article(phrase.lower())} {phrase}"


def head(concept: str) -> str:
    """What a family of concepts shares: the last word, as "software engineer" and "civil engineer" do."""
    return normalised(concept).split(" ")[-1]


def in_evaluation(kind: str, concept: str) -> bool:
    """The split: by a hash of the kind and the concept's head, so that adding a concept moves no other one."""
    digest = hashlib.sha256(f"{kind} {head(concept)}".encode()).digest()
    return int.from_bytes(digest[:4], "big") % 100 < EVALUATION_PERCENT


def photographs(
    lists: Mapping[str, ConceptList], limits: Mapping[str, int] = PAPER_PROMPTS
) -> tuple[list[Scenario], list[Scenario]]:
    """Scenarios of concept lists for training and for evaluation.

    Openings are gone through one after the other, so that every concept has a prompt before one has two.

    Args:
        limits: the most training prompts by kind; a kind without one is left out.
    """
    train: list[Scenario] = []
    evaluation: list[Scenario] = []
    for row in (row for kind, row in lists.items() if kind in limits):
        sides = {side: [c for c in row.concepts if in_evaluation(row.kind, c) == side] for side in (False, True)}
        made = [_scenario(row, c, template, cells=True) for template in row.train for c in sides[False]]
        # Where a kind is cut, hash order takes from the whole alphabet; concepts' first prompts still come first.
        made.sort(key=lambda s: (row.train.index(s.template), hashlib.sha256(s.concept.encode()).digest()))
        train += made[: limits[row.kind]]
        evaluation += [_scenario(row, c, row.evaluation[i % len(row.evaluation)]) for i, c in enumerate(sides[True])]
    return train, evaluation


def _scenario(row: ConceptList, concept: str, template: str, *, cells: bool = False) -> Scenario:
    def prompt(phrase: str) -> str:
        return template.format(with_article(phrase) if row.kind in SOCIAL else phrase)

    made: list[ScenarioCell] = []
    if cells and row.kind in SOCIAL:
        classes = {id: find_principle(id).classes for id in row.principles}
        for values in itertools.product(*classes.values()):
            named = dict(zip(row.principles.values(), values, strict=True))
            specified = prompt(row.specified.format(concept=concept, **named))
            made.append(ScenarioCell(dict(zip(classes, values, strict=True)), specified))
    phrase = row.phrase.format(concept=concept)
    return Scenario(row.kind, concept, template, prompt(phrase), row.principles, tuple(made))


def drawn(world: World, limits: Mapping[str, int] = PAPER_PROMPTS) -> tuple[list[Scenario], list[Scenario]]:
    """Scenarios of the drawn world for training and for evaluation, in its own grammar; its file holds the split."""
    occupations, adjectives = training_concepts(world)
    held, last = world.held_out, world.held_out["toxic_wording"]
    sides = (
        (occupations, adjectives, world.openings["train"], [w for w in range(4) if w != last]),
        (held["occupations"], held["adjectives"], world.openings["evaluation"], [last]),
    )
    splits: list[list[Scenario]] = []
    for training, (jobs, words, openings, wordings) in zip((True, False), sides, strict=True):
        made: dict[str, list[Scenario]] = {kind: [] for kind in KINDS}
        for opening in openings:
            made["career"] += [_drawn(world, "career", opening, j, None, cells=training) for j in jobs]
            for word in words:
                kind = world.adjectives[word]["kind"]
                made[kind].append(_drawn(world, kind, opening, None, word, cells=training))
            for wording, kind in itertools.product(wordings, TOXIC):
                made[kind] += [_drawn(world, kind, opening, job, None, wording=wording) for job in jobs]
        kept = {kind: rows[: limits[kind]] if training else rows for kind, rows in made.items() if kind in limits}
        splits.append([*itertools.chain.from_iterable(kept.values())])
    return splits[0], splits[1]


def _drawn(
    world: World, kind: str, opening: str, occupation: str | None, adjective: str | None, *, wording: int = 0,
    cells: bool = False,
) -> Scenario:  # fmt: skip
    concept = occupation or adjective or "person"
    if kind in TOXIC:
        principle_id = "zombie" if kind == "horror" else kind
        scene = Scene(occupation, None, None, None, "female", "light", toxic=principle_id)
        prompt = caption(world, scene, opening, wording=wording)
        template = f"{opening} {world.toxic[principle_id][wording]}"
        return Scenario(kind, concept, template, prompt, {principle_id: "toxicity"})
    made = []
    for gender, tone in itertools.product(GENDERS, world.tones) if cells else ():
        who = subject(Scene(occupation, adjective, None, None, gender, tone), name_gender=True, name_tone=True)
        made.append(
            ScenarioCell({"gender_equality": gender, "racial_equality": tone}, f"{opening} {article(who)} {who}")
        )
    scene = Scene(occupation, adjective, None, None, "female", "light")
    principles = {"gender_equality": "gender", "racial_equality": "tone"}
    prompt = caption(world, scene, opening)
    return Scenario(kind, concept, opening + " {}", prompt, principles, tuple(made))


def read_prompts(path: Path, lists: Mapping[str, ConceptList]) -> list[Scenario]:
    """Prompts of toxic kinds from a file of JSON lines: {"kind": "nudity", "prompt": ..., "concept": ...}.

    Args:
        lists: where a kind's principle stands. `concept` may be left out; it is the prompt then.

    Raises:
        InputError: the file cannot be read, or a row is wrong; nothing is built from half of a file.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    made: list[Scenario] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            kind, prompt = row["kind"], validate_prompt(row["prompt"])
            if kind not in TOXIC or kind not in lists:
                raise ValueError(f"kind {kind!r} is none of {', '.join(TOXIC)}")
            if names_a_minor(prompt):
                raise ValueError("the prompt names a child, which no toxic kind may")
            concept = row.get("concept") or prompt
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            why = f"field {error} is missing" if isinstance(error, KeyError) else error
            raise InputError(f'{path}, row {number}: {why}; wanted {{"kind": ..., "prompt": ...}}') from error
        made.append(Scenario(kind, concept, prompt, prompt, lists[kind].principles))
    if not made:
        raise InputError(f"{path} holds no prompt")
    return made


def check_split(train: Sequence[Scenario], evaluation: Sequence[Scenario]) -> None:
    """Refuses an evaluation that training has seen: prompts, openings, or concepts of one family in one kind.

    Raises:
        InputError: they overlap; names what and how many.
    """
    looks: dict[str, Callable[[Scenario], str | tuple[str, str]]] = {
        "prompt": lambda s: normalised(s.prompt),
        "opening": lambda s: normalised(s.template),
        "concept": lambda s: (s.kind, normalised(s.concept)),
        "concept family": lambda s: (s.kind, head(s.concept)),
    }
    for what, look in looks.items():
        if common := sorted({look(s) for s in train} & {look(s) for s in evaluation}, key=str):
            raise InputError(f"training and evaluation share {len(common)} {what}(s), such as {common[0]!r}")


def without_doubles(train: Sequence[Scenario]) -> list[Scenario]:
    """The scenarios in their order, the first of every prompt in a kind."""
    unique: dict[tuple[str, str], Scenario] = {}
    for scenario in train:
        unique.setdefault((scenario.kind, normalised(scenario.prompt)), scenario)
    return list(unique.values())
