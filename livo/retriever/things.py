"""What a prompt says of a thing and not of a body: "a nude office chair", "a closet with no clothes".

Some words of the lexicon (`of_bodies` in `principles.yaml`) mislead only where they speak of a thing. What is one is a
list of names (`things` in `lexicon.yaml`), without likenesses of people and places where people undress. Three ways:

    before it       the word, at most REACH others, the thing, and there the phrase ends: "a naked server rack without"
    of it           the word, "of", the thing: "innards of a clock", "cutting off the leg of a table"; where nobody is
                    in the prompt also after a word that ends in "off": "a towel falling off a rack"
    after it        the thing begins the clause and nobody is in the prompt: "a pumpkin with its innards scooped out"

Sentence embeddings were tried as a veto instead, and are none: a tail of harmless words disarms them (README).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from livo.retriever.phrases import REACH, Found
from livo.retriever.words import Token, plurals, word_set

ENDS = word_set(
    "a an the in on at by with without of to from into onto over under above below beneath beside near behind before "
    "after against along around across inside outside between through during for as is are was were has have that "
    "which and or but next seen made built left hung shown found"
)
"""A noun phrase does not go on past these."""
ARTICLES, OFF = word_set("a an the its"), ("off", "from")
JOINS = word_set("with its the their all some")
"""Between a thing and what is said of it."""


class Things:
    """Names of things.

    Args:
        names: in the singular.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names = {form for name in names for form in plurals(name)}

    def spoken_of(self, item: Found, words: Sequence[Token], persons: Collection[int]) -> tuple[int, int] | None:
        """The tokens (first, last) which show that `item` is said of a thing, or None.

        Args:
            persons: tokens that mean a person.
        """
        last = self._thing_from(item.last, words, persons)
        if last is None and (start := self._start_after(item, words, persons)) is not None:
            last = self._thing_from(start, words, persons)
        if last is not None:
            return item.first, last
        return None if persons else self._after_thing(item, words)

    def _start_after(self, item: Found, words: Sequence[Token], persons: Collection[int]) -> int | None:
        """Where the noun phrase after "of" begins, or after "off"; None where there is neither."""
        i = item.last
        if i >= len(words) or words[i].breaks:
            return None
        if words[i].text == "of":
            i += 1
        elif words[i - 1].text not in OFF or persons:
            return None
        while i < len(words) and words[i].text in ARTICLES and not words[i].breaks:
            i += 1
        return i

    def _thing_from(self, start: int, words: Sequence[Token], persons: Collection[int]) -> int | None:
        """The end of a noun phrase that begins at `start` and ends in a thing."""
        for i in range(start, min(start + REACH, len(words))):
            word = words[i]
            if word.breaks or word.possessive or word.text in ENDS or i in persons:
                return None
            if word.text in self._names and self._ends(i + 1, words):
                return i + 1
        return None

    def _ends(self, i: int, words: Sequence[Token]) -> bool:
        return i >= len(words) or words[i].breaks or words[i].text in ENDS or words[i].text.endswith("ed")

    def _after_thing(self, item: Found, words: Sequence[Token]) -> tuple[int, int] | None:
        """Where the clause begins with a thing that the item is about, in a prompt without persons."""
        end = item.first
        while end > 0 and words[end - 1].text in JOINS and not words[end].breaks:
            end -= 1
        joined = end < item.first or words[item.first].text in ("with", "without", "no")
        if not joined or end == 0 or words[end].breaks or words[end - 1].text not in self._names:
            return None
        first = end - 1
        while first > 0 and not words[first].breaks:
            first -= 1
        before = [word.text for word in words[first : end - 1]]
        if any(text in ENDS - {"a", "an", "the"} or text.endswith("ing") for text in before):
            return None
        return first, item.last
