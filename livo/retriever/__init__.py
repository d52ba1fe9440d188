"""The value retriever p(v|x): a chain that stops at the first stage that is sure, offline, and says why.

    folding.py -> lexicon (lexical.py, things.py) -> exemplars by BM25 (exemplars.py) -> sentence embeddings (dense.py)

Each stage is asked only where those before it found nothing toxic; the last wherever its package is installed.
`reasons.py` says why a principle was not the one. `language_model.py` asks a model first and falls back to the chain;
`legacy.py` is the official rule, for comparison; `benchmark.py` measures all of them on the labelled prompts of
`assets/retrieval`. Knows nothing about images, models or pages. Every principle and every word is in
`assets/principles.yaml` and `assets/lexicon.yaml`.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from livo.principles import Entry
from livo.retriever.dense import AUTO, LANGUAGES, DenseRetriever, find_head, load_dense, load_head
from livo.retriever.exemplars import CONFIDENCE, ExemplarRetriever
from livo.retriever.folding import fold
from livo.retriever.legacy import retrieve_legacy
from livo.retriever.lexical import LexicalRetriever, rank
from livo.types import InputError, Retrieval

__all__ = ["LexicalRetriever", "Retriever", "retrieve", "retrieve_legacy"]

logger = logging.getLogger(__name__)


class Retriever:
    """The offline chain over a set of principles.

    Args:
        entries, lexicon: as `LexicalRetriever` takes them.
        dense: for the stage by sentence embeddings: "use", a folder that `train.retriever` wrote, "none", or "auto":
            "use" where its package is installed.

    Raises:
        InputError: the head, or the embeddings it names, cannot be used; with "auto" a warning says so instead.
    """

    def __init__(
        self,
        entries: Sequence[Entry] | None = None,
        lexicon: Mapping[str, Sequence[str]] | None = None,
        dense: str | Path = "none",
    ) -> None:
        self.lexical = LexicalRetriever(entries, lexicon)
        self._head, self._auto = find_head(str(dense)), dense == AUTO
        self._dense: DenseRetriever | None = None
        if self._head and not self._auto:
            self._dense = load_dense(self._head, self.lexical.entries)
        self._exemplars: ExemplarRetriever | None = None

    @property
    def languages(self) -> tuple[str, ...]:
        """Names of the languages that it knows something of, English first."""
        codes = load_head(self._head).languages if self._head else ()
        return (LANGUAGES["en"], *sorted(LANGUAGES.get(code, code) for code in codes if code != "en"))

    def __call__(self, prompt: str) -> Retrieval:
        folded = fold(prompt, self.lexical.known_words)
        if folded.text == prompt:
            return self._ask(prompt)
        return folded.point_back(self._ask(folded.text), prompt)

    def _ask(self, prompt: str) -> Retrieval:
        answer = self.lexical(prompt)
        if answer.principle and answer.principle.risk == "toxicity":
            return answer
        if self._exemplars is None:
            self._exemplars = ExemplarRetriever(self.lexical.entries)
        found = {id: (CONFIDENCE, evidence) for id, evidence in self._exemplars(prompt).items()}
        if not found:
            english = self.lexical.reads_english(prompt)
            # An English prompt about which words had something to say is understood: a head would err more often there.
            understood = english and (answer.principle or answer.evidence)
            if not understood and (dense := self._dense_stage()):
                found = dense(prompt, english)
        if not found or (answer.principle and self._bias_only(found)):
            return answer
        scores = dict(answer.scores) | {id: p for id, (p, _) in found.items()}
        ranked = rank([entry.principle for entry in self.lexical.entries], scores)
        # As with words, a toxic kind goes first, also where embeddings are less sure of it than a cue is of a bias.
        ranked = tuple(sorted(ranked, key=lambda principle: principle.id not in found))
        return Retrieval(ranked[0], found[ranked[0].id][1], scores, ranked)

    def _bias_only(self, found: Mapping[str, object]) -> bool:
        return not any(e.risk == "toxicity" and e.id in found for e in self.lexical.entries)

    def _dense_stage(self) -> DenseRetriever | None:
        """Loaded when it is first asked, so that nothing waits for it that has words."""
        if self._dense is None and self._head and self._auto:
            try:
                self._dense = load_dense(self._head, self.lexical.entries)
            except InputError as error:
                logger.warning("the retriever goes on without sentence embeddings: %s", error)
                self._head = None
        return self._dense


@functools.cache
def default_retriever() -> Retriever:
    """The chain over the shipped principles, made once per process."""
    return Retriever(dense=AUTO)


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
