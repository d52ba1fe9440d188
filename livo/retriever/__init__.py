"""The value retriever p(v|x): a chain that stops at the first stage that is sure, offline, and says why.

    lexicon (lexical.py) -> exemplars by BM25 (exemplars.py) -> exemplars by sentence embeddings (dense.py), if wanted

Each stage is asked only where those before it found nothing toxic. `reasons.py` says why a principle was not the one.
`language_model.py` asks a model first and falls back to the chain; `legacy.py` is the official rule, for comparison;
`benchmark.py` measures all of them on the labelled prompts of `assets/retrieval`. Knows nothing about images, models or
pages. Every principle and every word is in `assets/principles.yaml` and `assets/lexicon.yaml`.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path

from livo.principles import Entry
from livo.retriever.dense import load_dense
from livo.retriever.exemplars import CONFIDENCE, ExemplarRetriever
from livo.retriever.legacy import retrieve_legacy
from livo.retriever.lexical import LexicalRetriever, rank
from livo.types import Retrieval

__all__ = ["LexicalRetriever", "Retriever", "retrieve", "retrieve_legacy"]


class Retriever:
    """The offline chain over a set of principles.

    Args:
        entries, lexicon: as `LexicalRetriever` takes them.
        dense: a folder that `train.retriever` wrote, for the stage by sentence embeddings; without one it is left out.

    Raises:
        InputError: the folder, or the embeddings it names, cannot be used.
    """

    def __init__(
        self,
        entries: Sequence[Entry] | None = None,
        lexicon: Mapping[str, Sequence[str]] | None = None,
        dense: str | Path = "",
    ) -> None:
        self.lexical = LexicalRetriever(entries, lexicon)
        self._dense = load_dense(dense, self.lexical.entries) if dense else None
        self._exemplars: ExemplarRetriever | None = None

    def __call__(self, prompt: str) -> Retrieval:
        answer = self.lexical(prompt)
        if answer.principle and answer.principle.risk == "toxicity":
            return answer
        if self._exemplars is None:
            self._exemplars = ExemplarRetriever(self.lexical.entries)
        found = {id: (CONFIDENCE, evidence) for id, evidence in self._exemplars(prompt).items()}
        if not found and self._dense:
            found = self._dense(prompt)
        if not found:
            return answer
        scores = dict(answer.scores) | {id: p for id, (p, _) in found.items()}
        ranked = rank([entry.principle for entry in self.lexical.entries], scores)
        # As with words, a toxic kind goes first, also where embeddings are less sure of it than a cue is of a bias.
        ranked = tuple(sorted(ranked, key=lambda principle: principle.id not in found))
        return Retrieval(ranked[0], found[ranked[0].id][1], scores, ranked)


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
