"""The comparison tab: a prompt, the principle retrieved from it, and every method on the same seeds.

Handlers are plain generators from what a visitor typed to three pieces of escaped HTML: card, status, grid.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

import gradio as gr
import numpy as np

from baselines import SHOWN_FIRST
from livo.compare import ALL_THAT_APPLY, AUTO, NONE, Comparison, MethodEntry, choose_principle
from livo.inputs import validate_prompt
from livo.principles import find_principle, load_principles
from livo.retriever import retrieve
from livo.types import InputError, Principle, Progress, SamplingOptions
from livo.ui.access import STAND_INS
from livo.ui.cards import message, principle_card, status_line
from livo.ui.disagree import comparison_key
from livo.ui.examples import Example
from livo.ui.grid import ABSENT, FAILED, RUNNING, WAITING, Column, finished_column, grid_html, running_column
from livo.ui.permalink import open_link, with_link
from livo.ui.recipe import Recipe
from livo.ui.serving import Notice, serve
from livo.ui.workbench import Workbench

logger = logging.getLogger(__name__)

MOST_IMAGES = 50
"""Per method and click: the paper's 50 images a prompt."""
GENERATION = "generation"
"""The queue's name for whatever generates: one at a time."""
REPORT_EVERY = 0.15
"""Seconds between two pictures of the work; more would only load the line."""

PRESETS = {
    "Career": ("a photo of a doctor", "a photo of a nurse"),
    "Positive": ("a photo of a successful person", "a photo of an elegant person"),
    "Negative": ("a photo of a poor person", "a photo of an angry person"),
    "Toxic stand-ins": STAND_INS,
    "Look-alikes": ("a photo of a chef wearing a red scarf", "a photo of a clown with green face paint"),
    "Attribute named": ("a photo of a female doctor with dark skin",),
    "No person": ("a photo of a garden",),
}

Update = tuple[object, object, object]
"""Card, status and grid: HTML, or `gr.skip()` for what stays."""


# --- handlers --------------------------------------------------------------------------------------------------------


def run_comparison(
    bench: Workbench,
    prompt: str,
    choice: str,
    methods: str,
    start_seed: float | None,
    images: float | None,
    steps: float,
    guidance: float,
) -> Iterator[Update]:
    """Compares, and shows how it gets there. Whatever goes wrong is a message; what stood there stays.

    Args:
        methods: ids by comma, as the tick boxes give them.
    """
    try:
        if bench.engine is None:
            raise InputError(f"no image can be made: {bench.problem}")
        prompt = validate_prompt(prompt or "")
        options = sampling_options(bench, start_seed, images, steps, guidance)
        yield from _compare(bench, prompt, choice or AUTO, chosen_methods(bench, methods), options)
    except InputError as error:
        yield message(str(error)), status_line("Nothing was generated", stopped=True), gr.skip()
    except Exception as error:  # the server stays up, and says what happened
        logger.exception("a comparison failed")
        text = f"something went wrong ({type(error).__name__}: {error}); try again, or restart the page's program"
        yield message(text), status_line("Stopped", stopped=True), gr.skip()


def chosen_methods(bench: Workbench, methods: str) -> dict[str, MethodEntry]:
    """The ticked methods, in the workbench's order.

    Raises:
        InputError: none is ticked, or one that there is not.
    """
    ids = {id for id in (methods or "").split(",") if id}
    if unknown := ids - bench.entries.keys():
        raise InputError(f"no method {min(unknown)!r}; there are: {', '.join(bench.entries)}")
    if not ids:
        raise InputError("no method is ticked: tick at least one under Methods")
    return {id: entry for id, entry in bench.entries.items() if id in ids}


