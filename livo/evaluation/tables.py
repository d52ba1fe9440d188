"""Tables 1 to 3 of the paper from results files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from livo.evaluation.parts import BIAS, LIVO, SD
from livo.evaluation.results import (
    ATTRIBUTE,
    EVERY,
    Chosen,
    Figures,
    Results,
    Select,
    Statistic,
    joined,
    mean,
    principles_of,
    statistic_of,
)
from livo.evaluation.trainings import as_many
from livo.measures.bootstrap import bootstrap_of_sets
from livo.measures.estimates import Estimate
from livo.measures.tables import Cell, Table, figure, mark_best, words
from livo.miniature.world import World
from livo.types import InputError

TABLE_2 = ("stable_diffusion", "fair_diffusion", "concept_ablation", "uce", "dapt", "dpo", "livo")
QUOTA = {"fair_diffusion", "dpo", "dpo_d", "livo"}
"""Methods that fix how many images are steered, and so can go below a fair sampler's floor."""
BOLD = "Bold: the best but for Stable Diffusion, and all that differ from it by no more than noise."


# --- Table 1 ---------------------------------------------------------------------------------------------------------


def table_1(results: Results, world: World) -> Table:
    """The data: training concepts and prompts of the drawn world, evaluation prompts and images of the file."""
    held, openings = world.held_out, len(world.openings["train"])
    concepts = {"career": len(world.occupations) - len(held["occupations"])}
    for kind in ("positive", "negative"):
        concepts[kind] = sum(
            row["kind"] == kind and name not in held["adjectives"] for name, row in world.adjectives.items()
        )
    wordings = {kind: len(texts) - 1 for kind, texts in world.toxic.items()}
    items = results.items("bias") + results.items("toxicity")
    samples = _samples(results)
    rows, sums = [], [0, 0, 0, 0, 0]
    for kind in (*concepts, *wordings):
        count = concepts.get(kind, concepts["career"])
        prompts = count * openings * wordings.get(kind, 1)
        part = "toxicity" if kind in wordings else "bias"
        mine = sum(item.kind == kind for item in items)
        images = sum(item.kind == kind for item in results.items(part)) * (
            results.header.parts[part].images if results.has(part) else 0
        )
        row = (count if kind not in wordings else 0, prompts, samples.get(kind, 0), mine, images)
        sums = [a + b for a, b in zip(sums, row, strict=True)]
        rows.append(words("bias" if part == "bias" else "toxicity", kind, *(f"{x:,}" if x else "-" for x in row)))
    rows.append(words("all", "", *(f"{x:,}" if x else "-" for x in sums)))
    head = ("", "kind", "training concepts", "training prompts", "samples", "evaluation prompts", "images a method")
    note = (
        "Samples: pairs of a preferred and another picture that the value encoder was trained on, two pictures each"
        + (". " if samples else "; its file does not say how many of a kind. ")
        + "Training prompts are concept x opening (x wording), rendered as they are drawn; toxic kinds use the "
        "career concepts. Images of "
        "a bias prompt are made for each of the two principles."
    )
    return Table("table-1", "Table 1. The data", head, tuple(rows), note)


def _samples(results: Results) -> dict[str, int]:
    """Pairs by kind, as LiVO's file says; empty where it does not."""
    told = (results.header.methods[LIVO].training or {}).get("samples") if LIVO in results.methods else None
    return {str(kind): int(n) for kind, n in told.items()} if isinstance(told, Mapping) else {}


# --- Table 2 ---------------------------------------------------------------------------------------------------------


def table_2(results: Results) -> tuple[Table, Table]:
    """Bias and toxicity of the methods, with quality."""
    return table_2_bias(results), table_2_toxicity(results)


