"""The Learn tab: the lessons, alone or with a class. The lessons themselves are pages beside this one
(`livo.workshop.web`)."""

from __future__ import annotations

from collections.abc import Sequence

import gradio as gr
from markupsafe import Markup

from livo.types import InputError
from livo.ui.cards import message
from livo.ui.templates import render
from livo.workshop.lesson import Lesson, load_lessons
from livo.workshop.printing import PAPERS
from livo.workshop.web.serve import PREFIX

ROOT = PREFIX.lstrip("/")
"""Relative to the page: a proxy may put something before both."""


def lessons_html(lessons: Sequence[Lesson]) -> Markup:
    """The lessons with their time, and a link to each and to its papers."""
    return render("lessons.html", lessons=lessons, papers=PAPERS, root=ROOT)


def build_learn_tab() -> None:
    """Lays the tab out inside the Blocks at hand."""
    gr.HTML(render("learn.html", root=ROOT), elem_id="learn")
    try:
        gr.HTML(lessons_html(load_lessons()), elem_id="lessons")
    except InputError as error:
        gr.HTML(message(f"the lessons cannot be read: {error}"))
    gr.HTML(render("class.html"))
