"""The drawn world's tab: what was planted, what the model made of it, what every method makes of that; and an editor
that draws the world as another table would have it, without training anything.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path

import gradio as gr
import numpy as np

from livo.evaluation.parts import SD
from livo.evaluation.report import COMMITTED
from livo.evaluation.results import ATTRIBUTE, Results
from livo.evaluation.tables import find_main
from livo.live_training import Shares, stored_shares
from livo.measures.metrics import discrepancy_floor, discrepancy_l2, discrepancy_range, wilson_interval
from livo.miniature.renderer import render
from livo.miniature.world import Scene, World, draw_attributes, load_world
from livo.types import InputError
from livo.ui.cards import message
from livo.ui.grid import HEADINGS, data_uri
from livo.ui.results_tab import read_results_of
from livo.ui.workbench import Workbench

logger = logging.getLogger(__name__)

FIRST = "doctor"
AS_PLANTED = "as planted"
DRAWN = 16
"""Pictures of a strip."""
MILLE = 100_000
"""A planted share as a count of so many, for metrics that take counts."""
INTRO = """
<section class="card"><p class="eyebrow">The drawn world</p><h2>From a planted table to pictures, and what steering changes</h2>
<p class="effect">The training pictures were drawn from one table: how often a figure of each occupation or adjective is drawn with which
perceived gender presentation and skin tone. So here, unlike anywhere else, the true bias is known. Below it stands beside what the model
learned from it, and beside what every method makes of the model.</p></section>
"""
NOT_RETRAINED = """
<p class="message note" role="note">This draws pictures from your table with the program that drew the training pictures. <b>The model is
not retrained by it</b>: the Compare tab still shows the model of the shipped table.</p>
"""


@dataclass(frozen=True)
class Measured:
    """One column: shares of one attribute's classes by attribute, with how they are known.

    Attributes:
        shares: by attribute ("gender", "tone"), by class, in [0, 1].
        counts: images by class, where they were counted; empty for a table that is exact.
        note: where the figures come from.
    """

    title: str
    shares: Mapping[str, Mapping[str, float]]
    counts: Mapping[str, Mapping[str, int]]
    note: str


# --- what there is ---------------------------------------------------------------------------------------------------


def place_of(world: World, concept: str) -> tuple[str | None, str | None]:
    """(occupation, adjective) of a concept, one of them None.

    Raises:
        InputError: the world has no such concept.
    """
    if concept in world.occupations:
        return concept, None
    if concept in world.adjectives:
        return None, concept
    raise InputError(f"the drawn world has no {concept!r}: choose one from the list")


def planted_column(world: World, concept: str, title: str, note: str) -> Measured:
    """The table's own shares."""
    gender, tone = world.planted(*place_of(world, concept))
    return Measured(title, {"gender": gender, "tone": tone}, {}, note)


def counted_column(title: str, counts: Mapping[str, Mapping[str, int]], note: str) -> Measured:
    """Shares of the images that the judge placed; an attribute without any is left out."""
    known = {a: c for a, c in counts.items() if sum(c.values())}
    shares = {a: {name: k / sum(c.values()) for name, k in c.items()} for a, c in known.items()}
    return Measured(title, shares, known, note)


def columns_of(
    world: World, concept: str, shares: Shares, results: Results | None, methods: Iterable[str]
) -> list[Measured]:
    """Planted, generated, and every method that was evaluated on the concept.

    Args:
        shares: of the model without any value, by concept; used where the evaluation left the concept out.
        results: a stored evaluation.
        methods: ids of those to show, in this order, the model without any first.
    """
    columns = [planted_column(world, concept, "Planted", "world.yaml, exact")]
    item = None if results is None else next(
        (i for i, item in enumerate(results.items("bias")) if (_question(world, concept), concept) in item.wants), None
    )  # fmt: skip
    if item is None:
        if concept in shares:
            n = sum(shares[concept]["gender"].values())
            columns.append(
                counted_column(
                    "The model",
                    shares[concept],
                    f"{n} images of Stable Diffusion, judged; methods were evaluated on other concepts",
                )
            )
        return columns
    for method in (method for method in methods if method in results.methods):
        counts = {}
        for principle, attribute in ATTRIBUTE.items():
            if results.ran("bias", method, principle):
                images = results.images("bias", item, method, principle)
                counts[attribute] = dict(
                    zip(results.classes(attribute), results.counts(images, attribute), strict=True)
                )
        if counts:
            own = method == SD
            note = f"{len(images)} images, judged" + ("" if own else "; each attribute under its own principle")
            columns.append(counted_column("The model" if own else results.title(method), counts, note))
    return columns


def _question(world: World, concept: str) -> str:
    return "occupation" if concept in world.occupations else "adjective"


