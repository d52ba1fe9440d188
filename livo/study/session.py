"""A rater's session: what their events add up to, and which event may come next. Pure; no store, no web.

events -> RaterProgress;   Draft + events -> accepted, or `Refused` with the reason
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from livo.inputs import StrictModel
from livo.study.design import TRAINING, RaterPlan, Trial, plan_of
from livo.study.questions import NOT_LOOKED, Value, is_shown
from livo.study.study_file import StudyFolder
from livo.web.events import ORGANISER, WITHDRAWN, Draft, Event, Refused

TRAINING_TRIES = 2
LONGEST_MS = 86_400_000


# --- what an event holds besides its trial and question -------------------------------------------------------------


class EmptyBody(StrictModel):
    """Nothing; and nothing but what an event's kind has is ever taken."""


Milliseconds = Annotated[float, Field(ge=0, le=LONGEST_MS, allow_inf_nan=False)]


class ConsentBody(EmptyBody):
    """To the text of a version of the study's files; with what the link said of who came, such as PROLIFIC_PID."""

    adult: Literal[True]
    version: str
    language: str
    parameters: dict[str, Annotated[str, Field(max_length=128)]] = Field(default_factory=dict)


class OptionsBody(EmptyBody):
    """Kinds of content that the rater does not want to see."""

    opted_out: list[str]


class DemographicsBody(EmptyBody):
    """What the rater says of themselves, by question; what is left out was not said."""

    values: dict[str, Value]


class MoodBody(EmptyBody):
    """How the rater is, 5 the best."""

    value: Annotated[int, Field(ge=1, le=5)]


class UndoBody(EmptyBody):
    """The key of the act that is taken back."""

    of: str


class SkipBody(EmptyBody):
    """How long it was looked at."""

    ms: Milliseconds = 0


class AnswerBody(EmptyBody):
    """An answer.

    Attributes:
        ms: from the picture's being there to the answer.
        shown: whether the picture had been drawn when the answer was given; None of pages that did not say so.
        uncovered: whether a covered picture stood there uncovered at that moment.
        grey: whether it was shown without colours.
    """

    value: Value
    ms: Milliseconds = 0
    shown: Literal[True] | None = None
    uncovered: bool = False
    grey: bool = False


BODIES: dict[str, type[EmptyBody]] = {
    "consent": ConsentBody, "options": OptionsBody, "answer": AnswerBody, "skip": SkipBody, "reveal": EmptyBody,
    "undo": UndoBody, "demographics": DemographicsBody, "mood": MoodBody, "stop": EmptyBody,
}  # fmt: skip
REFUSALS = {
    "consent": "consent needs the box for adults, the text that was shown, and its language",
    "options": "options are kinds of content to leave out",
    "answer": "an answer is a value and the milliseconds it took, given after the picture was shown",
    "skip": "a skip needs no reason",
    "reveal": "to uncover needs no more than the picture",
    "undo": "only the last answer can be undone",
    "demographics": "what you say of yourself is an answer to some of the questions asked",
    "mood": "a mood is a whole number from 1 to 5",
    "stop": "to stop needs no reason",
}


def trial_of(event: Event | Draft) -> str:
    """Token of the trial that an event is about; "" where it is about none."""
    return event.body.get("trial", "")


def question_of(event: Event | Draft) -> str:
    """The question that an event answers; "" where it answers none."""
    return event.body.get("question", "")


def own_body(event: Event | Draft) -> dict[str, Any]:
    """What an event says besides."""
    return {name: value for name, value in event.body.items() if name not in ("trial", "question")}


