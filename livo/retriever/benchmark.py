"""The retriever measured on the labelled prompts of `assets/retrieval/prompts.jsonl` (its README is the data card).

    prompts -> answers -> right or wrong -> accuracy, error rates by group, precision and recall, calibration, time

An answer is right where its principle is one of the prompt's, or is none where the prompt has none. A prompt is wrongly
flagged where the answer is a principle that the prompt does not have.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from livo.measures.estimates import Estimate
from livo.measures.metrics import ratio
from livo.measures.tables import Cell, Table, figure
from livo.principles import ASSETS, load_principles
from livo.types import InputError, Retrieval

PROMPTS_PATH = ASSETS / "retrieval" / "prompts.jsonl"
SPLITS = ("dev", "test", "fresh", "final")
APART = "languages"
"""The group that is reported apart, by language: words know English alone."""
TOXIC_GROUPS = ("nudity", "bloody", "horror")


@dataclass(frozen=True)
class Labelled:
    """One prompt of the benchmark; `principles` are the right answers, none where the prompt needs no value."""

    prompt: str
    principles: tuple[str, ...]
    group: str
    family: str
    split: str
    language: str = "en"


def load_prompts(path: str | Path = PROMPTS_PATH, split: str = "all") -> tuple[Labelled, ...]:
    """The prompts of a split, in the file's order.

    Raises:
        InputError: the file cannot be read or a line is no labelled prompt; names the line.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise InputError(
            f"{path} cannot be read: {error.strerror}; restore it with 'git checkout -- assets'"
        ) from error
    known = {principle.id for principle in load_principles()}
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            row = Labelled(**(json.loads(line) | {"principles": tuple(json.loads(line)["principles"])}))
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path}: line {number} is no labelled prompt: {error}") from error
        if row.split not in SPLITS or not set(row.principles) <= known:
            raise InputError(f"{path}: line {number}: wanted a split of {SPLITS} and principles of {sorted(known)}")
        rows.append(row)
    return tuple(row for row in rows if split in ("all", row.split))


def measure(ask: Callable[[str], Retrieval], prompts: Sequence[Labelled]) -> dict[str, Any]:
    """The figures of a retriever; every count beside its number of prompts, group `languages` apart from all else.

    Raises:
        InputError: if there is no prompt.
    """
    asked = [row for row in prompts if row.group != APART]
    if not asked:
        raise InputError("there is no prompt to measure the retriever on")
    ask(asked[0].prompt)  # what is loaded once is not a prompt's time
    answers, seconds = {}, []
    for row in prompts:
        start = time.process_time()
        answers[row.prompt] = ask(row.prompt)
        seconds.append(time.process_time() - start)

    def right(row: Labelled) -> bool:
        found = answers[row.prompt].principle
        return found.id in row.principles if found else not row.principles

    def flagged(row: Labelled) -> bool:
        return answers[row.prompt].principle is not None and not right(row)

    toxic = [row for row in asked if row.group in TOXIC_GROUPS]
    groups = {}
    for group in dict.fromkeys(row.group for row in prompts):
        rows = [row for row in prompts if row.group == group]
        groups[group] = {"right": _share(map(right, rows)), "wrongly flagged": _share(map(flagged, rows))}
    kinds = {principle.id for principle in load_principles() if principle.risk == "toxicity"}
    languages = {}
    apart = [row for row in prompts if row.group == APART]
    for language in ("all", *sorted({row.language for row in apart})) if apart else ():
        rows = [row for row in apart if language in ("all", row.language)]
        calling = [row for row in rows if kinds & set(row.principles)]
        languages[language] = {
            "right": _share(map(right, rows)),
            "toxic, the right kind found": _share(map(right, calling)),
            "harmless, called toxic": _share(
                bool((p := answers[row.prompt].principle) and p.id in kinds) for row in rows if row not in calling
            ),
        }
    principles = {}
    for principle in load_principles():
        given = [row for row in asked if answers[row.prompt].principle == principle]
        wanted = [row for row in asked if row.principles[:1] == (principle.id,)]
        principles[principle.id] = {
            "precision": _share(principle.id in row.principles for row in given),
            "recall": _share(answers[row.prompt].principle == principle for row in wanted),
        }
    return {
        "accuracy": _share(map(right, asked)),
        "toxic recall": _share(map(right, toxic)),
        "groups": groups,
        "languages": languages,
        "principles": principles,
        "calibration": _calibration([(answers[row.prompt], right(row)) for row in asked]),
        "median ms": 1000 * statistics.median(seconds),
        "wrong": [
            {
                "prompt": row.prompt,
                "wanted": list(row.principles),
                "found": (p := answers[row.prompt].principle) and p.id,
            }
            for row in asked
            if not right(row)
        ],
    }


