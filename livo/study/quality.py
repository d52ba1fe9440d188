"""How carefully each rater answered, with the rule that would leave each out; applied by the study's own choice only.

The choice (`exclude` in study.yaml) is frozen with the study's files by the first answer: it is made before any is
seen.
"""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from livo.study.analysis import GOLD_PASS
from livo.study.answers import Answers
from livo.study.design import GOLD, RATING
from livo.study.study_file import EXCLUSIONS

LEAST_CHECKS = 3
FAST = 1 / 3
"""Of the median time of all raters: a rater whose own median is less hurries."""
SAME = 0.95
LEAST_SAME = 20
"""Answers on one scale from which on `SAME` of them alike are a straight line."""
LEAST_SHARED = 10
"""Answers that others gave too, from which on agreement is judged."""
AGREES = 0.5
"""Of the agreement that the median rater has with the others."""
RULES: Mapping[str, str] = {
    "checks": f"fewer than {100 * GOLD_PASS:.0f} % of at least {LEAST_CHECKS} silent checks right",
    "speed": "a median time below a third of the median of all raters",
    "straight": f"{100 * SAME:.0f} % of at least {LEAST_SAME} answers on one scale the same",
    "agreement": f"agrees with others less than half as often as the median rater, of at least {LEAST_SHARED} answers",
}
assert tuple(RULES) == EXCLUSIONS


@dataclass(frozen=True)
class RaterQuality:
    """How one rater answered.

    Attributes:
        median_ms: of the time from the picture to the answer.
        same: of the scale with most answers, the share of the most frequent one; NaN-free: 0 where there is none.
        agrees: share of answers that most others gave to the same picture and question; None where nobody else did.
        right, checks: silent checks right, and asked.
        rules: of `RULES`, those that would leave the rater out.
    """

    rater: int
    answers: int
    median_ms: float
    same: float
    agrees: float | None
    right: int
    checks: int
    rules: tuple[str, ...]


def quality_of(answers: Answers) -> dict[int, RaterQuality]:
    """Every rater who answered."""
    by_rater, study = defaultdict(list), answers.folder.study
    votes: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for row in answers.rows:
        by_rater[row.rater].append(row)
        if row.kind == RATING and study.question(row.question).is_counted:
            votes[row.item.id, row.question][str(row.value)] += 1
    medians = {rater: statistics.median(row.ms for row in rows) for rater, rows in by_rater.items()}
    typical = statistics.median(medians.values()) if medians else 0.0
    raw: dict[int, tuple[float, int, float | None, int, int, int]] = {}
    for rater, rows in by_rater.items():
        scales: dict[str, Counter[str]] = defaultdict(Counter)
        shared = alike = right = checks = 0
        for row in rows:
            if row.kind == RATING and study.question(row.question).kind in ("scale", "slider"):
                scales[row.question][str(row.value)] += 1
            if row.kind == GOLD and row.question in row.item.expected:
                checks += 1
                right += study.question(row.question).is_right(row.value, row.item.expected[row.question])
            if row.kind == RATING and study.question(row.question).is_counted:
                others = votes[row.item.id, row.question] - Counter([str(row.value)])
                if others:
                    shared += 1
                    alike += others[str(row.value)] == max(others.values())
        most = max(scales.values(), key=Counter.total, default=Counter[str]())
        same = max(most.values()) / most.total() if most else 0.0
        raw[rater] = (same, most.total(), alike / shared if shared else None, shared, right, checks)
    agreements = [found[2] for found in raw.values() if found[2] is not None and found[3] >= LEAST_SHARED]
    middle = statistics.median(agreements) if agreements else 0.0
    out = {}
    for rater, (same, scaled, agrees, shared, right, checks) in raw.items():
        broken = {
            "checks": checks >= LEAST_CHECKS and right < GOLD_PASS * checks,
            "speed": medians[rater] < FAST * typical,
            "straight": scaled >= LEAST_SAME and same >= SAME,
            "agreement": agrees is not None and shared >= LEAST_SHARED and agrees < AGREES * middle,
        }
        rules = tuple(rule for rule in RULES if broken[rule])
        out[rater] = RaterQuality(rater, len(by_rater[rater]), medians[rater], same, agrees, right, checks, rules)
    return dict(sorted(out.items()))


def excluded(answers: Answers) -> dict[int, tuple[str, ...]]:
    """Raters that the study's preregistered choice leaves out, each with the rules met."""
    chosen = set(answers.folder.study.exclude)
    found = {rater: tuple(r for r in one.rules if r in chosen) for rater, one in quality_of(answers).items()}
    return {rater: rules for rater, rules in found.items() if rules}
