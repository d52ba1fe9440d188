"""The tab where a visitor trains a value encoder and watches: choices, the training, the comparison with the shipped
one.

What a visitor trained lives in that visitor's session as bytes, never in a file that others could reach, and never
where
the shipped weights are.
"""

from __future__ import annotations

import base64
import logging
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import gradio as gr
from markupsafe import Markup

from livo.compare.comparison import MethodEntry
from livo.live_training import (
    DEFAULT_STEPS,
    FOLDER,
    LOSSES,
    PRINCIPLES,
    Ended,
    LiveRequest,
    LiveTrainer,
    Preparing,
    Preview,
    Stepped,
    Waiting,
    stored_shares,
    unpack_encoder,
)
from livo.miniature.world import load_world
from livo.principles import find_principle
from livo.types import AtRate, InputError
from livo.ui.cards import message, status_line
from livo.ui.compare_tab import Form, run_comparison
from livo.ui.details import duration
from livo.ui.own_inputs import SELECT_JS, TICKS_JS, select_html
from livo.ui.templates import render
from livo.ui.train_view import charts_html, concepts_html, strip_html
from livo.ui.workbench import Workbench
from livo.web.guard import asker

logger = logging.getLogger(__name__)

CHARTS_EVERY = 0.7
"""Seconds between two drawings of the charts."""
STOPPED = "Stopped; what the last pictures show is kept: compare it, or take it with you"
FIRST_PROMPT = "a photo of a chef"
EVERY, HALF = "1", "0.5"
RATES = {EVERY: "in every image", HALF: "in half of the images, as LiVO is used"}


@dataclass(frozen=True, eq=False)
class Trained:
    """What a visitor has: the encoder of the last pictures, and of which training it is."""

    request: LiveRequest
    encoder: bytes
    step: int


Shown = tuple[object, object, object, object]
"""Status, strip, charts: HTML, or `gr.skip()` for what stays; and the visitor's `Trained`."""


# --- handlers --------------------------------------------------------------------------------------------------------


def request_of(
    concepts: str,
    principle: str,
    loss: str,
    gamma_1: float | None,
    gamma_2: float | None,
    steps: float | None,
    seed: float | None,
) -> LiveRequest:
    """What the controls ask for; `concepts` are names by comma.

    Raises:
        InputError: a field is blank or out of range.
    """

    def given(name: str, value: float | None) -> float:
        if value is None:
            raise InputError(f"the {name} is missing: give a number")
        return value

    gamma_1, gamma_2 = given("gamma 1", gamma_1), given("gamma 2", gamma_2)
    steps, seed = given("number of steps", steps), given("seed", seed)
    if seed != int(seed) or seed < 0:
        raise InputError(f"a seed of {seed:g} is none: give a whole number from 0")
    chosen = tuple(c for c in (concepts or "").split(",") if c)
    return LiveRequest(chosen, principle, loss, float(gamma_1), float(gamma_2), int(steps), int(seed))


def run_training(trainer: LiveTrainer | None, *asked: Any) -> Iterator[Shown]:
    """Trains, and shows how it goes. Whatever goes wrong is a message; what was learned before stays.

    Args:
        asked: as `request_of` takes them.
    """
    try:
        if trainer is None:
            raise InputError(
                "what is learned here are drawings of the drawn world: open the page with its own model, by python "
                "app.py"
            )
        request = request_of(*asked)
        with closing(trainer(request)) as updates:
            yield from _show(request, updates)
    except InputError as error:
        yield message(str(error)) + status_line("Not trained", stopped=True), gr.skip(), gr.skip(), gr.skip()
    except Exception as error:  # the server stays up, and says what happened
        logger.exception("a training failed")
        text = f"something went wrong ({type(error).__name__}: {error}); train again, or restart the page's program"
        yield message(text) + status_line("Stopped", stopped=True), gr.skip(), gr.skip(), gr.skip()


