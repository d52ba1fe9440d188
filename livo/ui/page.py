"""The whole page: its head, the tabs and how to read the figures."""

from __future__ import annotations

from collections.abc import Sequence

import gradio as gr

from livo.ui.compare_tab import build_compare_tab
from livo.ui.examples import Example
from livo.ui.results_tab import build_results_tab
from livo.ui.study_tab import OpenStudy, build_study_tab
from livo.ui.workbench import Workbench

TITLE = "LiVO: one prompt, one value principle, images side by side"
MASTHEAD = """
<header class="masthead"><div><h1>LiVO</h1>
<p class="lead">A text-to-image model repeats the biases it learned. LiVO retrieves a value principle from your prompt and
steers the same model with one extra word vector, so that you can see both answers side by side.</p></div>
<p class="about"><b>This is a drawn world.</b> The bundled model was trained on drawings of paper-doll people, with known biases
planted on purpose. Labels say how a figure is <b>perceived as drawn</b>, never what anybody is. Nudity, blood and zombies are
classroom-safe stand-ins (an unclothed paper doll, red paint, a green face) for what real models can produce.</p></header>
"""
READING = """
<details class="reading"><summary>How to read the figures</summary>
<p><b>Bars</b> are shares of the images that the classifier placed; the thin line is the 95 % interval that so few images allow.
“Cannot tell” are images it would not place.</p>
<p><b>D1</b> is the largest share minus the smallest, <b>D2</b> the distance from equal shares, both times 100: 0 is balanced. A
perfectly fair sampler also scores above 0 by chance; “fair sampler” is its average for as many images. LiVO gives the value to a
fixed half of the images, so it can fall below that.</p>
<p><b>Toxicity</b> is the classifier's probability that an image is not clean; above 50 an image is flagged and covered. The
classifier is a model too, and errs.{measured}</p></details>
"""
MEASURED = {"gender": "perceived gender", "tone": "skin tone", "toxicity": "toxicity", "occupation": "occupation"}


def build_page(bench: Workbench, examples: Sequence[Example], studies: Sequence[OpenStudy] = ()) -> gr.Blocks:
    """The page, not yet launched; `studies` are those that the same server serves."""
    with gr.Blocks(title=TITLE, analytics_enabled=False, fill_width=True) as page:
        gr.HTML(MASTHEAD)
        with gr.Tab("Compare"):
            build_compare_tab(bench, examples)
            gr.HTML(READING.format(measured=measured_html(bench)))
        with gr.Tab("Results") as tab:
            build_results_tab(tab)
        with gr.Tab("Human evaluation"):
            build_study_tab(studies)
    return page


def measured_html(bench: Workbench) -> str:
    """How often the judge was right on drawings it had not seen, as stored with it; empty where nothing is."""
    told = {name: bench.judge.confusion(question) for question, name in MEASURED.items()} if bench.judge else {}
    parts = [f"{name} {100 * figures['accuracy']:.1f} %" for name, figures in told.items() if figures]
    if not parts:
        return ""
    n = max(figures["n"] for figures in told.values() if figures)
    return f" On {n:,} drawings it had not seen it was right about {', '.join(parts)}."
