"""Phrases of the lexicon found in a prompt: a trie of words, searched from every word of the prompt.

    prompt -> words -> phrases -> the longest of those that overlap

Linear in the prompt for the lexicon's phrases, which are a few words long.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from livo.retriever.words import Token, tokens
from livo.types import InputError

REACH = 6
"""How many tokens a negation, or a description, may lie from what it is about."""
PERSON = "<person>"
_SIMPLE = re.compile("[a-z]+")
_HERE = object()  # the trie's key for "a phrase ends here"; no token equals it

Forms = Callable[[str], set[str]]
"""The forms that a word may take in a prompt."""


class Found(NamedTuple):
    """A phrase of the lexicon, at tokens first to last (exclusive)."""

    first: int
    last: int
    term: str
    role: str
    owner: int  # index of the principle's entry; -1 for the word lists about people


class Phrases:
    """The lexicon's phrases as a trie of words, spelt out only where their first word is met: most never are.

    Threads may share it: two that meet a word at once spell out the same.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, list[tuple[str, str, int, Forms]]] = {}
        self._nodes: dict[str, dict] = {}

    def add(self, phrase: str, role: str, owner: int, forms: Forms) -> None:
        """Puts a phrase in, in every form of its last word. A word may hold choices: "slit/cut throat".

        Raises:
            InputError: if it holds no word.
        """
        firsts = next((ways for ways in _words_of(phrase, forms) if ways), None)
        if firsts is None:
            raise InputError(f"{role}: {phrase!r} holds no word that a prompt could hold")
        for first in {way[0] for way in firsts}:
            self._waiting.setdefault(first, []).append((phrase, role, owner, forms))

    def get(self, word: object, default: Any = None) -> Any:
        """The trie below a first word."""
        node = self._nodes.get(word)  # type: ignore[call-overload]
        if node is None and (waiting := self._waiting.get(word)):  # type: ignore[call-overload]
            node = {}
            for phrase, role, owner, forms in waiting:
                _spell_out(node, word, phrase, role, owner, forms)
            self._nodes[str(word)] = node
        return default if node is None else node


def _spell_out(root: dict, first: object, phrase: str, role: str, owner: int, forms: Forms) -> None:
    """Puts those ways of a phrase that begin with a word into the trie below that word."""
    begun, *others = [ways for ways in _words_of(phrase, forms) if ways]
    nodes = [_descend(root, way[1:]) for way in sorted(begun) if way[0] == first]
    for ways in others:
        nodes = [_descend(node, way) for node in nodes for way in sorted(ways)]
    for node in nodes:
        # A dict keeps the order: the same evidence in every process.
        node.setdefault(_HERE, {})[phrase, role, owner] = None


def _words_of(phrase: str, forms: Forms) -> Iterator[set[tuple[str, ...]]]:
    """For each word of a phrase the ways in which a prompt may have it; none where it is only signs."""
    words = phrase.split()
    for place, choices in enumerate(words):
        last = place == len(words) - 1
        yield {way for word in choices.split("/") for way in _ways(word, forms if last else None)} - {()}


def _ways(word: str, forms: Forms | None) -> set[tuple[str, ...]]:
    if word in (PERSON, "*"):
        return {(word,)}
    # Small letters alone are one token as they stand: most words, without the search for tokens.
    parts = (word,) if _SIMPLE.fullmatch(word) else tuple(token.text for token in tokens(word))
    return {(*parts[:-1], form) for form in forms(parts[-1])} if forms and parts else {parts}


def _descend(node: dict, way: tuple[str, ...]) -> dict:
    for part in way:
        node = node.setdefault(part, {})
    return node


def search(
    phrases: Phrases, tokens: Sequence[Token], persons: Mapping[int, int], modifiers: frozenset[str]
) -> Iterator[Found]:
    """Every phrase in the prompt. A phrase does not reach across punctuation."""
    for first in range(len(tokens)):
        states: list[tuple[int, Any]] = [(first, phrases)]
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
