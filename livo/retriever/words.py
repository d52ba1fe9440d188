"""The words of a prompt, folded for comparison, and the forms that a word of the lexicon may take there.

Knows nothing about principles. The rules are those of English spelling; other scripts pass through as they are.
"""

from __future__ import annotations

import re
import unicodedata
from typing import NamedTuple

_TOKEN = re.compile(r"[^\W_](?:[^\W_]|[\u0300-\u036f\u00ad\u200b-\u200d\u2060\ufeff]|['’](?=[^\W_]))*")
_INVISIBLE = re.compile(r"[\u0300-\u036f\u00ad\u200b-\u200d\u2060\ufeff]")
_BREAK = re.compile(r"[.,;:!?…。，、()\[\]{}|\n\r]")


class Token(NamedTuple):
    """A word of the prompt: folded for comparison, and where it stands."""

    text: str
    start: int
    end: int
    gap: str  # what stands between the token before and this one
    possessive: bool

    @property
    def breaks(self) -> bool:
        """Whether punctuation parts it from the token before."""
        return _BREAK.search(self.gap) is not None


def tokens(prompt: str) -> list[Token]:
    """The words of a prompt in order; each points into the prompt as it was typed."""
    found, previous = [], 0
    for match in _TOKEN.finditer(prompt):
        start, end = match.span()
        text = match.group()
        if not text.isascii():
            text = unicodedata.normalize("NFKC", _INVISIBLE.sub("", unicodedata.normalize("NFKD", text)))
        text = text.casefold().replace("’", "'")
        possessive = text.endswith("'s")
        if possessive:
            text, end = text[:-2], end - 2
        elif text.endswith("s") and prompt[end : end + 1] in ("'", "’") and prompt[start - 1 : start] not in ("'", "‘"):
            possessive = True
        found.append(Token(text, start, end, prompt[previous:start], possessive))
        previous = end
    return found


def word_set(words: str) -> frozenset[str]:
    """The words of a line.

    Example:
        >>> sorted(word_set("no not"))
        ['no', 'not']
    """
    return frozenset(words.split())


# --- inflections: rules of spelling; a form that is no English word does no harm, since no one writes it --------------

_IRREGULAR = {"person": {"persons", "people"}, "child": {"children"}, "wife": {"wives"}, "thief": {"thieves"},
              "leaf": {"leaves"}, "body": {"bodies"}}  # fmt: skip


def as_is(word: str) -> set[str]:
    return {word}


def plurals(word: str) -> set[str]:
    """The word and its plural.

    Example:
        >>> sorted(plurals("policewoman")), sorted(plurals("lady")), sorted(plurals("actress"))
        (['policewoman', 'policewomen'], ['ladies', 'lady'], ['actress', 'actresses'])
    """
    if word in _IRREGULAR:
        return {word, *_IRREGULAR[word]}
    if word.endswith("wife"):
        return {word, word[:-4] + "wives"}
    if word.endswith("man") and word not in ("human", "shaman", "german", "roman", "ottoman"):
        return {word, word[:-3] + "men"}
    if word.endswith("y") and word[-2:-1] not in "aeiou":
        return {word, word[:-1] + "ies"}
    if word.endswith(("s", "x", "z", "ch", "sh")):
        return {word, word + "es"}
    return {word, word + "s"}


def inflections(word: str) -> set[str]:
    """The word, its plural, and its forms as a verb (-ed, -ing) and an adjective (-ness, -ly, -er, -est).

    Example:
        >>> {"bloodied", "bloodies", "bloodier", "bloodiest"} <= inflections("bloody")
        True
        >>> "nakedness" in inflections("naked") and "bleeding" in inflections("bleed")
        True
    """
    forms = plurals(word)
    if len(word) < 3 or not word.isalpha():
        return forms
    if word.endswith("y") and word[-2] not in "aeiou":
        stem = word[:-1]
        return forms | {word + "ing"} | {stem + ending for ending in ("ied", "ier", "iest", "iness", "ily")}
    if word.endswith("e"):
        stem = word[:-1]
        return forms | {stem + ending for ending in ("ed", "ing", "er", "est")} | {word + "ness", word + "ly"}
    stems = {word}
    if word[-1] in "bdgmnprt" and word[-2] in "aeiou" and word[-3] not in "aeiou":
        stems.add(word + word[-1])  # stab -> stabbed
    return forms | {stem + ending for stem in stems for ending in ("ed", "ing")} | {word + "ness", word + "ly"}
