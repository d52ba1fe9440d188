"""The live answers of a study, and what is missing: the events of all raters, read against their plans.

    StudyFolder + Store -> Answers

Withdrawn raters are in neither.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from livo.study.design import GOLD, RATING, TRAINING
from livo.study.items import Item
from livo.study.questions import NOT_LOOKED, Value
from livo.study.session import RaterProgress, Sessions
from livo.study.study_file import StudyFolder
from livo.web.events import Event


class EventSource(Protocol):
    """A store, or what could be read of one."""

    def events(self, stream: int | None = None) -> list[Event]:
        """All events, or a stream's, in the order in which they were stored."""

    def verify(self) -> list[str]:
        """What is wrong with them, a line each."""


@dataclass(frozen=True)
class Answer:
    """One live answer.

    Attributes:
        items: of the trial, the left one first.
        position: of the trial in the rater's order, from 0 on.
        reversed: the scale was drawn from its highest point on.
        revealed: a covered image was uncovered before the answer.
        shown: whether the page says that the picture was there; None of pages that did not say so.
    """

    rater: int
    kind: str
    items: tuple[Item, ...]
    question: str
    value: Value
    position: int
    of: int
    reversed: bool
    revealed: bool
    ms: float
    at: str
    key: str
    shown: bool | None = None

    @property
    def item(self) -> Item:
        return self.items[0]


@dataclass(frozen=True)
class Missing:
    """What became of the images that raters were to see, by method; and questions not answered of a covered one."""

    answered: int = 0
    skipped: int = 0
    opted_out: int = 0
    open: int = 0
    not_looked: int = 0


@dataclass(frozen=True)
class Answers:
    """All that a study gave.

    Attributes:
        rows: answers that count.
        unseen: answers about pictures that the rater saw covered only, to questions that need a look; in no figure.
    """

    folder: StudyFolder
    rows: Sequence[Answer]
    missing: Mapping[str, Missing]
    states: Mapping[int, RaterProgress]
    unseen: Sequence[Answer] = ()

    def of(self, question: str, kind: str = RATING) -> list[Answer]:
        """Answers to one question."""
        return [row for row in self.rows if row.question == question and row.kind == kind]

    def without(self, raters: Iterable[int]) -> Answers:
        """The same study, had those raters given nothing."""
        out = set(raters)
        return replace(self, rows=[row for row in self.rows if row.rater not in out])


def read_answers(folder: StudyFolder, store: EventSource) -> Answers:
    """The live answers of raters who have not withdrawn."""
    sessions = Sessions(folder)
    by_rater = defaultdict(list)
    for event in store.events():
        by_rater[event.stream].append(event)
    rows: list[Answer] = []
    unseen: list[Answer] = []
    missing: dict[str, Counter[str]] = defaultdict(Counter)
    states = {}
    for rater in range(folder.study.places):
        if rater >= folder.study.raters and rater not in by_rater:
            continue  # a place that nobody has taken
        now = sessions.progress(rater, by_rater.get(rater, []))
        states[rater] = now
        if now.withdrawn or not now.consented:
            continue
        plan = sessions.plan(rater, now.opted_out)
        counted = [trial for trial in plan.trials if trial.kind != TRAINING]
        for position, trial in enumerate(counted):
            items = tuple(folder.items[id] for id in trial.items)
            for question in trial.questions:
                answer = now.answers.get((trial.token, question))
                if answer is None:
                    continue
                revealed = now.revealed.get(trial.token, answer.number) < answer.number
                row = Answer(
                    rater, trial.kind, items, question, answer.body["value"], position, len(counted), plan.reversed,
                    revealed, answer.body.get("ms", 0), answer.at, answer.key, answer.body.get("shown"),
                )  # fmt: skip
                if row.value == NOT_LOOKED or (
                    trial.category and not revealed and folder.study.question(question).look
                ):
                    unseen.append(row)
                    for item in items:
                        missing[item.method]["not_looked"] += 1
                else:
                    rows.append(row)
            if trial.kind == GOLD:
                continue
            if trial.token in now.skipped:
                what = "skipped"
            elif now.done(trial, folder):
                what = "answered"
            else:
                what = "opted_out" if trial.category in now.hidden else "open"
            for item in items:
                missing[item.method][what] += 1
        if now.opted_out:
            for trial in sessions.plan(rater).trials:
                if trial.category in now.opted_out:
                    for id in trial.items:
                        missing[folder.items[id].method]["opted_out"] += 1
    return Answers(folder, rows, {method: Missing(**missing[method]) for method in folder.titles}, states, unseen)


def participation(states: Mapping[int, RaterProgress]) -> Counter[str]:
    """How many consented, stopped before the end, and withdrew."""
    counts: Counter[str] = Counter()
    for now in states.values():
        counts["consented"] += now.consented
        counts["stopped"] += now.stopped
        counts["withdrawn"] += now.withdrawn
    return counts
