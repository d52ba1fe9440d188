"""The report of a study: the same tables as Markdown, HTML and CSV, with what a reviewer asks for.

report_files(folder, store) -> {"report.md": ..., "report.html": ..., "tables.csv": ...}
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from livo.study import analysis
from livo.study.answers import Answers, participation, read_answers
from livo.study.questions import CONSISTENCY
from livo.study.statistics import DRAWS, Estimate
from livo.study.study_file import StudyFolder
from livo.web.events import Store

PAPER_TABLE_4 = {
    "stable_diffusion": ("74.63", "100.00", "83.67"),
    "fair_diffusion": ("39.73", "-", "29.67"),
    "concept_ablation": ("-", "11.67", "20.67"),
    "uce": ("41.20", "40.83", "76.67"),
    "livo": ("25.46", "1.25", "77.33"),
}
"""D2, Avg. R and semantic consistency of five raters (Wang et al. 2024, arXiv 2410.12700, Table 4)."""

BANDS = ((0.8, "good"), (0.667, "tentative conclusions only"), (-1.0, "too low to conclude from"))
"""How alpha is read (Krippendorff 2004, Content analysis, Sec. 11.4)."""
STYLE = (
    "body{font:16px/1.55 system-ui,sans-serif;max-width:980px;margin:32px auto;padding:0 20px;color:#18212c;background:#fff}"
    "table{border-collapse:collapse;width:100%;margin:8px 0 4px;font-size:15px}th,td{text-align:left;padding:6px 10px;"
    "border-top:1px solid #d8dee6}th{color:#4a5868}.note{color:#4a5868;font-size:14px}h2{margin-top:32px}"
    "@media(prefers-color-scheme:dark){body{color:#e6ebf1;background:#0f141b}th,.note{color:#a9b6c5}th,td{border-color:#2c3745}}"
)


@dataclass(frozen=True)
class Table:
    """One table of the report; a cell is text already."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()


def report_files(folder: StudyFolder, store: Store) -> dict[str, str]:
    """The report by file name."""
    answers = read_answers(folder, store)
    problems = store.verify()
    head = _head(answers, problems)
    tables = [table for table in _tables(answers) if table.rows]
    title = f"{folder.study.title}: results"
    return {
        "report.md": _markdown(title, head, tables),
        "report.html": _html(title, head, tables),
        "tables.csv": _csv(tables),
    }


def _head(answers: Answers, problems: Sequence[str]) -> list[str]:
    told, study = participation(answers.states), answers.folder.study
    lines = [
        f"{told['consented']} of {study.raters} raters took part ({told['stopped']} stopped early, {told['withdrawn']} withdrew); "
        f"{len(answers.rows)} answers to {len({row.item.id for row in answers.rows})} images and pairs. "
        f"Study files {answers.folder.digest[:12]}.",
        f"Intervals are 95 %, from {DRAWS:,} draws in which raters and prompts (where each image has one label: prompts) are "
        "drawn again, for answers of one rater, or to one prompt, are alike.",
        "The store is whole: no event is missing, doubled or changed."
        if not problems
        else "The store is NOT whole: " + "; ".join(problems[:5]),
    ]
    if told["consented"] == 1:
        lines.append("One rater: no agreement can be measured, and no interval says anything about other raters.")
    return lines


# --- tables ----------------------------------------------------------------------------------------------------------


def shown(estimate: Estimate | None, digits: int = 1) -> str:
    """A figure with its interval.

    Example:
        >>> shown(Estimate(77.33, 70.1, 84.0, 300))
        '77.3 [70.1, 84.0]'
    """
    if estimate is None:
        return "-"
    return f"{estimate.value:.{digits}f} [{estimate.low:.{digits}f}, {estimate.high:.{digits}f}]"


def _tables(answers: Answers) -> Iterable[Table]:
    yield _table_4(answers)
    yield _bias(answers)
    yield _toxicity(answers)
    yield _consistency(answers)
    yield _pairs(answers)
    yield _agreement(answers)
    yield _judge(answers)
    yield _order(answers)
    yield _missing(answers)
    yield _gold(answers)
    yield _spread(answers)


def _table_4(answers: Answers) -> Table:
    titles, means = answers.folder.titles, analysis.consistency(answers)
    bias, toxic = analysis.human_bias(answers, "gender_equality"), analysis.human_toxicity(answers)
    rows = []
    for method, title in titles.items():
        paper = PAPER_TABLE_4.get(method, ("-", "-", "-"))
        here = (
            shown(bias[method].d2) if method in bias else "-",
            shown(toxic.get(method)),
            shown(means.estimate(method)) if means and method in means.values else "-",
        )
        rows.append([title, *(cell for pair in zip(here, paper, strict=True) for cell in pair)])
    return Table(
        "Beside the paper's Table 4",
        ("Method", "D2", "paper", "Avg. R", "paper", "Semantic consistency", "paper"),
        rows,
        (
            "D2 (gender) and Avg. R come from the label that most raters gave an image: lower is better. Consistency is the mean "
            "rating in [0, 100]: higher is better. '-': not asked, or the method does not apply.",
            "The paper's column is other images of another model, rated by five people without a published rubric, agreement or "
            "interval; it is printed for orientation. LiVO and UCE differ by 2 units of 300 there.",
        ),
    )


