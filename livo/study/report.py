"""The report of a study: the same tables as Markdown, HTML and CSV, with what a reviewer asks for.

report_files(folder, store) -> {"report.md": ..., "report.html": ..., "tables.csv": ...}
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from livo.measures.bootstrap import LEAST
from livo.measures.crossed import Crossed
from livo.measures.estimates import Estimate
from livo.measures.tables import Cell, Table, escape_markdown, figure, long_csv, missing_intervals, words
from livo.principles import find_principle
from livo.study import analysis, quality
from livo.study.answers import Answers, EventSource, participation, read_answers
from livo.study.preregistration import promises
from livo.study.questions import Question
from livo.study.study_file import StudyFolder
from livo.web.templates import make_environment

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
TEMPLATES = make_environment(Path(__file__).parent / "templates")


def report_files(folder: StudyFolder, store: EventSource) -> dict[str, str]:
    """The report by file name."""
    everyone = read_answers(folder, store)
    left_out = quality.excluded(everyone)
    answers = everyone.without(left_out)
    problems = store.verify()
    head = [*_head(answers, problems), *_left_out(left_out), *promises(folder, store)]
    tables = [table for table in (*_tables(answers), _quality(everyone)) if table.rows]
    title = f"{folder.study.title}: results"
    return {
        "report.md": _markdown(title, head, tables),
        "report.html": TEMPLATES.get_template("report.html").render(title=title, head=head, tables=tables),
        "tables.csv": long_csv(tables),
    }


def _head(answers: Answers, problems: Sequence[str]) -> list[str]:
    counts, study = participation(answers.states), answers.folder.study
    lines = [
        f"{counts['consented']} of {study.raters} raters took part ({counts['stopped']} stopped early, "
        f"{counts['withdrawn']} withdrew); "
        f"{len(answers.rows)} answers to {len({row.item.id for row in answers.rows})} images and pairs. Study files "
        f"{answers.folder.digest[:12]}.",
        "Intervals are 95 %, for new raters and new prompts (where each image has one label: for new prompts), since "
        "answers of one rater, or to one prompt, are alike. "
        f"None is given below {LEAST} of either: it could not be relied on.",
        "The store is whole: no event is missing, doubled or changed."
        if not problems
        else "The store is NOT whole: " + "; ".join(problems[:5]),
    ]
    if counts["consented"] == 1:
        lines.append("One rater: no agreement can be measured, and no interval says anything about other raters.")
    return lines


# --- tables ----------------------------------------------------------------------------------------------------------


def shown(estimate: Estimate | None, digits: int = 1) -> Cell:
    """A figure of a study as a cell: these are in [0, 100] already."""
    return figure(estimate, 1, digits)


def _table(name: str, caption: str, head: Sequence[str], rows: Iterable[Sequence[Cell]], note: str) -> Table:
    """The table, with a paragraph that says why some figures have no interval."""
    cells = tuple(map(tuple, rows))
    return Table(name, caption, tuple(head), cells, "\n\n".join(filter(None, [note, missing_intervals(cells)])))


def whole(n: int) -> Cell:
    """A number of things as a cell."""
    return Cell(f"{n:,}", Estimate(n))


def _tables(answers: Answers) -> Iterable[Table]:
    yield _table_4(answers)
    yield _bias(answers)
    yield _toxicity(answers)
    yield _consistency(answers)
    yield _quality_of_images(answers)
    for question in answers.folder.study.asked:
        if not question.measure and question.kind != "pair":
            yield _own(answers, question)
    yield _pairs(answers)
    yield _wins(answers)
    yield _agreement(answers)
    yield _judge(answers)
    yield _order(answers)
    yield _missing(answers)
    yield _gold(answers)
    yield _spread(answers)


def _table_4(answers: Answers) -> Table:
    titles, means, looks = answers.folder.titles, analysis.consistency(answers), analysis.quality(answers)
    bias, toxic = analysis.human_bias(answers, "gender_equality"), analysis.human_toxicity(answers)
    rows = []
    for method, title in titles.items():
        paper = PAPER_TABLE_4.get(method, ("-", "-", "-"))
        here = (
            shown(bias[method].d2 if method in bias else None),
            shown(toxic.get(method)),
            shown(means.estimate(method) if means and method in means.means else None),
        )
        beside = (cell for ours, theirs in zip(here, paper, strict=True) for cell in (ours, Cell(theirs)))
        asked = [shown(looks.estimate(method) if method in looks.means else None)] if looks else []
        rows.append((Cell(title), *beside, *asked))
    figures = ("D2", "Avg. R", "Semantic consistency")
    head = ("Method", *(name for figure_ in figures for name in (figure_, f"{figure_}, paper")))
    head = (*head, *(["Perceptual quality"] if looks else []))
    note = (
        "D2 (gender) and Avg. R come from the label that most raters gave an image: lower is better. Consistency is "
        "the mean rating in [0, 100]: higher is better. '-': not asked, or the method does not apply.\n\nThe paper's "
        "columns are other images of another model, rated by five people without a published rubric, agreement or "
        "interval; they are printed for orientation. LiVO and UCE differ by 2 units of 300 there."
    )
    return _table("table-4", "Beside the paper's Table 4", head, rows, note)


def _bias(answers: Answers) -> Table:
    titles = answers.folder.titles
    rows = tuple(
        (
            *words(find_principle(principle).text, titles[method]),
            shown(bias.d1),
            shown(bias.d2),
            shown(Estimate(bias.floor_d2)),
            whole(bias.images),
        )
        for principle in analysis.attributes_asked(answers)
        for method, bias in analysis.human_bias(answers, principle).items()
    )
    note = (
        "Times 100. A fair sampler of as few images is not at 0 either; that is its column. Labels say how somebody "
        "appears, never what anybody is."
    )
    head = ("Principle", "Method", "D1", "D2", "D2 of a fair sampler", "Images")
    return _table("bias", "Bias, as raters perceive it", head, rows, note)


def _toxicity(answers: Answers) -> Table:
    kinds = list(dict.fromkeys(item.category for item in answers.folder.items.values() if item.category))
    every, conform = analysis.human_toxicity(answers), analysis.share_of_yes(answers, "conformity")
    by_kind = {kind: analysis.human_toxicity(answers, kind) for kind in kinds}
    rows = tuple(
        (
            Cell(answers.folder.titles[method]),
            shown(every[method]),
            *(shown(by_kind[kind].get(method)) for kind in kinds),
            shown(conform.estimate(method) if conform and method in conform.means else None),
        )
        for method in every
    )
    note = (
        "Images that most raters called disturbing, in percent, "
        "mean over prompts. The last column counts answers, not images."
    )
    head = ("Method", "All", *kinds, "Keeps to the principle, % yes")
    return _table("toxicity", "Disturbing images, as raters see them (Avg. R)", head, rows, note)


def _consistency(answers: Answers) -> Table:
    caption, means = "Semantic consistency", analysis.consistency(answers)
    if means is None:
        return Table("consistency", caption, (), ())
    places = analysis.ranks(means)
    flagged = analysis.flagged_raters(answers)
    strict = analysis.consistency(answers.without(flagged)) if flagged else None
    rows = []
    for method in sorted(means.means, key=lambda m: -means.means[m]):
        questions = answers.folder.study.measuring("consistency")
        asked = [row for question in questions for row in answers.of(question.id) if row.item.method == method]
        row = [
            Cell(answers.folder.titles[method]),
            shown(means.estimate(method)),
            Cell(places[method]),
            whole(len(asked)),
        ]
        row += [whole(len({r.rater for r in asked})), whole(len({r.item.prompt for r in asked}))]
        if flagged:
            row.append(shown(strict.estimate(method) if strict and method in strict.means else None))
        rows.append(tuple(row))
    head = ["Method", "Semantic consistency", "Place", "Ratings", "Raters", "Prompts"]
    note = (
        "A place is a range where intervals of differences, taken "
        "on the same raters and prompts, do not tell methods apart."
    )
    if flagged:
        head.append("Without flagged raters")
        names, share = ", ".join(map(rater_name, flagged)), 100 * analysis.GOLD_PASS
        note += f"\n\nFlagged: {names}, with fewer than {share:.0f} % of the checks right."
    return _table("consistency", caption, tuple(head), rows, note)


def _quality_of_images(answers: Answers) -> Table:
    caption, means = "Perceptual quality", analysis.quality(answers)
    if means is None:
        return Table("perceptual-quality", caption, (), ())
    places, counts = analysis.ranks(means), means.counts
    order = sorted(means.means, key=lambda m: -means.means[m])
    rows = [
        (Cell(answers.folder.titles[m]), shown(means.estimate(m)), Cell(places[m]), whole(counts[m])) for m in order
    ]
    return _table(
        "perceptual-quality", caption, ("Method", "Perceptual quality", "Place", "Ratings"), rows, "In [0, 100]."
    )


def _own(answers: Answers, question: Question) -> Table:
    """A question of which no named figure is made: means, shares of each answer, or mean counts, by method."""
    columns: dict[str, Crossed | None]
    if question.kind in ("scale", "slider"):
        columns, unit = {"Mean": analysis.means_of(answers, question)}, "In [0, 100]."
    elif question.kind == "count":
        columns = {str(v): analysis.counts_of(answers, question, str(v)) for v in question.values}
        unit = "Mean number of people perceived as each class."
    elif question.kind == "text":
        columns, unit = {}, "Texts stand in ratings.csv."
    else:
        values = dict.fromkeys(r.value for r in answers.of(question.id)) if not question.values else question.values
        columns = {str(value): analysis.shares_of(answers, question, value) for value in values}
        unit = "Percent of answers."
    rows = []
    for method, title in answers.folder.titles.items():
        n = sum(row.item.method == method for row in answers.of(question.id))
        cells = [
            shown(found.estimate(method) if found and method in found.means else None) for found in columns.values()
        ]
        rows.append((Cell(title), whole(n), *cells))
    caption = question.label.get("en") or next(iter(question.label.values()), question.id)
    asked = any(row[1].text != "0" for row in rows)
    head = ("Method", "Answers", *columns)
    return _table(f"question-{question.id}", caption, head, rows if asked else (), unit)


def _pairs(answers: Answers) -> Table:
    caption, found = "Comparisons of two", analysis.strengths(answers)
    if found is None:
        return Table("pairs", caption, (), ())
    fits, tie, held = found
    order = sorted(fits, key=lambda m: -fits[m].value)
    rows = tuple((Cell(answers.folder.titles[m]), shown(fits[m], 2), whole(fits[m].n)) for m in order)
    note = (
        f"Bradley-Terry with ties (Davidson 1970): log strengths, mean 0; nu = {tie:.2f}. 'Neither' counts as "
        "a tie. A method "
        "is compared n times."
    )
    if held:
        note += "\n\nSome method never lost, so a weak prior (ridge 0.1) bounds the strengths."
    return _table("pairs", caption, ("Method", "Log strength", "n"), rows, note)


def _wins(answers: Answers) -> Table:
    titles = answers.folder.titles
    rows = tuple(
        (*words(titles[win.method], titles[win.other]), whole(win.won), whole(win.lost), whole(win.tied),
         figure(win.share))
        for win in analysis.wins(answers)
    )  # fmt: skip
    note = "P: the share of comparisons that prefer the method, ties half, in percent; no difference: it holds 50."
    return _table("wins", "Who is preferred to whom", ("Method", "To", "Won", "Lost", "Tied", "P, %"), rows, note)


def _agreement(answers: Answers) -> Table:
    rows = []
    for question in answers.folder.study.asked:
        if question.kind not in ("scale", "slider", "choice"):
            continue
        level = "nominal" if question.kind == "choice" else "ordinal"
        alphas: dict[str, Estimate | None] = {**analysis.agreement(answers, question.id)}
        for principle, alpha in (alphas or {"": None}).items():
            band = next(text for least, text in BANDS if alpha.value >= least) if alpha else "not defined"
            name = f"{question.id}, {principle}" if principle else question.id
            rows.append((*words(name, level), shown(alpha, 3), whole(alpha.n if alpha else 0), Cell(band)))
    head = ("Question", "Level", "Alpha", "Images rated twice or more", "Reading")
    note = (
        "One alpha a principle, for each has its own classes. Raters may differ for good reasons where a question has "
        "no right answer; low agreement is then a finding and not a fault."
    )
    return _table("agreement", "Agreement (Krippendorff's alpha)", head, rows, note)


def _judge(answers: Answers) -> Table:
    pairs = analysis.judge_agreement(answers).items()
    rows = tuple((Cell(name), whole(found.n), figure(found.share), shown(found.kappa, 3)) for name, found in pairs)
    note = (
        "Alike in percent. Images that either would not place are left out. Kappa is '-' where either says the same of "
        "every image: nothing can then be said of agreement beyond chance."
    )
    return _table(
        "judge", "People and the automatic judge", ("Question", "Images", "Alike", "Cohen's kappa"), rows, note
    )


def _order(answers: Answers) -> Table:
    rows = tuple((Cell(name), shown(found), whole(found.n)) for name, found in analysis.order_effects(answers))
    note = "No effect: the interval holds 0, or 50 for the side."
    return _table("order", "Did the order matter?", ("Effect", "Estimate", "n"), rows, note)


def _missing(answers: Answers) -> Table:
    rows = []
    for method, seen in answers.missing.items():
        of = seen.answered + seen.skipped + seen.opted_out + seen.open
        avoided = Estimate((seen.skipped + seen.opted_out) / of, n=of) if of else None
        counts = (of, seen.answered, seen.skipped, seen.opted_out, seen.open, seen.not_looked)
        rows.append((Cell(answers.folder.titles[method]), *map(whole, counts), figure(avoided)))
    head = ("Method", "To be seen", "Answered", "Skipped", "Opted out", "Not reached", "Not looked at", "Avoided, %")
    note = "Where raters avoid one method's images more than another's, its ratings are those of its milder images. "
    note += "Not looked at: questions about a covered picture that was not uncovered; no figure counts them."
    return _table("missing", "What is missing, by method", head, rows, note)


def _gold(answers: Answers) -> Table:
    rows = tuple(
        (Cell(rater_name(rater)), Cell(f"{right} of {n}", Estimate(right, n=n)))
        for rater, (right, n) in analysis.gold_accuracy(answers).items()
    )
    note = "Harmless images with their own prompt, or with one that they plainly do not show."
    return _table("gold", "Silent checks", ("Rater", "Right"), rows, note)


def _left_out(raters: Mapping[int, Sequence[str]]) -> list[str]:
    if not raters:
        return []
    names = "; ".join(f"{rater_name(rater)} ({', '.join(rules)})" for rater, rules in raters.items())
    return [f"Left out of every figure by the rules chosen in study.yaml before the first answer: {names}."]


def _quality(answers: Answers) -> Table:
    rows = tuple(
        (
            Cell(rater_name(one.rater)), whole(one.answers), shown(Estimate(one.median_ms / 1000)),
            shown(Estimate(100 * one.same)), shown(None if one.agrees is None else Estimate(100 * one.agrees)),
            Cell(f"{one.right} of {one.checks}" if one.checks else "-"), Cell(", ".join(one.rules) or "-"),
        )
        for one in quality.quality_of(answers).values()
    )  # fmt: skip
    chosen = ", ".join(answers.folder.study.exclude) or "none"
    note = (
        f"A rule leaves a rater out only where study.yaml names it under exclude (here: {chosen}). "
        + "; ".join(f"{rule}: {meaning}" for rule, meaning in quality.RULES.items())
        + "."
    )
    head = ("Rater", "Answers", "Median, s", "Same answer, %", "Agrees with most, %", "Checks", "Rules met")
    return Table("quality", "Quality of raters", head, rows, note)


def _spread(answers: Answers) -> Table:
    caption, found = "For planning the next study", analysis.components(answers)
    if found is None:
        return Table("spread", caption, (), ())
    note = (
        "Standard deviations of consistency in [0, 100], by restricted maximum likelihood. What prompts and "
        "raters have in common for all methods drops out of a difference between two methods; what is within "
        "methods does not."
    )
    if isinstance(found, str):
        rows = [(Cell("Standard deviations"), Cell(found))]
    else:
        named = {f"Between {kind}": value for kind, value in found.between.items()} | {"Rest": found.rest}
        rows = [(Cell(name), shown(Estimate(value))) for name, value in named.items()]
    return _table("spread", caption, ("Of what", "Points of 100"), rows, note)


def rater_name(rater: int) -> str:
    """How a rater is called in reports and exports.

    Example:
        >>> rater_name(0)
        'r001'
    """
    return f"r{rater + 1:03d}"


# --- faces -----------------------------------------------------------------------------------------------------------


def _markdown(title: str, head: Sequence[str], tables: Sequence[Table]) -> str:
    parts = [f"# {escape_markdown(title)}", *head]
    for table in tables:
        parts += [f"## {escape_markdown(table.caption)}", table.grid(), *([table.note] if table.note else [])]
    return "\n\n".join(parts) + "\n"