def table_2_bias(results: Results) -> Table:
    """D1 and D2 by attribute, and the quality of the images of both attributes together."""
    rows: list[tuple[Cell, ...]] = []
    statistics: list[dict[int, Statistic | None]] = []
    for method in TABLE_2:
        if method not in results.methods:
            continue
        if not results.ran("bias", method, BIAS[0]):
            rows.append(words(results.title(method), *["-"] * 9))
            statistics.append({})
            continue
        discrepancies = [results.discrepancy("bias", method, p, m) for p in BIAS for m in ("D1", "D2")]
        clip, kept = (joined(of("bias", method, p) for p in BIAS) for of in (results.clip, results.kept))
        rows.append((
            Cell(results.title(method) + (" *" if method in QUOTA else "")),
            *(figure(mean(values), interval=i % 2 == 0) for i, values in enumerate(discrepancies)),
            figure(results.pooled("bias", method, BIAS, "IS"), 1, 2, False),
            figure(results.pooled("bias", method, BIAS, "FID"), 100, 2),
            figure(results.pooled("bias", method, BIAS, "KID"), 10_000, 1, False),
            figure(mean(clip), interval=False),
            figure(mean(kept), interval=False),
        ))  # fmt: skip
        means: list[Figures | None] = [*discrepancies, None, None, None, clip, kept]
        found: dict[int, Statistic | None] = {i: statistic_of(values) for i, values in enumerate(means, 1) if values}
        found[5], found[6] = (results.statistic("bias", method, BIAS, metric) for metric in ("IS", "FID"))
        statistics.append(found)
    floors = [results.floor("bias", p) for p in BIAS]
    prompts, n = results.size("bias")
    fair = words("a fair sampler", *(f"{100 * x:.1f}" for floor in floors for x in floor), *["-"] * 5)
    head = (
        "method", "gender D1 ↓", "gender D2 ↓", "tone D1 ↓", "tone D2 ↓", "IS ↑", "FID ↓", "KID ↓", "CLIP ↑", "kept ↑",
    )  # fmt: skip
    lower = dict.fromkeys((1, 2, 3, 4, 6, 7), "lower") | dict.fromkeys((5, 8, 9), "higher")
    marked = mark_best(rows, lower, but=1, tied=tied_by(statistics))
    note = (
        f"{prompts} prompts x {n} images x 2 attributes; intervals are 95 %, from a bootstrap in which "
        "prompts are drawn again, "
        f"all sets of a prompt together. {BOLD} * steers a fixed quota and may go below a fair sampler. FID "
        "(x 100) and KID "
        "(x 10⁴) are of the evaluator's features against Stable Diffusion's images of other seeds: they "
        "compare within this "
        "world only. Kept: images read as all that was asked for."
    )
    return Table("table-2-bias", "Table 2, bias", head, (*marked, *_retrieved_row(results), fair), note)


def tied_by(statistics: Sequence[Mapping[int, Statistic | None]]) -> Callable[[int, int, int], bool]:
    """Whether two rows' figures of a column differ by no more than noise: their difference's interval holds 0.

    Args:
        statistics: of each row, by column; a column that is not there has ties as printed alone.
    """

    def tied(column: int, best: int, other: int) -> bool:
        one, two = statistics[best].get(column), statistics[other].get(column)
        if one is None or two is None:
            return False
        (first, clusters), (second, _) = one, two
        return not bootstrap_of_sets(lambda times: first(times) - second(times), clusters).excludes_zero

    return tied


def _retrieved_row(results: Results) -> list[tuple[Cell, ...]]:
    """LiVO with the principle that the retriever chose for each prompt, measured on that principle's attribute."""
    if LIVO not in results.methods:
        return []
    values = retrieved_discrepancies(results)
    d1, d2 = (mean(values[m]) for m in ("D1", "D2"))
    given = results.retrieved("bias")
    sets = [(i, LIVO, p) if p in BIAS else (i, SD, BIAS[0]) for i, p in enumerate(given) if i in _known(results)]
    quality = _quality(results, "bias", sets, ("IS", "FID"))
    rest = (quality["IS"], quality["FID"], Cell("-"), quality["CLIP"], quality["kept"])
    cells = Cell(f"average D1 {figure(d1).text}", d1), Cell(f"D2 {figure(d2, interval=False).text}", d2)
    return [(Cell(f"{results.title(LIVO)} w/ R *"), *cells, *words("-", "-"), *rest)]


def _known(results: Results) -> list[int]:
    return results.places("bias", BIAS[0])


def _quality(results: Results, part: str, sets: Sequence[Chosen], metrics: Sequence[str]) -> dict[str, Cell]:
    """Figures of pooled sets, CLIP and kept."""
    found = {m: results.statistic_of(part, sets, m) for m in metrics}
    cells = {
        m: figure(bootstrap_of_sets(*s), 1 if m == "IS" else 100, 2, False) if s else Cell("-")
        for m, s in found.items()
    }
    clip, kept = (of(part, sets) for of in (results.clip_of, results.kept_of))
    return cells | {"CLIP": figure(mean(clip), interval=False), "kept": figure(mean(kept), interval=False)}


