"""Controls that the paper lacks: value on and off apart, neutral tokens, sweeps, prompts to be left alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from livo.evaluation.figures import COMPARED
from livo.evaluation.parts import BIAS, SD
from livo.evaluation.results import (
    ATTRIBUTE,
    EVERY,
    RATE,
    REFERENCE,
    Figures,
    Results,
    Select,
    joined,
    mean,
    principles_of,
)
from livo.evaluation.tables import QUOTA
from livo.measures.bootstrap import bootstrap_of_sets
from livo.measures.estimates import Estimate
from livo.measures.metrics import discrepancy_floor, discrepancy_range
from livo.measures.tables import Cell, Table, figure, missing_intervals, words

UNMEASURED = Cell("not measured")
"""Where a judge's own errors are not known."""


def control_tables(results: Results) -> list[Table]:
    """All that the file has the parts for."""
    makers = {
        "bias": (halves, details, cross_effects), "controls": (tokens,), "named": (named,), "benign": (benign,),
        "guidance": (guidance,), "samplers": (samplers,), "large": (large,),
    }  # fmt: skip
    return [make(results) for part, rows in makers.items() if results.has(part) for make in rows]


def _table(name: str, caption: str, head: tuple[str, ...], rows: Sequence[tuple[Cell, ...]], note: str) -> Table:
    """The table, with a paragraph that says why some figures have no interval."""
    cells = tuple(rows)
    return Table(name, caption, head, cells, "\n\n".join(filter(None, [note, missing_intervals(cells)])))


def _methods(results: Results, part: str, principle: str, ids: Sequence[str] = COMPARED) -> list[str]:
    return [method for method in ids if method in results.methods and results.ran(part, method, principle)]


# --- value on, value off ---------------------------------------------------------------------------------------------


def own_rate(results: Results, prompt: str, question: str) -> float | None:
    """A prompt's fair mixing rate, by what Stable Diffusion draws with other seeds; None where that is unknown."""
    from livo.methods.livo import fair_mixing_rate

    for i, item in enumerate(results.items(REFERENCE)):
        if item.prompt == prompt:
            return fair_mixing_rate(results.counts(results.images(REFERENCE, i, SD, ""), question))
    return None


def halves(results: Results) -> Table:
    """D1 with the value off, in half of the images, in all, and at each prompt's fair rate."""
    rows = []
    for method in _methods(results, "bias", BIAS[0], ("livo", "dpo", "dpo_d", "principle_prompted")):
        for p in BIAS:
            cells = [
                figure(mean(results.discrepancy("bias", method, p, "D1", Select(rate=rate))))
                for rate in (0.0, RATE, 1.0)
            ]
            fair = Figures([], [])
            for i, subject in zip(results.places("bias", p), results.subjects("bias", p), strict=True):
                rate = own_rate(results, results.items("bias")[i].prompt, ATTRIBUTE[p])
                if rate is not None:
                    images = results.images("bias", i, method, p, Select(rate=rate))
                    one = discrepancy_range(results.counts(images, ATTRIBUTE[p]))
                    fair = joined([fair, Figures([one], [subject])])
            last = figure(mean(fair)) if fair else Cell("-")
            rows.append((*words(results.title(method), ATTRIBUTE[p]), *cells, last))
    head = ("method", "attribute", "value off", "in half of the images", "value on", "at each prompt's fair rate")
    note = (
        "D1. Value off is Stable Diffusion. The fair rate is 1 - 1/(K m), m the majority's share of K "
        "classes as Stable Diffusion "
        "draws this prompt with other seeds: none where it is even, half where it draws one class of two alone."
    )
    return _table("value-on-off", "Value on and off apart", head, rows, note)


def details(results: Results) -> Table:
    """Beside D1: without the bias of few images, corrected for the judge's errors, and who could not be placed."""
    rows = []
    for method in _methods(results, "bias", BIAS[0]):
        for p in BIAS:
            unsure, total = results.abstained("bias", method, p)
            measured = results.judge_is_measured(p)
            rows.append((
                *words(results.title(method) + (" *" if method in QUOTA else ""), ATTRIBUTE[p]),
                figure(mean(results.discrepancy("bias", method, p, "D1"))),
                figure(mean(results.discrepancy("bias", method, p, "corrected"))) if measured else UNMEASURED,
                figure(mean(results.discrepancy("bias", method, p, "D2"))),
                *(figure(pooled_discrepancy(results, method, p, metric)) for metric in ("D1", "D2")),
                figure(mean(results.discrepancy("bias", method, p, "D2u"), (-1, 1))),
                *words(f"{unsure:,} of {total:,}"),
            ))  # fmt: skip
    floors = ", ".join(f"{ATTRIBUTE[p]} {100 * results.floor('bias', p).discrepancy_range:.1f}" for p in BIAS)
    head = (
        "method", "attribute", "D1", "D1, judge's errors corrected", "D2", "D1, pooled", "D2, pooled",
        "unbiased D2², x 100", "cannot tell",
    )  # fmt: skip
    note = (
        "Pooled: of the shares of all prompts' images together, as the paper's formula can be read; there prompts of "
        f"opposite bias cancel. A fair sampler's D1: {floors}; its unbiased D2² is 0 on average and may be negative. "
        "* steers a fixed quota."
    )
    return _table("details", "Bias in detail", head, rows, note)


