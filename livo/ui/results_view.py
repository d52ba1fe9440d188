"""The results as escaped HTML: tables with intervals, charts, claims, and the pictures behind a point."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from html import escape

from livo.evaluation.cases import case_images
from livo.evaluation.charts import NARROW, WIDE, chart_svg
from livo.evaluation.claims import NOISE, NOT, REPRODUCED, UNTESTED, Claim, check_claims, claims_table
from livo.evaluation.controls import control_tables
from livo.evaluation.figures import Chart, figure_3a, figure_3b, figure_3c, figure_4
from livo.evaluation.header import Case
from livo.evaluation.parts import SD
from livo.evaluation.results import Results
from livo.evaluation.tables import find_encoders, find_main, table_1, table_2, table_3
from livo.measures.metrics import TOXIC_ABOVE
from livo.measures.tables import Cell, Table
from livo.miniature.world import load_world
from livo.types import InputError
from livo.ui.cards import message
from livo.ui.grid import DONE, cell_html
from livo.ui.grid import Cell as Picture

COMMAND = "python -m livo evaluate"
STATES = {REPRODUCED: "yes", NOISE: "open", NOT: "no", UNTESTED: "none"}
"""How a verdict is coloured."""


def results_html(files: Sequence[Results]) -> tuple[str, str]:
    """What stands above the pictures and what stands below them.

    Raises:
        InputError: the files do not hold enough.
    """
    main, encoders = find_main(files), find_encoders(files)
    encoders = encoders and encoders.only(main)
    fronts = [_chart(figure_3b(main, encoders), "--figure 3b"), _chart(figure_3c(main, encoders), "--figure 3c")]
    top = (
        summary_html(main)
        + '<h2 class="tab-heading">Conformity against quality</h2>'
        + '<p class="effect">Lower left is better on both. The dashed line is the Pareto front. Choose a point to see its pictures.</p>'
        + f'<div class="charts">{"".join(fronts)}</div>'
    )
    claims = check_claims(main, encoders)
    below = [_table(table, "--table 2") for table in table_2(main)]
    below.append('<h2 class="tab-heading">The paper’s claims</h2>' + claims_html(claims))
    below.append('<h2 class="tab-heading">Learning</h2>')
    below.append(_learning(lambda: figure_4(encoders), "--figure 4"))
    below.append(_learning(lambda: figure_3a(main, encoders), "--figure 3a"))
    below.append(
        '<h2 class="tab-heading">Ablations and data</h2>'
        + _table(table_3(main, encoders), "--table 3")
        + _table(table_1(main, load_world()), "--table 1")
    )
    below.append('<h2 class="tab-heading">Control methods that the paper lacks</h2>')
    below += [
        f'<details class="control"><summary>{escape(table.caption)}</summary>{_table(table, "--report controls", caption=False)}</details>'
        for table in control_tables(main)
    ]
    return top, "".join(below)


def summary_html(main: Results) -> str:
    """What was evaluated, in one paragraph."""
    images = main.image_count()
    (bias, n), (toxic, m) = main.size("bias"), main.size("toxicity")
    return (
        '<section class="card"><p class="eyebrow">Stored results</p><h2>What was measured</h2>'
        f'<p class="effect">{images:,} images: {bias} prompts about people x {n} images a method and attribute, {toxic} prompts that ask for a toxic '
        f"stand-in x {m}. Prompts use concepts, wordings and openings that nothing was trained on. Every figure is computed from one file of "
        f"labels; brackets are 95 % intervals over prompts. Everything is of this drawn world, judged by its own classifier. "
        f"<code>{COMMAND}</code> makes the file.</p></section>"
    )


# --- tables ----------------------------------------------------------------------------------------------------------


def _table(table: Table, command: str, *, caption: bool = True) -> str:
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in table.head)
    rows = "".join(
        f'<tr><th scope="row">{escape(row[0].text)}</th>{"".join(_cell(cell) for cell in row[1:])}</tr>'
        for row in table.rows
    )
    title = f"<caption>{escape(table.caption)}</caption>" if caption else ""
    note = f'<p class="chart-note">{escape(table.note)} <code>{COMMAND} {escape(command)}</code></p>'
    return (
        f'<div class="figures-scroll" tabindex="0" role="group" aria-label="{escape(table.caption)}"><table class="figures">{title}'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>{note}"
    )


def _cell(cell: Cell) -> str:
    """A figure over its interval."""
    parts = re.fullmatch(r"(.*?) (\[.*\])", cell.text)
    text = f"<b>{escape(parts[1])}</b><small>{escape(parts[2])}</small>" if parts else escape(cell.text)
    return f"<td{' class=best' if cell.best else ''}>{text}</td>"


def claims_html(claims: Sequence[Claim]) -> str:
    """Claims with their verdicts, as a list that a phone can show."""
    rows = "".join(
        f'<li class="claim"><span class="verdict {STATES[c.verdict]}">{escape(c.verdict)}</span><div><p class="claim-text">{escape(c.text)} '
        f"<small>{escape(c.source)}</small></p><p>{escape(c.found)}</p></div></li>"
        for c in claims
    )
    note = claims_table(claims).note
    return f'<p class="effect">{escape(note)} <code>{COMMAND} --report claims</code></p><ul class="claims">{rows}</ul>'


# --- charts ----------------------------------------------------------------------------------------------------------


def _chart(chart: Chart, command: str) -> str:
    svg = chart_svg(chart, WIDE, standalone=False) + chart_svg(chart, NARROW, standalone=False)
    return (
        f'<figure class="chart-box"><figcaption>{escape(chart.caption)}</figcaption>{svg}'
        f'<p class="chart-note">{escape(chart.note)} <code>{COMMAND} {escape(command)}</code></p></figure>'
    )


def _learning(draw: Callable[[], Sequence[Chart]], command: str) -> str:
    """Charts that need value encoders, or which command makes those."""
    try:
        return f'<div class="charts">{"".join(_chart(chart, command) for chart in draw())}</div>'
    except InputError as error:
        return message(str(error).replace("`", ""), "note")


# --- pictures --------------------------------------------------------------------------------------------------------


def pictures_html(files: Sequence[Results], method: str) -> str:
    """The kept pictures of a method beside Stable Diffusion's, flagged ones covered.

    Raises:
        InputError: no file knows the method, or the pictures are missing.
    """
    results = next((r for r in files if method in r.methods and r.header.cases), None)
    if results is None:
        raise InputError(f"no pictures of {method!r} were kept: {COMMAND} keeps some of every method")
    cases = "".join(_case(results, case, method) for case in results.header.cases)
    flagged = cases.count('class="cell done covered"')
    bar = ""
    if flagged:
        text = "1 image is covered" if flagged == 1 else f"{flagged} images are covered"
        button = '<button type="button" class="reveal-all" aria-pressed="false">Show all</button>'
        bar = f'<p class="flagged-bar">{text}: flagged, or drawn for a prompt that asks for it. {button}</p>'
    title = escape(results.title(method))
    head = f'<p class="eyebrow">Pictures behind the point</p><h2>{title}</h2>'
    return f'<section class="card comparison pictures">{head}{bar}<div class="cases">{cases}</div></section>'


def _case(results: Results, case: Case, method: str) -> str:
    item = results.items(case.part)[case.item]
    rows = []
    for who in dict.fromkeys((SD, method)):
        if (found := case_images(results, case, who)) is None:
            continue
        cells = []
        for seed, tile, score in zip(case.seeds, *found, strict=True):
            # What a toxic prompt asked for is covered also where the judge misread it.
            covered = score > TOXIC_ABOVE or (who == SD and case.part == "toxicity")
            flag = "" if not covered else item.kind if case.part == "toxicity" else "toxic"
            cells.append(cell_html(Picture(seed, DONE, tile, f"{results.title(who)}, seed {seed}", flag)))
        rows.append(f'<h4>{escape(results.title(who))}</h4><ul class="cells">{"".join(cells)}</ul>')
    text = results.header.principles[item.principles[0]].text
    if method != SD and len(rows) < 2:
        return ""
    return f'<div class="case"><p class="prompt"><bdi>{escape(item.prompt)}</bdi> <small>{escape(text)}</small></p>{"".join(rows)}</div>'
