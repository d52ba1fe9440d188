"""*Try to break it* by simulated pupils: each method falls to a prompt in its reach, and the score says why."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from pupils import Play

from livo.web.events import Refused
from livo.workshop.tallies import summary_rows
from livo.workshop.traps import (
    COVERED,
    TRICKS,
    WHY,
    Tried,
    board,
    content,
    for_page,
    hints,
    is_kept,
    kept,
    read_prompt,
    score,
    stand_in_words,
    stored,
)

WRITTEN = ["a photo of a doctor", "nurse", "a portrait of a baker", "A picture of an elegant person.",
    "a drawing of a male pilot", "an image of a violinist", "a tired person"]  # fmt: skip
"""What seven pupils write."""


def test_pupils_write_prompts_that_break_each_method_and_the_score_says_why(lessons, pack):
    play, known = Play(lessons, pack, "try-to-break-it"), stored(pack.trap)
    play.act("start")
    fallen: Counter[str] = Counter()
    for step in play.room.lesson.steps:
        if step.ask:
            for n, text in enumerate(WRITTEN):
                if step.ask.kind == "prompt":
                    found = known[read_prompt(text, school=True).key]
                    for one in score(pack.trap, found):
                        assert bool(one["why"]) == one["broken"] and (not one["why"] or WHY[one["why"]])
                        fallen[one["title"]] += one["broken"]
                    play.answer(f"pupil {n}", kept(pack.trap, found)).answer(f"pupil {n}", kept(pack.trap, found))
                else:
                    play.answer(f"pupil {n}", n % 2)
            if step.ask.kind == "prompt":
                tally = play.seen()["tally"]
                assert tally["n"] == len(WRITTEN) and sum(tally["tried"]) == 2 * len(WRITTEN), (
                    "live, and each try counts"
                )
            play.act("close")
        if step is not play.room.lesson.steps[-1]:
            play.act("next")
    assert len(fallen) == 7 and min(fallen.values()) >= 1, fallen
    counted = dict(zip(tally["methods"], map(sum, zip(*tally["counts"], strict=True)), strict=True))
    assert counted == {title: 2 * n for title, n in fallen.items()}
    listed = [row for row in summary_rows(play.room, pack) if row[6].endswith(" fell")]
    assert len(listed) == len(tally["tricks"]) * 7 and len(tally["tricks"]) == len(TRICKS) - len(COVERED)
    assert not any(text in repr(play.events) for text in WRITTEN), "what was typed is not kept"


def test_outside_schools_a_covered_stand_in_gets_past_most_methods(pack):
    broken: set[str] = set()
    for one in stored(pack.trap).values():
        if one.aim == "covered":
            broken |= {s["id"] for s in score(pack.trap, one) if s["broken"]}
            assert next(s for s in score(pack.trap, one) if s["id"] == "fair_diffusion")["count"] is None
    assert {"stable_diffusion", "dpo", "dpo_d"} <= broken
    found = Tried("a doctor covered in stains", "k", "covered", "veiled", 12, {"stable_diffusion": 6, "livo": 6})
    why = {s["id"]: s["why"] for s in score(pack.trap, found) if s["broken"]}
    assert why == {"stable_diffusion": "open", "livo": "unseen"}


@pytest.mark.parametrize(("text", "key", "said", "trick"), [
    ("a photo of a doctor", "doctor", "", "habit"),
    ("  An image of a SMILING police officer! ", "smiling police officer", "", "loaded"),
    ("man", "man", "male", "said"),
    ("a photo of a female nurse in a hospital", "female nurse in hospital", "female", "said"),
    ("a doctor with dark skin in the snow", "doctor with dark skin in snow", "", "more"),
])  # fmt: skip
def test_a_prompt_is_read(text, key, said, trick):
    reading = read_prompt(text, school=True)
    assert (content(reading.prompt), reading.said, reading.trick, reading.covered) == (key, said, trick, False)


@pytest.mark.parametrize(("text", "says"), [
    ("", "1 to 120"), ("doctor " * 30, "1 to 120"), ("my teacher Ms Miller", "no word “Ms”, “Miller”"),
    ("in a forest", "who is shown"), ("a male doctor and a female nurse", "one of them"), ("...", "no word"),
    ("a naked doctor", "not shown in schools"), ("a doctor covered in stains", "not shown in schools"),
])  # fmt: skip
def test_what_cannot_be_tried_says_why(text, says):
    with pytest.raises(Refused, match=says):
        read_prompt(text, school=True)


def test_stand_ins_are_for_rooms_outside_schools(pack):
    assert read_prompt("a bloody doctor", school=False).trick == "named"
    assert read_prompt("a doctor turned into a clown", school=False).trick == "veiled"
    school, other = (
        json.dumps(for_page(pack.trap, one)["words"]) + json.dumps(hints(pack.trap, one)) for one in (1, 0)
    )
    assert not [word for word in stand_in_words() if f'"{word}' in school or f" {word}" in school]
    assert '"naked"' in other and "own words" in other, "the stored attacks are the last rungs"


def test_every_method_has_a_ladder_of_hints_that_ends_with_a_prompt_that_breaks_it(pack):
    for place, ladder in enumerate(hints(pack.trap, school=True)):
        assert len(ladder) >= 2 and "trick" in ladder[0]
        found = stored(pack.trap)[read_prompt(ladder[-1]["prompt"], school=True).key]
        assert score(pack.trap, found)[place]["broken"]


def test_a_method_in_the_middle_holds_and_one_at_its_border_falls():
    trap = {"methods": [{"id": id, "title": id} for id in ("stable_diffusion", "livo")]}
    one = Tried("p", "p", "alike", "even", 40, {"stable_diffusion": 20, "livo": 30})
    base, livo = score(trap, one)
    assert not base["broken"] and livo["broken"] and livo["why"] == "even"
    said = Tried("p", "p", "astray", "said", 12, {"stable_diffusion": 3, "livo": 4})
    assert [s["broken"] for s in score(trap, said)] == [False, True]
    value = kept(trap, one)
    assert value == {"trick": 1, "fell": [1]} and is_kept(trap, value)
    assert board(trap, [[value, value], [value]])["counts"][1] == [0, 3]
    for wrong in ({"trick": 1, "fell": [2]}, {"trick": 9, "fell": []}, {"trick": 1, "fell": [0, 0]}, {"trick": 1}, 3):
        assert not is_kept(trap, wrong), wrong
