"""Who sees what, in which order: a pure function of the study and the rater's number.

Single images and pairs alike are *cells*: a stimulus (a prompt with its starting noise) under a condition (a method, or
two). The cells of stimuli that share their conditions form a cycle in which stimulus t of pass j has condition t + j: a
Latin square, so that neighbours differ in stimulus and condition. Raters take stretches of the cycle that begin at
evenly spaced places: every cell is rated by as many raters as any other, plus or minus one, and stretches overlap in a
chain, which lets raters be compared. Within a stretch, blocks hold every condition once, in an order from a Williams
square (each condition equally often at each place and after each other); the order of the blocks is the rater's own.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from livo.study.items import Item
from livo.study.study_file import StudyFolder

TRAINING, GOLD, RATING, PAIR, EXAMPLE = "training", "gold", "rating", "pair", "example"
DRAWS = 60
"""Orders of blocks that are tried for one without neighbours of the same prompt or the same disturbing content."""


@dataclass(frozen=True)
class Showing:
    """A stimulus under a condition: one item, or two to compare, the left one first."""

    items: tuple[Item, ...]

    @property
    def prompt(self) -> str:
        return self.items[0].prompt

    @property
    def category(self) -> str:
        return self.items[0].category

    @property
    def condition(self) -> tuple[str, ...]:
        return tuple(sorted(item.method for item in self.items))


@dataclass(frozen=True)
class Trial:
    """One thing a rater is asked about.

    Attributes:
        token: opaque, of this rater, this study and these items; it alone names the trial outside the server.
        kind: raters cannot tell "gold" from "rating".
        items: ids, the left one first.
        questions: ids, in the order in which they are asked.
    """

    token: str
    kind: str
    items: tuple[str, ...]
    questions: tuple[str, ...]
    prompt: str
    category: str


@dataclass(frozen=True)
class RaterPlan:
    """What one rater is to do.

    Attributes:
        examples: shown with the instructions; nothing is asked of them.
        reversed: scales are drawn from the highest point to the lowest.
    """

    rater: int
    trials: tuple[Trial, ...]
    reversed: bool
    examples: tuple[Trial, ...] = ()


# --- squares and cycles ----------------------------------------------------------------------------------------------


def williams(k: int) -> list[list[int]]:
    """Rows of orders of k conditions: each at each place, and after each other, equally often.

    Returns:
        k rows where k is even, 2 k where it is odd.

    Source:
        Williams 1949, Experimental designs balanced for the estimation of residual effects of treatments.

    Example:
        >>> williams(4)
        [[0, 1, 3, 2], [1, 2, 0, 3], [2, 3, 1, 0], [3, 0, 2, 1]]
    """
    first = [0]
    for i in range(1, k):
        first.append((i + 1) // 2 if i % 2 else k - i // 2)
    rows = [[(step + row) % k for step in first] for row in range(k)]
    return rows if k % 2 == 0 else rows + [row[::-1] for row in rows]


def cycles(items: Iterable[Item], arity: int) -> list[list[Showing]]:
    """All cells, one cycle for each set of methods that stimuli share (a method may not apply to every prompt).

    Args:
        arity: 1 for single images, 2 for pairs.
    """
    stimuli: dict[tuple[str, int], dict[str, Item]] = {}
    for item in items:
        stimuli.setdefault((item.prompt, item.seed), {})[item.method] = item
    groups: dict[tuple[str, ...], list[dict[str, Item]]] = {}
    by_seed = sorted(enumerate(stimuli.items()), key=lambda row: (row[1][0][1], row[0]))  # prompts vary fastest
    for _, (_, of) in by_seed:
        groups.setdefault((*sorted(of), next(iter(of.values())).category and "!"), []).append(of)
    out = []
    for methods, members in groups.items():
        conditions = list(itertools.combinations(methods[:-1], arity))
        cycle = []
        for shift in range(len(conditions)):
            for t, of in enumerate(members):
                names = conditions[(t + shift) % len(conditions)]
                cycle.append(Showing(tuple(of[name] for name in names)))
        if cycle:
            out.append(cycle)
    return out


def shares(total: int, sizes: Sequence[int]) -> list[int]:
    """A whole-numbered split of the total in proportion to the sizes, none above its size.

    Example:
        >>> shares(10, [30, 30]), shares(7, [10, 4]), shares(99, [3, 4])
        ([5, 5], [5, 2], [3, 4])
    """
    total = min(total, sum(sizes))
    out = [total * size // sum(sizes) for size in sizes] if sizes else []
    rest = sorted(range(len(sizes)), key=lambda i: -((total * sizes[i]) % sum(sizes)))
    for i in rest[: total - sum(out)]:
        out[i] += 1
    return out


def stretch(
    cycle: Sequence[Showing], length: int, rater: int, raters: int, opted_out: frozenset[str], most: int
) -> list[Showing]:
    """The rater's cells: from an evenly spaced place on, past what the rater opted out of or has had enough of.

    Args:
        most: cells of disturbing content, at most.
    """
    start = (rater % raters) * len(cycle) // raters
    chosen: list[Showing] = []
    for cell in itertools.chain(cycle[start:], cycle[:start]):
        if len(chosen) == length:
            break
        if cell.category and (cell.category in opted_out or most <= 0):
            continue
        most -= bool(cell.category)
        chosen.append(cell)
    return chosen


# --- the plan --------------------------------------------------------------------------------------------------------


def plan_of(folder: StudyFolder, rater: int, opted_out: Iterable[str] = ()) -> RaterPlan:
    """What the rater is to do; the same at every call, on every machine.

    Args:
        opted_out: categories the rater does not want to see; other images take their place.
    """
    study, items = folder.study, folder.items.values()
    out, rng = frozenset(opted_out), random.Random(f"{study.seed} {rater}")
    rated = [item for item in items if item.use == "rated"]
    cells: list[Showing] = []
    left = study.most_flagged
    for arity, wanted in ((1, study.ratings_per_rater), (2, study.pairs_per_rater)):
        groups = cycles(rated, arity)
        flagged = [bool(group[0].category) for group in groups]
        lengths = shares(wanted, [sum(c.category not in out for c in group) for group in groups])
        spare = 0
        blocks: list[list[Showing]] = []
        order = sorted(range(len(groups)), key=lambda i: not flagged[i])  # the capped ones first: others fill up
        for i in order:
            most = left // (2 if arity == 1 and study.pairs_per_rater and study.ratings_per_rater else 1)
            of = stretch(groups[i], lengths[i] + (0 if flagged[i] else spare), rater, study.raters, out, most)
            spare = max(0, spare + lengths[i] - len(of))
            left -= sum(bool(cell.category) for cell in of)
            blocks += _blocks(_sides(of, rater), rater, rng)
        cells += _arrange(blocks, rng)
    trials = [_trial(folder, rater, RATING if len(cell.items) == 1 else PAIR, cell.items) for cell in cells]
    trials = [trial for trial in trials if trial.questions]
    training = [item for item in items if item.use == "training"][: study.training]
    gold = [item for item in items if item.use == "gold"]
    rng.shuffle(gold)
    seen = {item.digest for item in items if item.use in ("training", "example")} | {
        folder.items[id].digest for trial in trials for id in trial.items
    }
    checks = []
    for item in gold:  # an image that is met twice would give the check away
        if not item.digest or item.digest not in seen:
            seen.add(item.digest)
            checks.append(_trial(folder, rater, GOLD, (item,)))
    trials = _with_gold(trials, checks, study.gold_every, rng)
    examples = tuple(_trial(folder, rater, EXAMPLE, (item,)) for item in items if item.use == "example")
    practice = (_trial(folder, rater, TRAINING, (item,)) for item in training)
    return RaterPlan(rater, (*practice, *trials), rater % 2 == 1, examples)


def _trial(folder: StudyFolder, rater: int, kind: str, items: Sequence[Item]) -> Trial:
    asked = folder.study.asked
    questions = items[0].questions(asked) if len(items) == 1 else [q for q in asked if q.kind == "pair"]
    token = folder.opaque("trial", rater, kind in (TRAINING, EXAMPLE), *(item.id for item in items))[:20]
    ids = tuple(item.id for item in items)
    return Trial(token, kind, ids, tuple(q.id for q in questions), items[0].prompt, items[0].category)


def _sides(cells: Sequence[Showing], rater: int) -> list[Showing]:
    """The two methods of a pair change sides each time they meet; who begins left alternates over pairs and raters."""
    order = {condition: i for i, condition in enumerate(sorted({cell.condition for cell in cells}))}
    turns = Counter[tuple[str, ...]]()
    out = []
    for cell in cells:
        swap = (turns[cell.condition] + order[cell.condition] + rater) % 2
        turns[cell.condition] += 1
        out.append(Showing(cell.items[::-1]) if swap else cell)
    return out


def _blocks(cells: Sequence[Showing], rater: int, rng: random.Random) -> list[list[Showing]]:
    """Neighbours that differ in condition, each block in the order of its row of a Williams square."""
    conditions = sorted({cell.condition for cell in cells})
    if not conditions:
        return []
    k = len(conditions)
    rows = williams(k)
    blocks = []
    for number, start in enumerate(range(0, len(cells), k)):
        row = rows[(rater + number) % len(rows)]
        place = {conditions[condition]: i for i, condition in enumerate(row)}
        blocks.append(sorted(cells[start : start + k], key=lambda cell: place[cell.condition]))
    rng.shuffle(blocks)
    return blocks


def _arrange(blocks: list[list[Showing]], rng: random.Random) -> list[Showing]:
    """The blocks in an order where neighbours share no prompt and disturbing content is spread, as far as it goes."""

    def clashes(cells: Sequence[Showing]) -> int:
        return sum(10 * (a.prompt == b.prompt) + bool(a.category and b.category) for a, b in itertools.pairwise(cells))

    best: list[Showing] = []
    cost = None
    for _ in range(DRAWS if len(blocks) > 1 else 1):
        rng.shuffle(blocks)
        order = _spread(blocks)
        cells = [cell for block in order for cell in block]
        if cost is None or clashes(cells) < cost:
            best, cost = cells, clashes(cells)
        if cost == 0:
            break
    return best


def _spread(blocks: Sequence[list[Showing]]) -> list[list[Showing]]:
    """Disturbing blocks at equal distances among the others."""
    flagged = [block for block in blocks if block[0].category]
    calm = [block for block in blocks if not block[0].category]
    places = [
        ((i + 0.5) / len(group), group is flagged, block) for group in (calm, flagged) for i, block in enumerate(group)
    ]
    return [block for _, _, block in sorted(places, key=lambda row: row[:2])]


def _with_gold(trials: Sequence[Trial], gold: Sequence[Trial], every: int, rng: random.Random) -> list[Trial]:
    """One gold item among every so many trials, at a place drawn anew for each rater and each of them.

    Not next to its own prompt, where that can be; none is first or last.
    """
    left = list(gold)
    places: dict[int, Trial] = {}
    for start in range(0, len(trials) - 1 if every else 0, every or 1):
        if not left or (start and start + every > len(trials)):
            break
        place = rng.randrange(start + 1, min(start + every, len(trials) - 1) + 1)
        beside = {trials[place - 1].prompt, trials[place].prompt}
        at = next((i for i, check in enumerate(left) if check.prompt not in beside), 0)
        places[place] = left.pop(at)
    out: list[Trial] = []
    for number, trial in enumerate(trials):
        out += [places[number], trial] if number in places else [trial]
    return out