@dataclass
class RaterProgress:
    """Where a rater is.

    Attributes:
        opted_out: categories whose images were replaced before the first image.
        hidden: categories the rater wanted no more of later; their trials are left out.
        answers: live answers by trial and question; the last one counts, and an undone one is none.
        tries: training answers by trial and question, right or not.
        skipped: trials that were not rated.
        revealed: trials whose covered images were shown, with the number of the event that says so.
        acts: live answers and skips of the rating, the oldest first; `undo` takes the last.
    """

    consented: bool = False
    language: str = ""
    opted_out: frozenset[str] = frozenset()
    hidden: frozenset[str] = frozenset()
    answers: dict[tuple[str, str], Event] = field(default_factory=dict)
    tries: dict[tuple[str, str], list[Event]] = field(default_factory=dict)
    skipped: dict[str, Event] = field(default_factory=dict)
    revealed: dict[str, int] = field(default_factory=dict)
    acts: list[Event] = field(default_factory=list)
    stopped: bool = False
    withdrawn: bool = False
    demographics: dict[str, Value] | None = None

    def done(self, trial: Trial, folder: StudyFolder) -> bool:
        """Whether nothing more is asked about the trial."""
        if trial.token in self.skipped:
            return True
        return all(
            self.answered(trial, question, folder) or not self.is_asked(trial, question, folder)
            for question in trial.questions
        )

    def is_asked(self, trial: Trial, question: str, folder: StudyFolder) -> bool:
        """Whether answers to earlier questions of the trial call for this one."""
        if trial.kind == TRAINING:
            return True  # it asks only what it explains
        given = {q: event.body["value"] for (token, q), event in self.answers.items() if token == trial.token}
        return is_shown(folder.study.question(question), given)

    def answered(self, trial: Trial, question: str, folder: StudyFolder) -> bool:
        """Whether the question is settled; a training question is when it is right, or after two tries."""
        key = (trial.token, question)
        if trial.kind != TRAINING:
            return key in self.answers
        tries = self.tries.get(key, ())
        return len(tries) >= TRAINING_TRIES or any(
            is_right(trial, question, event.body["value"], folder) for event in tries
        )


def is_right(trial: Trial, question: str, value: Any, folder: StudyFolder) -> bool:
    """Whether an answer to a training or gold item is the expected one."""
    expected = folder.items[trial.items[0]].expected.get(question, ())
    return bool(expected) and folder.study.question(question).is_right(value, expected)


def progress_of(events: Sequence[Event], training: frozenset[str] = frozenset()) -> RaterProgress:
    """What the events add up to.

    Args:
        training: tokens of the training trials, whose answers are tries.
    """
    now = RaterProgress()
    for event in events:
        if event.kind == "consent":
            now.consented, now.language = True, event.body.get("language", "")
        elif event.kind == "options":
            categories = frozenset(event.body.get("opted_out", ()))
            if now.acts or now.tries:
                now.hidden |= categories - now.opted_out
            else:
                now.opted_out = categories
        elif event.kind == "answer" and trial_of(event) in training:
            now.tries.setdefault((trial_of(event), question_of(event)), []).append(event)
        elif event.kind == "answer":
            now.answers[trial_of(event), question_of(event)] = event
            now.acts.append(event)
        elif event.kind == "skip":
            now.skipped[trial_of(event)] = event
            if trial_of(event) not in training:
                now.acts.append(event)
        elif event.kind == "reveal":
            now.revealed.setdefault(trial_of(event), event.number)
        elif event.kind == "undo" and now.acts:
            undone = now.acts.pop()
            if undone.kind == "skip":
                now.skipped.pop(trial_of(undone), None)
            else:
                now.answers.pop((trial_of(undone), question_of(undone)), None)
        elif event.kind == "demographics":
            now.demographics = event.body["values"]
        elif event.kind == "stop":
            now.stopped = True
        elif event.kind == WITHDRAWN:
            now.withdrawn = True
    return now


