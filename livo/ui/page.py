"""The whole page: its head, the tabs and how to read the figures."""

from __future__ import annotations

from collections.abc import Sequence

import gradio as gr
from markupsafe import Markup

from livo.live_training import LiveTrainer
from livo.retriever import default_retriever
from livo.ui.api import build_api
from livo.ui.compare_tab import build_compare_tab
from livo.ui.learn_tab import build_learn_tab
from livo.ui.opening import DRAWN_WORLD
from livo.ui.preview import TITLE
from livo.ui.results_tab import build_results_tab
from livo.ui.stored import Example
from livo.ui.study_tab import OpenStudy, build_study_tab
from livo.ui.take_along import Shelf
from livo.ui.templates import render
from livo.ui.train_tab import build_train_tab
from livo.ui.workbench import Workbench
from livo.ui.world_tab import build_world_tab

MEASURED = {"gender": "perceived gender", "tone": "skin tone", "toxicity": "toxicity", "occupation": "occupation"}


def build_page(
    bench: Workbench,
    examples: Sequence[Example],
    studies: Sequence[OpenStudy] = (),
    trainer: LiveTrainer | None = None,
    shelf: Shelf | None = None,
) -> gr.Blocks:
    """The page, not yet launched.

    Args:
        studies: those that the same server serves.
        trainer: trains for its visitors.
        shelf: keeps what they may take along; the server serves `take_routes` of it.
    """
    with gr.Blocks(title=TITLE, analytics_enabled=False, fill_width=True) as page:
        gr.HTML(masthead_html(bench), padding=False, apply_default_css=False)
        with gr.Tab("Compare"):
            build_compare_tab(bench, examples, shelf or Shelf())
            gr.HTML(render("reading.html", measured=measured_text(bench)), padding=False, apply_default_css=False)
        with gr.Tab("Train your own"):
            build_train_tab(bench, trainer)
        with gr.Tab("Learn"):
            build_learn_tab()
        with gr.Tab("The drawn world") as tab:
            build_world_tab(bench, tab)
        with gr.Tab("Results") as tab:
            build_results_tab(tab)
        with gr.Tab("Human evaluation"):
            build_study_tab(studies, examples)
        build_api(bench)
    return page


def masthead_html(bench: Workbench) -> Markup:
    """The head in one line; what the pictures are opens behind it."""
    drawn = bench.engine is None or bench.engine.backbone.name == DRAWN_WORLD
    languages = default_retriever().languages if bench.access.guarded else ()
    name = bench.engine.backbone.name if bench.engine else ""
    return render("masthead.html", drawn=drawn, name=name, languages=languages)


def measured_text(bench: Workbench) -> str:
    """How often the judge was right on drawings it had not seen, as stored with it; empty where nothing is."""
    known = {name: bench.judge.confusion(question) for question, name in MEASURED.items()} if bench.judge else {}
    figures = {name: confusion for name, confusion in known.items() if confusion}
    if not figures:
        return " How often it errs was never measured." if bench.judge else ""
    parts = [f"{name} {100 * confusion['accuracy']:.1f} %" for name, confusion in figures.items()]
    n = max(confusion["n"] for confusion in figures.values())
    return f" On {n:,} drawings it had not seen it was right about {', '.join(parts)}."
