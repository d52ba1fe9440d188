"""One link for all: whoever comes is given the next free place, and comes back to it; what raters take back at the end.

A place is a plan. A rater who left it without an end keeps what they gave, under their own number, and another rater
gets the same plan under a number of theirs: answers of two people are never one rater's.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from livo.study.design import TRAINING
from livo.study.session import RaterProgress, Sessions, is_right
from livo.study.study_file import CODE_ALPHABET, StudyFolder
from livo.web.events import ORGANISER, Draft, Event, Refused, Store

ARRIVED = "arrive"
PERSON = ("PROLIFIC_PID", "workerId")
"""Parameters that name a person; of others, the first that the study lists counts."""
LONGEST_PARAMETER = 128
Outcome = Literal["not_begun", "under_way", "completed", "stopped", "screened_out", "withdrawn"]
ENDED: tuple[Outcome, ...] = ("completed", "stopped", "screened_out")


def outcome_of(sessions: Sessions, rater: int, now: RaterProgress) -> Outcome:
    """How far a rater came."""
    if now.withdrawn:
        return "withdrawn"
    if not now.consented:
        return "not_begun"
    if is_screened_out(sessions, rater, now):
        return "screened_out"
    folder = sessions.folder
    counted = [trial for trial in sessions.plan(rater, now.opted_out).trials if trial.kind != TRAINING]
    rated = all(now.done(trial, folder) or trial.category in now.hidden for trial in counted)
    if rated and not is_training_open(sessions, rater, now):
        return "completed"
    return "stopped" if now.stopped else "under_way"


def is_training_open(sessions: Sessions, rater: int, now: RaterProgress) -> bool:
    """Whether the study has a pass mark, and the rater has not been through the training."""
    folder = sessions.folder
    trials = sessions.plan(rater, now.opted_out).trials if folder.study.training_pass else ()
    return not all(now.done(trial, folder) for trial in trials if trial.kind == TRAINING)


def is_screened_out(sessions: Sessions, rater: int, now: RaterProgress) -> bool:
    """Whether the training is over, and fewer of its questions were right at the first try than the study asks for."""
    folder = sessions.folder
    if not folder.study.training_pass or is_training_open(sessions, rater, now):
        return False
    trials = [trial for trial in sessions.plan(rater, now.opted_out).trials if trial.kind == TRAINING]
    firsts = [
        (trial, q, next(iter(now.tries.get((trial.token, q), ())), None)) for trial in trials for q in trial.questions
    ]
    right = sum(first is not None and is_right(trial, q, first.body["value"], folder) for trial, q, first in firsts)
    return right < folder.study.training_pass * len(firsts)


# --- what raters take back -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ending:
    """What a rater takes back.

    Attributes:
        receipt: of this rater and this outcome alone; `find_receipt` knows whose.
        back: the study's code for the outcome, or an address to return to; "" where there is none.
    """

    outcome: Outcome
    receipt: str
    back: str

    def to_json(self) -> dict[str, str]:
        """For the rater's page."""
        return {"outcome": self.outcome, "receipt": self.receipt, "back": self.back}


def ending_of(folder: StudyFolder, rater: int, outcome: Outcome) -> Ending | None:
    """What the rater takes back now; None before the end."""
    if outcome not in ENDED:
        return None
    return Ending(outcome, receipt_of(folder, rater, outcome), getattr(folder.study.codes, outcome))


def receipt_of(folder: StudyFolder, rater: int, outcome: Outcome) -> str:
    """Eight signs that only the holder of `secret.key` can make."""
    digits = folder.opaque("credit", rater, outcome)
    return "".join(CODE_ALPHABET[int(digits[i : i + 2], 16) % 32] for i in range(0, 16, 2))


def find_receipt(folder: StudyFolder, receipt: str) -> tuple[int, Outcome] | None:
    """Whose receipt it is, and of which outcome; None of one that was never given."""
    signs = "".join(sign for sign in receipt.upper() if sign not in " -")
    for rater in range(folder.study.places):
        for outcome in ENDED:
            if receipt_of(folder, rater, outcome) == signs:
                return rater, outcome
    return None


# --- who comes -------------------------------------------------------------------------------------------------------


class Places:
    """The places of a study with one link for all."""

    def __init__(self, folder: StudyFolder, store: Store, sessions: Sessions) -> None:
        self.folder, self.store, self.sessions = folder, store, sessions
        self._lock = threading.Lock()
        self._of: dict[str, int] = {}
        self._used: set[int] = set()
        for event in store.events():
            if event.stream != ORGANISER:
                self._used.add(event.stream)
            if event.kind == ARRIVED:
                self._of[event.body["visitor"]] = event.stream

    def arrive(self, parameters: Mapping[str, str], visitor: str) -> int:
        """The rater that somebody is: the one they were before, or the next.

        Args:
            parameters: of the link.
            visitor: a random word of their browser, for who comes without any.

        Raises:
            Refused: the study has no such link, or all places are taken.
        """
        if not self.folder.study.open_link:
            raise Refused(404, "no_open_link", "this study has a link for each rater: use yours")
        name = self._name_of(parameters, visitor)
        with self._lock:
            if name in self._of:
                return self._of[name]
            while True:
                rater = self._next()
                try:
                    self.store.append(Draft(rater, f"arrived-{name}", ARRIVED, {"visitor": name}), _must_be_new)
                except Refused as refused:
                    if refused.code != "taken":
                        raise
                    self._used.add(rater)  # by another process
                    continue
                self._of[name] = rater
                self._used.add(rater)
                return rater

    def _name_of(self, parameters: Mapping[str, str], visitor: str) -> str:
        known = self.folder.study.parameters
        given = next((n for n in (*PERSON, *known) if n in known and parameters.get(n)), None)
        if given:
            return self.folder.opaque("person", given, parameters[given])
        if not 16 <= len(visitor) <= 64 or not visitor.isalnum():
            raise Refused(422, "no_visitor", "this browser sent no word of its own: load the page again")
        return self.folder.opaque("visitor", visitor)

    def _next(self) -> int:
        study = self.folder.study
        plans = [list(range(first, study.places, study.raters)) for first in range(study.raters)]
        wanted = [1 + sum(extra % study.raters == p for extra in range(study.more_raters)) for p in range(study.raters)]
        fewest: tuple[int, int] | None = None
        for plan, numbers in enumerate(plans):
            begun = [number for number in numbers if number in self._used]
            if len(begun) < len(numbers) and sum(map(self._holds, begun)) < wanted[plan]:
                fewest = min(fewest or (len(begun), plan), (len(begun), plan))
        if fewest is None:
            raise Refused(409, "full", "all places of this study are taken: thank you; try again later")
        return next(number for number in plans[fewest[1]] if number not in self._used)

    def _holds(self, rater: int) -> bool:
        """Whether a rater still has the place: all was rated, or something was done a moment ago."""
        events = self.store.latest(rater)
        outcome = outcome_of(self.sessions, rater, self.sessions.progress(rater, events))
        if outcome in ("not_begun", "under_way"):
            return datetime.now(UTC) - last_of(events) < timedelta(minutes=self.folder.study.idle_minutes)
        return outcome == "completed"


def last_of(events: Sequence[Event]) -> datetime:
    """When something was stored last."""
    return datetime.fromisoformat(events[-1].at)


def _must_be_new(draft: Draft, before: Sequence[Event]) -> None:
    if before:
        raise Refused(409, "taken", "this place is taken")
