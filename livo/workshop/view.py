"""What pages are told, as JSON: lessons, steps, rooms. Before a question is closed nothing here says what it reveals."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from livo.workshop.lesson import Ask, Lesson, Step
from livo.workshop.markdown import inline, to_html
from livo.workshop.pack import Pack
from livo.workshop.room import FEWEST, Room, tally

SHEET_COLUMNS = 10
"""Pictures in a row of a sheet, as `livo.workshop.build` stores them."""
Answers = Callable[[str], Mapping[str, Any]]
"""A question's id -> {"mine": value or None, "tally": see `tally`, or None}."""


def lesson_card(lesson: Lesson) -> dict[str, Any]:
    """A lesson in a list."""
    return {
        "id": lesson.id,
        "order": lesson.order,
        "title": lesson.title,
        "goal": lesson.goal,
        "minutes": lesson.minutes,
    }


def solo_json(lesson: Lesson, pack: Pack) -> dict[str, Any]:
    """A whole lesson for one person alone; the page keeps back what is to be found out."""
    return lesson_card(lesson) | {
        "intro": to_html(pack.fill(lesson.intro)),
        "words": dict(lesson.words),
        "steps": [step_json(step, pack, reveal=True) for step in lesson.steps],
    }


def step_json(step: Step, pack: Pack, *, reveal: bool, answers: Answers | None = None) -> dict[str, Any]:
    """A step as students see it.

    Args:
        reveal: whether its own question is closed.
        answers: of earlier questions that its widgets come back to.
    """
    told: dict[str, Any] = {
        "kind": step.kind,
        "title": pack.fill(step.title),
        "minutes": step.minutes,
        "html": to_html(pack.fill(step.text)),
        "ask": _ask_json(step.ask, pack, reveal) if step.ask else None,
        "show": [],
    }
    for widget in step.show:
        shown = pack.shown(widget)
        if answers and "ask" in widget:
            shown |= answers(widget["ask"])
        told["show"].append(shown)
    return told


def _ask_json(ask: Ask, pack: Pack, reveal: bool) -> dict[str, Any]:
    told = {key: value for key, value in asdict(ask).items() if key not in ("right", "because", "truth", "album")}
    told["question"] = inline(pack.fill(ask.question))
    told["options"] = [pack.fill(option) for option in ask.options]
    if ask.album:
        album = pack.of("albums", ask.album)
        told["album"] = {"sheet": album["sheet"], "count": len(album["pictures"])}
    if reveal:
        told |= {"because": to_html(pack.fill(ask.because)), "right": list(ask.right)}
        if ask.truth:
            told["truth"] = pack.number(ask.truth)
    return told


def room_json(room: Room, pack: Pack, visitor: str = "") -> dict[str, Any]:
    """A room as a visitor sees it; without a visitor, as the projector does.

    Args:
        visitor: as the store knows them.
    """
    lesson = room.lesson
    running = room.phase in ("open", "closed")
    told: dict[str, Any] = {
        "lesson": lesson_card(lesson),
        "school": room.school,
        "phase": "ended" if room.over else room.phase,
        "hidden": room.hidden,
        "covered": room.covered,
        "place": list(room.place),
        "of": len(lesson.steps),
        "changes": room.changes,
        "step": None,
    }
    if not running or room.hidden or room.over:
        return told
    told["step"] = step_json(room.step, pack, reveal=room.phase == "closed", answers=_earlier(room, visitor))
    if room.step.ask:
        told |= _answers_at(room, room.place, room.step.ask, visitor)
    return told


def host_json(room: Room, pack: Pack, here: int) -> dict[str, Any]:
    """A room as its facilitator sees it."""
    told = room_json(room, pack)
    lesson, index = room.lesson, min(room.index, len(room.lesson.steps) - 1)
    if told["step"] is None and not room.over:  # hidden screens hide nothing here
        told["step"] = step_json(room.step, pack, reveal=room.phase == "closed", answers=_earlier(room, ""))
    return told | {
        "steps": [
            {"kind": step.kind, "title": pack.fill(step.title), "minutes": step.minutes, "asks": step.ask is not None}
            for step in lesson.steps
        ],
        "index": index,
        "notes": to_html(pack.fill(lesson.steps[index].notes)),
        "answered": len(room.answers_at(room.place)),
        "here": here,
        "fewest": FEWEST,
        "lessons": [lesson_card(one) for one in room.lessons.values()],
    }


def _answers_at(room: Room, place: tuple[int, int, int], ask: Ask, visitor: str) -> dict[str, Any]:
    values = room.answers_at(place)
    closed = place in room.closed and not (place == room.place and room.phase == "open")
    return {"mine": values.get(visitor), "tally": tally(ask, list(values.values())) if closed else None}


def _earlier(room: Room, visitor: str) -> Answers:
    """The last round of another step's question."""

    def of(id: str) -> dict[str, Any]:
        for index, step in enumerate(room.lesson.steps):
            if step.ask and step.ask.id == id:
                place = (room.run, index, room.rounds.get((room.run, index), 0))
                return _answers_at(room, place, step.ask, visitor)
        return {"mine": None, "tally": None}  # its step is not there in school mode

    return of