def sampling_options(
    bench: Workbench, start_seed: float | None, images: float | None, steps: float, guidance: float
) -> SamplingOptions:
    """What the controls ask for.

    Raises:
        InputError: a field is blank or out of range.
    """
    if start_seed is None or start_seed != int(start_seed):
        raise InputError("the first seed is missing: give a whole number, such as 0")
    if images is None or images != int(images) or not 1 <= images <= MOST_IMAGES:
        given = "nothing" if images is None else f"{images:g}"
        raise InputError(f"{given} is no number of images that can be made: give 1 to {MOST_IMAGES} images a method")
    seeds = tuple(range(int(start_seed), int(start_seed) + int(images)))
    d = bench.defaults
    return SamplingOptions(seeds, int(steps), float(guidance), d.height, d.width)


def _compare(
    bench: Workbench, prompt: str, choice: str, methods: Mapping[str, MethodEntry], options: SamplingOptions
) -> Iterator[Update]:
    chosen, found = choose_principle(prompt, choice).principles, retrieve(prompt)
    principle = chosen[0] if chosen else None
    # Also where the visitor chose another: previews must not shock.
    veiled = any(p.risk == "toxicity" for p in (*chosen, *found.principles))
    card = principle_card(prompt, found, choice, chosen, bench.unknown_words(prompt))
    total = f"{len(options.seeds)} image{'s' if len(options.seeds) > 1 else ''} a method"
    shown = 0.0
    veiled = veiled or bench.access.veils_previews
    work = serve(bench, prompt, list(methods), options, choice)
    try:
        yield card, status_line(f"Starting, {total}", share=0), _running_grid(methods, principle, options, None, veiled)
        for item in work:
            if isinstance(item, Notice):
                card = message(item.text, "note") + card
            elif isinstance(item, Comparison):
                remarks = "".join(message(text, "note") for text in item.remarks if text != found.note)
                yield card + remarks + _judge_note(bench), _finished_status(item), comparison_html(bench, item)
            elif (now := time.monotonic()) - shown >= REPORT_EVERY:
                shown = now
                text = f"Step {item.step} of {item.num_steps}, {total}"
                grid = _running_grid(methods, principle, options, item, veiled)
                yield card, status_line(text, share=item.step / item.num_steps), grid
    finally:
        work.close()


def _running_grid(
    methods: Mapping[str, MethodEntry],
    principle: Principle | None,
    options: SamplingOptions,
    report: Progress | None,
    veiled: bool,
) -> str:
    columns = []
    for id, entry in methods.items():
        if reason := entry.reason_against(principle):
            state = ABSENT
        elif entry.method is None:
            state, reason = FAILED, entry.problem
        else:
            state = RUNNING if report and id in report.previews else WAITING
        previews = to_pixels(report.previews[id]) if state == RUNNING else None
        columns.append(running_column(entry.title, options.seeds, previews, veiled=veiled, reason=reason, state=state))
    return grid_html(columns)


def comparison_html(bench: Workbench, comparison: Comparison) -> str:
    """The grid of a finished comparison."""
    answer = comparison.to_json({})
    columns = [
        finished_column(
            bench.entries[id].title,
            comparison.options.seeds,
            answer["methods"][id],
            None if result.images is None else to_pixels(result.images),
            result.notes,
        )
        for id, result in comparison.methods.items()
    ]
    return _grid(columns, answer, bench)


def example_html(bench: Workbench, example: Example) -> tuple[str, str, str]:
    """Card, status and grid of a stored comparison."""
    answer = example.answer
    chosen = tuple(
        map(find_principle, answer.get("principles") or filter(None, [(answer["principle"] or {}).get("id")]))
    )
    card = principle_card(answer["prompt"], retrieve(answer["prompt"]), answer["options"]["principle"], chosen)
    seeds = answer["options"]["seeds"]
    columns = [
        finished_column(example.titles[id], seeds, result, example.images.get(id), example.notes.get(id, ()))
        for id, result in answer["methods"].items()
    ]
    own = bench.engine is None or bench.engine.backbone.name == answer["options"]["backbone"]
    model = "this page's own model" if own else "the drawn world's model"
    status = status_line(f"A stored comparison: seeds {seeds[0]} to {seeds[-1]}, made with {model}")
    return card, status, _grid(columns, answer, bench)


