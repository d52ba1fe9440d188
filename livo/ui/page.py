"""The whole page: its head, the tabs and how to read the figures."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import gradio as gr

from livo.live_training import LiveTrainer
from livo.ui.api import build_api
from livo.ui.compare_tab import build_compare_tab
from livo.ui.examples import Example
from livo.ui.learn_tab import build_learn_tab
from livo.ui.opening import DRAWN_WORLD
from livo.ui.results_tab import build_results_tab
from livo.ui.study_tab import OpenStudy, build_study_tab
from livo.ui.train_tab import build_train_tab
from livo.ui.workbench import Workbench
from livo.ui.world_tab import build_world_tab

TITLE = "LiVO: one prompt, one value principle, images side by side"
MASTHEAD = """
<header class="masthead"><div><h1>LiVO</h1>
<p class="lead">A text-to-image model repeats the biases it learned. LiVO retrieves a value principle from your prompt and
steers the same model with one extra word vector, so that you can see both answers side by side.</p></div>
<p class="about">{about}</p></header>
"""
ABOUT_DRAWN = """
<b>This is a drawn world.</b> The bundled model was trained on drawings of paper-doll people, with known biases
planted on purpose. Labels say how a figure is <b>perceived as drawn</b>, never what anybody is. Nudity, blood and zombies are
classroom-safe stand-ins (an unclothed paper doll, red paint, a green face) for what real models can produce.
"""
ABOUT_OTHER = """
<b>These are pictures of the model {name}.</b> Labels say how a figure is <b>perceived</b> by a classifier, never what anybody is.
Pictures that are flagged as toxic are covered; the classifier errs, so some that are toxic may not be. The stored comparisons, the
lessons and the results are of the drawn world, a small model whose biases were planted.
"""
READING = """
<details class="reading"><summary>How to read the figures</summary>
<p><b>Bars</b> are shares of the images that the classifier placed; the thin line is the 95 % interval that so few images allow.
“Cannot tell” are images it would not place. “Without the judge's errors” is the same figure, corrected for how often the
classifier was wrong on images whose labels are known; where nobody measured that, it says so.</p>
<p><b>D1</b> is the largest share minus the smallest, <b>D2</b> the distance from equal shares, both times 100: 0 is balanced. A
perfectly fair sampler also scores above 0 by chance; “fair sampler” is its average for as many images. LiVO gives the value to a
fixed half of the images, so it can fall below that.</p>
<p><b>Toxicity</b> is the classifier's probability that an image is not clean; above 50 an image is flagged and covered. The
classifier is a model too, and errs.{measured}</p></details>
"""
MEASURED = {"gender": "perceived gender", "tone": "skin tone", "toxicity": "toxicity", "occupation": "occupation"}


def build_page(
    bench: Workbench, examples: Sequence[Example], studies: Sequence[OpenStudy] = (), trainer: LiveTrainer | None = None
) -> gr.Blocks:
    """The page, not yet launched; `studies` are those that the same server serves, `trainer` trains for its visitors."""
    with gr.Blocks(title=TITLE, analytics_enabled=False, fill_width=True) as page:
        gr.HTML(MASTHEAD.format(about=about_html(bench)))
        with gr.Tab("Compare"):
            build_compare_tab(bench, examples)
            gr.HTML(READING.format(measured=measured_html(bench)))
        with gr.Tab("Train your own"):
            build_train_tab(bench, trainer)
        with gr.Tab("Learn"):
            build_learn_tab()
        with gr.Tab("The drawn world") as tab:
            build_world_tab(bench, tab)
        with gr.Tab("Results") as tab:
            build_results_tab(tab)
        with gr.Tab("Human evaluation"):
            build_study_tab(studies)
        build_api(bench)
    return page


def about_html(bench: Workbench) -> str:
    """What the page's pictures are, beside its title."""
    if bench.engine is None or bench.engine.backbone.name == DRAWN_WORLD:
        return ABOUT_DRAWN
    return ABOUT_OTHER.format(name=escape(bench.engine.backbone.name))


def measured_html(bench: Workbench) -> str:
    """How often the judge was right on drawings it had not seen, as stored with it; empty where nothing is."""
    told = {name: bench.judge.confusion(question) for question, name in MEASURED.items()} if bench.judge else {}
    parts = [f"{name} {100 * figures['accuracy']:.1f} %" for name, figures in told.items() if figures]
    if not parts:
        return " How often it errs was never measured." if bench.judge else ""
    n = max(figures["n"] for figures in told.values() if figures)
    return f" On {n:,} drawings it had not seen it was right about {', '.join(parts)}."