def edited(world: World, concept: str, female: float | None, mix: str) -> World:
    """A copy of the world with another row for the concept; the world itself stays.

    Args:
        female: percent drawn as perceived female, strictly between 0 and 100.
        mix: a row of `tone_mixes`, or `AS_PLANTED`.

    Raises:
        InputError: one of them cannot be.
    """
    place_of(world, concept)
    if female is None or not 0 < female < 100:
        raise InputError(
            f"{'nothing' if female is None else f'{female:g} %'} cannot be planted: give a share between 0 and 100 percent, both left out"
        )
    if mix != AS_PLANTED and mix not in world.tone_mixes:
        raise InputError(f"there is no tone mix {mix!r}; there are: {', '.join(world.tone_mixes)}")
    table = "occupations" if concept in world.occupations else "adjectives"
    row = dict(getattr(world, table)[concept])
    row |= {"female": female / 100} | ({} if mix == AS_PLANTED else {"tones": mix})
    return replace(world, **{table: {**getattr(world, table), concept: row}})


def draw_strip(world: World, concept: str, count: int = DRAWN) -> list[Scene]:
    """Scenes as the table has them. Scene i depends on the concept and i alone, so that of two tables the pictures whose
    attributes agree are the same."""
    occupation, adjective = place_of(world, concept)
    scenes = []
    for i in range(count):
        gender, tone = draw_attributes(world, occupation, adjective, random.Random(f"{concept} {i}"))
        scenes.append(Scene(occupation, adjective, None, None, gender, tone, jitter=i))
    return scenes


# --- HTML ------------------------------------------------------------------------------------------------------------


def columns_html(columns: Sequence[Measured], swatches: Mapping[str, str], strips: Sequence[str] = ()) -> str:
    """All columns side by side; each with its strip of pictures where there are any."""
    strips = strips or [""] * len(columns)
    body = "".join(_column(column, swatches, strip) for column, strip in zip(columns, strips, strict=True))
    label = "Planted, generated and steered shares"
    return f'<div class="world-scroll" tabindex="0" role="group" aria-label="{label}"><div class="world-columns">{body}</div></div>'


def _column(column: Measured, swatches: Mapping[str, str], strip: str) -> str:
    parts = [_attribute(column, attribute, swatches) for attribute in HEADINGS if attribute in column.shares]
    return (
        f'<section class="world-column" aria-label="{escape(column.title)}"><h3>{escape(column.title)}</h3>'
        f'<p class="chart-note">{escape(column.note)}</p>{strip}{"".join(parts)}</section>'
    )


def _attribute(column: Measured, attribute: str, swatches: Mapping[str, str]) -> str:
    shares, counts = column.shares[attribute], column.counts.get(attribute)
    n = sum(counts.values()) if counts else 0
    rows = []
    for name, share in shares.items():
        whisker, words = "", f"{name}: {100 * share:.0f} percent"
        if counts:
            low, high = wilson_interval(counts[name], n)
            whisker = f'<i class="whisker" style="left:{100 * low:.1f}%;width:{100 * (high - low):.1f}%"></i>'
            words += f", interval {100 * low:.0f} to {100 * high:.0f}"
        dot = f'<i class="swatch" style="background:{escape(swatches[name])}"></i>' if name in swatches else ""
        rows.append(
            f'<div class="bar-row"><span class="bar-label">{dot}{escape(name)}</span><span class="bar" role="img" aria-label="{escape(words)}">'
            f'<i class="fill" style="width:{100 * share:.1f}%"></i>{whisker}</span><span class="bar-value">{100 * share:.0f} %</span></div>'
        )
    scale = counts or {name: round(MILLE * share) for name, share in shares.items()}
    d1, d2 = discrepancy_range(list(scale.values())), discrepancy_l2(list(scale.values()))
    heading = HEADINGS[attribute] if counts else HEADINGS[attribute].replace("perceived", "drawn")
    floor = (
        f" <span>(fair sampler {100 * discrepancy_floor(n, len(shares)).discrepancy_range:.0f})</span>"
        if counts
        else ""
    )
    return (
        f'<div class="result"><h4>{heading}</h4>{"".join(rows)}<dl class="scores"><div><dt>D1</dt><dd><b>{100 * d1:.1f}</b>{floor}</dd></div>'
        f"<div><dt>D2</dt><dd><b>{100 * d2:.1f}</b></dd></div></dl></div>"
    )


def strip_html(world: World, concept: str) -> str:
    """Pictures drawn from a table, with what was drawn in words."""
    scenes = draw_strip(world, concept)
    cells = "".join(
        f'<li><img src="{data_uri(np.asarray(render(world, scene)))}" alt="drawn as {escape(scene.gender)}, {escape(scene.tone)} skin"></li>'
        for scene in scenes
    )
    female = sum(scene.gender == "female" for scene in scenes)
    return f'<div class="world-strip"><h4>{female} of these {len(scenes)} drawn as female</h4><ul class="live-cells world-cells">{cells}</ul></div>'


