"""A room's state as a fold of its events, and which event may come next. Knows nothing of storage or HTTP.

A room runs a lesson step by step. A step that asks is open, then closed; only then is its tally shown, and only where
at least `FEWEST` people answered. Events: `room` first, then `act` of the facilitator and `answer` of visitors.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import Field, ValidationError

from livo.inputs import StrictModel
from livo.web.events import Draft, Event, Refused
from livo.workshop.lesson import Lesson, LessonStep
from livo.workshop.pack import Pack, check_value, simulated_value

ALPHABET = "CDFGHJKMNPQRTVWXY"
"""Letters of codes: none that looks like another letter or digit, and no vowels, so that no code is a word."""
LETTERS = 6
FEWEST = 5
"""People who must have answered before a tally is shown or stored in a summary."""
MOST_PEOPLE = 300
MOST_EVENTS = 20_000
MOST_ANSWERS = 400
"""One visitor's, in a room."""
IDLE = timedelta(hours=24)
"""After so long without an event a room is over."""
Act = Literal[
    "start", "close", "next", "back", "rerun", "hide", "show", "cover", "uncover", "lock", "unlock", "remove", "lesson",
    "end", "reopen", "countdown", "pace", "rehearse", "real",
]  # fmt: skip
ACTS: tuple[str, ...] = get_args(Act)
ALWAYS = ("hide", "show", "cover", "uncover", "lock", "unlock", "pace")
"""Acts that mean the same wherever the room is: they are never too late."""
LONGEST_COUNTDOWN = 3_600
"""Seconds."""
PACES = (0, 60, 150, 400)
"""Milliseconds from one picture to the next when they are turned over; 0 for all at once."""
SIMULATED = 20
"""Pupils of a rehearsal."""
BINS = 10

Place = tuple[int, int, int]
"""Run of a lesson, step in it, round of the step."""
_Count = Annotated[int, Field(ge=0, lt=100_000)]


class RoomBody(StrictModel):
    """Of a room's first event; `secret` is the digest of the facilitator's, `language` that of its pages."""

    lesson: str
    school: bool
    secret: str
    language: str = ""


class ActBody(StrictModel):
    """What the facilitator did, in which state of the room (`changes`)."""

    act: Act
    at: int | None = None
    lesson: str | None = None
    value: int | None = None


class LessonAnswerBody(StrictModel):
    """An answer; whether the value answers the question is `livo.workshop.pack.check_value`'s."""

    place: Annotated[tuple[_Count, _Count, _Count], Field(strict=False)]
    value: Any


Read = TypeVar("Read", bound=StrictModel)


def number_of(code: str) -> int | None:
    """A room's number in the store; None where this is no code. Small letters, spaces and hyphens are forgiven.

    Example:
        >>> number_of("ccc ccd")
        1
    """
    letters = code.upper().replace(" ", "").replace("-", "")
    if len(letters) != LETTERS or any(letter not in ALPHABET for letter in letters):
        return None
    return sum(ALPHABET.index(letter) * len(ALPHABET) ** i for i, letter in enumerate(reversed(letters)))


def code_of(number: int) -> str:
    """The code of a room's number."""
    letters = []
    for _ in range(LETTERS):
        number, place = divmod(number, len(ALPHABET))
        letters.append(ALPHABET[place])
    return "".join(reversed(letters))


