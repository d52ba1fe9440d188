"""What a prompt says is not there: "no blood", "not naked", "no blood or gore", "blood-free", "no naked people"."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from livo.retriever.phrases import REACH, Found
from livo.retriever.words import Token, word_set

NEGATORS = word_set(
    "no not without never non nor neither zero none nobody minus sans avoid avoiding exclude excluding lacking lack "
    "absence devoid cannot"
)
FILLERS = word_set(
    "a an any the at all even single drop drops trace traces sign signs hint amount of visible explicit actual real "
    "too so very much more be is are being been was were have has having show showing shown contain containing "
    "depict depicting include including see seen shows longer"
)
DETERMINERS = frozenset({"no", "without", "zero"})
FORBIDDEN = word_set("forbidden prohibited banned")
NOT_ALLOWED = word_set("allowed permitted tolerated")


def negations(
    tokens: Sequence[Token], triggers: Iterable[Found], persons: Iterable[Found]
) -> dict[Found, tuple[int, int]]:
    """What is negated, with the tokens (first, last) that show it: "no blood", "not naked", "no blood or gore",
    "without any people", "blood-free", "no naked people", "without ghosts or zombies", "nudity is forbidden"."""
    negated: dict[Found, tuple[int, int]] = {}
    triggers = list(triggers)
    kind = dict.fromkeys(triggers, "trigger") | dict.fromkeys(persons, "person")
    previous: Found | None = None
    for item in sorted(kind, key=lambda item: (item.first, item.last)):
        negator = _negator(tokens, item.first)
        after = tokens[item.last] if item.last < len(tokens) else None
        if negator is not None:
            negated[item] = (negator, item.last)
        elif kind[item] == "trigger" and after is not None and after.text == "free" and after.gap in ("-", "‑", "–"):
            negated[item] = (item.first, item.last + 1)
        elif kind[item] == "trigger" and (end := _forbidden(tokens, item.last)) is not None:
            negated[item] = (item.first, end)
        elif previous in negated:
            start = negated[previous][0]
            between = [token.text for token in tokens[previous.last : item.first]]
            marks = "".join(token.gap for token in tokens[previous.last : item.first + 1]).strip()
            if kind[previous] == kind[item]:
                joined = marks in ("", ",", "/") and (
                    between in ([], ["and"]) or (bool(between) and between[0] in ("or", "nor")
                    and all(word in FILLERS for word in between[1:]))
                )  # fmt: skip
                joined = joined and bool(between or marks)
            else:
                joined = False
            adjacent = not between and not marks and tokens[start].text in DETERMINERS
            if joined or adjacent:
                negated[item] = (start, item.last)
        previous = item
    return negated


def _negator(tokens: Sequence[Token], first: int) -> int | None:
    """The token that negates the phrase at `first`; two of them cancel out ("not without blood")."""
    negator = None
    for i in range(first - 1, max(first - 1 - REACH, -1), -1):
        if tokens[i + 1].breaks:
            break
        word = tokens[i].text
        if word in NEGATORS or word.endswith("n't") or (word == "free" and tokens[i + 1].text in ("of", "from")):
            negator = i if negator is None else None
        elif word in ("or", "nor") and i > 1 and tokens[i - 2].text in DETERMINERS and not tokens[i - 1].breaks:
            return i - 2  # of "without ghosts or", whatever the ghosts are
        elif word not in FILLERS and not (word == "from" and tokens[i - 1].text == "free"):
            break
    return negator


def _forbidden(tokens: Sequence[Token], last: int) -> int | None:
    """The end of "is forbidden" or "not allowed" right after a phrase."""
    after = []
    for token in tokens[last : last + 3]:
        if token.breaks:
            break
        after.append(token.text)
    start = 1 if after and after[0] in ("is", "are", "was", "were") else 0
    rest = after[start:]
    if rest and rest[0] in FORBIDDEN:
        return last + start + 1
    return last + start + 2 if len(rest) > 1 and rest[0] == "not" and rest[1] in NOT_ALLOWED else None
