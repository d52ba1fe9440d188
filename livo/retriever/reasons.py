"""Why a principle was not the one: in one phrase, from the retriever's answer alone."""

from __future__ import annotations

from collections.abc import Sequence

from livo.retriever.lexical import either
from livo.types import Principle, Retrieval


def why_not(answer: Retrieval, principles: Sequence[Principle]) -> dict[str, str]:
    """The reason against every principle but the first that applies, by id.

    Example:
        >>> from livo.principles import load_principles
        >>> from livo.retriever import retrieve
        >>> why_not(retrieve("a photo of a female doctor"), load_principles())["gender_equality"]
        "the prompt says whether male or female: 'female'"
    """
    first = answer.principle
    return {p.id: _reason(p, answer) for p in principles if first is None or p.id != first.id}


def _reason(principle: Principle, answer: Retrieval) -> str:
    score, first = answer.scores.get(principle.id, 0.0), answer.principle
    if principle in answer.principles and first is not None:
        best = answer.scores[first.id]
        than = f"less sure than '{first.text}'"
        if score >= best:
            why = "which the list of principles has first" if score == best else "for what is toxic goes first"
            than = f"after '{first.text}', {why}"
        return f"applies too, {than} ({score:.2f} and {best:.2f})"
    if principle.risk == "toxicity":
        return "no word calls for it"
    said = f"says whether {either(principle.classes)}"
    if words := [item.text for item in answer.evidence if said in item.reason and f"nothing {said}" not in item.reason]:
        return f"the prompt {said}: " + ", ".join(f"'{word}'" for word in dict.fromkeys(words))
    if any(p.risk == "bias" for p in answer.principles):
        return f"the prompt {said}"
    return "no person is shown, or the prompt says which"
