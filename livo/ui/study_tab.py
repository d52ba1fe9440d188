"""The human-evaluation tab: the way in for raters, and for organisers a planner and the commands of a study.

The rating pages are their own application beside this one (`livo.study.web`), for Gradio's radio groups cannot be worked
by keyboard, and what Gradio keeps about a visitor would tell raters what they must not know.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

import gradio as gr

from livo.study.organise import expected_width
from livo.types import InputError
from livo.ui.cards import message

MOST = 1_024
PLAN = {"raters": 5, "prompts": 12, "images": 1, "methods": 5, "per_rater": 60}
"""What the planner shows first: the paper's five raters and five methods, everybody sees everything."""
SECONDS_A_RATING = 12
COMMANDS = """python -m livo study create my_study --prompts "a photo of a doctor" "a photo of a nurse" --methods stable_diffusion,livo
python -m livo study serve my_study
python -m livo study report my_study"""
INTRO = """
<section class="card"><p class="eyebrow">Human evaluation</p><h2>Let people judge, blind</h2>
<p class="effect">Raters see one picture at a time and never what made it. Pictures from prompts that ask for nudity, blood or
horror arrive blurred; anyone may skip, stop, or leave a kind out. Every answer is on disk before the page says “saved”.</p>
"""


class OpenStudy(NamedTuple):
    """A study that this server also serves: what raters read, and where."""

    title: str
    path: str


def intro_html(studies: Sequence[OpenStudy]) -> str:
    """The way in for raters; where no study is open, how to open one."""
    if not studies:
        way = '<p class="effect">No study is open here. An organiser opens one with <code>python app.py --study FOLDER</code>.</p>'
        return f"{INTRO}{way}</section>"
    links = "".join(
        f'<li><a class="study-link" href="{escape(study.path)}" target="_blank" rel="noopener"><bdi>{escape(study.title)}</bdi></a></li>'
        for study in studies
    )
    return f'{INTRO}<p class="effect">Open studies (you need the code from your invitation):</p><ul class="studies">{links}</ul></section>'


def plan_html(
    raters: float | None, prompts: float | None, images: float | None, methods: float | None, per_rater: float | None
) -> str:
    """How wide the intervals of such a study will be, and what it asks of a rater; or what is wrong with the numbers."""
    told = {
        "raters": raters,
        "prompts": prompts,
        "images a prompt": images,
        "methods": methods,
        "images a rater": per_rater,
    }
    try:
        for name, value in told.items():
            if value is None or value != int(value) or not 1 <= value <= MOST:
                given = "nothing" if value is None else f"{value:g}"
                raise InputError(f"{given} is no number of {name} that can be planned: give 1 to {MOST:,}")
    except InputError as error:
        return message(str(error))
    cells = int(prompts * images * methods)
    seen = min(int(per_rater), cells)
    ratings = raters * seen / methods
    width = expected_width(int(raters), int(prompts), max(1.0, ratings))
    per_image = raters * seen / cells
    warning = ""
    if per_image < 2:
        warning = message(
            "fewer than two raters an image: agreement can be measured on few images or none; give more raters", "note"
        )
    return (
        f'<dl class="scores plan"><div><dt>Interval of a method’s mean rating</dt><dd><b>± {width / 2:.1f}</b> <span>points of 100</span></dd></div>'
        f"<div><dt>Raters an image</dt><dd><b>{per_image:.1f}</b></dd></div>"
        f"<div><dt>Ratings a method</dt><dd><b>{ratings:.0f}</b></dd></div>"
        f"<div><dt>A rater’s time</dt><dd><b>{seen * SECONDS_A_RATING / 60:.0f}</b> <span>min</span></dd></div></dl>"
        '<p class="effect">Expected, at 95 %, if raters and prompts were drawn anew; from assumed spreads between prompts (18), raters (8) '
        f"and within both (28).</p>{warning}"
    )


def build_study_tab(studies: Sequence[OpenStudy] = ()) -> None:
    """Lays the tab out inside the Blocks at hand."""
    gr.HTML(intro_html(studies), elem_id="studies")
    gr.HTML('<h2 class="tab-heading">Plan a study</h2>')
    with gr.Row(elem_classes="numbers plan-row"):
        boxes = [
            gr.Number(value, label=label, precision=0, min_width=130)
            for value, label in zip(
                PLAN.values(), ("Raters", "Prompts", "Images a prompt", "Methods", "Images a rater"), strict=True
            )
        ]
    plan = gr.HTML(plan_html(**PLAN), elem_id="plan")
    gr.HTML(
        '<h2 class="tab-heading">Make, open, report</h2>'
        f'<pre class="commands" tabindex="0" role="region" aria-label="Commands"><code>{escape(COMMANDS)}</code></pre>'
        '<p class="effect">A folder with images of any other model will do as well: <code>--images FOLDER</code>.</p>'
    )
    gr.on(
        [box.change for box in boxes],
        plan_html,
        boxes,
        plan,
        show_progress="hidden",
        queue=False,
        api_visibility="private",
    )
