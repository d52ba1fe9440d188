"""The comparison tab: a prompt, the principle retrieved from it, and every method on the same seeds.

Handlers are plain generators from what a visitor typed to three pieces of HTML: card, status, rows.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr
from markupsafe import Markup

from baselines import SHOWN_FIRST
from livo.compare.comparison import ALL_THAT_APPLY, AUTO, NONE, Comparison, ComparisonRequest, MethodEntry, make_request
from livo.compare.outlook import spoken
from livo.inputs import validate_prompt
from livo.principles import load_principles
from livo.types import InputError, SamplingOptions
from livo.ui.access import STAND_INS
from livo.ui.cards import message, status_line
from livo.ui.comparison_view import card_html, comparison_html, example_html, finished_status, running_html, shown_of
from livo.ui.own_inputs import SELECT_JS, SWITCH_JS, TICKS_JS, own_input, quick_look, select_html
from livo.ui.permalink import link_to, open_link
from livo.ui.presets import PRESETS, presets_html
from livo.ui.recipe import Recipe, decode, link_html
from livo.ui.serving import LONG, Notice, serve
from livo.ui.stored import SEEDS, Example
from livo.ui.take_along import Shelf, kept_comparison, kept_example
from livo.ui.templates import render
from livo.ui.turn import Paused
from livo.ui.workbench import Workbench
from livo.web.guard import asker

logger = logging.getLogger(__name__)

MOST_IMAGES = 50
"""Per method and click: the paper's 50 images a prompt."""
GENERATION = "generation"
"""The queue's name for whatever generates: one is at work at a time."""
REPORT_EVERY = 0.15
"""Seconds between two pictures of the work; more would only load the line."""

OTHERS = "Waiting for other visitors' comparisons"

Update = tuple[object, object, object]
"""Card, status and rows: HTML, or `gr.skip()` for what stays."""


# --- handlers --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Form:
    """What a visitor filled in; fields that were left blank are None.

    Attributes:
        methods: ids by comma, as the tick boxes give them.
        guess: "on" where the visitor wants to guess before the pictures show.
    """

    prompt: str | None
    choice: str | None
    methods: str | None
    seed: float | None = 0
    images: float | None = 8
    steps: float = 12
    guidance: float = 2.0
    width: float | None = None
    height: float | None = None
    guess: str | None = ""


def run_comparison(
    bench: Workbench, form: Form, done: Callable[[Comparison], None] | None = None, who: str = ""
) -> Iterator[Update]:
    """Compares, and shows how it gets there. Whatever goes wrong is a message; what stood there stays.

    An empty prompt clears what stood there, so that no picture stands under words that did not make it.

    Args:
        done: told the finished comparison, as the visitor may see it.
        who: the visitor's address.
    """
    try:
        if bench.engine is None:
            raise InputError(f"no image can be made: {bench.problem}")
        yield from _compare(bench, request_of(bench, form), done, who, guess=form.guess == "on")
    except InputError as error:
        rows = "" if not (form.prompt or "").strip() else gr.skip()
        yield message(str(error)), status_line("Nothing was generated", stopped=True), rows
    except Exception as error:  # the server stays up, and says what happened
        logger.exception("a comparison failed")
        text = f"something went wrong ({type(error).__name__}: {error}); try again, or restart the page's program"
        yield message(text), status_line("Stopped", stopped=True), gr.skip()


def request_of(bench: Workbench, form: Form) -> ComparisonRequest:
    """What the form asks for, with the one retrieval of a click.

    Raises:
        InputError: a field is blank, out of range, or names what there is not.
    """
    prompt = validate_prompt(form.prompt or "")
    ids = chosen_methods(bench, form.methods or "")
    options, choice = sampling_options(bench, form), form.choice or AUTO
    return make_request(prompt, ids, options, choice, vocabulary=bench.vocabulary, reads=bench.reads)


def chosen_methods(bench: Workbench, methods: str) -> list[str]:
    """The ticked methods, in the workbench's order.

    Raises:
        InputError: none is ticked, or one that there is not.
    """
    ids = {id for id in methods.split(",") if id}
    if unknown := ids - bench.entries.keys():
        raise InputError(f"no method {min(unknown)!r}; there are: {', '.join(bench.entries)}")
    if not ids:
        raise InputError("no method is ticked: tick at least one under Settings")
    return [id for id in bench.entries if id in ids]