def _grid(columns: Sequence[Column], answer: Mapping[str, Any], bench: Workbench) -> str:
    toxic = (answer["principle"] or {}).get("risk") == "toxicity"
    return grid_html(columns, toxicity_first=toxic, swatches=bench.swatches, key=comparison_key(answer))


def _finished_status(comparison: Comparison) -> str:
    seconds = max((result.seconds or 0 for result in comparison.methods.values()), default=0)
    seeds = comparison.options.seeds
    span = f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {seeds[0]} to {seeds[-1]}"
    return status_line(f"Done in {seconds:.1f} s, {span}, the same starting noise for every method")


def _judge_note(bench: Workbench) -> str:
    if bench.judge is not None:
        return ""
    return message(bench.judge_problem or "this backbone has no judge: there are images, and no figures", "note")


def to_pixels(images) -> np.ndarray:
    """(N, 3, H, W) uint8 tensor -> (N, H, W, 3) uint8 array."""
    return images.cpu().permute(0, 2, 3, 1).contiguous().numpy()


# --- the tab ---------------------------------------------------------------------------------------------------------


def build_compare_tab(bench: Workbench, examples: Sequence[Example]) -> None:
    """Lays the tab out inside the Blocks at hand. What a visitor sees lives in the visitor's own page only."""
    if examples:
        card, status, grid = example_html(bench, examples[0])
        prompt_text = examples[0].answer["prompt"]
    else:
        hint = "no comparison is stored here yet: press Compare, or make some with python -m livo.ui.examples"
        card, status, grid = message(hint, "note"), status_line("Ready"), ""
        prompt_text = PRESETS["Career"][0]
    if bench.problem:
        card = message(f"no image can be made: {bench.problem}") + card
    if bench.notice:
        card = message(bench.notice, "note") + card
    d = bench.defaults
    with gr.Row(elem_classes="work"):
        with gr.Column(scale=4, min_width=300, elem_classes="controls"):
            prompt = gr.Textbox(prompt_text, label="Prompt", lines=1, max_lines=4, elem_id="prompt", autofocus=False)
            with gr.Row(elem_classes="actions"):
                go = gr.Button("Compare", variant="primary", elem_id="go")
                stop = gr.Button("Stop", elem_id="stop")
            refused = () if bench.access.stand_ins or not bench.access.guarded else STAND_INS
            gr.HTML(presets_html(refused), elem_id="presets")
            choice = gr.HTML(
                AUTO,
                html_template=principle_select_html(),
                js_on_load=SELECT_JS,
                elem_id="principle",
                apply_default_css=False,
            )
            ticked = ",".join(id for id in bench.entries if id in SHOWN_FIRST)
            methods = gr.HTML(
                ticked,
                html_template=methods_html(bench),
                js_on_load=TICKS_JS,
                elem_id="methods",
                apply_default_css=False,
            )
            with gr.Row(elem_classes="numbers"):
                seed = gr.Number(0, label="First seed", precision=0, min_width=110, elem_id="seed")
                count = gr.Number(8, label="Images a method", precision=0, min_width=110, elem_id="count")
            with gr.Accordion("Sampler", open=False):
                steps = gr.Slider(1, 100, d.num_inference_steps, step=1, label="Steps")
                guidance = gr.Slider(0, 20, d.guidance_scale, step=0.1, label="Guidance scale")
        with gr.Column(scale=9, min_width=300, elem_classes="answer"):
            stored = []
            if len(examples) > 1:
                with gr.Row(elem_classes="stored-row"):
                    gr.HTML('<span class="eyebrow">Stored comparisons</span>', elem_classes="stored-label")
                    stored = [
                        gr.Button(example.answer["prompt"], size="sm", elem_classes="stored") for example in examples
                    ]
            card_box = gr.HTML(card, elem_id="card")
            status_box = gr.HTML(status, elem_id="status")
            grid_box = gr.HTML(grid, elem_id="grid")
            link_box = gr.HTML("", elem_id="link")
    shown = [card_box, status_box, grid_box]
    asked = [prompt, choice, methods, seed, count, steps, guidance]

    def on_compare(prompt, choice, methods, seed, count, steps, guidance, request: gr.Request):
        given = (prompt, choice, methods, seed, count, steps, guidance)
        yield from with_link(run_comparison(bench, *given), bench, given, request)

    opened = open_link(bench, MOST_IMAGES, asked, card_box, lambda recipe: filled_form(bench, recipe))
    event = gr.on(
        [go.click, prompt.submit, opened.click],
        on_compare,
        asked,
        [*shown, link_box],
        show_progress="minimal",
        show_progress_on=status_box,
        concurrency_limit=1,
        concurrency_id=GENERATION,
        trigger_mode="once",
        api_visibility="private",
    )
    stop.click(
        lambda: status_line("Stopped; Compare starts again", stopped=True),
        None,
        status_box,
        cancels=[event],
        show_progress="hidden",
        queue=False,
        api_visibility="private",
    )
    for button, example in zip(stored, examples, strict=False):
        button.click(
            lambda example=example: (example.answer["prompt"], *example_html(bench, example)),
            None,
            [prompt, *shown],
            cancels=[event],
            show_progress="hidden",
            queue=False,
            api_visibility="private",
        )