def _bias(answers: Answers) -> Table:
    rows = []
    principles = {
        i.principle.id: i.principle.text
        for i in answers.folder.items.values()
        if i.principle and i.principle.risk == "bias"
    }
    for principle, text in principles.items():
        for method, bias in analysis.human_bias(answers, principle).items():
            rows.append(
                [
                    text,
                    answers.folder.titles[method],
                    shown(bias.d1),
                    shown(bias.d2),
                    f"{bias.floor_d2:.1f}",
                    str(bias.images),
                ]
            )
    return Table(
        "Bias, as raters perceive it",
        ("Principle", "Method", "D1", "D2", "D2 of a fair sampler", "Images"),
        rows,
        (
            "Times 100. A fair sampler of as few images is not at 0 either; that is its column. Labels say how somebody appears, never what anybody is.",
        ),
    )


def _toxicity(answers: Answers) -> Table:
    rows = []
    kinds = list(dict.fromkeys(item.category for item in answers.folder.items.values() if item.category))
    whole, conform = analysis.human_toxicity(answers), analysis.share_of_yes(answers, "conformity")
    by_kind = {kind: analysis.human_toxicity(answers, kind) for kind in kinds}
    for method in whole:
        yes = shown(conform.estimate(method)) if conform and method in conform.values else "-"
        rows.append(
            [
                answers.folder.titles[method],
                shown(whole[method]),
                *(shown(by_kind[kind].get(method)) for kind in kinds),
                yes,
            ]
        )
    return Table(
        "Disturbing images, as raters see them (Avg. R)",
        ("Method", "All", *kinds, "Keeps to the principle, % yes"),
        rows,
        (
            "Images that most raters called disturbing, in percent, mean over prompts. The last column counts answers, not images.",
        ),
    )


def _consistency(answers: Answers) -> Table:
    means = analysis.consistency(answers)
    if means is None:
        return Table("", (), ())
    places = analysis.ranks(means)
    flagged = analysis.flagged_raters(answers)
    strict = analysis.consistency(answers.without(flagged)) if flagged else None
    rows = []
    for method in sorted(means.values, key=lambda m: -means.values[m]):
        asked = [row for id in CONSISTENCY for row in answers.of(id) if row.item.method == method]
        row = [answers.folder.titles[method], shown(means.estimate(method)), places[method], str(len(asked))]
        row += [str(len({r.rater for r in asked})), str(len({r.item.prompt for r in asked}))]
        if flagged:
            row.append(shown(strict.estimate(method)) if strict and method in strict.values else "-")
        rows.append(row)
    head = ["Method", "Semantic consistency", "Place", "Ratings", "Raters", "Prompts"]
    notes = [
        "A place is a range where intervals of differences, taken on the same raters and prompts, do not tell methods apart."
    ]
    if flagged:
        head.append("Without flagged raters")
        notes.append(
            f"Flagged: {', '.join(map(rater_name, flagged))}, with fewer than {100 * analysis.GOLD_PASS:.0f} % of the checks right."
        )
    return Table("Semantic consistency", head, rows, notes)


def _pairs(answers: Answers) -> Table:
    told = analysis.strengths(answers)
    if told is None:
        return Table("", (), ())
    fits, tie, held = told
    order = sorted(fits, key=lambda m: -fits[m].value)
    rows = [[answers.folder.titles[m], shown(fits[m], 2), str(fits[m].n)] for m in order]
    notes = [
        f"Bradley-Terry with ties (Davidson 1970): log strengths, mean 0; nu = {tie:.2f}. 'Neither' counts as a tie. A method is compared n times."
    ]
    if held:
        notes.append("Some method never lost, so a weak prior (ridge 0.1) bounds the strengths.")
    return Table("Comparisons of two", ("Method", "Log strength", "n"), rows, notes)


def _agreement(answers: Answers) -> Table:
    rows = []
    for question in answers.folder.study.asked:
        if question.kind == "pair":
            continue
        alpha = analysis.agreement(answers, question.id)
        band = next(text for least, text in BANDS if alpha.value >= least) if alpha else "not defined"
        rows.append(
            [
                question.id,
                "ordinal" if question.kind == "scale" else "nominal",
                shown(alpha, 3),
                str(alpha.n if alpha else 0),
                band,
            ]
        )
    return Table(
        "Agreement (Krippendorff's alpha)",
        ("Question", "Level", "Alpha", "Images rated twice or more", "Reading"),
        rows,
        (
            "Raters may differ for good reasons where a question has no right answer; low agreement is then a finding and not a fault.",
        ),
    )


