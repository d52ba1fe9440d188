"""Misspelt words of the lexicon, read as what they stand for: "z0mbie", "nakid", "bloddy", "sientist".

A word is read as another only where it is no word of the lexicon itself, the first letter agrees, doubled letters aside
one letter was left out, put in, changed or swapped with its neighbour, the last consonant is the same, and the change
is of a vowel or the word is long. Ordinary words that come too close ("former" to "farmer") are `spelt_right` in
`lexicon.yaml`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from livo.retriever.words import Token

MIN_LETTERS = 5
LONG = 8
"""Words of so many letters may also lose or gain a consonant; short ones become other words ("blood", "blond")."""

_LEET = str.maketrans("013457@$", "oleastas")
_DOUBLE = re.compile(r"(.)\1+")
_LAST = re.compile(r"(?:ie|ei|ey|i)(s?)$")
_VOWEL = re.compile(r"[aeiouy]")


class Spelling:
    """Reads misspelt words as the targets that they stand for.

    Attributes:
        known: words that stand for themselves, the targets among them.

    Args:
        known: words that are right as they are, whatever they resemble.
        targets: words that are looked for.

    Example:
        >>> spelling = Spelling(["nuked"], ["naked", "scientist"])
        >>> [spelling.read(word) for word in ("nakid", "n4ked", "nuked", "sientist", "baked")]
        ['naked', 'naked', 'nuked', 'scientist', 'baked']
    """

    def __init__(self, known: Iterable[str], targets: Iterable[str]) -> None:
        targets = [word for word in targets if word.isascii() and word.isalpha() and len(word) >= MIN_LETTERS]
        self.known = frozenset(known) | frozenset(targets)
        self._near: dict[str, list[str]] = {}
        for word in targets:
            for variant in _with_one_letter_less(_single(word)):
                self._near.setdefault(variant, []).append(word)

    def __call__(self, words: Iterable[Token]) -> list[Token]:
        """The tokens with the words that are meant; they still point at what was typed."""
        read: dict[str, str] = {}
        found = []
        for token in words:
            if token.text not in read:
                read[token.text] = self.read(token.text)
            found.append(token._replace(text=read[token.text]))
        return found

    def read(self, word: str) -> str:
        """The target that a word stands for, or the word itself."""
        if word in self.known or not 4 <= len(word) <= 24 or not word.isascii():
            return word
        letters = word.translate(_LEET)
        if not letters.isalpha() or len(letters) < MIN_LETTERS - 1:
            return word
        if letters in self.known:
            return letters
        single = _single(letters)
        for variant in _with_one_letter_less(single):
            for target in self._near.get(variant, ()):
                if (
                    target[0] == letters[0]
                    and abs(len(target) - len(letters)) < 3
                    and _is_slip(single, _single(target))
                ):
                    return target
        return word


def _single(word: str) -> str:
    """Without doubled letters, and with one spelling of a last syllable: "zomby" is "zombie"."""
    return _LAST.sub(r"y\1", _DOUBLE.sub(r"\1", word))


def _with_one_letter_less(word: str) -> Iterator[str]:
    yield word
    for i in range(1, len(word)):
        yield word[:i] + word[i + 1 :]


def _is_slip(typed: str, meant: str) -> bool:
    """Whether one slip of a finger makes `typed` of `meant`, and it leaves the consonants or the word is long."""
    start = 0
    while start < min(len(typed), len(meant)) and typed[start] == meant[start]:
        start += 1
    a, b = typed[start:], meant[start:]
    while a and b and a[-1] == b[-1]:
        a, b = a[:-1], b[:-1]
    if len(a) == len(b) == 2 and a == b[::-1]:
        return True
    if (
        len(a) > 1
        or len(b) > 1
        or (typed[-1] != meant[-1] and not (_VOWEL.match(typed[-1]) and _VOWEL.match(meant[-1])))
    ):
        return False
    return len(meant) >= LONG or _single(_VOWEL.sub("", typed)) == _single(_VOWEL.sub("", meant))
