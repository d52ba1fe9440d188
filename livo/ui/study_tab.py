"""The human-evaluation tab: the way in for raters, and for organisers a planner and the commands of a study.

The rating pages are their own application beside this one (`livo.study.web`), for Gradio's radio groups cannot be
worked
by keyboard, and what Gradio keeps about a visitor would tell raters what they must not know.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import gradio as gr
from markupsafe import Markup

from livo.classifiers.answers import CANNOT_TELL
from livo.study.planning import balanced_difference, balanced_mean
from livo.types import InputError
from livo.ui.cards import message
from livo.ui.rows import data_uri, flag_of
from livo.ui.stored import Example
from livo.ui.templates import render

MOST = 1_024
PLAN = {"raters": 5, "prompts": 12, "images": 1, "methods": 5, "per_rater": 60}
"""What the planner shows first: the paper's five raters and five methods, everybody sees everything."""
SECONDS_A_RATING = 12
COMMANDS = """python -m livo study create my_study --prompts "a photo of a doctor" "a photo of a nurse"
python -m livo study serve my_study
python -m livo study report my_study"""


class OpenStudy(NamedTuple):
    """A study that this server also serves: what raters read, and where."""

    title: str
    path: str


def intro_html(studies: Sequence[OpenStudy]) -> Markup:
    """The way in for raters; where no study is open, how to open one."""
    return render("studies.html", studies=studies)


@dataclass(frozen=True)
class TrialPicture:
    """A picture of the trial: its prompt, and what the judge perceives, which a rater learns at the end."""

    prompt: str
    source: str
    perceived: str


def trial_html(examples: Sequence[Example], most: int = 10) -> Markup:
    """A trial of rating on stored pictures that no judge flags; empty where none are stored."""
    found: list[TrialPicture] = []
    for example in examples:
        if any(principle.risk == "toxicity" for principle in example.record.principles):
            continue  # raters get those blurred
        for id, images in example.images.items():
            answers = example.record.methods[id].answers
            if "gender" not in answers:
                continue
            for i, image in enumerate(images):
                if not flag_of(answers, i):
                    perceived = answers["gender"].images[i].label or CANNOT_TELL
                    found.append(TrialPicture(example.record.prompt, data_uri(image), perceived))
    pictures = random.Random(0).sample(found, min(most, len(found)))
    return render("trial.html", pictures=pictures, classes=("male", "female", CANNOT_TELL)) if pictures else Markup()


def plan_html(
    raters: float | None, prompts: float | None, images: float | None, methods: float | None, per_rater: float | None
) -> Markup:
    """What such a study will be able to tell, and what it asks of a rater; or what is wrong with the numbers."""
    given = {
        "raters": raters,
        "prompts": prompts,
        "images a prompt": images,
        "methods": methods,
        "images a rater": per_rater,
    }
    try:
        for name, value in given.items():
            if value is None or value != int(value) or not 1 <= value <= MOST:
                said = "nothing" if value is None else f"{value:g}"
                raise InputError(f"{said} is no number of {name} that can be planned: give 1 to {MOST:,}")
    except InputError as error:
        return message(str(error))
    people, texts, pictures, kinds, seen = (int(value) for value in given.values() if value is not None)
    cells = texts * pictures * kinds
    seen = min(seen, cells)
    ratings = people * seen / kinds
    return render(
        "plan.html",
        half=balanced_mean(people, texts, max(1.0, ratings)).half_width,
        gap=balanced_difference(people, texts, max(1.0, ratings)).detectable(),
        per_image=people * seen / cells,
        ratings=ratings,
        minutes=seen * SECONDS_A_RATING / 60,
    )


def build_study_tab(studies: Sequence[OpenStudy] = (), examples: Sequence[Example] = ()) -> None:
    """Lays the tab out inside the Blocks at hand."""
    gr.HTML(intro_html(studies), elem_id="studies")
    gr.HTML(trial_html(examples), elem_id="trial")
    gr.HTML('<h2 class="tab-heading">Plan a study</h2>')
    with gr.Row(elem_classes="numbers plan-row"):
        boxes = [
            gr.Number(value, label=label, precision=0, min_width=130)
            for value, label in zip(
                PLAN.values(), ("Raters", "Prompts", "Images a prompt", "Methods", "Images a rater"), strict=True
            )
        ]
    plan = gr.HTML(plan_html(**PLAN), elem_id="plan")
    gr.HTML(render("study_commands.html", commands=COMMANDS))
    gr.on(
        [box.change for box in boxes],
        plan_html,
        boxes,
        plan,
        show_progress="hidden",
        queue=False,
        api_visibility="private",
    )