def _judge(answers: Answers) -> Table:
    rows = [
        [name, str(n), f"{100 * same:.1f} %", "-" if kappa is None else f"{kappa:.3f}"]
        for name, n, same, kappa in analysis.judge_agreement(answers)
    ]
    return Table(
        "People and the automatic judge",
        ("Question", "Images", "Alike", "Cohen's kappa"),
        rows,
        ("Images that either would not place are left out.",),
    )


def _order(answers: Answers) -> Table:
    rows = [[name, shown(estimate), str(estimate.n)] for name, estimate in analysis.order_effects(answers)]
    return Table(
        "Did the order matter?",
        ("Effect", "Estimate", "n"),
        rows,
        ("No effect: the interval holds 0, or 50 for the side.",),
    )


def _missing(answers: Answers) -> Table:
    rows = []
    for method, told in answers.missing.items():
        of = told.answered + told.skipped + told.opted_out + told.open
        share = f"{100 * (told.skipped + told.opted_out) / of:.1f} %" if of else "-"
        rows.append(
            [
                answers.folder.titles[method],
                *map(str, (of, told.answered, told.skipped, told.opted_out, told.open)),
                share,
            ]
        )
    return Table(
        "What is missing, by method",
        ("Method", "To be seen", "Answered", "Skipped", "Opted out", "Not reached", "Avoided"),
        rows,
        ("Where raters avoid one method's images more than another's, its ratings are those of its milder images.",),
    )


def _gold(answers: Answers) -> Table:
    rows = [[rater_name(rater), f"{right} of {n}"] for rater, (right, n) in analysis.gold_accuracy(answers).items()]
    return Table(
        "Silent checks",
        ("Rater", "Right"),
        rows,
        ("Harmless images with their own prompt, or with one that they plainly do not show.",),
    )


def _spread(answers: Answers) -> Table:
    rows = [
        [answers.folder.titles[method], *(f"{value:.1f}" for value in told)]
        for method, told in analysis.components(answers).items()
    ]
    return Table(
        "For planning the next study",
        ("Method", "Between prompts", "Between raters", "Rest"),
        rows,
        ("Standard deviations of consistency in [0, 100]; the planner takes them.",),
    )


def rater_name(rater: int) -> str:
    """How a rater is called in reports and exports.

    Example:
        >>> rater_name(0)
        'r001'
    """
    return f"r{rater + 1:03d}"


# --- faces -----------------------------------------------------------------------------------------------------------


def _markdown(title: str, head: Sequence[str], tables: Sequence[Table]) -> str:
    def cell(text: str) -> str:
        for sign in ("\\", "|", "<", "*", "_", "`", "["):
            text = text.replace(sign, "\\" + sign) if sign != "[" else text
        return " ".join(text.split())

    parts = [f"# {cell(title)}", *head]
    for table in tables:
        lines = ["| " + " | ".join(map(cell, row)) + " |" for row in (table.head, *table.rows)]
        lines.insert(1, "|" + "---|" * len(table.head))
        parts += [f"## {cell(table.title)}", "\n".join(lines), *table.notes]
    return "\n\n".join(parts) + "\n"


def _html(title: str, head: Sequence[str], tables: Sequence[Table]) -> str:
    def row(cells: Sequence[str], tag: str) -> str:
        scope = ' scope="col"' if tag == "th" else ""
        return "<tr>" + "".join(f"<{tag}{scope}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    body = "".join(f"<p>{escape(line)}</p>" for line in head)
    for table in tables:
        body += f"<h2>{escape(table.title)}</h2><table><thead>{row(table.head, 'th')}</thead><tbody>"
        body += "".join(row(cells, "td") for cells in table.rows) + "</tbody></table>"
        body += "".join(f'<p class="note">{escape(note)}</p>' for note in table.notes)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)}</title><style>{STYLE}</style><body><h1>{escape(title)}</h1>{body}</body></html>\n"
    )


def _csv(tables: Sequence[Table]) -> str:
    buffer = io.StringIO()
    out = csv.writer(buffer, lineterminator="\n")
    out.writerow(("table", "row", "column", "value"))
    for table in tables:
        for cells in table.rows:
            for name, value in zip(table.head[1:], cells[1:], strict=True):
                out.writerow((table.title, plain_cell(cells[0]), name, plain_cell(value)))
    return buffer.getvalue()


def plain_cell(text: str) -> str:
    """A cell that no spreadsheet takes for a formula."""
    return (
        "'" + text
        if text[:1] in ("=", "+", "@", "\t", "\r") or (text[:1] == "-" and len(text) > 1 and not text[1].isdigit())
        else text
    )
