"""All rooms of a server: their events on disk (`livo.web.events`, committed before the receipt), their state in memory.

A room's number in the store is its code. Nothing personal is kept: a visitor is a digest of a random word that the
browser made, another one in every room.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from livo.types import InputError
from livo.web.events import Draft, Event, Refused, Store
from livo.web.guard import Buckets
from livo.workshop.lesson import Lesson
from livo.workshop.pack import Pack
from livo.workshop.room import ALPHABET, IDLE, LETTERS, MOST_PEOPLE, Room, code_of, number_of

FILE = "rooms.sqlite"
STUDY = "workshop"
MOST_ROOMS = 200
"""Rooms that may be in use at once; older ones free their place after `livo.workshop.room.IDLE`."""
MOST_STORED = 2_000_000
"""Events that one store takes, about 600 MB, before it opens no further room."""
UNUSED_SECONDS = 3_600.0
"""After so long a room in which nothing ever happened frees its place."""
OPENINGS = (10, 0.05)
"""Rooms that one address may open at once, and how many more a second."""
ANSWERS = (12, 2.0)
"""The same for one visitor's answers."""
HERE_SECONDS = 12.0
"""How long after a visitor's last question for news the page counts them as here."""


class Rooms:
    """The rooms of one store.

    Args:
        folder: where the store lies, made where it is missing.

    Attributes:
        lock: held while a room's state is read or changed.

    Raises:
        InputError: the folder cannot be written, or the store was written by a newer program.
    """

    def __init__(self, folder: Path, lessons: Sequence[Lesson], pack: Pack) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"rooms cannot be stored in {folder} ({error.strerror}): give another folder with --rooms"
            ) from error
        self.lessons: Mapping[str, Lesson] = {lesson.id: lesson for lesson in lessons}
        self.pack = pack
        self.store = Store(f"sqlite:///{folder / FILE}", STUDY)
        self._rooms: dict[int, Room] = {}
        self.lock = threading.RLock()
        self._here: dict[int, dict[str, float]] = {}
        self._openings, self._answers = Buckets(*OPENINGS), Buckets(*ANSWERS)
        self._in_use: dict[int, float] = {}
        self._stored = 0
        self._load()

    def _load(self) -> None:
        """Which rooms are in use; only theirs are looked at before somebody asks."""
        last: dict[int, list[Event]] = {}
        for event in self.store.events():
            last.setdefault(event.stream, []).append(event)
            self._stored += 1
        for number, events in last.items():
            room = Room(self.lessons)
            room.fold(events)
            if not room.over:
                self._rooms[number] = room
                self._in_use[number] = time.monotonic()

    # --- finding a room ----------------------------------------------------------------------------------------------

    def find(self, code: str) -> tuple[int, Room]:
        """A room by its code.

        Raises:
            Refused: there is none.
        """
        number = number_of(code)
        if number is None:
            raise Refused(404, "no_room", f"a room's code has {LETTERS} of the letters {ALPHABET}; check it")
        with self.lock:
            if (room := self._rooms.get(number)) is None:
                events = self.store.events(number)
                if not events:
                    raise Refused(404, "no_room", "no room has this code; check the letters, or ask who opened it")
                room = Room(self.lessons)
                room.fold(events)
                self._rooms[number] = room
        return number, room

    def check_secret(self, room: Room, secret: str) -> None:
        """Whether this is the facilitator.

        Raises:
            Refused: it is not.
        """
        if not hmac.compare_digest(_digest("facilitator", secret), room.secret):
            raise Refused(
                401, "no_secret", "this is not the facilitator's link of this room: open the one that opening it gave"
            )

    def seen(self, number: int, visitor: str) -> None:
        """A visitor asked for news."""
        with self.lock:
            there = self._here.setdefault(number, {})
            there[visitor] = time.monotonic()
            if len(there) > 2 * MOST_PEOPLE:
                self.here(number)

    def here(self, number: int) -> int:
        """How many visitors asked for news a moment ago."""
        with self.lock:
            now = time.monotonic()
            there = {name: at for name, at in self._here.get(number, {}).items() if now - at < HERE_SECONDS}
            self._here[number] = dict(sorted(there.items(), key=lambda one: one[1])[-MOST_PEOPLE:])
            return len(self._here[number])

    # --- events ------------------------------------------------------------------------------------------------------

    def open(self, lesson: str, school: bool, asker: str = "", language: str = "") -> tuple[str, str]:
        """Opens a room; its code and the facilitator's secret.

        Args:
            asker: who opens it, as far as a network tells.
            language: of its pages; "" for English.

        Raises:
            Refused: there is no such lesson, or there are too many rooms.
        """
        if lesson not in self.lessons:
            raise Refused(422, "no_lesson", f"there is no such lesson; there are: {', '.join(self.lessons)}")
        with self.lock:
            now = time.monotonic()
            self._in_use = {n: at for n, at in self._in_use.items() if now - at < self._patience(n)}
            if len(self._in_use) >= MOST_ROOMS or self._stored >= MOST_STORED:
                raise Refused(
                    503,
                    "full",
                    "this server has as many rooms as it can hold: try again later, or run your own "
                    "(python app.py --lan)",
                )
            if not self._openings.take(asker):
                raise Refused(429, "too_fast", "many rooms were just opened here: wait a minute, and try again")
        secret = secrets.token_urlsafe(18)
        body = {"lesson": lesson, "school": school, "secret": _digest("facilitator", secret), "language": language}
        while True:
            number = secrets.randbelow(len(ALPHABET) ** LETTERS)
            try:
                self.store.append(Draft(number, "room", "room", body), _must_be_new)
            except Refused as refused:
                if refused.code in ("taken", "key_used"):
                    continue
                raise
            with self.lock:
                self._in_use[number] = time.monotonic()
                self._stored += 1
            return code_of(number), secret

    def _patience(self, number: int) -> float:
        """Seconds since its last event for which a room keeps its place."""
        room = self._rooms.get(number)
        if room is None or room.seen <= 1:
            return UNUSED_SECONDS
        return 0.0 if room.over else IDLE.total_seconds()

    def submit(self, number: int, draft: Draft) -> Future[Event]:
        """Stores an act or an answer; the future has it once it is durable, or raises `Refused`."""
        if draft.kind == "answer" and not self._answers.take(draft.actor):
            raise Refused(429, "too_fast", "these are more answers than one person gives: wait a few seconds")

        def check(draft: Draft, before: Sequence[Event]) -> None:
            with self.lock:
                room = self._rooms.setdefault(number, Room(self.lessons))
                room.fold(before)
                room.check(draft, self.pack)

        future = self.store.submit(draft, check)
        future.add_done_callback(lambda done: self._after(number, done))
        return future

    def _after(self, number: int, done: Future[Event]) -> None:
        """Takes a stored event in. After a failed write the state is read anew: it may hold what was never stored."""
        with self.lock:
            if (error := done.exception()) is None:
                self._rooms.setdefault(number, Room(self.lessons)).fold(self.store.latest(number))
                self._in_use[number] = time.monotonic()
                self._stored += 1
            elif not isinstance(error, Refused):
                self._rooms.pop(number, None)

    def close(self) -> None:
        """Writes what waits, and ends."""
        self.store.close()


