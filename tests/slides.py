"""Every state of every lesson as the projector gets it, with a class of thirty that has answered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from livo.web.events import Event
from livo.workshop.lesson import Lesson
from livo.workshop.pack import Pack
from livo.workshop.room import Room
from livo.workshop.view import room_json

STATES = ("waiting", "open", "closed", "ended")


def states(lessons: Mapping[str, Lesson], pack: Pack) -> Iterator[tuple[str, dict[str, Any]]]:
    """(name, state) of all slides, first of each lesson the one that waits."""
    for lesson in lessons.values():
        room = Room(lessons)
        events: list[Event] = []

        def happen(kind: str, room: Room = room, events: list[Event] = events, **body: Any) -> dict[str, Any]:
            at = "2999-01-01T00:00:00+00:00"
            events.append(Event("", 1, len(events) + 1, "", "", kind, body, at, ""))
            room.fold(events)
            return room_json(room, pack) | {"answered": 28, "here": 30, "join": "http://192.168.178.200:7860/workshop/"}

        happen("room", lesson=lesson.id, school=False, secret="")
        yield f"{lesson.id}-waiting", happen("act", act="rehearse")
        state = happen("act", act="start")
        for number, step in enumerate(lesson.steps, 1):
            if number > 1:
                state = happen("act", act="next")
            yield f"{lesson.id}-{number}", state
            if step.ask:
                yield f"{lesson.id}-{number}-closed", happen("act", act="close")
