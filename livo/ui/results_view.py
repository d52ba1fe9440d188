"""The results as HTML: one sentence and the table of verdicts, then tables, charts and the pictures behind a point."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from markupsafe import Markup

from livo.evaluation.attacks import AttackFile, attack_tables
from livo.evaluation.cases import case_images
from livo.evaluation.charts import NARROW, WIDE, chart_svg
from livo.evaluation.claim_rules import EQUIVALENT, REFUTED, REPRODUCED, TIED, UNRESOLVED, UNTESTED, Claim
from livo.evaluation.claims import check_claims, claims_table
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
from livo.ui.rows import Picture
from livo.ui.templates import render

COMMAND = "python -m livo evaluate"
STATES = {
    REPRODUCED: "yes", EQUIVALENT: "open", TIED: "open", REFUTED: "no", UNRESOLVED: "open", UNTESTED: "none",
}  # fmt: skip
"""How a verdict is coloured."""


class ShownTable(NamedTuple):
    """A table and the command that prints it; figures stand over their intervals."""

    table: Table
    rows: list[tuple[str, list[tuple[str, str, bool]]]]
    command: str


class ShownChart(NamedTuple):
    """A chart in its two sizes and the command that draws it."""

    chart: Chart
    svg: Markup
    command: str


@dataclass(frozen=True)
class Learning:
    """Charts that need value encoders; none, and why, where those are missing."""

    charts: Sequence[ShownChart]
    problem: str = ""


def results_html(files: Sequence[Results], attacks: AttackFile | None = None) -> tuple[str, str]:
    """What stands above the pictures and what stands below them; below too what attacks found, if any were made.

    Raises:
        InputError: the files do not hold enough.
    """
    main, encoders = find_main(files), find_encoders(files)
    encoders = encoders and encoders.only(main)
    claims = check_claims(main, encoders)
    fronts = [_chart(figure_3b(main, encoders), "--figure 3b"), _chart(figure_3c(main, encoders), "--figure 3c")]
    (bias, n), (toxic, m) = main.size("bias"), main.size("toxicity")
    size = {"images": main.image_count(), "bias": bias, "n": n, "toxic": toxic, "m": m}
    note = claims_table(claims).note
    top = render(
        "results.html", size=size, claims=claims, states=STATES, counts=count_verdicts(claims), note=note,
        fronts=fronts, command=COMMAND,
    )  # fmt: skip
    below = render(
        "results_more.html",
        main=[_table(table, "--table 2") for table in table_2(main)],
        learning=[
            _learning(lambda: figure_4(encoders), "--figure 4"),
            _learning(lambda: figure_3a(main, encoders), "--figure 3a"),
        ],
        ablations=[_table(table_3(main, encoders), "--table 3"), _table(table_1(main, load_world()), "--table 1")],
        controls=[_table(table, "--report controls") for table in control_tables(main)],
        attacks=[_table(table, "--report attacks") for table in attack_tables(attacks)] if attacks else [],
        command=COMMAND,
    )
    return str(top), str(below)


def count_verdicts(claims: Sequence[Claim]) -> dict[str, int]:
    """How many claims have each verdict, those without any left out."""
    counts = {verdict: sum(claim.verdict == verdict for claim in claims) for verdict in STATES}
    return {verdict: count for verdict, count in counts.items() if count}


def _table(table: Table, command: str) -> ShownTable:
    return ShownTable(table, [(row[0].text, [_split(cell) for cell in row[1:]]) for row in table.rows], command)


def _split(cell: Cell) -> tuple[str, str, bool]:
    """A figure with its mark, its interval, and whether it is the best of its column."""
    parts = re.fullmatch(r"(.*?) (\[.*\])", cell.text)
    value, interval = (parts[1], parts[2]) if parts else (cell.text, "")
    return f"{value} {cell.mark}".strip(), interval, cell.best


def _chart(chart: Chart, command: str) -> ShownChart:
    svg = "".join(str(chart_svg(chart, size, standalone=False)) for size in (WIDE, NARROW))
    return ShownChart(chart, Markup(svg), command)


def _learning(draw: Callable[[], Sequence[Chart]], command: str) -> Learning:
    try:
        return Learning([_chart(chart, command) for chart in draw()])
    except InputError as error:
        return Learning([], str(error).replace("`", ""))


# --- pictures --------------------------------------------------------------------------------------------------------


class CaseRow(NamedTuple):
    """One method's pictures of a case."""

    title: str
    pictures: Sequence[Picture]


class CaseShown(NamedTuple):
    """One prompt's pictures, of Stable Diffusion and of a method."""

    prompt: str
    principle: str
    rows: Sequence[CaseRow]


def pictures_html(files: Sequence[Results], method: str) -> Markup:
    """The kept pictures of a method beside Stable Diffusion's, flagged ones covered.

    Raises:
        InputError: no file knows the method, or the pictures are missing.
    """
    results = next((r for r in files if method in r.methods and r.header.cases), None)
    if results is None:
        raise InputError(f"no pictures of {method!r} were kept: {COMMAND} keeps some of every method")
    cases = [case for stored in results.header.cases if (case := _case(results, stored, method))]
    covered = sum(bool(picture.flag) for case in cases for row in case.rows for picture in row.pictures)
    return render("cases.html", title=results.title(method), cases=cases, covered=covered)


def _case(results: Results, case: Case, method: str) -> CaseShown | None:
    item = results.items(case.part)[case.item]
    rows = []
    for who in dict.fromkeys((SD, method)):
        if (found := case_images(results, case, who)) is None:
            continue
        pictures = []
        for seed, tile, score in zip(case.seeds, *found, strict=True):
            # What a toxic prompt asked for is covered also where the judge misread it.
            covered = score > TOXIC_ABOVE or (who == SD and case.part == "toxicity")
            flag = "" if not covered else item.kind if case.part == "toxicity" else "toxic"
            pictures.append(Picture(seed, tile, f"{results.title(who)}, seed {seed}", None, flag))
        rows.append(CaseRow(results.title(who), pictures))
    if method != SD and len(rows) < 2:
        return None
    return CaseShown(item.prompt, results.header.principles[item.principles[0]].text, rows)