def pooled_discrepancy(results: Results, method: str, principle: str, metric: str) -> Estimate:
    """D1 or D2 of the classes' shares over all prompts, every image that could be placed alike."""
    question = ATTRIBUTE[principle]
    counts = np.array([results.counts(images, question) for images in results.each("bias", method, principle)], float)

    def of(times: np.ndarray) -> np.ndarray:
        shares = times @ counts
        shares /= shares.sum(axis=1, keepdims=True)
        if metric == "D1":
            return np.ptp(shares, axis=1)
        return np.sqrt(((shares - 1 / shares.shape[1]) ** 2).sum(axis=1))

    found = bootstrap_of_sets(of, results.subjects("bias", principle))
    return replace(found, low=max(0.0, found.low), high=min(1.0, found.high)) if found.has_interval else found


def cross_effects(results: Results) -> Table:
    """Does one principle move what another guards?"""
    rows = []
    kinds = principles_of("toxicity", results)
    for method in _methods(results, "bias", BIAS[0]) + [a for a in ("concept_ablation",) if a in results.methods]:
        cells = [Cell(results.title(method))]
        for p, other in zip(BIAS, BIAS[::-1], strict=True):
            ran = results.ran("bias", method, p)
            cells.append(figure(_shift(results, "bias", method, [p], ATTRIBUTE[other])) if ran else Cell("-"))
        ran_on = [p for p in BIAS if results.ran("bias", method, p)]
        toxic = joined(results.toxicity("bias", method, p) for p in ran_on)
        cells.append(figure(mean(toxic)) if toxic else Cell("-"))
        detox = kinds and results.ran("toxicity", method, kinds[0])
        cells.append(figure(_shift(results, "toxicity", method, kinds, "gender")) if detox else Cell("-"))
        rows.append(tuple(cells))
    head = (
        "method", "tone moved by the gender principle", "gender moved by the race principle",
        "toxic images under bias principles", "gender moved by detoxifying",
    )  # fmt: skip
    note = (
        "Moved: half the sum of the classes' absolute changes of share against Stable Diffusion on the same "
        "seeds, mean over "
        "prompts; two samples of one sampler differ too, but these share their noise."
    )
    return _table("cross-effects", "Cross effects", head, rows, note)


def _shift(
    results: Results, part: str, method: str, principles: Sequence[str], question: str, select: Select = EVERY
) -> Estimate:
    """Total variation between the method's and Stable Diffusion's shares of an attribute, mean over prompts."""
    out, subjects = [], []
    for p in principles:
        for i in results.places(part, p):
            one, other = (results.counts(results.images(part, i, a, p, select), question) for a in (method, SD))
            if sum(one) and sum(other):
                out.append(sum(abs(a / sum(one) - b / sum(other)) for a, b in zip(one, other, strict=True)) / 2)
                subjects.append(results.items(part)[i].subject)
    return mean(Figures(out, subjects))


# --- tokens ----------------------------------------------------------------------------------------------------------


def tokens(results: Results) -> Table:
    """Is it the value, or is it one token more? Every image takes the token."""
    kinds, rows = principles_of("toxicity", results), []
    every = (*BIAS, *kinds)
    for method in results.methods:
        if not results.ran("controls", method, BIAS[0]):
            continue
        on = Select(rate=1.0)
        rows.append((
            Cell(results.title(method)),
            *(
                figure(_shift(results, "controls", method, [p], ATTRIBUTE[p], on)) if method != SD else Cell("-")
                for p in BIAS
            ),
            figure(mean(joined(results.toxicity("controls", method, k, "R", on) for k in kinds))),
            figure(mean(joined(results.kept("controls", method, p, on) for p in every)), interval=False),
            figure(mean(joined(results.change("controls", method, p, on) for p in every)), interval=False),
        ))  # fmt: skip
    head = ("token", "gender moved", "tone moved", "toxicity Avg. R ↓", "kept ↑", "pixels changed")
    note = (
        f"{_size(results, 'controls')}. Moved: as under cross effects, all images with the token. Pixels "
        "changed: mean difference to "
        "Stable Diffusion's image of the same seed, of 100."
    )
    return _table("tokens", "A value, or only one more token?", head, rows, note)


# --- to be left alone ------------------------------------------------------------------------------------------------


def named(results: Results) -> Table:
    """A prompt that names the attribute must keep it, also under the principle that is about it."""
    rows = []
    for method in _methods(results, "named", BIAS[0]):
        cells = [Cell(results.title(method))]
        for question in ("gender", "tone"):
            for p in BIAS:
                on = Select(rate=1.0)
                held = Figures([], [])
                for i in results.places("named", p):
                    item = results.items("named")[i]
                    wanted = dict(item.wants).get(question)
                    if wanted and item.kind == f"named {question}":
                        images = results.images("named", i, method, p, on)
                        share = float((images[question] == results.classes(question).index(wanted)).mean())
                        held = joined([held, Figures([share], [item.subject])])
                cells.append(figure(mean(held)) if held else Cell("-"))
        rows.append(tuple(cells))
    kept = [f"named {question} kept, {p} principle" for question in ("gender", "tone") for p in ("gender", "race")]
    head = ("method", *kept)
    note = (
        f"{_size(results, 'named')}; all images steered. The retriever gives no principle about an attribute "
        "that the prompt names, so "
        "these are not what a user meets."
    )
    return _table("named", "Prompts that name the attribute", head, rows, note)


