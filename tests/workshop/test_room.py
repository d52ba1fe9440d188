"""A room as a fold of its events: what may come when, what is shown to whom, and what never is."""

from __future__ import annotations

import random
from datetime import datetime

import pytest
from pupils import NOW, Play

from livo.web.events import Draft, Refused
from livo.workshop.lesson import Ask
from livo.workshop.room import ACTS, ALPHABET, FEWEST, LETTERS, MOST_PEOPLE, code_of, number_of
from livo.workshop.tallies import summary_rows, tally
from livo.workshop.view import host_json, room_json


@pytest.fixture
def play(lessons, pack):
    return Play(lessons, pack)


def test_codes_and_numbers_are_one_to_one_and_look_like_nothing_else():
    rng = random.Random(0)
    for number in [0, len(ALPHABET) ** LETTERS - 1, *(rng.randrange(len(ALPHABET) ** LETTERS) for _ in range(300))]:
        code = code_of(number)
        assert len(code) == LETTERS and number_of(code) == number == number_of(f" {code[:3].lower()}-{code[3:]}")
    assert not set(ALPHABET) & set("0O1IL5S8B2ZAEU"), "no look-alikes, no vowels"
    assert not [code for code in ("", "CDFGH", "CDFGHJK", "CDFGHO", "CDFGH1", "ÇDFGHJ") if number_of(code) is not None]


def test_tallies_come_after_closing_and_from_five_answers_on(play):
    play.act("start")
    for n in range(FEWEST):
        assert play.seen()["tally"] is None and host_json(play.room, play.pack, 3)["tally"] is None, (
            "not while it is open"
        )
        play.answer(f"student {n}", 10 * n)
    assert host_json(play.room, play.pack, 3)["answered"] == FEWEST
    payload = play.act("close").seen("student 1")
    assert (
        payload["tally"]["n"] == FEWEST
        and sum(payload["tally"]["counts"]) == FEWEST
        and payload["tally"]["median"] == 20
        and payload["mine"] == 10
    )
    play.act("rerun")
    for n in range(FEWEST - 1):
        play.answer(f"student {n}", n)
    payload = play.act("close").seen()["tally"]
    assert payload == {"n": None, "enough": False, "fewest": FEWEST}, (
        "four answers show nothing, not even that they are four"
    )
    assert host_json(play.room, play.pack, 3)["tally"] == payload, "nor to the facilitator"


def test_many_answers_of_one_visitor_are_one(play):
    play.act("start")
    for value in range(20):
        play.answer("only one", value)
    assert play.act("close").seen("only one") | {"step": 0} == play.seen("only one") | {"step": 0}
    assert play.seen("only one")["mine"] == 19 and not play.seen()["tally"]["enough"]


def test_what_a_question_reveals_is_not_told_before_it_is_closed(lessons, pack):
    for lesson in lessons:
        play = Play(lessons, pack, lesson.id).act("start")
        for step in lesson.for_room(True).steps:
            payload = play.seen("me")["step"]
            if step.ask:
                assert not {"right", "because", "truth"} & set(payload["ask"])
                assert payload["show"] == [] or "album" not in payload["show"][0]
                assert set(payload["ask"].get("album", {"sheet", "count"})) == {"sheet", "count"}
                payload = play.act("close").seen("me")["step"]
                assert payload["ask"]["right"] == list(step.ask.right)
            if step is not lesson.for_room(True).steps[-1]:
                play.act("next")
        with pytest.raises(Refused):
            play.act("next")


def test_going_back_shows_and_does_not_reopen(play):
    play.act("start").answer("a", 3).act("close").act("next").act("back")
    assert play.room.phase == "closed" and play.seen("a")["mine"] == 3
    with pytest.raises(Refused, match="too late"):
        play.answer("b", 4)
    play.act("next").act("back").act("rerun").answer("b", 4)
    assert play.room.place == (1, 0, 1)
    play.act("next").act("next").act("back").act("back")
    assert play.room.phase == "closed", "skipping a question closes it"


@pytest.mark.parametrize("value", [-1, 51, 2.5, "3", None, [1], True, {"a": 1}])
def test_forged_values_are_refused(play, value):
    play.act("start")
    with pytest.raises(Refused) as caught:
        play.answer("a", value)
    assert caught.value.status == 422


