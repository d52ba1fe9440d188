"""The Learn tab: every lesson with its time and links."""

from __future__ import annotations

from livo.ui.learn_tab import lessons_html
from livo.ui.templates import render
from livo.workshop.lesson import load_lessons


def test_every_lesson_is_there_with_its_time_and_links():
    lessons = load_lessons()
    html = lessons_html(lessons)
    for lesson in lessons:
        assert f"{lesson.minutes} minutes" in html and f'href="workshop/lesson/{lesson.id}"' in html
        assert f'href="workshop/print/{lesson.id}/guide"' in html
    assert 'href="/workshop/"' in render("learn.html", root="/workshop") and "--lan" in render("class.html")


def test_a_title_is_text():
    lesson = load_lessons()[0].model_copy(update={"title": "<b>x</b>", "goal": "<i>y</i>"})
    assert "&lt;b&gt;x" in lessons_html([lesson]) and "<i>y" not in lessons_html([lesson])