def answer_draft(number: int, code: str, visitor: str, payload: Mapping[str, Any]) -> Draft:
    """An answer as a visitor's browser sent it.

    Raises:
        Refused: it has not the form of one.
    """
    key, place, value = payload.get("key"), payload.get("place"), payload.get("value")
    if not isinstance(key, str) or not re.fullmatch(r"[A-Za-z0-9-]{8,64}", key):
        raise Refused(422, "bad_key", "an answer has a key of 8 to 64 letters and digits")
    if set(payload) - {"key", "place", "value"}:
        raise Refused(422, "bad_answer", "an answer has a key, a place and a value, and nothing else")
    return Draft(number, key, "answer", {"place": place, "value": value}, visitor_of(code, visitor))


def visitor_of(code: str, visitor: str) -> str:
    """What is stored of a visitor.

    Raises:
        Refused: the browser sent no random word.
    """
    if not re.fullmatch(r"[0-9a-f]{32}", visitor):
        raise Refused(401, "no_visitor", "this browser has not joined the room: open the room's page")
    return _digest(code, visitor)[:32]


def _must_be_new(draft: Draft, before: Sequence[Event]) -> None:
    if before:
        raise Refused(409, "taken", "this code is taken")


def _digest(*words: str) -> str:
    return hashlib.sha256(" ".join(words).encode()).hexdigest()