def sampling_options(bench: Workbench, form: Form) -> SamplingOptions:
    """What the controls ask for.

    Raises:
        InputError: a field is blank or out of range.
    """
    seed, images = form.seed, form.images
    if seed is None or seed != int(seed):
        raise InputError("the first seed is missing: give a whole number, such as 0")
    if images is None or images != int(images) or not 1 <= images <= MOST_IMAGES:
        given = "nothing" if images is None else f"{images:g}"
        raise InputError(f"{given} is no number of images that can be made: give 1 to {MOST_IMAGES} images a method")
    seeds = tuple(range(int(seed), int(seed) + int(images)))
    d = bench.defaults
    height = d.height if form.height is None else int(form.height)
    width = d.width if form.width is None else int(form.width)
    return SamplingOptions(seeds, int(form.steps), float(form.guidance), height, width)


def _compare(
    bench: Workbench, request: ComparisonRequest, done: Callable[[Comparison], None] | None, who: str, *, guess: bool
) -> Iterator[Update]:
    # Also where the visitor chose another principle: previews must not shock.
    toxic = any(p.risk == "toxicity" for p in (*request.principles, *request.found.principles))
    veiled = toxic or guess or bench.access.veils_previews or not request.words.measurable
    card = card_html(request)
    total = f"{len(request.options.seeds)} image{'s' * (len(request.options.seeds) > 1)} a method"
    shown = share = 0.0
    begin = status_line(f"Starting, {total}", share=0), running_html(request, bench.entries, None, veiled=veiled)
    with closing(serve(bench, request, who)) as work:
        yield card, *begin
        for item in work:
            if isinstance(item, Notice):
                card = message(item.text, "note") + card
                yield card, *begin
            elif isinstance(item, Comparison):
                record = item.record()
                remarks = [text for text in record.remarks if text != request.found.note and request.words.measurable]
                notes = Markup().join(message(text, "note") for text in remarks)
                rows = comparison_html(record, shown_of(item, bench.entries), bench.swatches, guess=guess)
                if done:
                    done(item)
                yield card + notes + _judge_note(bench), finished_status(record), rows
            elif isinstance(item, Paused):
                yield card, status_line(OTHERS, share=share), gr.skip()
            elif (now := time.monotonic()) - shown >= REPORT_EVERY:
                shown = now
                left = item.seconds / item.step * (item.num_steps - item.step)
                soon = f", about {spoken(left)} left" if left > LONG else ""
                step = f"Step {item.step} of {item.num_steps}, {total}{soon}"
                share = item.step / item.num_steps
                line = status_line(step, share=share)
                yield card, line, running_html(request, bench.entries, item, veiled=veiled)


def model_of(bench: Workbench, example: Example) -> str:
    """What made a stored comparison, where it is not this page's own model."""
    own = bench.engine is None or bench.engine.backbone.name == example.record.backbone
    return "" if own else "the drawn world's model"


def _judge_note(bench: Workbench) -> Markup:
    if bench.judge is not None:
        return Markup()
    return message(bench.judge_problem or "this backbone has no judge: there are images, and no figures", "note")


# --- the tab ---------------------------------------------------------------------------------------------------------