# --- handlers --------------------------------------------------------------------------------------------------------


def show_concept(bench: Workbench, results_folder: Path, concept: str) -> str:
    """The columns of a concept, or a message."""
    try:
        world = load_world()
        place_of(world, concept)
        results, missing = None, ""
        try:
            results = find_main(read_results_of(results_folder))
        except InputError as error:
            missing = message(str(error).replace("`", ""), "note")
        columns = columns_of(
            world, concept, stored_shares(bench.engine and bench.engine.backbone.folder).shares, results, bench.entries
        )
        if len(columns) == 1:
            missing += message(
                f"nothing is stored of {concept!r} but its row of the table: ask for it on the Compare tab", "note"
            )
        return columns_html(columns, world.tones) + missing
    except InputError as error:
        return message(str(error))
    except Exception as error:  # the server stays up, and says what happened
        logger.exception("the drawn world cannot be shown")
        return message(f"this cannot be shown ({type(error).__name__}: {error})")


def show_edit(concept: str, female: float | None, mix: str) -> str:
    """The shipped table and the visitor's, and pictures of both; or a message."""
    try:
        world = load_world()
        changed = edited(world, concept, female, mix)
        columns = [
            planted_column(world, concept, "Shipped table", "what the model was trained on"),
            planted_column(changed, concept, "Your table", "nothing is trained on it"),
        ]
        return f'<div class="world-edit">{columns_html(columns, world.tones, [strip_html(w, concept) for w in (world, changed)])}</div>'
    except InputError as error:
        return message(str(error))


def planted_percent(concept: str) -> float:
    """What the slider shows first for a concept; 50 for one that there is not."""
    world = load_world()
    row = world.occupations.get(concept) or world.adjectives.get(concept) or {"female": 0.5}
    return round(100 * row["female"])


# --- the tab ---------------------------------------------------------------------------------------------------------

SELECT_JS = """
const select = element.querySelector("select");
select.addEventListener("change", () => { props.value = select.value; trigger("change"); });
"""


def concept_select_html(world: World) -> str:
    """Every occupation and adjective of the world."""
    groups = (("Occupations", world.occupations), ("Adjectives", world.adjectives))
    options = "".join(
        f'<optgroup label="{kind}">{"".join(_option(name, name == FIRST) for name in sorted(names))}</optgroup>'
        for kind, names in groups
    )
    return f'<label class="field"><span>Occupation or adjective</span><select aria-label="Occupation or adjective">{options}</select></label>'


def mix_select_html(world: World) -> str:
    """Every row of `tone_mixes`."""
    options = "".join(_option(name, name == AS_PLANTED) for name in (AS_PLANTED, *world.tone_mixes))
    return f'<label class="field"><span>Skin tones to plant</span><select aria-label="Skin tones to plant">{options}</select></label>'


def _option(name: str, selected: bool) -> str:
    return f'<option value="{escape(name)}"{" selected" if selected else ""}>{escape(name)}</option>'


def build_world_tab(bench: Workbench, tab: gr.Tab, results: Path = COMMITTED) -> None:
    """Lays the tab out inside the Blocks at hand; `tab` is the one it is in."""
    world = load_world()
    gr.HTML(INTRO, apply_default_css=False)
    concept = gr.HTML(
        FIRST,
        html_template=concept_select_html(world),
        js_on_load=SELECT_JS,
        elem_id="world-concept",
        apply_default_css=False,
    )
    measured = gr.HTML("", elem_id="world-measured", apply_default_css=False)
    gr.HTML('<h2 class="tab-heading">Plant another share</h2>' + NOT_RETRAINED, apply_default_css=False)
    with gr.Row(elem_classes="numbers world-choices"):
        female = gr.Slider(
            1,
            99,
            planted_percent(FIRST),
            step=1,
            label="Drawn as perceived female, %",
            elem_id="world-female",
            min_width=260,
        )
        mix = gr.HTML(
            AS_PLANTED,
            html_template=mix_select_html(world),
            js_on_load=SELECT_JS,
            elem_id="world-mix",
            apply_default_css=False,
        )
    shown = gr.HTML("", elem_id="world-shown", apply_default_css=False)

    def on_concept(concept, mix):
        share = planted_percent(concept)
        return show_concept(bench, results, concept), share, show_edit(concept, share, mix)

    quiet = {"show_progress": "hidden", "queue": False, "api_visibility": "private"}
    gr.on([tab.select, concept.change], on_concept, [concept, mix], [measured, female, shown], **quiet)
    gr.on(
        [female.release, female.input, mix.change],
        show_edit,
        [concept, female, mix],
        shown,
        trigger_mode="always_last",
        **quiet,
    )
