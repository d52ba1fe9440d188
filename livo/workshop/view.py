"""What pages are sent, as JSON: lessons, steps, rooms. What a question reveals comes after it is closed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from livo.workshop.lesson import Ask, Lesson, LessonStep
from livo.workshop.markdown import inline, to_html
from livo.workshop.pack import Pack
from livo.workshop.room import FEWEST, PACES, Place, Room
from livo.workshop.tallies import tally
from livo.workshop.traps import for_page

SHEET_COLUMNS = 10
"""Pictures in a row of a sheet, as `livo.workshop.build` stores them."""
AnswersTo = Callable[[str], Mapping[str, Any]]
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
        "steps": [step_json(step, pack, lesson, reveal=True) for step in lesson.steps],
    }


def step_json(
    step: LessonStep, pack: Pack, lesson: Lesson, *, reveal: bool, answers: AnswersTo | None = None, school: bool = True
) -> dict[str, Any]:
    """A step as students see it.

    Args:
        reveal: whether its own question is closed.
        answers: of earlier questions that its widgets come back to.
        school: whether it is for schools.
    """
    payload: dict[str, Any] = {
        "kind": step.kind,
        "title": pack.fill(step.title),
        "minutes": step.minutes,
        "html": to_html(pack.fill(step.text)),
        "ask": _ask_json(step.ask, pack, reveal, school) if step.ask else None,
        "show": [],
    }
    for widget in step.show:
        shown = pack.shown(widget)
        if asked := lesson.ask(getattr(widget, "ask", "")):
            if answers:
                shown |= answers(asked.id)
            if asked.truth:
                shown["asked"] = asked.model_dump(include={"min", "max", "unit"}) | {"truth": pack.number(asked.truth)}
        payload["show"].append(shown)
    return payload


def _ask_json(ask: Ask, pack: Pack, reveal: bool, school: bool) -> dict[str, Any]:
    payload = ask.model_dump(exclude={"right", "because", "truth", "album"})
    payload["question"] = inline(pack.fill(ask.question))
    payload["options"] = [pack.fill(option) for option in ask.options]
    if ask.album:
        album = pack.of("albums", ask.album)
        payload["album"] = {"sheet": album["sheet"], "count": len(album["pictures"])}
    if ask.kind == "prompt":
        payload["trap"] = for_page(pack.trap, school)
    if reveal:
        payload |= {"because": to_html(pack.fill(ask.because)), "right": list(ask.right)}
        if ask.truth:
            payload["truth"] = pack.number(ask.truth)
    return payload


def room_json(room: Room, pack: Pack, visitor: str = "", words: Mapping[str, Lesson] | None = None) -> dict[str, Any]:
    """A room as a visitor sees it; without a visitor, as the projector does.

    Args:
        visitor: as the store knows them.
        words: lessons in the visitor's language, by id; those that are not there are English.
    """
    lesson = _in(words, room)
    running = room.phase in ("open", "closed")
    payload: dict[str, Any] = {
        "lesson": lesson_card(lesson),
        "school": room.school,
        "language": room.language,
        "phase": "ended" if room.over else room.phase,
        "hidden": room.hidden,
        "covered": room.covered,
        "place": list(room.place),
        "of": len(lesson.steps),
        "changes": room.changes,
        "step": None,
        "pace": room.pace,
        "left": room.seconds_left,
        "simulated": room.simulated,
    }
    if not running or room.hidden or room.over:
        return payload
    payload["step"] = _step_now(room, pack, visitor, lesson)
    if room.step.ask:
        payload |= _answers_at(room, pack, room.place, room.step.ask, visitor)
    return payload


def _in(words: Mapping[str, Lesson] | None, room: Room) -> Lesson:
    """The room's lesson in these words."""
    return words[room.lesson_id].for_room(room.school) if words and room.lesson_id in words else room.lesson


def _step_now(room: Room, pack: Pack, visitor: str, lesson: Lesson) -> dict[str, Any]:
    reveal = room.phase == "closed"
    step = lesson.steps[min(room.index, len(lesson.steps) - 1)]
    answers = _earlier(room, pack, visitor)
    return step_json(step, pack, lesson, reveal=reveal, answers=answers, school=room.school)


def host_json(room: Room, pack: Pack, here: int, words: Mapping[str, Lesson] | None = None) -> dict[str, Any]:
    """A room as its facilitator sees it; `words` as in `room_json`."""
    payload = room_json(room, pack, words=words)
    lesson, index = _in(words, room), min(room.index, len(room.lesson.steps) - 1)
    if payload["step"] is None and not room.over:  # hidden screens hide nothing here
        payload["step"] = _step_now(room, pack, "", lesson)
    return payload | {
        "steps": [
            {"kind": step.kind, "title": pack.fill(step.title), "minutes": step.minutes, "asks": step.ask is not None}
            for step in lesson.steps
        ],
        "index": index,
        "notes": to_html(pack.fill(lesson.steps[index].notes)),
        "answered": len(room.answers_at(room.place)) + room.simulated,
        "here": here + room.simulated,
        "fewest": FEWEST,
        "paces": PACES,
        "locked": room.locked,
        "newcomers": len(room.newcomers),
        "lessons": [lesson_card((words or {}).get(one.id, one)) for one in room.lessons.values()],
    }


def _answers_at(room: Room, pack: Pack, place: Place, ask: Ask, visitor: str) -> dict[str, Any]:
    closed = place in room.closed and not (place == room.place and room.phase == "open")
    shown = closed or ask.kind == "prompt"  # the game's board is live
    return {
        "mine": room.answers_at(place).get(visitor),
        "tally": tally(ask, room.values_at(place, pack), pack) if shown else None,
    }


def _earlier(room: Room, pack: Pack, visitor: str) -> AnswersTo:
    """The last round of another step's question."""

    def of(id: str) -> dict[str, Any]:
        for index, step in enumerate(room.lesson.steps):
            if step.ask and step.ask.id == id:
                place = (room.run, index, room.rounds.get((room.run, index), 0))
                return _answers_at(room, pack, place, step.ask, visitor)
        return {"mine": None, "tally": None}  # its step is not there in school mode

    return of
