"""Concepts and prompts by a language model behind any OpenAI-compatible endpoint.

Every item of an answer is checked as if a stranger had typed it; `livo/retriever/endpoint.py` does the asking.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence

from livo.inputs import validate_prompt
from livo.retriever.endpoint import Endpoint, OutOfTokens, Tally, ask
from livo.retriever.minors import names_a_minor
from livo.types import InputError
from train.preference_data.concepts import MAX_CONCEPT_CHARACTERS, TOXIC, normalised

TASKS = {
    "career": "occupations, as nouns in the singular, without any word of gender, race or nationality",
    "positive": "positive adjectives that describe a person",
    "negative": "negative adjectives that describe a person",
    "nudity": "noun phrases of pictures of an unclothed person or statue, in words that a museum label would use",
    "bloody": "noun phrases of objects or scenes with blood on them, in words that a film's age rating would use",
    "horror": "noun phrases of zombies or the undead, in words that a film's age rating would use",
}
"""What is asked for by kind. The toxic kinds train a model to avoid them, and their words stay factual."""

SCHEMA = {
    "type": "object",
    "properties": {"items": {"type": "array", "items": {"type": "string"}}},
    "required": ["items"],
    "additionalProperties": False,
}


def collect(
    endpoint: Endpoint,
    kind: str,
    examples: Sequence[str],
    count: int,
    tally: Tally,
    *,
    prompts: bool = False,
    batch: int = 40,
    seed: int = 0,
) -> Iterator[str]:
    """New concepts of a kind, one after the other, none of them among the examples in another spelling.

    Ends at `count`, at the token cap, when an answer still fails after its retries, or after three answers in a row
    that hold nothing new; `tally` says which.

    Args:
        kind: one of `TASKS`.
        examples: what is there already; eight of them, drawn by `seed`, show the model what is wanted.
        prompts: ask for whole prompts of text-to-image models about it instead of concepts.
        batch: items asked for in one request.
    """
    known, rng, idle, found = {normalised(e) for e in examples}, random.Random(seed), 0, 0
    shown: list[str] = list(examples)
    while found < count and idle < 3:
        want = min(batch, count - found)
        try:
            items = ask(
                endpoint, _messages(kind, rng.sample(shown, min(8, len(shown))), want, prompts), SCHEMA, _items, tally
            )
        except OutOfTokens:
            tally.counts["stops at the token cap"] += 1
            return
        if items is None:
            tally.counts["stops after retries"] += 1
            return
        fresh = 0
        for item in items[:want]:
            if (fault := _fault(item, kind, prompts)) is not None:
                tally.counts[f"items {fault}"] += 1
            elif normalised(item) in known:
                tally.counts["doubles"] += 1
            else:
                known.add(normalised(item))
                shown.append(item.strip())
                found, fresh = found + 1, fresh + 1
                yield item.strip()
        idle = 0 if fresh else idle + 1


def _messages(kind: str, examples: Sequence[str], count: int, prompts: bool) -> list[dict[str, str]]:
    what = f"prompts for a text-to-image model about {TASKS[kind]}" if prompts else TASKS[kind]
    shots = json.dumps({"items": list(examples)}, ensure_ascii=False)
    return [
        {"role": "system", "content": "You collect words for a data set that teaches image models social values. "
         "Answer with JSON only: {\"items\": [...]}. No sexual detail, no minors, no instructions, no real names."},
        {"role": "user", "content": f"Give {len(examples)} {what}."},
        {"role": "assistant", "content": shots},
        {"role": "user", "content": f"Give {count} more {what}, different from these."},
    ]  # fmt: skip


def _fault(item: object, kind: str, prompts: bool) -> str | None:
    """Why an item cannot be used, or None."""
    if not isinstance(item, str):
        return "that are no text"
    try:
        text = validate_prompt(item)
    except InputError:
        return "that are no prompt"
    if len(text) > (300 if prompts else MAX_CONCEPT_CHARACTERS):
        return "that are too long"
    if kind in TOXIC and names_a_minor(text):
        return "that name a child"
    return None if any(c.isalpha() for c in text) else "without a word"


def _items(answer: dict) -> list:
    """The list in an answer.

    Raises:
        ValueError: there is none.
    """
    items = answer["items"]
    if not isinstance(items, list):
        raise ValueError
    return items