def build_compare_tab(bench: Workbench, examples: Sequence[Example], shelf: Shelf) -> None:
    """Lays the tab out inside the Blocks at hand. What a visitor sees lives in the visitor's own page, and for a while
    on the shelf, under a name that only this page knows."""
    if examples:
        card, status, rows = example_html(examples[0], model_of(bench, examples[0]))
        prompt_text = examples[0].record.prompt
    else:
        hint = "no comparison is stored here yet: press Compare, or make some with python -m livo.ui.examples"
        card, status, rows = message(hint, "note"), status_line("Ready"), Markup()
        prompt_text = PRESETS["Career"][0]
    if bench.problem:
        card = message(f"no image can be made: {bench.problem}") + card
    if bench.notice:
        card = message(bench.notice, "note") + card
    d = bench.defaults
    stored = {example.record.prompt: example for example in examples}
    views = {prompt: example_html(example, model_of(bench, example)) for prompt, example in stored.items()}
    names = {prompt: shelf.put(kept_example(example, views[prompt]), stored=True) for prompt, example in stored.items()}
    with gr.Row(elem_classes="ask-row"):
        prompt = gr.Textbox(
            prompt_text, label="Prompt", show_label=False, lines=1, max_lines=4, elem_id="prompt", scale=1,
            placeholder="a photo of a doctor", container=False,
        )  # fmt: skip
        go = gr.Button("Compare", variant="primary", elem_id="go", scale=0)
        stop = gr.Button("Stop", elem_id="stop", scale=0)
    refused = () if bench.access.stand_ins or not bench.access.guarded else STAND_INS
    with gr.Row(elem_classes="chips-row"):
        presets = gr.HTML(
            presets_html(refused), js_on_load=PRESETS_JS, elem_id="presets", apply_default_css=False, padding=False
        )
        status_box = gr.HTML(status, elem_id="status", padding=False, apply_default_css=False)
    with gr.Column(elem_id="settings", elem_classes="settings"):
        with gr.Row(elem_classes="numbers"):
            choice = own_input(AUTO, principle_select_html(), SELECT_JS, "principle")
            seed = gr.Number(0, label="First seed", precision=0, min_width=110, elem_id="seed")
            count = gr.Number(8, label="Images a method", precision=0, min_width=110, elem_id="count")
            steps = gr.Number(d.num_inference_steps, label="Steps", precision=0, min_width=110, elem_id="steps")
            guidance = gr.Number(d.guidance_scale, label="Guidance scale", step=0.1, min_width=110, elem_id="guidance")
            width, height = (
                gr.Number(side, label=label, precision=0, min_width=110, elem_id=label.lower(), visible=bench.any_size)
                for side, label in ((d.width, "Width"), (d.height, "Height"))
            )
        ticked = ",".join(id for id in bench.entries if id in SHOWN_FIRST)
        methods = own_input(ticked, methods_html(bench), TICKS_JS, "methods")
        guess = own_input("", render("guess_switch.html"), SWITCH_JS, "guess")
        if d.quick_steps:
            quick_look(d.num_inference_steps, d.quick_steps, steps)
    card_box = gr.HTML(card, elem_id="card", padding=False, apply_default_css=False)
    rows_box = gr.HTML(rows, elem_id="grid", padding=False, apply_default_css=False)
    link_box = gr.HTML(
        link_html("", names.get(prompt_text, "")), elem_id="link", padding=False, apply_default_css=False
    )
    shown = [card_box, status_box, rows_box]
    asked = [prompt, choice, methods, seed, count, steps, guidance, width, height, guess]

    def on_compare(*given: Any, request: gr.Request) -> Iterator[tuple[object, ...]]:
        form = Form(*given)
        link, made = link_to(bench, form, request), list[Comparison]()
        # "Done" and what can be taken along come in one update: a press between two would be lost.
        for i, update in enumerate(run_comparison(bench, form, made.append, asker(request))):
            name = shelf.put(kept_comparison(made[0], bench.entries, link, update)) if made else ""
            yield *update, link_html(link, name) if made or i == 0 else gr.skip()

    # Gradio counts parameters by name, so *given will not do.
    def on_click(
        prompt: Any, choice: Any, methods: Any, seed: Any, count: Any, steps: Any, guidance: Any, width: Any,
        height: Any, guess: Any, request: gr.Request,
    ) -> Iterator[tuple[object, ...]]:  # fmt: skip
        given = (prompt, choice, methods, seed, count, steps, guidance, width, height, guess)
        yield from on_compare(*given, request=request)

    def on_preset(
        choice: Any, methods: Any, seed: Any, count: Any, steps: Any, guidance: Any, width: Any, height: Any,
        guess: Any, request: gr.Request, event: gr.EventData,
    ) -> Iterator[tuple[object, ...]]:  # fmt: skip
        text = str(getattr(event, "prompt", ""))[:1_000]
        form = Form(text, choice, methods, seed, count, steps, guidance, width, height, guess)
        usual = d.num_inference_steps, d.guidance_scale, d.width, d.height
        start = Form("", AUTO, ticked, 0, len(SEEDS), *usual, "")
        if text in stored and replace(form, prompt="") == start:
            yield (text, *views[text], link_html("", names[text]))
            return
        for update in on_compare(*vars(form).values(), request=request):
            yield (text, *update)

    show_again(shelf, [*asked[:-1], *shown, link_box], lambda recipe: filled_form(bench, recipe), bench)
    opened = open_link(bench, MOST_IMAGES, asked[:-1], card_box, lambda recipe: filled_form(bench, recipe))
    working: dict[str, Any] = {
        "show_progress": "hidden",
        "concurrency_limit": 1,
        "concurrency_id": GENERATION,
        "api_visibility": "private",
    }
    # What is asked while a comparison runs comes after it, with the form as it then is. A chip's prompt is in its
    # event, and "always_last" would send the first event again: so each of its presses stands in the queue.
    asks = [go.click, prompt.submit, opened.click]
    event = gr.on(asks, on_click, asked, [*shown, link_box], trigger_mode="always_last", **working)
    preset_event = presets.click(on_preset, asked[1:], [prompt, *shown, link_box], trigger_mode="multiple", **working)
    stop.click(
        lambda: status_line("Stopped; Compare starts again", stopped=True),
        None,
        status_box,
        cancels=[event, preset_event],
        show_progress="hidden",
        queue=False,
        api_visibility="private",
    )


