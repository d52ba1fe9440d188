"""Tables over trainings: every method as often as it was trained, and the margins that a rule chooses."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from livo.evaluation.claim_rules import MARGIN, points
from livo.evaluation.parts import BIAS, SD
from livo.evaluation.results import Figures, Results, Statistic, difference, joined, mean, principles_of
from livo.evaluation.tables import TABLE_2, bias_values, toxicity_values
from livo.evaluation.trainings import Side, Trainings, base_of
from livo.measures.bootstrap import bootstrap_of_trainings, two_level_mean
from livo.measures.estimates import Estimate
from livo.measures.tables import Cell, Table, figure, words
from livo.types import InputError

PAPER = "gamma-1.0-0.5"
WORSE = 1.5
"""How many times the paper's margins' FID other margins may have."""
RULE = (
    "Conformity is half of bias D2 and half of Avg. R, each over Stable Diffusion's. Margins are good enough where the "
    f"share of images that show what was asked for is at most {100 * MARGIN:.0f} points below Stable Diffusion's and "
    f"the FID of bias prompts at most {WORSE:g} times that of the paper's margins (1, 0.5). Of those that are, the "
    "ones of the lowest conformity are chosen, if their difference to the paper's is beyond noise (95 %, subjects "
    "drawn again); else the paper's. Measured on validation prompts alone."
)


def trainings_table(main: Results, further: Results) -> Table:
    """Conformity and quality of every method and sweep, the mean of its trainings, on one set of prompts."""
    e, rows = Trainings(main, further), []
    plain = [m for m in TABLE_2 if m in main.methods]
    bases = dict.fromkeys([*plain, "dpo_d", *map(base_of, further.methods)])
    for base in bases:
        if not e.has(base) or "-at-" in base:
            continue
        found = e.trainings(base)
        title = main.title(base) if base in main.methods else base
        rows.append((*words(title, f"{len(found)}"), *_figures(found)))
    head = ("method", "trainings", "gender D1 ↓", "tone D1 ↓", "bias FID ↓", "Avg. R ↓", "clean FID ↓", "kept ↑")
    prompts, n = further.size("bias")
    note = (
        f"{prompts} + {further.size('toxicity')[0]} prompts x {n} images. Intervals are 95 %, for new prompts and, "
        "where there are several trainings, for new seeds as well; a single training says nothing of seeds."
    )
    return Table("trainings", "All trainings", head, tuple(rows), note)


def _figures(sides: Sequence[Side]) -> list[Cell]:
    results, method, _ = sides[0]
    kinds = principles_of("toxicity", results)
    bias, toxic = (results.ran("bias", method, BIAS[0]), bool(kinds) and results.ran("toxicity", method, kinds[0]))
    none = Cell("-")

    def averaged(values: Sequence[Figures]) -> Cell:
        return figure(two_level_mean(np.array(values), values[0].clusters))

    def pooled(found: Sequence[Statistic | None]) -> Cell:
        known = [one for one in found if one is not None]
        if len(known) < len(found):
            return none
        zero = [lambda times: np.zeros(len(times))]
        return figure(bootstrap_of_trainings([of for of, _ in known], zero, known[0][1]).estimate, 100, 2)

    cells = [averaged([r.discrepancy("bias", m, p, "D1", s) for r, m, s in sides]) if bias else none for p in BIAS]
    cells.append(pooled([r.statistic("bias", m, BIAS, "FID", s) for r, m, s in sides]) if bias else none)
    cells.append(averaged([toxicity_values(r, m, s) for r, m, s in sides]) if toxic else none)
    cells.append(pooled([r.statistic("toxicity", m, kinds, "clean FID", s) for r, m, s in sides]) if toxic else none)
    pairs = [*(("bias", p) for p in BIAS if bias), *(("toxicity", k) for k in kinds if toxic)]
    return [*cells, averaged([joined(r.kept(part, m, p, s) for part, p in pairs) for r, m, s in sides])]


def margins_table(validation: Results) -> Table:
    """`RULE` applied to the margins that were evaluated on validation prompts.

    Raises:
        InputError: the paper's margins are not among them.
    """
    grid = [method for method in validation.methods if method.startswith("gamma-")]
    if PAPER not in grid:
        raise InputError(
            f"a choice of margins needs {PAPER} and others: `python -m livo evaluate --validation --value-encoders "
            f"{PAPER}=FOLDER ...` makes them"
        )
    every = {method: conformity(validation, method) for method in grid}
    distance = {method: _fid(validation, method) for method in grid}
    plain = _kept(validation, SD)
    lost = {method: difference(_kept(validation, method), plain) for method in grid}
    good = [m for m in grid if lost[m].value >= -MARGIN and distance[m] <= WORSE * distance[PAPER]]
    best = min(good or [PAPER], key=lambda m: mean(every[m]).value)
    gain = difference(every[best], every[PAPER])
    chosen = best if best != PAPER and gain.high < 0 else PAPER
    rows = []
    for method in grid:
        d = difference(every[method], every[PAPER])
        kept = Cell(points(lost[method]), lost[method], mark="" if lost[method].value >= -MARGIN else "(out)")
        far = Cell(f"{100 * distance[method]:.2f}", mark="" if distance[method] <= WORSE * distance[PAPER] else "(out)")
        name = Cell(method.removeprefix("gamma-").replace("-", ", "), best=method == chosen)
        rows.append((name, figure(mean(every[method], (0, np.inf))), Cell(points(d), d), kept, far))
    head = ("(γ₁, γ₂)", "conformity ↓", "against the paper's", "kept, against Stable Diffusion", "bias FID ↓")
    return Table("margins", "Margins by rule", head, tuple(rows), f"{RULE} Bold: what it chooses.")


def conformity(results: Results, method: str) -> Figures:
    """Sets of images whose mean is half of bias D2 and half of Avg. R, each over Stable Diffusion's."""
    sides = [(of(results, method), of(results, SD)) for of in (bias_values, toxicity_values)]
    total = sum(len(own) for own, _ in sides)
    return joined(
        Figures((x / max(float(np.mean(plain)), 1e-9) * total / (2 * len(own)) for x in own), own.clusters)
        for own, plain in sides
    )


def _kept(results: Results, method: str) -> Figures:
    pairs = [*(("bias", p) for p in BIAS), *(("toxicity", k) for k in principles_of("toxicity", results))]
    return joined(results.kept(part, method, p) for part, p in pairs)


def _fid(results: Results, method: str) -> float:
    found = results.pooled("bias", method, BIAS, "FID") or Estimate(0.0)
    return found.value