@dataclass
class Room:
    """The state after some events; `fold` takes it further.

    Attributes:
        seen: events folded so far.
        changes: of them, those that every visitor sees.
        secret: digest of the facilitator's secret.
        phase: "waiting", "open", "closed" or "ended".
        rounds: of each (run, step), how often it was asked again.
        answers: value by visitor, of each place; of a game the visitor's tries.
        people: events by visitor.
        newcomers: those whose first answer is to the question at hand.
        locked: nobody new may answer.
        let_in: how often the facilitator let newcomers in again.
        removed: whose answers are gone, and who may give no more.
        before_end: the phase to which a room that has ended is reopened.
        deadline: when the open question is to be closed; None without a countdown.
        pace: of `PACES`.
        rehearsed: runs with simulated pupils; nothing of them is in a summary.
    """

    lessons: Mapping[str, Lesson]
    seen: int = 0
    changes: int = 0
    secret: str = ""
    school: bool = True
    language: str = ""
    lesson_id: str = ""
    run: int = 0
    index: int = 0
    phase: str = "waiting"
    hidden: bool = False
    covered: bool = False
    last: str = ""
    rounds: dict[tuple[int, int], int] = field(default_factory=dict)
    runs: list[str] = field(default_factory=list)
    answers: dict[Place, dict[str, Any]] = field(default_factory=dict)
    closed: set[Place] = field(default_factory=set)
    people: Counter[str] = field(default_factory=Counter)
    newcomers: set[str] = field(default_factory=set)
    locked: bool = False
    let_in: int = 0
    removed: set[str] = field(default_factory=set)
    before_end: str = "waiting"
    deadline: datetime | None = None
    pace: int = 150
    rehearsed: set[int] = field(default_factory=set)

    # --- what is ---------------------------------------------------------------------------------------------------

    @property
    def lesson(self) -> Lesson:
        """The lesson that runs, as this room sees it."""
        return self.lessons[self.lesson_id].for_room(self.school)

    @property
    def step(self) -> LessonStep:
        """The step at hand."""
        return self.lesson.steps[min(self.index, len(self.lesson.steps) - 1)]

    @property
    def place(self) -> Place:
        """Where the room is."""
        return (self.run, self.index, self.rounds.get((self.run, self.index), 0))

    @property
    def over(self) -> bool:
        """Whether it has ended, was left a day ago, or runs a lesson that is no longer there."""
        return self.phase == "ended" or self.left

    @property
    def left(self) -> bool:
        """Whether it was left a day ago, or runs a lesson that is no longer there."""
        if self.lesson_id not in self.lessons:
            return True
        return bool(self.last) and datetime.now(UTC) - datetime.fromisoformat(self.last) > IDLE

    @property
    def simulated(self) -> int:
        """How many simulated pupils take part now."""
        return SIMULATED if self.run in self.rehearsed else 0

    @property
    def seconds_left(self) -> float | None:
        """Of the countdown; None where none runs."""
        if self.deadline is None:
            return None
        return max(0.0, (self.deadline - datetime.now(UTC)).total_seconds())

    def answers_at(self, place: Place) -> dict[str, Any]:
        """Values by visitor."""
        return self.answers.get(place, {})

    def values_at(self, place: Place, pack: Pack) -> list[Any]:
        """All values, those of simulated pupils last: they are computed where they are shown, and never stored."""
        values = list(self.answers_at(place).values())
        ask = self.lesson.steps[place[1]].ask if place[1] < len(self.lesson.steps) else None
        if place[0] not in self.rehearsed or ask is None or place[1] > self.index:
            return values
        return values + [simulated_value(ask, pack, random.Random(f"{place} {n}")) for n in range(SIMULATED)]

    # --- what happens ----------------------------------------------------------------------------------------------

    def fold(self, events: Sequence[Event]) -> None:
        """Takes in what came after the events seen so far."""
        for event in events[self.seen :]:
            self.seen += 1
            self.last = event.at
            if event.kind == "answer":
                answer = LessonAnswerBody.model_validate(event.body)
                if event.actor not in self.people:
                    self.newcomers.add(event.actor)
                self.people[event.actor] += 1
                values = self.answers.setdefault(answer.place, {})
                if isinstance(answer.value, dict):  # a try, see `livo.workshop.traps.kept`: each of them counts
                    values[event.actor] = [*values.get(event.actor, []), answer.value]
                else:
                    values[event.actor] = answer.value
                continue
            self.changes += 1
            if event.kind == "room":
                opened = RoomBody.model_validate(event.body)
                self.secret, self.school, self.language = opened.secret, opened.school, opened.language
                self._begin(opened.lesson)
            else:
                self._act(ActBody.model_validate(event.body), datetime.fromisoformat(event.at))

    def _remove(self) -> None:
        """Takes everybody out who came with the question at hand, and lets nobody new in."""
        self.removed |= self.newcomers
        self.locked = True
        for values in self.answers.values():
            for visitor in self.newcomers & values.keys():
                del values[visitor]

    def _begin(self, lesson: str) -> None:
        self.lesson_id, self.index, self.phase = lesson, 0, "waiting"
        self.deadline = None
        self.run += 1
        self.runs.append(lesson)

    def _act(self, body: ActBody, at: datetime) -> None:
        act = body.act
        if act == "countdown":
            self.deadline = at + timedelta(seconds=body.value) if body.value else None
            return
        if act == "pace":
            self.pace = body.value or 0
            return
        if act in ("lock", "unlock"):
            self.let_in += act == "unlock" and self.locked
            self.locked = act == "lock"
            return
        if act == "remove":
            self._remove()
        if act in ("start", "next", "back", "rerun", "lesson", "remove"):
            self.newcomers = set()
        if act in ("start", "close", "next", "back", "rerun", "end"):
            self.deadline = None
        if act == "lesson":
            self._begin(body.lesson or "")
        elif act in ("rehearse", "real"):
            self._begin(self.lesson_id)
            if act == "rehearse":
                self.rehearsed.add(self.run)
        elif act in ("hide", "show"):
            self.hidden = act == "hide"
        elif act in ("cover", "uncover"):
            self.covered = act == "cover"
        elif act == "start":
            self.index, self.phase = 0, "open"
        elif act == "close":
            self.closed.add(self.place)
            self.phase = "closed"
        elif act in ("next", "back"):
            self.closed.add(self.place)
            self.index += 1 if act == "next" else -1
            self.phase = (
                "closed" if self.step.ask and self.place in self.closed else "open"
            )  # what was shown stays closed
        elif act == "rerun":
            key = (self.run, self.index)
            self.rounds[key] = self.rounds.get(key, 0) + 1
            self.phase = "open"
        elif act == "end":
            self.before_end, self.phase = self.phase, "ended"
        elif act == "reopen":
            self.phase = self.before_end

    # --- what may happen -------------------------------------------------------------------------------------------

    def check(self, draft: Draft, pack: Pack) -> None:
        """Whether an event may come next.

        Raises:
            Refused: it may not, with the reason for the person who sent it.
        """
        if self.left or (self.over and draft.body.get("act") != "reopen"):
            raise Refused(410, "over", "this room is over")
        if draft.kind == "act":
            self._check_act(draft)
        else:
            self._check_answer(draft, pack)

    def _check_act(self, draft: Draft) -> None:
        body = _read(ActBody, draft, "bad_act", f"a facilitator can: {', '.join(ACTS)}")
        if body.act not in ALWAYS and body.at != self.changes:
            raise Refused(409, "moved_on", "the room has moved on since this page was drawn; look, and press again")
        if body.act == "lesson" and body.lesson not in self.lessons:
            raise Refused(422, "bad_act", f"there is no such lesson; there are: {', '.join(self.lessons)}")
        if body.act == "pace" and body.value not in PACES:
            raise Refused(422, "bad_act", f"the speed is one of {', '.join(map(str, PACES))} ms")
        if body.act == "countdown" and not 0 <= (body.value or 0) <= LONGEST_COUNTDOWN:
            raise Refused(422, "bad_act", f"a countdown has 0 to {LONGEST_COUNTDOWN} seconds; 0 stops it")
        running = self.phase in ("open", "closed")
        allowed = {
            "countdown": self.phase == "open" and self.step.ask is not None,
            "rehearse": self.phase == "waiting",
            "real": bool(self.simulated),
            "start": self.phase == "waiting",
            "close": self.phase == "open" and self.step.ask is not None,
            "next": running and self.index + 1 < len(self.lesson.steps),
            "back": running and self.index > 0,
            "rerun": self.phase == "closed",
            "remove": bool(self.newcomers),
            "reopen": self.phase == "ended",
        }.get(body.act, True)
        if not allowed:
            raise Refused(409, "not_now", f"“{body.act}” cannot be done now")

    def _check_answer(self, draft: Draft, pack: Pack) -> None:
        if self.seen >= MOST_EVENTS:
            raise Refused(429, "full", "this room has taken all the answers it can: open another one")
        body = _read(LessonAnswerBody, draft, "bad_step", "an answer has a value, and its step as [run, step, round]")
        if body.place != self.place or self.phase != "open" or self.step.ask is None:
            raise Refused(409, "closed", "this question is closed; the answer came too late and was not counted")
        if not check_value(self.step.ask, body.value, pack):
            raise Refused(422, "bad_value", "this is no answer to the question: choose one of what the page offers")
        if draft.actor in self.removed:
            raise Refused(403, "removed", "this device was taken out of the room: ask the facilitator")
        if draft.actor not in self.people and self.locked:
            raise Refused(403, "locked", "the room is locked, so that nobody new can answer: ask the facilitator")
        if draft.actor not in self.people and len(self.people) - len(self.removed) >= MOST_PEOPLE:
            raise Refused(429, "full", f"a room holds {MOST_PEOPLE} people")
        if self.people[draft.actor] >= MOST_ANSWERS:
            raise Refused(429, "too_many", f"one visitor can give {MOST_ANSWERS} answers in a room")


def _read(form: type[Read], draft: Draft, code: str, wanted: str) -> Read:
    try:
        return form.model_validate(draft.body)
    except ValidationError as error:
        raise Refused(422, code, wanted) from error
