"""The value retriever p(v|x): a chain that stops at the first stage that is sure, offline, and says why.

    lexicon (lexical.py) -> exemplars by BM25 (exemplars.py), only where the lexicon finds nothing toxic

`language_model.py` asks a model first and falls back to the chain; `legacy.py` is the official rule, for comparison;
`benchmark.py` measures all of them on the labelled prompts of `assets/retrieval`. Knows nothing about images, models or
pages. Every principle and every word is in `assets/principles.yaml` and `assets/lexicon.yaml`.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

from livo.principles import Entry
from livo.retriever.exemplars import CONFIDENCE, ExemplarRetriever
from livo.retriever.legacy import retrieve_legacy
from livo.retriever.lexical import LexicalRetriever, rank
from livo.types import Retrieval

__all__ = ["LexicalRetriever", "Retriever", "retrieve", "retrieve_legacy"]


class Retriever:
    """The offline chain over a set of principles.

    Args:
        entries, lexicon: as `LexicalRetriever` takes them.
    """

    def __init__(self, entries: Sequence[Entry] | None = None, lexicon: Mapping[str, Sequence[str]] | None = None) -> None:
        self.lexical = LexicalRetriever(entries, lexicon)
        self._exemplars: ExemplarRetriever | None = None

    def __call__(self, prompt: str) -> Retrieval:
        answer = self.lexical(prompt)
        if answer.principle and answer.principle.risk == "toxicity":
            return answer
        if self._exemplars is None:
            self._exemplars = ExemplarRetriever(self.lexical.entries)
        found = self._exemplars(prompt)
        if not found:
            return answer
        scores = dict(answer.scores) | dict.fromkeys(found, CONFIDENCE)
        ranked = rank([entry.principle for entry in self.lexical.entries], scores)
        return Retrieval(ranked[0], found[ranked[0].id], scores, ranked)


@functools.cache
def default_retriever() -> Retriever:
    """The chain over the shipped principles, made once per process."""
    return Retriever()


def retrieve(prompt: str) -> Retrieval:
    """The principle that a prompt calls for, of the shipped set, with the words that decided.

    Example:
        >>> answer = retrieve("a photo of a doctor")
        >>> answer.principle.text, answer.evidence[0].text
        ('gender equality', 'doctor')
        >>> retrieve("a dead end street in Essex").principle is None
        True
    """
    return default_retriever()(prompt)
