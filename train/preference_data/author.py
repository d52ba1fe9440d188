"""Concepts and prompts by a language model behind any OpenAI-compatible endpoint.

Every answer is checked as if a stranger had typed it. Nothing is asked that the token cap cannot pay for.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from livo.inputs import validate_prompt
from livo.types import InputError
from train.preference_data.concepts import MAX_CONCEPT_CHARACTERS, TOXIC, names_a_minor, normalised

TASKS = {
    "career": "occupations, as nouns in the singular, without any word of gender, race or nationality",
    "positive": "positive adjectives that describe a person",
    "negative": "negative adjectives that describe a person",
    "nudity": "noun phrases of pictures of an unclothed person or statue, in words that a museum label would use",
    "bloody": "noun phrases of objects or scenes with blood on them, in words that a film's age rating would use",
    "horror": "noun phrases of zombies or the undead, in words that a film's age rating would use",
}
"""What is asked for by kind. The toxic kinds train a model to avoid them, and their words stay factual."""

REPLY_TOKENS = 2_000
SCHEMA = {
    "type": "object",
    "properties": {"items": {"type": "array", "items": {"type": "string"}}},
    "required": ["items"],
    "additionalProperties": False,
}


@dataclass(frozen=True)
class Endpoint:
    """Where to ask, and how patiently.

    Attributes:
        base_url: such as `http://localhost:8000/v1`.
        timeout: seconds for one answer.
        retries: further attempts where an answer fails; waits double from `backoff` seconds.
        max_tokens: the cost cap: prompt and reply tokens of all requests together.
        key_variable: the environment variable that holds the key; local servers need none.
    """

    base_url: str
    model: str
    timeout: float = 60.0
    retries: int = 4
    backoff: float = 1.0
    max_tokens: int = 200_000
    key_variable: str = "OPENAI_API_KEY"


@dataclass
class Tally:
    """What the asking took, and what became of the answers."""

    tokens: int = 0
    counts: Counter[str] = field(default_factory=Counter)

    def line(self) -> str:
        """For people."""
        return f"{self.tokens:,} tokens; " + ", ".join(f"{n:,} {what}" for what, n in sorted(self.counts.items()))


class OutOfTokens(Exception):
    """The next request might pass the cap."""


def collect(
    endpoint: Endpoint, kind: str, examples: Sequence[str], count: int, tally: Tally, *, prompts: bool = False,
    batch: int = 40, seed: int = 0,
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
            items = _ask(endpoint, _messages(kind, rng.sample(shown, min(8, len(shown))), want, prompts), tally)
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


def _ask(endpoint: Endpoint, messages: list[dict[str, str]], tally: Tally) -> list | None:
    """The items of one answer, or None where every attempt failed.

    Raises:
        OutOfTokens: the request might pass the cap.
        InputError: the endpoint refuses the request itself (wrong key, no such model): asking again is useless.
    """
    import openai  # here, because a build needs no language model

    client = openai.OpenAI(
        base_url=endpoint.base_url, api_key=os.environ.get(endpoint.key_variable) or "none", timeout=endpoint.timeout,
        max_retries=0,
    )  # fmt: skip
    asked = sum(len(m["content"]) for m in messages) // 3  # a token is about four letters; three is on the safe side
    form = {"type": "json_schema", "json_schema": {"name": "items", "strict": True, "schema": SCHEMA}}
    for attempt in range(endpoint.retries + 1):
        if tally.tokens + asked + REPLY_TOKENS > endpoint.max_tokens:
            raise OutOfTokens
        if attempt:
            time.sleep(endpoint.backoff * 2 ** (attempt - 1))
        tally.counts["requests"] += 1
        try:
            answer = client.chat.completions.create(
                model=endpoint.model, messages=messages, response_format=form, max_tokens=REPLY_TOKENS
            )
        except openai.APITimeoutError:
            tally.counts["answers too slow"] += 1
            tally.tokens += asked + REPLY_TOKENS  # it may have been written, and paid for
        except openai.RateLimitError:
            tally.counts["answers rate-limited"] += 1
        except (openai.APIConnectionError, openai.InternalServerError):
            tally.counts["answers failed at the server"] += 1
        except openai.APIStatusError as error:
            raise InputError(f"{endpoint.base_url} refuses ({error.status_code}): {error.message}") from error
        except (ValueError, openai.OpenAIError):
            tally.counts["answers malformed"] += 1
            tally.tokens += asked + REPLY_TOKENS
        else:
            tally.tokens += getattr(getattr(answer, "usage", None), "total_tokens", None) or asked + REPLY_TOKENS
            if (items := _items(answer, tally)) is not None:
                return items
    return None


def _items(answer: object, tally: Tally) -> list | None:
    """The list in an answer, or None where it refuses or is no such JSON."""
    try:
        message = answer.choices[0].message
        if getattr(message, "refusal", None):
            tally.counts["answers refused"] += 1
            return None
        items = json.loads(message.content)["items"]
        if isinstance(items, list):
            return items
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        pass
    tally.counts["answers malformed"] += 1
    return None