def _show(request: LiveRequest, updates: Iterator) -> Iterator[Shown]:
    steps: list[Stepped] = []
    before: Preview | None = None
    now: Preview | None = None
    drawn = 0.0
    margins = LOSSES[request.loss].margins
    for update in updates:
        charts, strip, state = gr.skip(), gr.skip(), gr.skip()
        match update:
            case Waiting():
                trainings = f"{update.ahead} training{'s' if update.ahead > 1 else ''}"
                text = f"Waiting: {trainings} before yours, about {duration(max(1.0, update.seconds))}"
                status = status_line(text)
            case Preparing():
                status = status_line(f"Getting ready, {update.what} ({update.seconds:.0f} s)", share=0)
            case Stepped():
                steps.append(update)
                if (clock := time.monotonic()) - drawn < CHARTS_EVERY and update.step < update.num_steps:
                    continue
                drawn = clock
                charts, status = charts_html(steps, margins), _step_line(update)
            case Preview():
                before, now = (update, None) if update.step == 0 else (before, update)
                strip = strip_html(before, now, request)
                status = _step_line(steps[-1]) if steps else status_line("The model before training", share=0)
                if update.encoder is not None:
                    state = Trained(request, update.encoder, update.step)
            case Ended():
                charts = charts_html(steps, margins) if steps else gr.skip()
                if update.problem:
                    status = message(update.problem) + status_line(f"Ended after {len(steps)} steps", stopped=True)
                else:
                    status = status_line(
                        f"Trained in {update.seconds:.0f} s, {len(steps)} steps. Compare it below, or take it with you"
                    )
        yield status, strip, charts, state


def _step_line(step: Stepped) -> Markup:
    left = step.seconds / step.step * (step.num_steps - step.step) if step.step else 0.0
    remaining = f", about {duration(max(1.0, left))} left" if step.step < step.num_steps else ""
    text = f"Step {step.step} of {step.num_steps}, {step.seconds:.0f} s{remaining}"
    return status_line(text, share=step.step / step.num_steps)


def compare_encoders(
    bench: Workbench,
    trained: Trained | None,
    prompt: str,
    rate: str,
    count: float | None,
    seed: float | None,
    who: str = "",
) -> Iterator[tuple]:
    """Stable Diffusion, the visitor's encoder and the shipped one on the same seeds: card, status and grid, as
    `run_comparison`. `who` is the visitor's address."""
    if trained is None or bench.engine is None:
        why = (
            f"no image can be made: {bench.problem}"
            if trained
            else "nothing is trained yet: press Train first, and compare when pictures have appeared"
        )
        yield message(why), status_line("Nothing to compare", stopped=True), gr.skip()
        return
    from livo.methods.livo import LiVO
    from livo.methods.value_encoder import load_value_encoder

    share = float(rate) if rate in RATES else 1.0
    with TemporaryDirectory() as folder:
        encoder = load_value_encoder(unpack_encoder(trained.encoder, Path(folder)), bench.engine.backbone)
    entries = {"stable_diffusion": bench.entries["stable_diffusion"]}
    entries["yours"] = MethodEntry(
        f"Yours, {trained.step} steps", ("bias", "toxicity"), LiVO(bench.engine, encoder, share)
    )
    shipped = bench.entries["livo"]
    at_rate = shipped.method.at_rate(share) if isinstance(shipped.method, AtRate) else shipped.method
    entries["livo"] = replace(shipped, title="LiVO as shipped", method=at_rate)
    here = replace(bench, entries=entries, generate=None, fallback=None)
    d = bench.defaults
    ids = ",".join(entries)
    principle = trained.request.principle
    words = f"Under “{find_principle(principle).text}”, with the value {RATES[EVERY if share == 1 else HALF]}."
    head = Markup('<p class="effect">{}</p>').format(words)
    form = Form(prompt, principle, ids, seed, count, d.num_inference_steps, d.guidance_scale)
    for card, status, rows in run_comparison(here, form, who=who):
        # Not the Compare tab's card, whose buttons act there.
        yield card if 'role="alert"' in str(card) else head, status, rows


def download_link(trained: Trained | None) -> Markup:
    """A link that holds the archive itself, so that no address on the server leads to a visitor's encoder."""
    if trained is None:
        return message("nothing is trained yet: press Train first")
    packed = base64.b64encode(trained.encoder).decode()
    command = f"python -m livo evaluate --value-encoders mine={FOLDER}"
    size = len(trained.encoder) / 1e6
    return render("live_download.html", folder=FOLDER, packed=packed, size=size, step=trained.step, command=command)


# --- the tab ---------------------------------------------------------------------------------------------------------