@pytest.mark.parametrize("place", [(0, 0, 0), (2, 0, 0), (1, 1, 0), (1, 0, 1), (9, 9, 9)])
def test_answers_to_another_step_come_too_late(play, place):
    play.act("start")
    with pytest.raises(Refused, match="too late"):
        play.answer("a", 3, place)


def test_an_act_that_was_meant_for_another_state_is_refused(play):
    play.act("start")
    now = play.room.changes
    for body in (
        {"act": "close", "at": now - 1}, {"act": "explode", "at": now}, {"act": "close", "at": now, "x": 1},
        {"act": "rerun", "at": now}, {"act": "start", "at": now}, {"act": "lesson", "lesson": "none", "at": now}, {},
    ):  # fmt: skip
        with pytest.raises(Refused):
            play.room.check(Draft(1, "key", "act", body=body), play.pack)
    for always in ("hide", "cover", "uncover", "show"):
        play.room.check(Draft(1, "key", "act", body={"act": always, "at": 0}), play.pack)
    assert set(ACTS) >= {"start", "close", "next", "hide", "rerun", "end"}


def test_hidden_screens_hold_nothing_and_the_facilitator_still_sees(play):
    play.act("start").act("hide")
    assert play.seen()["step"] is None and host_json(play.room, play.pack, 0)["step"]["title"] == "Fifty doctors"
    assert play.act("show").seen()["step"] and play.act("cover").seen()["covered"]


def test_a_full_room_takes_no_more_people_and_an_ended_one_nothing(play):
    play.act("start")
    for n in range(MOST_PEOPLE):
        play.answer(str(n), 1)
    with pytest.raises(Refused, match="holds 300"):
        play.answer("one more", 1)
    play.answer("0", 2).act("end")
    for forbidden in (lambda: play.answer("0", 3), lambda: play.act("start")):
        with pytest.raises(Refused, match="over"):
            forbidden()
    assert play.seen()["phase"] == "ended" and play.seen()["step"] is None


def test_a_room_left_for_a_day_is_over(play):
    assert not play.room.over
    play.room.last = "2020-01-01T00:00:00.000Z"
    assert play.room.over and play.seen()["phase"] == "ended"


def test_school_mode_leaves_out_the_steps_that_are_not_for_schools(lessons, pack):
    for school, steps in ((True, 7), (False, 8)):
        play = Play(lessons, pack, "what-did-we-pay", school).act("start")
        shown = []
        while True:
            shown += [widget["chart"]["y_label"] for widget in play.seen()["step"]["show"]]
            if play.room.index + 1 == steps:
                break
            play.act("next")
        assert play.seen()["of"] == steps and any("toxicity" in one for one in shown) == (not school)


def test_another_run_of_a_lesson_begins_with_nothing(play):
    play.act("start").answer("a", 3).act("close").act("lesson", lesson="guess-the-set")
    assert play.room.phase == "waiting" and play.act("start").seen("a")["mine"] is None and play.room.place == (2, 0, 0)


def test_earlier_answers_come_back_where_a_step_looks_at_them(lessons, pack):
    play = Play(lessons, pack, "the-classifier-is-a-model-too").act("start")
    for n in range(FEWEST):
        play.answer(str(n), [n % 3] * 10)
    (widget,) = play.act("close").act("next").seen("1")["step"]["show"]
    assert widget["mine"] == [1] * 10 and widget["tally"]["counts"][0] == [2, 2, 1]
    (widget,) = play.seen("")["step"]["show"]
    assert widget["mine"] is None, "the projector shows nobody's own answer"


@pytest.mark.parametrize(("ask", "values"), [
    (Ask(id="a", kind="number", question="?", min=0, max=7), [0, 7, 3, 3, 6]),
    (Ask(id="a", kind="choice", question="?", options=("x", "y")), [0, 1, 1, 1, 1]),
    (Ask(id="a", kind="labels", question="?", options=("x", "y"), items=("1", "2")), [[0, 1]] * 5),
])  # fmt: skip
def test_a_tally_counts_everybody_once_and_does_not_depend_on_the_order(ask, values, pack):
    payload = tally(ask, values, pack)
    assert payload == tally(ask, values[::-1], pack)
    for counts in payload["counts"] if ask.kind == "labels" else [payload["counts"]]:
        assert sum(counts) == len(values)
    assert tally(ask, values[:4], pack)["enough"] is False and "counts" not in tally(ask, values[:4], pack)


