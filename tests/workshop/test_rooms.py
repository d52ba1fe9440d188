"""Rooms in memory: what bounds them, and that a failed write leaves nothing behind."""

from __future__ import annotations

import pytest

from livo.web.events import Draft, Refused
from livo.workshop import rooms as module
from livo.workshop.room import MOST_PEOPLE, number_of
from livo.workshop.rooms import HERE_SECONDS, answer_draft


@pytest.fixture
def clock(monkeypatch):
    now = [1_000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def test_those_who_left_are_no_longer_here_and_forged_visitors_fill_no_memory(workshop, clock):
    rooms = workshop.rooms
    for n in range(5 * MOST_PEOPLE):
        rooms.seen(1, str(n))
        assert len(rooms._here[1]) <= 2 * MOST_PEOPLE
    clock[0] += HERE_SECONDS + 1
    rooms.seen(1, "one")
    assert rooms.here(1) == 1


def test_rooms_in_which_nothing_happens_free_their_place(workshop, clock, monkeypatch):
    monkeypatch.setattr(module, "MOST_ROOMS", 2)
    rooms = workshop.rooms
    code, _ = rooms.open("two-rulers", True)
    used, _ = rooms.find(code)
    rooms.submit(used, Draft(used, "act-0001", "act", body={"act": "start", "at": 1})).result()
    rooms.open("two-rulers", True)
    with pytest.raises(Refused, match="as many rooms"):
        rooms.open("two-rulers", True)
    clock[0] += module.UNUSED_SECONDS + 1
    rooms.open("two-rulers", True)
    with pytest.raises(Refused, match="as many rooms"):
        rooms.open("two-rulers", True)  # the first one was used, and stays


def test_a_full_store_opens_no_room(workshop, monkeypatch):
    monkeypatch.setattr(module, "MOST_STORED", 1)
    workshop.rooms.open("two-rulers", True)
    with pytest.raises(Refused, match="as many rooms"):
        workshop.rooms.open("two-rulers", True)


def test_after_a_failed_write_the_state_is_what_the_store_holds(workshop, monkeypatch):
    rooms = workshop.rooms
    code, _ = rooms.open("guess-the-set", True)
    number, _ = rooms.find(code)
    rooms.submit(number, Draft(number, "act-0001", "act", body={"act": "start", "at": 1})).result()
    visitor = "0" * 32
    draft = answer_draft(number, code, visitor, {"key": "answer-1", "place": [1, 0, 0], "value": 3})

    def broken(*_):
        raise OSError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr("livo.web.events._row", broken)
        with pytest.raises(OSError):
            rooms.submit(number, draft).result()
    assert rooms.find(code)[1].answers_at((1, 0, 0)) == {} and number_of(code) == number
    assert rooms.submit(number, draft).result().number == 3 and len(rooms.find(code)[1].answers_at((1, 0, 0))) == 1
    assert rooms.store.verify() == []