def build_train_tab(bench: Workbench, trainer: LiveTrainer | None) -> None:
    """Lays the tab out inside the Blocks at hand. What a visitor trains lives in the visitor's own session only."""
    folder = bench.engine.backbone.folder if bench.engine else None
    start = LiveRequest()
    gr.HTML(render("live_intro.html", losses=LOSSES.values()), elem_id="live-intro", apply_default_css=False)
    mine = gr.State(None)

    def choice(value: str, html: str, script: str, id: str) -> gr.HTML:
        return gr.HTML(value, html_template=html, js_on_load=script, elem_id=id, apply_default_css=False)

    with gr.Row(elem_classes="work"):
        with gr.Column(scale=4, min_width=300, elem_classes="controls"):
            with gr.Row(elem_classes="actions"):
                go = gr.Button("Train", variant="primary", elem_id="live-go")
                stop = gr.Button("Stop", elem_id="live-stop")
            principles = {id: find_principle(id).text.capitalize() for id in PRINCIPLES}
            principle = choice(
                start.principle, select_html("Principle to teach", principles), SELECT_JS, "live-principle"
            )
            loss = choice(
                start.loss,
                select_html("Loss", {name: loss.title for name, loss in LOSSES.items()}),
                SELECT_JS,
                "live-loss",
            )
            with gr.Row(elem_classes="numbers"):
                gamma_1 = gr.Number(start.gamma_1, label="Gamma 1", step=0.1, min_width=110, elem_id="live-gamma-1")
                gamma_2 = gr.Number(start.gamma_2, label="Gamma 2", step=0.1, min_width=110, elem_id="live-gamma-2")
            with gr.Row(elem_classes="numbers"):
                steps = gr.Number(
                    DEFAULT_STEPS, label="Training steps", precision=0, min_width=110, elem_id="live-steps"
                )
                seed = gr.Number(0, label="Seed of the pairs", precision=0, min_width=110, elem_id="live-seed")
            concepts = choice(
                ",".join(start.concepts),
                concepts_html(load_world(), stored_shares(folder).shares, start.concepts),
                TICKS_JS,
                "live-concepts",
            )
        with gr.Column(scale=9, min_width=300, elem_classes="answer"):
            status = gr.HTML(
                status_line("Ready: Train begins with the choices on the left"),
                elem_id="live-status",
                apply_default_css=False,
            )
            strip = gr.HTML("", elem_id="live-strip", apply_default_css=False)
            charts = gr.HTML("", elem_id="live-charts", apply_default_css=False)
            gr.HTML('<h2 class="tab-heading">Stable Diffusion, yours, and the shipped encoder</h2>')
            with gr.Row(elem_classes="live-compare"):
                prompt = gr.Textbox(
                    FIRST_PROMPT, label="Prompt to compare", lines=1, max_lines=3, elem_id="live-prompt"
                )
            with gr.Row(elem_classes="numbers live-compare"):
                rate = choice(EVERY, select_html("The value", RATES), SELECT_JS, "live-rate")
                count = gr.Number(8, label="Images of each", precision=0, min_width=110, elem_id="live-count")
                first = gr.Number(100, label="From seed", precision=0, min_width=110, elem_id="live-first")
            with gr.Row(elem_classes="actions"):
                compare = gr.Button("Compare with the shipped one", elem_id="live-compare")
                download = gr.Button("Download", elem_id="live-download")
            link = gr.HTML("", elem_id="live-link", apply_default_css=False)
            card = gr.HTML("", elem_id="live-card")
            compared = gr.HTML("", elem_id="live-compared")
            grid = gr.HTML("", elem_id="live-grid")

    def on_train(*asked: Any) -> Iterator[Shown]:
        yield from run_training(trainer, *asked)

    def on_compare(trained: Any, prompt: Any, rate: Any, count: Any, seed: Any, request: gr.Request) -> Iterator[Any]:
        yield from compare_encoders(bench, trained, prompt, rate, count, seed, asker(request))

    training = go.click(
        on_train, [concepts, principle, loss, gamma_1, gamma_2, steps, seed], [status, strip, charts, mine],
        show_progress="hidden", concurrency_limit=None, trigger_mode="always_last", api_visibility="private",
    )  # fmt: skip
    go.click(None, None, None, js="() => document.querySelector('#live-status').scrollIntoView({ block: 'nearest' })")
    stop.click(
        lambda: status_line(STOPPED, stopped=True), None, status,
        cancels=[training], show_progress="hidden", queue=False, api_visibility="private",
    )  # fmt: skip
    gr.on(
        [compare.click, prompt.submit], on_compare, [mine, prompt, rate, count, first], [card, compared, grid],
        show_progress="hidden", concurrency_limit=1, concurrency_id="generation", trigger_mode="once",
        api_visibility="private",
    )  # fmt: skip
    download.click(download_link, mine, link, show_progress="hidden", queue=False, api_visibility="private").then(
        None, None, None, js="() => document.querySelector('#live-link a[download]')?.click()"
    )