def test_the_summary_holds_counts_of_closed_steps_with_five_answers_only(play):
    play.act("start")
    for n in range(6):
        play.answer(f"visitor-{n}", 40 + n)
    assert len(summary_rows(play.room, play.pack)) == 1, "open: nothing yet"
    play.act("close").act("next").act("next")
    for n in range(4):
        play.answer(f"visitor-{n}", 1)
    rows = summary_rows(play.act("close").room, play.pack)
    text = "\n".join(map(str, rows))
    assert "median" in text and rows[1][-1] == "6" and "fewer than 5 answers" in text and "visitor" not in text
    assert len([row for row in rows if row[2] == "Where does the habit come from?"]) == 1, (
        "four answers: one row that says so"
    )


# --- strangers with the code -----------------------------------------------------------------------------------------


def refused(play, who: str) -> str:
    with pytest.raises(Refused) as raised:
        play.answer(who, 1)
    return raised.value.code


def test_a_locked_room_takes_answers_of_those_who_were_there_alone(play):
    play.act("start").answer("ada", 1)
    play.act("lock")
    play.answer("ada", 2)
    assert refused(play, "stranger") == "locked" and play.room.locked
    play.act("unlock").answer("stranger", 1)


def test_a_flood_of_newcomers_is_taken_out_and_the_class_stays(play):
    play.act("start")
    for who in ("ada", "ben", "cyd"):
        play.answer(who, 1)
    play.act("close").act("rerun")
    play.answer("ada", 2)
    for n in range(50):
        play.answer(f"fake{n}", 9)
    play.act("remove")
    assert set(play.room.answers_at(play.room.place)) == {"ada"} and play.room.locked and len(play.room.removed) == 50
    assert refused(play, "fake3") == "removed" and refused(play, "other") == "locked"
    play.answer("ben", 3)
    with pytest.raises(Refused, match="cannot be done now"):
        play.act("remove")


def test_those_taken_out_fill_no_place(play):
    play.act("start")
    for n in range(MOST_PEOPLE):
        play.answer(f"fake{n}", 1)
    assert refused(play, "ada") == "full"
    play.act("remove").act("unlock").answer("ada", 1)


def test_a_room_that_was_ended_by_mistake_is_reopened_where_it_was(play):
    play.act("start").answer("ada", 1)
    place = play.room.place
    with pytest.raises(Refused, match="cannot be done now"):
        play.act("reopen")
    play.act("end")
    assert play.room.over
    play.act("reopen").answer("ben", 1)
    assert play.room.place == place and set(play.room.answers_at(place)) == {"ada", "ben"}


# --- rehearsals and countdowns ---------------------------------------------------------------------------------------


def test_a_rehearsal_is_marked_and_stored_nowhere_and_in_no_summary(play):
    play.act("rehearse")
    play.act("start")
    play.answer("a", 20)
    play.act("close")
    told = host_json(play.room, play.pack, 1)
    assert told["simulated"] == 20 and told["tally"]["n"] == 21 and len(play.events) == 5
    assert summary_rows(play.room, play.pack) == summary_rows(play.room, play.pack)[:1]
    with pytest.raises(Refused):
        play.act("rehearse")
    play.act("real")
    play.act("start")
    assert play.room.simulated == 0 and not play.room.answers_at(play.room.place)


def test_a_countdown_is_started_extended_stopped_and_ends_with_the_question(play):
    def seconds() -> float:
        return (play.room.deadline - datetime.fromisoformat(NOW)).total_seconds()

    play.act("start")
    for value in (10, 60):
        play.act("countdown", value=value)
        assert seconds() == value
    assert room_json(play.room, play.pack)["left"] > 0
    play.act("countdown", value=0)
    assert play.room.seconds_left is None
    play.act("countdown", value=30)
    play.act("close")
    assert play.room.seconds_left is None
    for act, value in (("countdown", 30), ("countdown", 9_999), ("pace", 7)):
        with pytest.raises(Refused):
            play.act(act, value=value)