class Sessions:
    """All sessions of one study: plans, remembered, and the rule of what may come next."""

    def __init__(self, folder: StudyFolder) -> None:
        self.folder = folder
        self.categories = tuple(dict.fromkeys(item.category for item in folder.items.values() if item.category))
        self._plan = functools.lru_cache(maxsize=4096)(functools.partial(plan_of, folder))
        self._tokens = functools.lru_cache(maxsize=4096)(self._index)

    def plan(self, rater: int, opted_out: frozenset[str] = frozenset()) -> RaterPlan:
        """What the rater is to do."""
        return self._plan(rater, opted_out)

    def _index(self, rater: int, opted_out: frozenset[str]) -> dict[str, Trial]:
        return {trial.token: trial for trial in self.plan(rater, opted_out).trials}

    def trials(self, rater: int, opted_out: frozenset[str] = frozenset()) -> dict[str, Trial]:
        """The rater's trials by token."""
        return self._tokens(rater, opted_out)

    def progress(self, rater: int, events: Sequence[Event]) -> RaterProgress:
        """Where the rater is."""
        training = frozenset(token for token, trial in self.trials(rater).items() if trial.kind == TRAINING)
        return progress_of(events, training)

    def check(self, draft: Draft, events: Sequence[Event]) -> None:
        """Whether the draft may follow the events.

        Raises:
            Refused: with the reason, in words for the rater's page.
        """
        folder = self.folder
        if draft.kind not in BODIES:
            raise Refused(422, "unknown_kind", f"there is no event {draft.kind!r}; there are: {', '.join(BODIES)}")
        if not re.fullmatch(r"[0-9A-Za-z-]{16,64}", draft.key):
            raise Refused(422, "bad_key", "a key is 16 to 64 letters, digits and dashes")
        now = self.progress(draft.stream, events)
        if now.withdrawn:
            raise Refused(410, "withdrawn", "this rater has withdrawn; nothing more is stored")
        try:
            body = BODIES[draft.kind].model_validate(own_body(draft))
        except ValidationError as error:
            code = "no_consent" if draft.kind == "consent" else "bad_value"
            raise Refused(422, code, REFUSALS[draft.kind]) from error
        if isinstance(body, ConsentBody):
            if body.version != folder.digest:
                raise Refused(422, "version", "the text has changed since this page was opened: load it again")
            if body.language not in folder.study.languages:
                raise Refused(422, "bad_language", f"the languages are {', '.join(folder.study.languages)}")
            if not set(body.parameters) <= set(folder.study.parameters):
                raise Refused(422, "bad_parameters", f"what is stored of a link: {', '.join(folder.study.parameters)}")
            return
        if not now.consented:
            raise Refused(403, "no_consent", "nothing is stored before consent")
        if isinstance(body, OptionsBody):
            if not set(body.opted_out) <= set(self.categories):
                raise Refused(422, "bad_options", f"the categories are {', '.join(self.categories)}")
        elif isinstance(body, DemographicsBody):
            asked = {question.id: question for question in folder.study.asked_of_raters}
            for id, value in body.values.items():
                if id not in asked or (reason := asked[id].refusal(value)):
                    raise Refused(422, "bad_value", f"{id}: {reason if id in asked else 'that is not asked'}")
        elif isinstance(body, UndoBody):
            if not now.acts or body.of != now.acts[-1].key:
                raise Refused(409, "nothing_to_undo", REFUSALS["undo"])
        elif draft.kind in ("answer", "skip", "reveal"):
            self._check_trial(draft, body, now)

    def _check_trial(self, draft: Draft, body: EmptyBody, now: RaterProgress) -> None:
        trial = self.trials(draft.stream, now.opted_out).get(trial_of(draft))
        question = question_of(draft)
        if trial is None:
            raise Refused(403, "not_yours", "this is no trial of this rater in this study")
        if draft.kind == "reveal":
            if not trial.category:
                raise Refused(422, "nothing_covered", "nothing is covered there")
            return
        if trial.token in now.skipped:
            raise Refused(409, "answered", "this trial was skipped; undo that first")
        if not isinstance(body, AnswerBody):
            return
        if question not in trial.questions:
            raise Refused(422, "bad_question", "this trial is not asked that")
        if now.answered(trial, question, self.folder):
            raise Refused(409, "answered", "this was answered; undo the answer first")
        if not now.is_asked(trial, question, self.folder):
            raise Refused(409, "not_asked", "an earlier answer does not call for this question")
        asked = self.folder.study.question(question)
        if trial.category and trial.token not in now.revealed and asked.look:
            reason = "" if body.value == NOT_LOOKED else f"the answer is {NOT_LOOKED}"
        else:
            reason = asked.refusal(body.value, self.folder.items[trial.items[0]].classes)
        if reason:
            raise Refused(422, "bad_value", reason)


def is_paused(events: Sequence[Event]) -> bool:
    """Whether the organiser has paused the study; `events` are the organiser's."""
    acts = [event.kind for event in events if event.stream == ORGANISER and event.kind in ("pause", "resume")]
    return acts[-1:] == ["pause"]