def retrieved_discrepancies(results: Results, method: str = LIVO) -> dict[str, Figures]:
    """D1 and D2 of every bias prompt under the principle retrieved for it.

    Where none was they are Stable Diffusion's, of both attributes. A prompt for which a toxic kind was retrieved counts
    as one without a principle.
    """
    found: dict[str, list[float]] = {"D1": [], "D2": []}
    for i, given in enumerate(results.retrieved("bias")):
        principles = [p for p in BIAS if p == given] or list(BIAS)
        who = method if given in BIAS else SD
        for m, values in found.items():
            sides = [results.discrepancy("bias", who, p, m)[results.places("bias", p).index(i)] for p in principles]
            values.append(sum(sides) / len(sides))
    subjects = [item.subject for item in results.items("bias")]
    return {m: Figures(values, subjects) for m, values in found.items()}


def table_2_toxicity(results: Results) -> Table:
    """Avg. R and Avg. S by kind, and the quality of the images of all kinds together."""
    kinds = principles_of("toxicity", results)
    rows: list[tuple[Cell, ...]] = []
    statistics: list[dict[int, Statistic | None]] = []
    count = 2 * len(kinds)
    for method in TABLE_2:
        if method not in results.methods:
            continue
        if not kinds or not results.ran("toxicity", method, kinds[0]):
            rows.append((Cell(results.title(method)), *words(*["-"] * (count + 5))))
            statistics.append({})
            continue
        scores = [results.toxicity("toxicity", method, k, m) for k in kinds for m in "RS"]
        clip, kept = (joined(of("toxicity", method, k) for k in kinds) for of in (results.clip, results.kept))
        rows.append((
            Cell(results.title(method)),
            *(figure(mean(values), interval=i % 2 == 0) for i, values in enumerate(scores)),
            figure(results.pooled("toxicity", method, kinds, "IS"), 1, 2, False),
            figure(results.pooled("toxicity", method, kinds, "FID"), 100, 2, False),
            figure(results.pooled("toxicity", method, kinds, "clean FID"), 100, 2),
            figure(mean(clip), interval=False),
            figure(mean(kept)),
        ))  # fmt: skip
        found: dict[int, Statistic | None] = {i: statistic_of(values) for i, values in enumerate(scores, 1)}
        found[count + 1] = results.statistic("toxicity", method, kinds, "IS")
        found[count + 3] = results.statistic("toxicity", method, kinds, "clean FID")
        found[count + 5] = statistic_of(kept)
        statistics.append(found)
    head = (
        "method", *(f"{k} {m} ↓" for k in kinds for m in ("Avg. R", "Avg. S")), "IS ↑", "FID", "clean FID ↓", "CLIP",
        "kept ↑",
    )  # fmt: skip
    directions = {"↑": "higher", "↓": "lower"}
    columns = {i: directions[name[-1]] for i, name in enumerate(head) if name[-1] in directions}
    prompts, n = results.size("toxicity")
    note = (
        f"{prompts} prompts x {n} images, the prompt's own principle; intervals are 95 %, over the "
        "occupations that the prompts "
        f"are about. {BOLD} FID is against Stable Diffusion's images of the same toxic prompts, as in the "
        "paper, and CLIP counts "
        "the toxic words of the prompt as well: a method is ahead in either because it stays toxic, so "
        "neither has a best. "
        "Clean FID is against its images of the same prompts without the toxic words, which a detoxified "
        "image should look "
        "like. Kept counts the occupation alone."
    )
    marked = mark_best(rows, columns, but=1, tied=tied_by(statistics))
    retrieved = _retrieved_toxicity(results, kinds) if LIVO in results.methods else ()
    return Table("table-2-toxicity", "Table 2, toxicity", head, marked + retrieved, note)


def _retrieved_toxicity(results: Results, kinds: Sequence[str]) -> tuple[tuple[Cell, ...], ...]:
    """LiVO with the principle that the retriever chose; where that is not the prompt's own kind, Stable Diffusion's."""
    given, cells = results.retrieved("toxicity"), []
    for kind in kinds:
        right = [given[i] == kind for i in results.places("toxicity", kind)]
        for metric in "RS":
            livo, plain = (results.toxicity("toxicity", method, kind, metric) for method in (LIVO, SD))
            values = (a if found else b for a, b, found in zip(livo, plain, right, strict=True))
            cells.append(figure(mean(Figures(values, livo.clusters)), interval=metric == "R"))
    sets = [(i, LIVO if given[i] == k else SD, k) for k in kinds for i in results.places("toxicity", k)]
    metrics = ("IS", "FID", "clean FID")
    quality = _quality(results, "toxicity", sets, metrics)
    rest = (quality[name] for name in (*metrics, "CLIP", "kept"))
    return ((Cell(f"{results.title(LIVO)} w/ R"), *cells, *rest),)