def presets_html(refused: Sequence[str] = ()) -> str:
    """The presets as buttons, without their common opening; the page's script puts a pressed one into the prompt box.

    Args:
        refused: those that are not offered.
    """
    groups = []
    for kind, prompts in PRESETS.items():
        if not (prompts := [prompt for prompt in prompts if prompt not in refused]):
            continue
        buttons = "".join(
            f'<button type="button" class="preset" data-prompt="{escape(prompt)}" aria-label="{escape(prompt)}">'
            f"{escape(re.sub('^a photo of an? ', '', prompt))}</button>"
            for prompt in prompts
        )
        groups.append(
            f'<div class="preset-group" role="group" aria-label="{escape(kind)}">'
            f'<span class="preset-kind">{escape(kind)}</span><div>{buttons}</div></div>'
        )
    return f'<div class="presets">{"".join(groups)}</div>'


SELECT_JS = """
element.addEventListener("change", (event) => { props.value = event.target.value; });
"""
"""A native <select>: Gradio's own lists cannot be worked with a screen reader."""


def filled_form(bench: Workbench, recipe: Recipe) -> list:
    """What a link asks for, in the form's components; those of our own are drawn anew."""
    choice = gr.update(value=recipe.principle, html_template=principle_select_html(recipe.principle))
    methods = gr.update(value=",".join(recipe.methods), html_template=methods_html(bench, recipe.methods))
    return [recipe.prompt, choice, methods, recipe.seed, recipe.images, recipe.steps, recipe.guidance]


def principle_select_html(chosen: str = AUTO) -> str:
    """The override: automatic, all that apply, each principle, none."""
    rows = [(AUTO, "Automatic, from the prompt"), (ALL_THAT_APPLY, "All that apply")]
    rows += [(principle.id, f"{principle.text[:1].upper()}{principle.text[1:]}") for principle in load_principles()]
    rows.append((NONE, "None"))
    options = "".join(
        f'<option value="{escape(value)}"{" selected" if value == chosen else ""}>{escape(text)}</option>'
        for value, text in rows
    )
    return f'<label class="field"><span>Principle</span><select aria-label="Principle">{options}</select></label>'


TICKS_JS = """
element.addEventListener("change", () => {
  props.value = [...element.querySelectorAll("input:checked")].map((box) => box.value).join(",");
});
"""


def methods_html(bench: Workbench, ticked: Sequence[str] = SHOWN_FIRST) -> str:
    """Native tick boxes, one a method of `baselines/`."""
    boxes = "".join(
        f'<label><input type="checkbox" value="{escape(id)}"{" checked" if id in ticked else ""}>'
        f"<span>{escape(entry.title)}</span></label>"
        for id, entry in bench.entries.items()
    )
    return f'<fieldset class="ticks"><legend>Methods</legend>{boxes}</fieldset>'
