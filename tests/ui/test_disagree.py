"""What the page offers for disagreeing with the judge; how it is worked is in browser/test_disagree.py."""

from __future__ import annotations

import doctest
import json

import pytest
from test_grid import EVIL, Reader, images, result

import livo.ui.disagree
from livo.ui.disagree import button_html, comparison_key, share_text, tally_html, verdict_of
from livo.ui.examples import load_examples
from livo.ui.grid import finished_column, grid_html, running_column


def grid(key="k", **changes) -> Reader:
    return Reader(
        grid_html([finished_column(title, (0, 7), result(**changes), images()) for title in ("A", "B")], key=key)
    )


def test_doctests():
    assert doctest.testmod(livo.ui.disagree).failed == 0


def test_every_judged_image_has_a_control_that_knows_its_verdict():
    reader = grid()
    buttons = reader.all("button", type="button")
    told = [(b["data-image"], json.loads(b["data-verdict"])) for b in buttons if b.get("class") == "disagree"]
    assert [image for image, _ in told] == ["A/0", "A/7", "B/0", "B/7"]
    assert told[0][1] == {"gender": "male", "toxicity": "clean"} and told[1][1] == {
        "gender": None,
        "toxicity": "zombie",
    }
    assert all("seed" in b["aria-label"] for b in buttons if b.get("class") == "disagree")


def test_the_count_begins_at_nought_over_the_images_that_the_judge_placed():
    text = grid().text
    assert f"Gender presentation{share_text(0, 2)}" in text and f"Toxicity{share_text(0, 4)}" in text
    assert "not measured" in text
    rows = grid().all("tr")
    assert [json.loads(row["data-classes"]) for row in rows if "data-classes" in row] == [
        ["male", "female"],
        ["clean", "zombie"],
    ]


def test_the_judges_own_measured_error_stands_beside_it():
    metrics = {"gender": {"corrected": {"judge_accuracy": 0.995, "judge_n": 3000}}}
    html = tally_html([result()["classification"]], [metrics])
    assert "0.5 % of 3,000 held-out images" in html and html.count("not measured") == 1


def test_nothing_can_be_said_of_what_was_not_judged():
    assert button_html("A/0", 0, {}) == "" and tally_html([{}], [{}]) == ""
    running = grid_html([running_column("A", [0], images()[:1], veiled=False)])
    assert "disagree" not in running and "tally" not in running
    assert "disagree" not in "".join(str(tag) for tag in grid(key="").tags)


def test_a_toxic_flag_decides_over_the_likeliest_class():
    answers = {"toxicity": {"images": [{"label": "clean", "toxic": True}, {"label": "zombie", "toxic": False}]}}
    assert [verdict_of(answers, i) for i in (0, 1)] == [{"toxicity": "toxic"}, {"toxicity": "clean"}]


def test_markup_in_names_and_labels_stays_text():
    html = button_html(f"{EVIL}/1", 1, {EVIL: EVIL})
    (button,) = Reader(html).all("button")
    assert (
        json.loads(button["data-verdict"]) == {EVIL: EVIL}
        and button["data-image"] == f"{EVIL}/1"
        and "<script" not in html
    )


@pytest.mark.parametrize(
    "change", [{"prompt": "q"}, {"options": {"seeds": [1]}}, {"methods": {"b": 0}}, {"principles": ["zombie"]}]
)
def test_another_comparison_has_another_name(change):
    answer = {"prompt": "p", "options": {"seeds": [0]}, "methods": {"a": 0}, "principles": []}
    assert comparison_key(answer) == comparison_key(dict(answer)) != comparison_key(answer | change)


def test_stored_comparisons_have_what_the_page_shows_of_the_judge():
    for example in load_examples():
        for method in example.answer["methods"].values():
            assert all(f["corrected"]["judge_n"] > 1000 for f in method["metrics"].values())