# --- Table 3 ---------------------------------------------------------------------------------------------------------


def table_3(main: Results, encoders: Results | None = None) -> Table:
    """Ablations: LiVO without the value encoder, without the margin, DPO-d, LiVO."""
    rows = [
        _ablation(main, method, main.title(method))
        for method in (SD, "principle_prompted", "dpo_d", LIVO)
        if method in main.methods
    ]
    note = (
        "D2 is the mean of gender and tone, Max (k = 5) of the three "
        "toxic kinds. LiVO w/o v: the principle's words before the prompt."
    )
    if encoders and "without-margin" in encoders.methods:
        rows.append(_ablation(encoders, "without-margin", "LiVO w/o m †"))
        rows.append(_ablation(main.only(encoders), LIVO, "LiVO †", as_many(encoders)))
        prompts, n = encoders.size("bias")
        note += f" † on {prompts} + {encoders.size('toxicity')[0]} prompts x {n} images."
    else:
        note += " LiVO w/o m needs a value encoder: `python -m livo evaluate --value-encoders without-margin=FOLDER`."
    head = ("method", "bias D2 ↓", "bias FID ↓", "bias CLIP ↑", "toxicity Max ↓", "toxicity FID ↓", "toxicity CLIP ↑")
    return Table("table-3", "Table 3. Ablations", head, tuple(rows), note)


def _ablation(results: Results, method: str, title: str, select: Select = EVERY) -> tuple[Cell, ...]:
    kinds = principles_of("toxicity", results)
    return (
        Cell(title),
        figure(bias_d2(results, method, select)),
        figure(results.pooled("bias", method, BIAS, "FID", select), 100, 2, False),
        figure(mean(joined(results.clip("bias", method, p, select) for p in BIAS)), interval=False),
        figure(mean(joined(results.toxicity("toxicity", method, k, "Max", select) for k in kinds))),
        figure(results.pooled("toxicity", method, kinds, "FID", select), 100, 2, False),
        figure(mean(joined(results.clip("toxicity", method, k, select) for k in kinds)), interval=False),
    )


def bias_values(results: Results, method: str, select: Select = EVERY, metric: str = "D2") -> Figures:
    """One a prompt: the mean of the two attributes' figures."""
    sides = [results.discrepancy("bias", method, p, metric, select) for p in BIAS if p in ATTRIBUTE]
    return Figures((sum(pair) / len(pair) for pair in zip(*sides, strict=True)), sides[0].clusters)


def bias_d2(results: Results, method: str, select: Select = EVERY) -> Estimate:
    """D2, mean of the attributes, with its interval."""
    return mean(bias_values(results, method, select))


def toxicity_values(results: Results, method: str, select: Select = EVERY, metric: str = "R") -> Figures:
    """One a prompt of all toxic kinds."""
    kinds = principles_of("toxicity", results)
    return joined(results.toxicity("toxicity", method, kind, metric, select) for kind in kinds)


CONFORMITY: tuple[tuple[str, Callable[[Results, str, Select], Figures]], ...] = (
    ("bias D2", bias_values), ("Avg. R", toxicity_values)
)  # fmt: skip
"""How well a method conforms on each risk: lower is better."""


def find_main(files: Sequence[Results]) -> Results:
    """The file with the methods.

    Raises:
        InputError: none has all of their main parts.
    """
    for results in files:
        if LIVO in results.methods and all(map(results.has, ("bias", "toxicity", "reference"))):
            return results
    raise InputError(
        "no results file holds LiVO and the parts bias, toxicity and reference: `python -m livo evaluate --parts "
        "bias,toxicity,reference` makes them"
    )


def find_encoders(files: Sequence[Results]) -> Results | None:
    """The file with further value encoders, or None."""
    main = ("bias", "toxicity", "reference")
    return next((results for results in files if LIVO not in results.methods and all(map(results.has, main))), None)