def benign(results: Results) -> Table:
    """Harmless look-alikes under the principle they resemble."""
    rows = []
    kinds = [k for k in principles_of("toxicity", results) if results.places("benign", k)] or ["bloody"]
    for method in _methods(results, "benign", kinds[0]):
        rows.append((
            Cell(results.title(method)),
            figure(mean(joined(results.toxicity("benign", method, k) for k in kinds))),
            figure(mean(joined(results.kept("benign", method, k) for k in kinds))),
            figure(mean(joined(results.change("benign", method, k) for k in kinds))),
        ))  # fmt: skip
    head = ("method", "flagged ↓", "kept ↑", "pixels changed ↓")
    note = (
        f"{_size(results, 'benign')}: red scarf, ketchup, green face paint, swimwear; the principle is forced on them."
    )
    return _table("benign", "Harmless look-alikes", head, rows, note)


# --- sweeps ----------------------------------------------------------------------------------------------------------


def guidance(results: Results) -> Table:
    """Every method at other guidance scales."""
    return _sweep(results, "guidance", "Guidance scales")


def samplers(results: Results) -> Table:
    """Every method under other samplers and numbers of steps."""
    return _sweep(results, "samplers", "Samplers and steps")


def _sweep(results: Results, part: str, caption: str) -> Table:
    kinds, rows = principles_of("toxicity", results), []
    _, n = results.size(part)
    same = results.only(results, [part])
    settings = [("bias", same, 0, results.header.parts["bias"].settings[0], "toxicity")]
    settings += [(part, results, i, s, part) for i, s in enumerate(results.header.parts[part].settings)]
    for method in COMPARED:
        for name, source, i, setting, toxic in settings:
            if method not in source.methods:
                continue
            select = Select(setting=i, seeds=n)
            cells = [Cell(source.title(method)), Cell(str(setting))]
            for p in BIAS:
                cells.append(
                    figure(mean(source.discrepancy(name, method, p, "D1", select)))
                    if source.ran(name, method, p)
                    else Cell("-")
                )
            on = [k for k in kinds if source.ran(toxic, method, k)]
            cells.append(
                figure(mean(joined(source.toxicity(toxic, method, k, "R", select) for k in on))) if on else Cell("-")
            )
            pairs = [(name, p) for p in BIAS if source.ran(name, method, p)] + [(toxic, k) for k in on]
            cells.append(
                figure(mean(joined(source.kept(where, method, p, select) for where, p in pairs)), interval=False)
            )
            rows.append(tuple(cells))
    head = ("method", "sampler", "gender D1 ↓", "tone D1 ↓", "toxicity Avg. R ↓", "kept ↑")
    floors = ", ".join(
        f"{ATTRIBUTE[p]} {100 * discrepancy_floor(n, len(results.classes(ATTRIBUTE[p]))).discrepancy_range:.1f}"
        for p in BIAS
    )
    return _table(part, caption, head, rows, f"{_size(results, part)}; a fair sampler's D1: {floors}.")


# --- many images -----------------------------------------------------------------------------------------------------


def large(results: Results) -> Table:
    """A thousand images a prompt, where a fair sampler's floor is low."""
    rows = []
    for p in BIAS:
        for place, i in enumerate(results.places("large", p)):
            for method in _methods(results, "large", p):
                known = ("corrected",) if results.judge_is_measured(p) else ()
                d = {m: results.discrepancy("large", method, p, m)[place] for m in ("D1", "D2", "D2u", *known)}
                rows.append((
                    *words(results.items("large")[i].prompt, ATTRIBUTE[p]),
                    Cell(results.title(method) + (" *" if method in QUOTA else "")),
                    *(figure(Estimate(x), interval=False) for x in d.values()),
                    *(() if known else (UNMEASURED,)),
                ))  # fmt: skip
    floors = ", ".join(
        f"{ATTRIBUTE[p]} D1 {100 * f.discrepancy_range:.1f}, D2 {100 * f.discrepancy_l2:.1f}"
        for p in BIAS
        for f in [results.floor("large", p)]
    )
    head = ("prompt", "attribute", "method", "D1", "D2", "unbiased D2², x 100", "D1, judge's errors corrected")
    return Table(
        "large",
        "A thousand images a prompt",
        head,
        tuple(rows),
        f"{results.size('large')[1]:,} images; a fair sampler: {floors}. * steers a fixed quota.",
    )


def _size(results: Results, part: str) -> str:
    """How many prompts and images a part has."""
    prompts, n = results.size(part)
    return f"{prompts} prompts x {n} images"
