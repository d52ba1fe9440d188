"""What a class answered, as counts that no one person can be read from: on screens, in the summary and in the recap."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from livo.workshop.lesson import Ask, Lesson, LessonStep
from livo.workshop.pack import Pack
from livo.workshop.room import BINS, FEWEST, Room
from livo.workshop.translations import ENGLISH, Say
from livo.workshop.traps import board


def tally(ask: Ask, values: Sequence[Any], pack: Pack) -> dict[str, Any]:
    """What a class answered, as counts that no one person can be read from; only `n` where fewer than `FEWEST` did."""
    payload: dict[str, Any] = {"n": len(values), "enough": len(values) >= FEWEST}
    if not payload["enough"]:
        return {"n": None, "enough": False, "fewest": FEWEST}
    if ask.kind == "choice":
        payload["counts"] = [sum(value == k for value in values) for k in range(len(ask.options))]
    elif ask.kind == "prompt":
        payload |= board(pack.trap, values)
    elif ask.kind == "labels":
        payload["counts"] = [
            [sum(value[i] == k for value in values) for k in range(len(ask.options))] for i in range(len(values[0]))
        ]
    else:
        width = (ask.max - ask.min) / BINS
        places = [min(BINS - 1, int((value - ask.min) / width)) for value in values]
        payload["counts"] = [places.count(k) for k in range(BINS)]
        payload["edges"] = [round(ask.min + k * width, 2) for k in range(BINS + 1)]
        payload["median"] = statistics.median(values)
    return payload


@dataclass(frozen=True)
class Closed:
    """A question that was closed, with what the class answered: see `tally`."""

    lesson: Lesson
    run: int
    step: LessonStep
    ask: Ask
    turn: int
    tally: Mapping[str, Any]


def closed_questions(room: Room, pack: Pack, words: Mapping[str, Lesson] | None = None) -> Iterator[Closed]:
    """All questions of a room that were closed, but those of rehearsals; real answers only.

    Args:
        words: lessons in the reader's language, by id; those that are not there are English.
    """
    for run, lesson_id in enumerate(room.runs, 1):
        if run in room.rehearsed or lesson_id not in room.lessons:
            continue
        lesson = (words or {}).get(lesson_id, room.lessons[lesson_id]).for_room(room.school)
        for index, step in enumerate(lesson.steps):
            for turn in range(room.rounds.get((run, index), 0) + 1):
                place = (run, index, turn)
                if step.ask is not None and place in room.closed:
                    answers = list(room.answers_at(place).values())
                    yield Closed(lesson, run, step, step.ask, turn + 1, tally(step.ask, answers, pack))


COLUMNS = ("lesson", "run", "step", "round", "question", "item", "answer", "people", "of")


def summary_rows(
    room: Room, pack: Pack, words: Mapping[str, Lesson] | None = None, say: Say = ENGLISH
) -> list[list[str]]:
    """The class summary: a row an option, only of closed steps that at least `FEWEST` people answered."""
    rows = [[say(name) for name in COLUMNS]]
    for one in closed_questions(room, pack, words):
        head = [one.lesson.title, str(one.run), one.step.title, str(one.turn), one.ask.question]
        rows += tally_rows(head, one.ask, one.tally, say)
    return rows


def tally_rows(head: list[str], ask: Ask, payload: Mapping[str, Any], say: Say = ENGLISH) -> list[list[str]]:
    """Rows of one question; `head` stands before each."""
    if not payload["enough"]:
        return [[*head, "", say("fewer than {n} answers", n=FEWEST), "", ""]]
    n = str(payload["n"])
    if ask.kind == "labels":
        return [
            [*head, ask.items[i] if ask.items else say("picture {n}", n=i + 1), option, str(count), n]
            for i, counts in enumerate(payload["counts"])
            for option, count in zip(ask.options, counts, strict=True)
        ]
    if ask.kind == "prompt":
        return [
            [*head, say(trick), say("{method} fell", method=say(method)), str(count), str(tried)]
            for trick, counts, tried in zip(payload["tricks"], payload["counts"], payload["tried"], strict=True)
            for method, count in zip(payload["methods"], counts, strict=True)
        ]
    if ask.kind == "choice":
        return [
            [*head, "", option, str(count), n] for option, count in zip(ask.options, payload["counts"], strict=True)
        ]
    edges = payload["edges"]
    bins = [say("{low} to {high}", low=f"{low:g}", high=f"{high:g}") for low, high in itertools.pairwise(edges)]
    return [
        [*head, "", say("median"), f"{payload['median']:g}", n],
        *([*head, "", name, str(count), n] for name, count in zip(bins, payload["counts"], strict=True)),
    ]
