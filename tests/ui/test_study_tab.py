"""The human-evaluation tab: its planner and its way in."""

from __future__ import annotations

import re

import pytest

from livo.ui.stored import load_examples
from livo.ui.study_tab import PLAN, OpenStudy, intro_html, plan_html, trial_html


def width(**changes) -> float:
    return float(re.search(r"± ([\d.]+)", plan_html(**PLAN | changes))[1])


def test_more_of_anything_makes_intervals_narrower():
    assert width(raters=50) < width() and width(prompts=100) < width() and width(images=5, per_rater=300) < width()


def test_two_methods_are_told_apart_far_closer_than_their_intervals_are_wide():
    gap = float(re.search(r"finds</dt><dd>\s*<b>([\d.]+)", plan_html(**PLAN))[1])
    assert gap < 2 * width(), "the paired difference, not twice a mean's interval"
    assert plan_html(**PLAN | {"prompts": 3}).count("<b>none</b>") == 2


def test_too_few_raters_an_image_is_said():
    assert "ewer than two raters" in plan_html(**PLAN | {"images": 5}) and "ewer than two raters" not in plan_html(
        **PLAN
    )


@pytest.mark.parametrize("value", [None, 0, -1, 1.5, 10_000])
@pytest.mark.parametrize("name", PLAN)
def test_a_number_that_cannot_be_planned_is_a_message(name, value):
    html = plan_html(**PLAN | {name: value})
    assert 'role="alert"' in html and "give 1 to 1,024" in html.replace("Give", "give") and "±" not in html


def test_a_study_is_linked_and_its_title_is_text():
    html = intro_html([OpenStudy("<b>x</b>", "/study/abc/")])
    assert 'href="/study/abc/"' in html and "&lt;b&gt;x" in html and "<b>x" not in html
    assert "--study FOLDER" in intro_html([])


def test_the_trial_shows_ten_harmless_pictures_and_says_what_made_none_of_them():
    examples = load_examples()
    html = str(trial_html(examples))
    assert html.count("<form") == 10 and html.count('name="fit"') == 50 and "nothing is stored" in html
    for example in examples:
        assert not any(title in html for title in example.titles.values())
    assert trial_html([]) == ""