def show_again(
    shelf: Shelf, boxes: Sequence[gr.components.Component], fill: Callable[[Recipe], list[Any]], bench: Workbench
) -> None:
    """After a reload the form and the last finished comparison of the same browser tab are there again.

    The tab keeps the link's text and the comparison's name on the shelf, both of which nobody else has.

    Args:
        boxes: the form without the guess, then card, status, rows and link.
        fill: values of the form.
    """
    last = gr.HTML("", html_template="<i hidden></i>", js_on_load=AGAIN_JS, elem_id="again", apply_default_css=False)

    def again(event: gr.EventData) -> list[Any]:
        text, name = (str(getattr(event, key, ""))[:8_000] for key in ("recipe", "name"))
        kept, stay = shelf.get(name), [gr.skip()] * len(boxes)
        try:
            recipe = decode(text, list(bench.entries), MOST_IMAGES) if text else None
        except InputError:
            return stay
        if recipe is None and kept is None:
            return stay
        form = fill(recipe) if recipe else [kept.record.prompt if kept else "", *[gr.skip()] * 8]
        if kept and kept.seen:
            return [*form, *kept.seen, link_html(kept.link, name)]
        hint = "the pictures of your last comparison are no longer kept: press Compare to make them again"
        return [*form, message(hint, "note"), gr.skip(), gr.skip(), gr.skip()]

    last.click(again, None, list(boxes), show_progress="hidden", queue=False, api_visibility="private")


AGAIN_JS = """
let last = null;
try { last = JSON.parse(sessionStorage.getItem("livo-last")); } catch { /* private mode */ }
const linked = new URLSearchParams(location.search).has("r");
if (last && !linked) setTimeout(() => trigger("click", last), 300);
"""
"""What this tab showed last; a link that was opened goes first."""
PRESETS_JS = """
element.addEventListener("click", (event) => {
  const chip = event.target.closest("button.chip[data-prompt]");
  if (chip) trigger("click", { prompt: chip.dataset.prompt });
});
"""
"""A press on a chip is one event that carries its prompt."""


def filled_form(bench: Workbench, recipe: Recipe) -> list[Any]:
    """What a link asks for, in the form's components; those of our own are drawn anew."""
    choice = gr.update(value=recipe.principle, html_template=principle_select_html(recipe.principle))
    methods = gr.update(value=",".join(recipe.methods), html_template=methods_html(bench, recipe.methods))
    d, sized = bench.defaults, bench.any_size
    size = [(sized and given) or own for given, own in ((recipe.width, d.width), (recipe.height, d.height))]
    return [recipe.prompt, choice, methods, recipe.seed, recipe.images, recipe.steps, recipe.guidance, *size]


def principle_select_html(chosen: str = AUTO) -> Markup:
    """The override: automatic, all that apply, each principle, none."""
    choices = {AUTO: "Automatic, from the prompt", ALL_THAT_APPLY: "All that apply"}
    choices |= {p.id: f"{p.text[:1].upper()}{p.text[1:]}" for p in load_principles()} | {NONE: "None"}
    return select_html("Principle", choices, chosen)


def methods_html(bench: Workbench, ticked: Sequence[str] = SHOWN_FIRST) -> Markup:
    """Native tick boxes, one a method of `baselines/`."""
    entries: Mapping[str, MethodEntry] = bench.entries
    return render("ticks.html", legend="Methods", boxes=[(id, e.title, id in ticked) for id, e in entries.items()])
