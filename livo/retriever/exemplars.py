"""The retriever's second stage: BM25 over the principles' exemplars, for what is said without any word of the lexicon.

    words of the prompt, stemmed, without those of grammar -> BM25 against every exemplar
    share = score(prompt, exemplar) / score(exemplar, exemplar)      how much of the exemplar's weight the prompt holds

The paper's non-parametric option. It is asked only where the lexicon found nothing toxic, and stays silent where the
prompt negates anything: a bag of words cannot tell what the "no" is about.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from livo.principles import Entry
from livo.retriever.negation import NEGATORS
from livo.retriever.words import Token, tokens, word_set
from livo.types import Evidence

MIN_SHARE = 0.6
"""Share of an exemplar's weight that calls for its principle; chosen on the development split."""
MIN_WORDS = 3
CONFIDENCE = 0.85
"""Above a bias cue, below one word of the lexicon."""

_GRAMMAR = word_set(
    "a an the of in on at to by with and or as is are was were be been it its his her their who that which one from "
    "into out over under for this while after before up off has have had"
)


class ExemplarRetriever:
    """Which principles' exemplars a prompt resembles.

    Args:
        entries: the principles; those without exemplars are never found.
    """

    def __init__(self, entries: Sequence[Entry]) -> None:
        self._exemplars = [(entry, text) for entry in entries for text in entry.exemplars]
        self._words = [{_stem(token.text) for token in _content(tokens(text))} for _, text in self._exemplars]
        self._vocabulary = frozenset().union(*self._words)

    @functools.cached_property
    def _index(self) -> tuple[Any, list[float]]:
        """The index, and each exemplar's score against itself: made for the first prompt that shares enough words."""
        import bm25s  # here, because it brings numpy and scipy, and most prompts need neither

        index = bm25s.BM25()
        index.index([sorted(words) for words in self._words], show_progress=False)
        return index, [float(index.get_scores(sorted(words))[i]) for i, words in enumerate(self._words)]

    def __call__(self, prompt: str) -> dict[str, tuple[Evidence, ...]]:
        """The evidence for every principle that an exemplar calls for, by id."""
        words = tokens(prompt)
        asked = {_stem(token.text) for token in _content(words)}
        asked &= self._vocabulary
        if len(asked) < MIN_WORDS or any(word.text in NEGATORS for word in words):
            return {}
        index, full_scores = self._index
        scores = index.get_scores(sorted(asked))
        found: dict[str, tuple[float, tuple[Evidence, ...]]] = {}
        for (entry, text), own, full, score in zip(self._exemplars, self._words, full_scores, scores, strict=True):
            share = float(score) / full
            shared = [token for token in _content(words) if _stem(token.text) in own]
            if share < MIN_SHARE or len({_stem(token.text) for token in shared}) < MIN_WORDS:
                continue
            if share > found.get(entry.principle.id, (0.0,))[0]:
                reason = f"as in '{text}', which calls for '{entry.principle.text}' (BM25, {share:.0%})"
                evidence = tuple(Evidence(prompt[t.start : t.end], t.start, t.end, reason) for t in shared)
                found[entry.principle.id] = share, evidence
        return {id: evidence for id, (_, evidence) in found.items()}


def _content(words: Sequence[Token]) -> list[Token]:
    return [word for word in words if word.text not in _GRAMMAR]


def _stem(word: str) -> str:
    for ending in ("ing", "ed", "es", "s"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            word = word[: -len(ending)]
            break
    if len(word) > 3 and word[-1] == word[-2]:
        word = word[:-1]
    return word.removesuffix("e") if len(word) > 3 else word