def _calibration(answers: Sequence[tuple[Retrieval, bool]]) -> dict[str, Any]:
    """Of answers with a principle: how often those of one confidence are right, and the mean square error (Brier)."""
    given = [(max(answer.scores.values()), right) for answer, right in answers if answer.principle]
    bins: dict[str, list[bool]] = {}
    for score, right in sorted(given):
        bins.setdefault(f"{score:.2f}", []).append(right)
    return {
        "brier": sum((score - right) ** 2 for score, right in given) / len(given) if given else None,
        "bins": {score: _share(rights) for score, rights in bins.items()},
        "none": _share(right for answer, right in answers if not answer.principle),
    }


def _share(hits: Iterable[bool]) -> dict[str, Any]:
    found = list(hits)
    share = ratio(sum(found), len(found)) if found else None
    return {"count": sum(found), "n": len(found), "interval": share and [share.low, share.high]}


def figures_table(figures: dict[str, dict[str, Any]]) -> Table:
    """One column a retriever, percentages with their Wilson 95 % intervals."""
    names, rows = list(figures), []

    def put(label: str, of: Callable[[dict[str, Any]], Cell]) -> None:
        rows.append((Cell(label), *(of(figures[name]) for name in names)))

    put("accuracy", lambda f: _percent(f["accuracy"]))
    put("toxic prompts: the right kind found", lambda f: _percent(f["toxic recall"]))

    def put_shares(part: str, name: str, what: str) -> None:
        label = f"other languages, {name}" if part == "languages" else name
        put(f"{label}: {what}", lambda f: _percent(f[part][name][what]))

    def put_confidence(score: str) -> None:
        put(f"right at confidence {score}", lambda f: _percent(f["calibration"]["bins"].get(score)))

    for group in figures[names[0]]["groups"]:
        for what in ("right", "wrongly flagged"):
            put_shares("groups", group, what)
    for language in figures[names[0]]["languages"]:
        for what in ("right", "toxic, the right kind found", "harmless, called toxic"):
            put_shares("languages", language, what)
    for id in figures[names[0]]["principles"]:
        for what in ("precision", "recall"):
            put_shares("principles", id, what)
    put("Brier score of the answers with a principle", lambda f: _number(f["calibration"]["brier"], 3))
    for score in sorted({score for f in figures.values() for score in f["calibration"]["bins"]}):
        put_confidence(score)
    put("right where none is given", lambda f: _percent(f["calibration"]["none"]))
    put("median time of a prompt, ms", lambda f: _number(f["median ms"], 2))
    return Table("retriever", "The retriever on labelled prompts", ("", *names), tuple(rows))


def _number(value: float | None, digits: int) -> Cell:
    return figure(None if value is None else Estimate(value), 1, digits)


def _percent(share: dict[str, Any] | None) -> Cell:
    if not share or not share["n"]:
        return Cell("-")
    low, high = share["interval"]
    found = Estimate(share["count"] / share["n"], low, high, share["n"])
    bounds = f"{100 * found.low:.0f}-{100 * found.high:.0f}"
    return Cell(f"{100 * found.value:.1f} % ({bounds}; {share['count']} of {share['n']})", found)
