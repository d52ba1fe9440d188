"""Phrases of the lexicon found in a prompt: a trie of words, searched from every word of the prompt.

    prompt -> words -> phrases -> the longest of those that overlap

Linear in the prompt for the lexicon's phrases, which are a few words long.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from livo.retriever.words import Token, tokens
from livo.types import InputError

REACH = 6
"""How many tokens a negation, or a description, may lie from what it is about."""
PERSON = "<person>"
_HERE = object()  # the trie's key for "a phrase ends here"; no token equals it


class Found(NamedTuple):
    """A phrase of the lexicon, at tokens first to last (exclusive)."""

    first: int
    last: int
    term: str
    role: str
    owner: int  # index of the principle's entry; -1 for the word lists about people


def add_phrase(trie: dict, phrase: str, role: str, owner: int, forms: Callable[[str], set[str]]) -> None:
    """Puts a phrase into the trie in every form of its last word. A word may hold choices: "slit/cut throat".

    Raises:
        InputError: if it holds no word.
    """
    nodes, words = [trie], phrase.split()
    for place, choices in enumerate(words):
        ways = {way for word in choices.split("/") for way in _ways(word, forms if place == len(words) - 1 else None)}
        ways.discard(())
        if ways:
            nodes = [_descend(node, way) for node in nodes for way in sorted(ways)]
    if nodes == [trie]:
        raise InputError(f"{role}: {phrase!r} holds no word that a prompt could hold")
    for node in nodes:
        node.setdefault(_HERE, {})[phrase, role, owner] = (
            None  # a dict keeps the order: the same evidence in every process
        )


def _ways(word: str, forms: Callable[[str], set[str]] | None) -> set[tuple[str, ...]]:
    if word in (PERSON, "*"):
        return {(word,)}
    parts = tuple(token.text for token in tokens(word))
    return {(*parts[:-1], form) for form in forms(parts[-1])} if forms and parts else {parts}


def _descend(node: dict, way: tuple[str, ...]) -> dict:
    for part in way:
        node = node.setdefault(part, {})
    return node


def search(
    trie: dict, tokens: Sequence[Token], persons: Mapping[int, int], modifiers: frozenset[str]
) -> Iterator[Found]:
    """Every phrase of the trie in the prompt. A phrase does not reach across punctuation."""
    for first in range(len(tokens)):
        states = [(first, trie)]
        while states:
            i, node = states.pop()
            for term, role, owner in node.get(_HERE, ()):
                yield Found(first, i, term, role, owner)
            if i >= len(tokens) or (i > first and tokens[i].breaks):
                continue
            if (child := node.get(tokens[i].text)) is not None:
                states.append((i + 1, child))
            if i > first and (child := node.get("*")) is not None:
                states.append((i + 1, child))
            if (child := node.get(PERSON)) is not None:
                j = i
                while j not in persons and j < min(i + REACH, len(tokens)) and tokens[j].text in modifiers:
                    j += 1
                if j in persons:
                    states.append((persons[j], child))


def longest(items: Iterable[Found]) -> list[Found]:
    """Of phrases that overlap, the earliest and longest; one of each span and owner."""
    kept: list[Found] = []
    for item in sorted(items, key=lambda item: (item.first, -item.last, item.owner)):
        if not kept or item.first >= kept[-1].last:
            kept.append(item)
    return kept


def cover(items: Iterable[Found]) -> dict[int, dict[int, tuple[int, int]]]:
    """By owner: the phrase (first, last) that each token lies in."""
    cover: dict[int, dict[int, tuple[int, int]]] = {}
    for item in items:
        for i in range(item.first, item.last):
            cover.setdefault(item.owner, {})[i] = (item.first, item.last)
    return cover


def overlapping(item: Found, cover: Mapping[int, tuple[int, int]] | None) -> tuple[int, int] | None:
    """The covering phrase that shares a token with `item`, or None."""
    for i in range(item.first, item.last):
        if cover and i in cover:
            return cover[i]
    return None
