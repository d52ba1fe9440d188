"""The paper's claims about trainings: of a share of the data, without the margin, and how fast they converge."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from livo.evaluation.claim_rules import (
    FEWER,
    REFUTED,
    REPRODUCED,
    UNRESOLVED,
    UNTESTED,
    Claim,
    above,
    below,
    decide,
    points,
    to_settle,
    two_levels,
)
from livo.evaluation.figures import checkpoints, shares_of, steps_to_level
from livo.evaluation.parts import BIAS, LIVO, SD
from livo.evaluation.results import EVERY, Statistic, statistic_of
from livo.evaluation.tables import CONFORMITY
from livo.evaluation.trainings import Trainings, trainings_of
from livo.measures.bootstrap import bootstrap_of_trainings

COLLAPSE = 2.0
"""What "collapses" means: the FID is at least twice as large."""


def training_claims(e: Trainings) -> Iterator[Claim | None]:
    """All of them; one that needs trainings that are not there is not tested."""
    yield _collapse(e)
    yield _share(e, "20", ("dpo", "dapt", "dpo_d"), "20 % of the data surpasses DPO, DAPT and DPO-d")
    yield _share(e, "5", ("dpo", "uce"), "5 % of the data surpasses DPO and UCE")
    yield _convergence(e)


def _collapse(e: Trainings) -> Claim | None:
    text = "Without the margin, quality collapses"
    rule = f"FID of bias prompts is at least {COLLAPSE:g} times LiVO's"
    if not trainings_of(e.further, "without-margin"):
        return Claim(text, "Table 3", rule, "needs the value encoder without-margin", UNTESTED)
    found = e.difference_of_sets(
        lambda r, m, s: _log(r.statistic("bias", m, BIAS, "FID", s)), "without-margin", LIVO
    )  # fmt: skip
    if found is None:
        return None
    d = found.estimate
    ratios = [float(np.exp(x)) for x in (d.value, d.low, d.high)]
    said = REPRODUCED if ratios[1] > COLLAPSE else REFUTED if ratios[2] < COLLAPSE else UNRESOLVED
    shown = f"{ratios[0]:.2f} [{ratios[1]:.2f}, {ratios[2]:.2f}] times LiVO's"
    if said == UNRESOLVED:
        shown += to_settle([(two_levels(found, ""), abs(d.value - float(np.log(COLLAPSE))))])
    return Claim(text, "Table 3", rule, shown, said)


def _log(statistic: Statistic | None) -> Statistic | None:
    if statistic is None:
        return None
    of, clusters = statistic
    return lambda times: np.log(of(times)), clusters


def _share(e: Trainings, share: str, others: Sequence[str], text: str) -> Claim:
    """A value encoder of a share of the pairs, the mean of its trainings, against methods."""
    methods, said = shares_of(e.further)
    mine, others = methods.get(share, []), [other for other in others if e.has(other)]
    if not mine or not others:
        why = said.strip() or f"needs the value encoder fraction-{share}"
        return Claim(text, "Sec. 4.2", FEWER, why, UNTESTED)
    found = []
    for other in others:
        for name, of in CONFORMITY:
            d = e.difference(of, f"fraction-{share}", other)
            found.append(two_levels(d, f"{name} {points(d.estimate)} against {e.main.title(other)}"))
    seeds = f"; mean of {len(mine)} trainings" if len(mine) > 1 else "; one training each, so nothing of seeds"
    claim = decide(text, "Sec. 4.2", FEWER, found)
    return Claim(claim.text, claim.source, claim.rule, claim.found + seeds, claim.verdict)


def _convergence(e: Trainings) -> Claim:
    """Steps to the level that both methods reach: half of the way down to the higher of their last values."""
    text, rule = "LiVO converges before DPO", "fewer steps to half of the fall that both reach, on bias and toxicity"
    curves = {who: checkpoints(e.further, who) for who in ("livo", "dpo")}
    if e.further is None or not all(curves.values()):
        return Claim(text, "Fig. 4", rule, "needs value encoders livo-at-<steps> and dpo-at-<steps>", UNTESTED)
    further, found = e.further, []
    for (_, of), what in zip(CONFORMITY, ("bias", "toxicity"), strict=True):
        start = statistic_of(of(further, SD, EVERY))
        paired = zip(*([*curve.values()] for curve in curves.values()), strict=False)  # the n-th training of each
        sooner = [
            _sooner([[(0, start[0]), *((at, statistic_of(of(further, m, EVERY))[0]) for at, m in run)] for run in pair])
            for pair in paired
        ]
        d = bootstrap_of_trainings([gap for gap, _ in sooner], [lambda times: np.zeros(len(times))], start[1])
        livo, dpo = np.mean([steps(np.ones((1, len(start[1]))))[0] for _, steps in sooner], axis=0).tolist()
        x = d.estimate
        interval = f" [{x.low:+.0f}, {x.high:+.0f}]" if x.has_interval else ""
        shown = f"{what}: LiVO {livo:.0f}, DPO {dpo:.0f} steps, difference {x.value:+.0f}{interval}"
        found.append(two_levels(d, shown))
    sure = [c.estimate for c in found]
    said = REPRODUCED if all(map(below, sure)) else REFUTED if any(map(above, sure)) else UNRESOLVED
    count = min(len(curve) for curve in curves.values())
    shown = "; ".join(c.words for c in found) + ("; one training each" if count == 1 else f"; {count} trainings each")
    if said == UNRESOLVED:
        shown += to_settle([(c, abs(c.estimate.value)) for c in found if not below(c.estimate)])
    return Claim(text, "Fig. 4", rule, shown, said)


Curve = Sequence[tuple[float, Callable[[np.ndarray], np.ndarray]]]
"""(step, figure by how often each set counts)."""


def _sooner(pair: Sequence[Curve]) -> tuple[Callable[[np.ndarray], np.ndarray], Callable[[np.ndarray], np.ndarray]]:
    """By counts (B, N): (B,) by how many steps the first curve is sooner, negative if so, and (B, 2) steps of both."""

    def steps(times: np.ndarray) -> np.ndarray:
        heights = [np.array([of(times) for _, of in curve]).T for curve in pair]
        levels = (heights[0][:, 0] + np.maximum(heights[0][:, -1], heights[1][:, -1])) / 2
        return np.array([
            [
                steps_to_level([at for at, _ in curve], own[i].tolist(), level)
                for curve, own in zip(pair, heights, strict=True)
            ]
            for i, level in enumerate(levels.tolist())
        ])  # fmt: skip

    def gap(times: np.ndarray) -> np.ndarray:
        found = steps(times)
        return found[:, 0] - found[:, 1]

    return gap, steps
