"""The paper's claims against a results file, each with the rule that decides it.

A claim is tested as the sentence it prints: "DPO is ineffective on bias" is DPO against the model without it, "best" is
against every rival, "collapses" is an effect of a stated size. Subjects of prompts are drawn again, for all methods
alike; `livo.evaluation.claim_rules` says what follows from an interval.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace

from livo.evaluation.claim_rules import (
    EQUIVALENT,
    FEWER,
    MARGIN,
    REFUTED,
    REPRODUCED,
    TIED,
    UNRESOLVED,
    UNTESTED,
    Claim,
    Compared,
    above,
    below,
    decide,
    inside,
    points,
    to_settle,
    two_levels,
)
from livo.evaluation.front_claims import front_claims
from livo.evaluation.parts import BIAS, LIVO, SD
from livo.evaluation.results import ATTRIBUTE, Figures, Results, Select, difference, joined, principles_of
from livo.evaluation.tables import CONFORMITY, TABLE_2, bias_values, retrieved_discrepancies
from livo.evaluation.training_claims import training_claims
from livo.evaluation.trainings import Trainings
from livo.measures.tables import Table, words

SPECIALISTS = {"gender_equality": "fair_diffusion", "nudity": "concept_ablation", "bloody": "concept_ablation"}
LOWER = "every difference is below 0"
BEST = "lower than every rival"


def check_claims(main: Results, encoders: Results | None = None) -> list[Claim]:
    """Every claim that the files can speak to; those that need trainings that are not there say so."""
    kinds, e = principles_of("toxicity", main), Trainings(main, encoders)
    ablated = ["nudity", "bloody"]
    every = [*BIAS, *kinds]
    alone = "Without the value encoder, the words of the principle do little"
    claims = [
        _lower(e, "LiVO reduces social bias", "abstract", LIVO, [SD], BIAS),
        _lower(e, "LiVO reduces toxicity", "abstract", LIVO, [SD], kinds),
        _best(e, "LiVO is best on race (here: tone)", LIVO, ["racial_equality"]),
        _second(e, "LiVO is second on gender, after Fair Diffusion", "gender_equality"),
        _best(e, "Fair Diffusion is best on gender", "fair_diffusion", ["gender_equality"]),
        _best(e, "LiVO is best on horror (here: zombie)", LIVO, ["zombie"]),
        _second(e, "LiVO is second on bloody, after Concept Ablation", "bloody"),
        _best(e, "Concept Ablation is best on nudity and bloody", "concept_ablation", ablated),
        _loses_semantics(e, kinds),
        _uce(e, kinds),
        _dapt(e, ablated),
        _little(e, "DPO is ineffective on social bias", "Sec. 4.2", "dpo", BIAS),
        _hurts_quality(e),
        _preserves(e, kinds),
        _little(e, alone, "Table 3", "principle_prompted", every),
        _fewer(e, "DPO-d improves DPO", "dpo_d", "dpo"),
        _fewer(e, "DPO-d is still inferior to LiVO", LIVO, "dpo_d"),
        _retriever(e),
        *training_claims(e),
        *front_claims(main, encoders),
    ]
    return [claim for claim in claims if claim]


def claims_table(claims: Sequence[Claim], said: str = "") -> Table:
    """Claims, verdicts, the rule of each, and what they rest on; `said` of trainings ends the note."""
    rows = tuple(words(c.text, c.source, c.verdict, c.rule, c.found) for c in claims)
    verdicts = (REPRODUCED, EQUIVALENT, TIED, REFUTED, UNRESOLVED, UNTESTED)
    counts = {v: sum(c.verdict == v for c in claims) for v in verdicts}
    note = ", ".join(f"{n} {v}" for v, n in counts.items() if n) + (
        ". Reproduced: the rule holds. Refuted: its contrary does. Equivalent: what does not hold differs by less than "
        f"{100 * MARGIN:.0f} points. Tied at the floor: both are 0 in every image. Unresolved: the intervals "
        "allow both. "
        "Differences are in points with 95 % intervals, paired over prompts, which are drawn again by whom "
        "they are about; one "
        "that is the same for every subject has none." + said
    )
    head = ("claim", "where", "verdict", "reproduced where", "found")
    return Table("claims", "The paper's claims in the drawn world", head, rows, note)


# --- comparisons -----------------------------------------------------------------------------------------------------


def values_of(results: Results, method: str, select: Select, principle: str) -> Figures:
    """D1 under a bias principle, Avg. R under a toxic kind, one a prompt."""
    if principle in ATTRIBUTE:
        return results.discrepancy("bias", method, principle, "D1", select)
    return results.toxicity("toxicity", method, principle, "R", select)


def rivals(results: Results, principle: str, but: Sequence[str]) -> list[str]:
    """The methods of Table 2 that act on a principle, without Stable Diffusion and those given."""
    part = "bias" if principle in ATTRIBUTE else "toxicity"
    return [a for a in TABLE_2 if a != SD and a not in but and a in results.methods and results.ran(part, a, principle)]


def compared(e: Trainings, one: str, other: str, principle: str) -> Compared:
    """Two methods under a principle."""
    of = functools.partial(values_of, principle=principle)
    d = e.difference(of, one, other)
    name = ATTRIBUTE.get(principle, principle)
    floor = not any(any(of(*side)) for sides in e.sides(one, other) for side in sides)
    return two_levels(d, f"{name} {points(d.estimate)} against {e.main.title(other)}", floor)


def _lower(
    e: Trainings, text: str, source: str, who: str, others: Sequence[str], principles: Sequence[str]
) -> Claim | None:
    """`who` scores lower than the others under each principle."""
    if not principles or not e.has(who, *others):
        return None
    return decide(text, source, LOWER, [compared(e, who, other, p) for p in principles for other in others])


def _best(e: Trainings, text: str, who: str, principles: Sequence[str]) -> Claim | None:
    """`who` scores lower than every other method under each principle."""
    if not e.has(who) or not all(e.main.places("toxicity", p) for p in principles if p not in ATTRIBUTE):
        return None
    found = [compared(e, who, other, p) for p in principles for other in rivals(e.main, p, [who])]
    return decide(text, "Sec. 4.2", BEST, found) if found else None


def _second(e: Trainings, text: str, principle: str) -> Claim | None:
    """The specialist is better than LiVO, and LiVO than all others."""
    best = SPECIALISTS[principle]
    others = rivals(e.main, principle, [LIVO, best])
    if not others or not e.has(best, LIVO):
        return None
    behind, title = compared(e, best, LIVO, principle), e.main.title(best)
    first = replace(behind, words=f"{title}: {behind.words}")
    rest = [compared(e, LIVO, other, principle) for other in others]
    rule = f"{title} is lower than LiVO, and LiVO than every other"
    return decide(text, "Sec. 4.2", rule, [first, *rest])


def _dapt(e: Trainings, ablated: Sequence[str]) -> Claim | None:
    if not e.has("dapt", "fair_diffusion", "concept_ablation"):
        return None
    found = [compared(e, "fair_diffusion", "dapt", "gender_equality")]
    found += [compared(e, "concept_ablation", "dapt", p) for p in ablated]
    rule = "Fair Diffusion on gender, Concept Ablation on nudity and bloody are lower"
    return decide("DAPT is inferior to the specialised methods", "Sec. 4.2", rule, found)


def _little(e: Trainings, text: str, source: str, who: str, principles: Sequence[str]) -> Claim | None:
    """`who` does about what the model without it does."""
    if not e.has(who):
        return None
    found = [compared(e, who, SD, p) for p in principles]
    if all(inside(c.estimate) for c in found):
        said = REPRODUCED
    else:
        said = REFUTED if any(below(c.estimate, -MARGIN) for c in found) else UNRESOLVED
    rule = "within 5 points of Stable Diffusion each; refuted where one is more than 5 below"
    return _judged(text, source, rule, found, said, lambda d: abs(MARGIN - abs(d)))


def _judged(
    text: str, source: str, rule: str, found: Sequence[Compared], said: str, distance: Callable[[float], float]
) -> Claim:
    """A claim with a verdict of its own kind; where it is open, what would settle it.

    Args:
        distance: from a difference to the farthest bound that it could still be told from.
    """
    shown = "; ".join(c.words for c in found)
    if said == UNRESOLVED:
        shown += to_settle([(c, distance(c.estimate.value)) for c in found if not inside(c.estimate) and not c.floor])
    return Claim(text, source, rule, shown, said)


def _kept(results: Results, method: str, select: Select, pairs: Sequence[tuple[str, str]]) -> Figures:
    return joined(results.kept(part, method, p, select) for part, p in pairs)


def _loses_semantics(e: Trainings, kinds: Sequence[str]) -> Claim | None:
    if not e.has("concept_ablation"):
        return None
    of = functools.partial(_kept, pairs=[("toxicity", k) for k in kinds])
    both = e.difference(of, "concept_ablation", SD)
    d = both.estimate
    said = REPRODUCED if below(d) else REFUTED if above(d, -MARGIN) else UNRESOLVED
    rule = "kept is below Stable Diffusion's; refuted where a loss of 5 points is excluded"
    found = [two_levels(both, f"kept {points(d)} against Stable Diffusion")]
    text = "Concept Ablation loses semantics"
    return _judged(text, "Table 4", rule, found, said, lambda x: max(-x, x + MARGIN))


def _preserves(e: Trainings, kinds: Sequence[str]) -> Claim | None:
    if not e.has(LIVO):
        return None
    of = functools.partial(_kept, pairs=[*(("bias", p) for p in BIAS), *(("toxicity", k) for k in kinds)])
    both = e.difference(of, LIVO, SD)
    d = both.estimate
    said = REPRODUCED if above(d, -MARGIN) else REFUTED if below(d, -MARGIN) else UNRESOLVED
    text, rule = "LiVO preserves the rest of the prompt", "kept is at most 5 points below Stable Diffusion's"
    found = [two_levels(both, f"kept {points(d)}")]
    return _judged(text, "Sec. 4.2", rule, found, said, lambda x: abs(x + MARGIN))


def _uce(e: Trainings, kinds: Sequence[str]) -> Claim | None:
    """Counted: on how many risks UCE is surely the worst of the methods, and on how many surely not."""
    if not e.has("uce"):
        return None
    surely, not_worst, shown = 0, 0, []
    risks, left = (*BIAS, *kinds), []
    for p in risks:
        found = [compared(e, "uce", other, p) for other in rivals(e.main, p, ["uce"])]
        worst, better = all(above(c.estimate) for c in found), any(below(c.estimate) for c in found)
        surely, not_worst = surely + worst, not_worst + better
        shown.append(f"{ATTRIBUTE.get(p, p)}: {'worst' if worst else 'not the worst' if better else 'open'}")
        if not worst and not better:
            left += [(c, abs(c.estimate.value)) for c in found if not above(c.estimate) and not c.floor]
    few = len(risks) // 5
    said = REPRODUCED if surely >= len(risks) - few else REFUTED if not_worst > few else UNRESOLVED
    rule = f"on {len(risks) - few} of {len(risks)} risks, higher than every rival"
    said_of = "; ".join(shown) + (to_settle(left) if said == UNRESOLVED else "")
    return Claim("UCE is the worst on almost all risks", "Sec. 4.2", rule, said_of, said)


def _fewer(e: Trainings, text: str, one: str, other: str) -> Claim | None:
    if not e.has(one, other):
        return None
    found = [
        two_levels(d, f"{name} {points(d.estimate)}") for name, of in CONFORMITY for d in [e.difference(of, one, other)]
    ]
    return decide(text, "Table 3", FEWER, found)


def _retriever(e: Trainings) -> Claim | None:
    results = e.main
    if LIVO not in results.methods:
        return None
    d = difference(retrieved_discrepancies(results)["D1"], bias_values(results, LIVO, metric="D1"))
    right = [
        given in item.principles
        for part in ("bias", "toxicity")
        for given, item in zip(results.retrieved(part), results.items(part), strict=True)
    ]
    said = REPRODUCED if inside(d) else REFUTED if below(d, -MARGIN) or above(d, MARGIN) else UNRESOLVED
    found = [Compared(d, f"D1 {points(d)}; a principle of the right risk for {sum(right)} of {len(right)} prompts")]
    text, rule = "The retriever costs little", "D1 within 5 points of principles given"
    return _judged(text, "Sec. 4.2", rule, found, said, lambda x: abs(MARGIN - abs(x)))


# --- quality ---------------------------------------------------------------------------------------------------------


def _hurts_quality(e: Trainings) -> Claim | None:
    if not e.has("dpo"):
        return None
    found = e.difference_of_sets(lambda r, m, s: r.statistic("bias", m, BIAS, "FID", s), "dpo", SD)
    if found is None:
        return None
    d = found.estimate
    said = REPRODUCED if above(d) else REFUTED if below(d) else UNRESOLVED
    shown = [two_levels(found, f"FID (x 100) {points(d)} against Stable Diffusion")]
    text, rule = "DPO hurts image quality", "FID of bias prompts is above Stable Diffusion's"
    return _judged(text, "Sec. 4.2", rule, shown, said, abs)
