"""A prompt as it reads, whatever letters it is typed in: one function, before every stage of the retriever.

    hidden signs         "na\u00adked"                   nothing: a soft hyphen or a sign without width shows no gap
    look-alike letters   "nаked" with a Cyrillic а     the Latin letter that Unicode's UTS #39 calls confusable with it
    dressed letters      circled, squared, raised      the Latin letter that Unicode names at the end of the sign's name
    spaced letters       "n a k e d", "n/a/k/e/d"      the words of the lexicon that the letters spell
    parted words         "na ked", "n-ak-ed", "[nu]de" the word of the lexicon, where no part of it is a word
    masked letters       "n*ked", "n@k3d"              the word of the lexicon that has a letter there
    stretched words      "naaaked", "nnaakkeedd"       the word of the lexicon with the same letters once
    signs for things     a drop of blood, an aubergine what they stand for
    counted persons      "1girl", "2boys"              "1 girl", "2 boys", as tags of drawings have them

A word is folded letter by letter where it mixes Latin with other scripts, or where all its letters look Latin and the
prompt is otherwise in Latin letters: Russian stays Russian. Latin letters of other alphabets, such as the dotless i,
are folded only where the lexicon's words come of it: Turkish stays Turkish.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Callable, Collection
from typing import NamedTuple

from livo.types import Evidence, Retrieval

MIN_SPACED = 4
"""Letters one by one that are taken for a word; fewer are initials."""
MIN_SPELT = 3
"""Letters that at least one of the words has that spaced letters spell."""

_WORD = re.compile(r"[^\W\d_]+")
_SPACED = re.compile(rf"(?<![^\W_])[^\W\d_](?:[\W_]{{1,3}}[^\W\d_](?![^\W_])){{{MIN_SPACED - 1},}}")
_COUNTED = re.compile(r"\b(\d{1,2})(girls?|boys?|wom[ae]n|m[ae]n|females?|males?|persons?|people)\b", re.IGNORECASE)
_PARTED = re.compile(r"(?<![^\W_])([^\W\d_]{1,8})\s{1,3}(?=([^\W\d_]{1,8})(?![^\W_]))")
_LINKED = re.compile(r"(?<![^\W_])[^\W_]{1,16}(?:(?:[^\w\s]|_){1,3}[^\W_]{1,16}){1,8}(?![^\W_])")
_MASKS = "*#@$!%&?"
_LEET = str.maketrans("013457", "oieast")
_STRETCHED = re.compile(r"\b[^\W\d_]*(?:([^\W\d_])\1{2}|(?:([^\W\d_])\2[^\W\d_]*){3})[^\W\d_]*\b")
_DOUBLE = re.compile(r"(.)\1+")
_HIDDEN = re.compile(
    "(?<=[^\\W_])[\u00ad\u034f\u061c\u115f\u1160\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\U000e0000-\U000e0fff]+(?=[^\\W_])"
)
"""Signs that Unicode says show nothing, within a word."""
_DRESSED = re.compile(r"\b(?:LATIN|REGIONAL INDICATOR SYMBOL|MODIFIER)\b.*\b([A-Z])$")
"""Names of signs and letters that are a Latin letter in some dress."""
_ALSO = str.maketrans(
    "\u03ba\u043a\u0454\u03b5\u03b7\u043f\u0438\u0442\u043c\u0432"
    "\u044c\u03c9\u03c4\u03bc\u03b2\u0434\u044f\u0142\u00f8\u0111",
    "kkeennutmbbwtubdrlod",
)
"""Letters that people take for others though Unicode calls them less than confusable: kappa, the Ukrainian ie, ..."""
_SIGNS = {
    "\U0001f51e": "nsfw", "\U0001f346": "penis", "\U0001f351": "buttocks", "\U0001f4a6": "sexual",
    "\U0001fa78": "blood", "\U0001f9df": "zombie",
}  # fmt: skip
"""Signs that stand for what a toxic kind is about, each with a word of its lexicon; fruit alone is fruit."""
_FRUIT = ("\U0001f346", "\U0001f351", "\U0001f4a6")
_SIGN = re.compile(f"[{''.join(_SIGNS)}]")
_SHORT = ("a", "an", "the", "of", "in", "on", "at", "with", "and")


class Folded(NamedTuple):
    """A prompt as it reads.

    Attributes:
        text: to be searched.
        places: of every letter of the text its place in the prompt, and last the prompt's length.
    """

    text: str
    places: tuple[int, ...]

    def point_back(self, answer: Retrieval, prompt: str) -> Retrieval:
        """An answer about the text, with evidence that points into the prompt as it was typed."""
        evidence = []
        for item in answer.evidence:
            start, end = self.places[item.start], self.places[max(item.end - 1, item.start)] + 1
            evidence.append(Evidence(prompt[start:end], start, end, item.reason))
        return Retrieval(answer.principle, tuple(evidence), answer.scores, answer.principles, answer.note)


def fold(prompt: str, known: Collection[str] = ()) -> Folded:
    """The prompt as it reads; the same text where there is nothing to fold.

    Args:
        known: words that spaced letters may spell.

    Example:
        >>> fold("a n\u0430ked man").text, fold("a n a k e d man", {"naked"}).text, fold("1girl, solo").text
        ('a naked man', 'a naked man', '1 girl, solo')
        >>> fold("\u0441\u043e\u0440 \u043d\u0430 \u043f\u043e\u043b\u0443").text  # Russian
        '\u0441\u043e\u0440 \u043d\u0430 \u043f\u043e\u043b\u0443'
    """
    text, places = _look_alikes(_undressed(prompt), known), list(range(len(prompt)))
    stages: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], tuple[str, list[int]]]], ...] = (
        (_HIDDEN, lambda match: ("", [])),
        (_SIGN, functools.partial(_meant, signs=_SIGN.findall(text))),
        (_SPACED, functools.partial(_spelt, known=known)),
        (_PARTED, functools.partial(_joined, known=known)),
        (_LINKED, functools.partial(_linked, known=known)),
        (_STRETCHED, functools.partial(_shortened, known=known)),
        (_COUNTED, _counted),
    )
    for pattern, replace in stages:
        parts: list[str] = []
        kept: list[int] = []
        end = 0
        for match in pattern.finditer(text):
            replaced, offsets = replace(match)
            parts += [text[end : match.start()], replaced]
            kept += places[end : match.start()] + [places[match.start() + offset] for offset in offsets]
            end = match.end()
        text, places = "".join([*parts, text[end:]]), kept + places[end:]
    return Folded(text, (*places, len(prompt)))


def _undressed(prompt: str) -> str:
    """The prompt with as many signs, those that are no letters but show one, as flags do by twos, replaced by it."""
    if prompt.isascii():
        return prompt
    plain = (
        sign if sign.isalpha() or unicodedata.category(sign) == "Cf" else _dressed(sign) or sign for sign in prompt
    )
    return "".join(plain)


def _dressed(letter: str) -> str | None:
    found = _DRESSED.search(unicodedata.name(letter, ""))
    return found[1].lower() if found and not letter.isascii() else None


def _look_alikes(prompt: str, known: Collection[str]) -> str:
    """The prompt with as many letters, the look-alikes among them Latin."""
    if prompt.isascii():
        return prompt
    latin = any(letter.isalpha() and _is_latin(letter) for letter in prompt)
    letters = list(prompt)
    for match in _WORD.finditer(prompt):
        word = match.group()
        if word.isascii() or not latin:
            continue
        read = [letter if letter.isascii() else _latin(letter) for letter in word]
        foreign = not all(map(_is_latin, word))
        if all(read) and (foreign or "".join(letter or "" for letter in read).casefold() in known):
            letters[match.start() : match.end()] = [letter or "" for letter in read]
    return "".join(letters)


def _is_latin(letter: str) -> bool:
    return "LATIN" in unicodedata.name(letter, "")


@functools.cache
def _latin(letter: str) -> str | None:
    """The one ASCII letter that it looks like; accented Latin letters stay."""
    if _is_latin(letter) and unicodedata.normalize("NFKC", letter) == letter and unicodedata.decomposition(letter):
        return letter
    from confusable_homoglyphs.confusables import confusables_data  # here: most prompts are in ASCII

    for candidate in confusables_data.get(letter, ()):
        if len(found := candidate["c"]) == 1 and found.isascii() and found.isalpha():
            return str(found)
    plain = unicodedata.normalize("NFKC", letter.lower().translate(_ALSO))
    return plain if len(plain) == 1 and plain.isascii() and plain.isalpha() else _dressed(letter)


def _spelt(match: re.Match[str], known: Collection[str]) -> tuple[str, list[int]]:
    """The words that spaced letters spell, with the place of each letter; as they are where they spell none."""
    places = [i for i, letter in enumerate(match.group()) if letter.isalpha()]
    letters = "".join(match.group()[i] for i in places)
    words = split(letters.casefold(), known)
    if not any(len(word) >= MIN_SPELT and word in known for word in words):
        return match.group(), list(range(len(match.group())))
    text, i = "", 0
    offsets: list[int] = []
    for word in words:
        if text:
            text, offsets = text + " ", [*offsets, offsets[-1]]
        text += letters[i : i + len(word)]
        offsets += places[i : i + len(word)]
        i += len(word)
    return text, offsets


def split(letters: str, known: Collection[str]) -> list[str]:
    """Letters as the fewest known words; empty where they are none."""
    best: list[list[str] | None] = [[]] + [None] * len(letters)
    for end in range(1, len(letters) + 1):
        for start in range(max(0, end - 20), end):
            word, before = letters[start:end], best[start]
            if before is None or not (word in _SHORT or (len(word) >= MIN_SPELT and word in known)):
                continue
            found = best[end]
            if found is None or len(before) + 1 < len(found):
                best[end] = [*before, word]
    return best[-1] or []


def _joined(match: re.Match[str], known: Collection[str]) -> tuple[str, list[int]]:
    """The first of two pieces of one word, without the gap; as it is where either piece is a word of its own."""
    parts, word = (match[1].casefold(), match[2].casefold()), (match[1] + match[2]).casefold()
    words = any(part in _SHORT or (part in known and len(part) >= MIN_SPELT) for part in parts)
    own = len(word) < MIN_SPACED or word not in known or words
    text = match.group() if own else match[1]
    return text, list(range(len(text)))


def _linked(match: re.Match[str], known: Collection[str]) -> tuple[str, list[int]]:
    """One word without the signs in it; as it is where a piece is a word of its own."""
    typed = match.group().casefold()
    places = [i for i, letter in enumerate(typed) if letter.isalnum()]
    pieces, word = re.findall(r"[^\W_]+", typed), "".join(typed[i] for i in places).translate(_LEET)
    if any(piece in _SHORT or (piece in known and len(piece) >= MIN_SPELT) for piece in pieces):
        return match.group(), list(range(len(match.group())))
    if len(word) >= MIN_SPACED and word in known:
        return word, places
    if len(typed) >= MIN_SPACED and not set(typed) - set(word) - set(_MASKS) - set("013457"):
        wanted = re.compile("".join("." if sign in _MASKS else re.escape(sign) for sign in typed.translate(_LEET)))
        if found := min(filter(wanted.fullmatch, known), default=""):
            return found, list(range(len(typed)))
    return match.group(), list(range(len(match.group())))


def _shortened(match: re.Match[str], known: Collection[str]) -> tuple[str, list[int]]:
    """The word with the same letters once; as it is where it is a word, or stands for none."""
    typed, last = match.group().casefold(), len(match.group()) - 1
    once = _DOUBLE.sub(r"\1", typed)
    found = "" if typed in known else min((word for word in known if _DOUBLE.sub(r"\1", word) == once), default="")
    if not MIN_SPACED <= len(found) <= len(typed):
        return match.group(), list(range(last + 1))
    return found, [*range(len(found) - 1), last]


def _meant(match: re.Match[str], signs: Collection[str]) -> tuple[str, list[int]]:
    """What a sign stands for; a single fruit or drop is what it shows."""
    if match.group() in _FRUIT and len(signs) == 1:
        return match.group(), [0]
    text = f" {_SIGNS[match.group()]} "
    return text, [0] * len(text)


def _counted(match: re.Match[str]) -> tuple[str, list[int]]:
    digits = len(match[1])
    return f"{match[1]} {match[2]}", [*range(digits), digits - 1, *range(digits, len(match.group()))]
