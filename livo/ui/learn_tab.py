"""The Learn tab: the lessons, alone or with a class. The lessons themselves are pages beside this one (`livo.workshop.web`)."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import gradio as gr

from livo.types import InputError
from livo.ui.cards import message
from livo.workshop.lesson import Lesson, load_lessons
from livo.workshop.printing import PAPERS
from livo.workshop.web.serve import PREFIX

INTRO = f"""
<section class="card"><p class="eyebrow">Learn</p><h2>Predict, see, explain</h2>
<p class="effect">Lessons of 10 to 15 minutes, for one alone or for a class of up to 300 on one laptop. Every picture and number is
from this repository's stored results. No accounts, no names, no network needed.</p>
<p class="effect"><a class="study-link" href="{PREFIX}/" target="_blank" rel="noopener">All lessons, and the way into a room</a></p></section>
"""
CLASS = """
<section class="card"><p class="eyebrow">With a class</p><h2>One laptop, one code</h2>
<ol><li>Start with <code>python app.py --lan</code>: the terminal shows the address and its QR code for phones in the same network.</li>
<li>Open a room for a lesson. You get six letters for the class, and a link for yourself, which leads the room.</li>
<li>Put the projector view on the screen. Start, close the answers, go on: one button always says what comes next.</li>
<li>Key B covers every picture in the room, key H hides all screens. The class's answers are shown after you close a question,
from five answers on; the summary that you can download holds counts only.</li></ol>
<p class="effect">Rooms are in school mode unless you switch it off: nothing about nudity, blood or horror.</p></section>
"""


def lessons_html(lessons: Sequence[Lesson]) -> str:
    """The lessons with their time, and a link to each and to its papers."""
    return f'<div class="grid-lessons">{"".join(_card(lesson) for lesson in lessons)}</div>'


def _card(lesson: Lesson) -> str:
    papers = ", ".join(
        f'<a href="{PREFIX}/print/{lesson.id}/{what}" target="_blank" rel="noopener">{escape(title.lower())}</a>'
        for what, title in PAPERS.items()
    )
    return (
        f'<section class="card"><p class="eyebrow">Lesson {lesson.order} · {lesson.minutes} minutes</p><h3>'
        f'<a class="study-link" href="{PREFIX}/lesson/{lesson.id}" target="_blank" rel="noopener">{escape(lesson.title)}</a></h3>'
        f'<p class="effect">{escape(lesson.goal)}</p><p class="effect">For paper: {papers}</p></section>'
    )


def build_learn_tab() -> None:
    """Lays the tab out inside the Blocks at hand."""
    gr.HTML(INTRO, elem_id="learn")
    try:
        gr.HTML(lessons_html(load_lessons()), elem_id="lessons")
    except InputError as error:
        gr.HTML(message(f"the lessons cannot be read: {error}"))
    gr.HTML(CLASS)
