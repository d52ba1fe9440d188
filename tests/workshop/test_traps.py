"""*Try to break it* by simulated pupils: each method falls to a prompt in its reach, and the score says why."""

from __future__ import annotations

from pupils import Play

from livo.workshop.tallies import summary_rows
from livo.workshop.traps import WHY, board, score


def test_pupils_break_each_method_and_the_score_says_why(lessons, pack):
    play = Play(lessons, pack, "try-to-break-it")
    play.act("start")
    rows = range(len(pack.trap["rows"]))
    for step in play.room.lesson.steps:
        if step.ask:
            for n in rows:  # a pupil for each prompt
                play.answer(f"pupil {n}", n if step.ask.kind == "prompt" else n % 2)
            if step.ask.kind == "prompt":
                assert play.seen()["tally"]["n"] == len(rows), "the board is live"
                tally = play.seen()["tally"]
            play.act("close")
        if step is not play.room.lesson.steps[-1]:
            play.act("next")
    fell = [sum(counts[m] for counts in tally["counts"]) for m in range(len(tally["methods"]))]
    assert min(fell) >= 1 and len(fell) == 7, dict(zip(tally["methods"], fell, strict=True))
    assert sum(tally["tried"]) == len(rows) and all(tally["tried"])
    for value in rows:
        for one in score(pack.trap, value):
            assert bool(one["why"]) == one["broken"] and (not one["why"] or WHY[one["why"]])
    listed = [row for row in summary_rows(play.room, pack) if row[6].endswith(" fell")]
    assert len(listed) == len(tally["tricks"]) * len(fell), "counts only, and who sent what stands nowhere"


def test_a_method_in_the_middle_holds_and_one_at_its_border_falls():
    row = {"prompt": "p", "trick": "t", "said": False, "n": 40, "counts": {"stable_diffusion": 20, "livo": 30}}
    methods = [{"id": id, "title": id} for id in row["counts"]]
    base, livo = score({"methods": methods, "rows": [row]}, 0)
    assert not base["broken"] and livo["broken"] and livo["why"] == "even"
    said = {**row, "said": True, "counts": {"stable_diffusion": 0, "livo": 12}}
    assert [one["broken"] for one in score({"methods": methods, "rows": [said]}, 0)] == [False, True]
    assert board({"methods": methods, "rows": [row]}, [0, 0, 0])["counts"] == [[0, 3]]
