"""The drawn world's tab: what was planted, what the model made of it, what every method makes of that; and an editor
that draws the world as another table would have it, without training anything.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr
import numpy as np
from markupsafe import Markup

from livo.evaluation.parts import SD
from livo.evaluation.results import ATTRIBUTE, Results
from livo.evaluation.tables import find_main
from livo.live_training import Shares, stored_shares
from livo.measures.metrics import discrepancy_floor, discrepancy_l2, discrepancy_range, wilson_interval
from livo.miniature.renderer import render as render_scene
from livo.miniature.world import GENDERS, Scene, World, draw_attributes, load_world
from livo.presentation.marks import Mark, letters
from livo.types import InputError
from livo.ui.cards import message
from livo.ui.own_inputs import select_html
from livo.ui.readout import HEADINGS, Bar, Segment
from livo.ui.results_page import FOLDER, read_results_of
from livo.ui.rows import Picture
from livo.ui.templates import render
from livo.ui.workbench import Workbench

logger = logging.getLogger(__name__)

FIRST = "doctor"
AS_PLANTED = "as planted"
DRAWN = 16
"""Pictures of a strip."""
FEMALE = Mark(1, "F", "female")
MILLE = 100_000
"""A planted share as a count of so many, for metrics that take counts."""


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
    if results is None:
        return columns
    for method in (method for method in methods if method in results.methods):
        counts: dict[str, dict[str, int]] = {}
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
            f"{'nothing' if female is None else f'{female:g} %'} cannot be planted: give a share between 0 and 100 "
            "percent, both left out"
        )
    if mix != AS_PLANTED and mix not in world.tone_mixes:
        raise InputError(f"there is no tone mix {mix!r}; there are: {', '.join(world.tone_mixes)}")
    table = "occupations" if concept in world.occupations else "adjectives"
    row = dict(getattr(world, table)[concept])
    row |= {"female": female / 100} | ({} if mix == AS_PLANTED else {"tones": mix})
    changed = {**getattr(world, table), concept: row}
    return replace(world, occupations=changed) if table == "occupations" else replace(world, adjectives=changed)


def draw_strip(world: World, concept: str, count: int = DRAWN) -> list[Scene]:
    """Scenes as the table has them. Scene i depends on the concept and i alone, so that of two tables the pictures
    whose
    attributes agree are the same."""
    occupation, adjective = place_of(world, concept)
    scenes = []
    for i in range(count):
        gender, tone = draw_attributes(world, occupation, adjective, random.Random(f"{concept} {i}"))
        scenes.append(Scene(occupation, adjective, None, None, gender, tone, jitter=i))
    return scenes


# --- HTML ------------------------------------------------------------------------------------------------------------


class WorldRow(NamedTuple):
    """A row: a bar and a strip of classes by attribute, and their scores."""

    title: str
    note: str
    bars: Sequence[Bar]
    strips: Sequence[tuple[str, Sequence[Segment]]]
    scores: Sequence[tuple[str, str, str]]
    pictures: Sequence[Picture]


def rows_of(
    columns: Sequence[Measured], swatches: Mapping[str, str], pictures: Sequence[Sequence[Picture]] = ()
) -> Markup:
    """All of them, a row each; each with its strip of pictures where there are any."""
    rows = []
    for i, column in enumerate(columns):
        bars, strips, scores = [], [], []
        for attribute, shares in column.shares.items():
            counts = column.counts.get(attribute)
            n = sum(counts.values()) if counts else 0
            if len(shares) == 2:
                bars.append(_bar(shares, counts, n))
            else:
                strips.append((HEADINGS[attribute], _segments(shares, counts, swatches)))
            scale = counts or {name: round(MILLE * share) for name, share in shares.items()}
            d1, d2 = discrepancy_range(list(scale.values())), discrepancy_l2(list(scale.values()))
            floor = f"fair sampler {100 * discrepancy_floor(n, len(shares)).discrepancy_range:.0f}" if counts else ""
            heading = HEADINGS[attribute].lower()
            scores += [(f"{heading} D1", f"{100 * d1:.1f}", floor), ("D2", f"{100 * d2:.1f}", "")]
        rows.append(WorldRow(column.title, column.note, bars, strips, scores, pictures[i] if pictures else ()))
    return render("world_rows.html", rows=rows)


def _bar(shares: Mapping[str, float], counts: Mapping[str, int] | None, n: int) -> Bar:
    (first, one), (second, two) = shares.items()
    low, high = wilson_interval(counts[second], n) if counts else (two, two)
    how = "perceived as" if counts else "drawn as"
    words = f"{how} {second}: {100 * two:.0f} percent"
    if counts:
        words += f", 95 % interval {100 * low:.0f} to {100 * high:.0f}"
    ends = (f"{how} {first} {100 * one:.0f} %", f"{second} {100 * two:.0f} %")
    return Bar(100 * two, 100 * low, 100 * high, *ends, words, two_ended=True)


def _segments(
    shares: Mapping[str, float], counts: Mapping[str, int] | None, swatches: Mapping[str, str]
) -> tuple[Segment, ...]:
    signs = letters(list(shares))
    return tuple(
        Segment(name, signs[i], 100 * share, counts[name] if counts else round(100 * share), i, swatches.get(name, ""))
        for i, (name, share) in enumerate(shares.items())
    )


def drawn_pictures(world: World, concept: str) -> list[Picture]:
    """Pictures drawn from a table, framed by how each was drawn."""
    pictures = []
    for i, scene in enumerate(draw_strip(world, concept)):
        mark = Mark(GENDERS.index(scene.gender), scene.gender[:1].upper(), scene.gender)
        words = f"drawn as {scene.gender}, {scene.tone} skin"
        pictures.append(Picture(i, np.asarray(render_scene(world, scene)), words, mark))
    return pictures


# --- handlers --------------------------------------------------------------------------------------------------------


def show_concept(bench: Workbench, results_folder: Path, concept: str) -> Markup:
    """The columns of a concept, or a message."""
    try:
        world = load_world()
        place_of(world, concept)
        results, missing = None, Markup()
        try:
            results = find_main(read_results_of(results_folder))
        except InputError as error:
            missing = message(str(error).replace("`", ""), "note")
        columns = columns_of(
            world,
            concept,
            stored_shares(bench.engine.backbone.folder if bench.engine else None).shares,
            results,
            bench.entries,
        )
        if len(columns) == 1:
            missing += message(
                f"nothing is stored of {concept!r} but its row of the table: ask for it on the Compare tab", "note"
            )
        return rows_of(columns, world.tones) + missing
    except InputError as error:
        return message(str(error))
    except Exception as error:  # the server stays up, and says what happened
        logger.exception("the drawn world cannot be shown")
        return message(f"this cannot be shown ({type(error).__name__}: {error})")


def show_edit(concept: str, female: float | None, mix: str) -> Markup:
    """The shipped table and the visitor's, and pictures of both; or a message."""
    try:
        world = load_world()
        changed = edited(world, concept, female, mix)
        pictures = [drawn_pictures(one, concept) for one in (world, changed)]
        notes = [
            f"{note}; {sum(p.mark == FEMALE for p in drawn)} of these {len(drawn)} drawn as female"
            for note, drawn in zip(("what the model was trained on", "nothing is trained on it"), pictures, strict=True)
        ]
        columns = [
            planted_column(world, concept, "Shipped table", notes[0]),
            planted_column(changed, concept, "Your table", notes[1]),
        ]
        return rows_of(columns, world.tones, pictures)
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


def concept_select_html(world: World) -> Markup:
    """Every occupation and adjective of the world."""
    groups = {"Occupations": sorted(world.occupations), "Adjectives": sorted(world.adjectives)}
    return render("grouped_select.html", label="Occupation or adjective", groups=groups, chosen=FIRST)


def mix_select_html(world: World) -> Markup:
    """Every row of `tone_mixes`."""
    return select_html("Skin tones to plant", {name: name for name in (AS_PLANTED, *world.tone_mixes)}, AS_PLANTED)


def build_world_tab(bench: Workbench, tab: gr.Tab, results: Path = FOLDER) -> None:
    """Lays the tab out inside the Blocks at hand; `tab` is the one it is in."""
    world = load_world()
    gr.HTML(render("world_intro.html"), apply_default_css=False)
    concept = gr.HTML(
        FIRST,
        html_template=concept_select_html(world),
        js_on_load=SELECT_JS,
        elem_id="world-concept",
        apply_default_css=False,
    )
    measured = gr.HTML("", elem_id="world-measured", apply_default_css=False)
    gr.HTML(render("world_edit.html"), apply_default_css=False)
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

    def on_concept(concept: Any, mix: Any) -> tuple[Any, Any, Any]:
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
