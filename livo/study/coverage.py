"""How often a study's intervals hold the truth: whole studies are simulated, whose truth is known.

    python -m livo.study.coverage --studies 2000 --prompts 1 3 5 12 --out coverage.jsonl

Every interval that a report prints is here: means of ratings and their differences, shares of yes, effects of order,
D1, D2 and Avg. R of majority labels, people against the judge, Krippendorff's alpha, shares of wins, log strengths.
Where a report prints none, none is counted. With `--out` a run that was ended goes on where it was.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from livo.measures.agreement import agreement
from livo.measures.bootstrap import bootstrap_mean
from livo.measures.crossed import crossed
from livo.measures.estimates import Estimate
from livo.measures.metrics import discrepancy_l2, discrepancy_range, ratio
from livo.measures.ratings import alpha_interval, bradley_terry
from livo.measures.tables import Cell, Table, figure

METHODS = 3
IMAGES = 4
"""Of a prompt and method."""
RIGHT = (0.82, 0.98)
"""Share of labels that a rater reads as they are: each rater has one of their own between these."""
JUDGE_RIGHT = (18.0, 2.0)
"""Of the automatic judge's labels, by prompt: the two parameters of a Beta."""

Held = Mapping[str, bool | None]
"""By figure, whether its interval held the truth; None where none was printed."""


@dataclass(frozen=True)
class Population:
    """Where studies are drawn from: points of 100, and standard deviations in such points.

    Attributes:
        means: of each method's ratings, before they are rounded to five points.
        within: by which methods differ from prompt to prompt.
        skill: log strengths of the methods in pairs, and how far they differ from prompt to prompt.
    """

    means: tuple[float, ...] = (65.0, 55.0, 60.0)
    raters: float = 8.0
    prompts: float = 18.0
    within: float = 8.0
    rest: float = 28.0
    skill: tuple[float, ...] = (0.5, 0.0, -0.5)
    skill_within: float = 0.4


@dataclass(frozen=True)
class SimulatedStudy:
    """One simulated study of R raters, P prompts, M methods and I images of each.

    Attributes:
        ratings: (R, P, M, I) in [0, 100]; `labels` (R, P, M, I) 0 or 1; `late` whether it came in the second half.
        judge: (P, M, I) the automatic judge's labels.
        duels: with the rater and the prompt of each.
    """

    ratings: np.ndarray
    labels: np.ndarray
    late: np.ndarray
    judge: np.ndarray
    duels: list[tuple[str, str, float]] = field(default_factory=list)
    duel_raters: list[int] = field(default_factory=list)
    duel_prompts: list[int] = field(default_factory=list)


def draw_study(
    world: Population, raters: int, prompts: int, rng: np.random.Generator, *, pairs: bool = True
) -> SimulatedStudy:
    """A study in which every rater sees every image, and every pair of methods once a prompt."""
    shape = (raters, prompts, METHODS, IMAGES)
    latent = np.array(world.means)[None, None, :, None] + rng.normal(0, world.rest, shape)
    latent += rng.normal(0, world.raters, raters)[:, None, None, None]
    latent += rng.normal(0, world.prompts, prompts)[None, :, None, None]
    latent += rng.normal(0, world.within, (prompts, METHODS))[None, :, :, None]
    ratings = np.clip(np.round(latent / 25) * 25, 0, 100)
    shares = rng.beta(2, 2, (prompts, METHODS, 1))
    truth = rng.random((1, prompts, METHODS, IMAGES)) < shares[None]
    right = rng.uniform(*RIGHT, raters)[:, None, None, None]
    labels = np.where(rng.random(shape) < right, truth, ~truth).astype(float)
    late = rng.random(shape).reshape(raters, -1).argsort(axis=1).argsort(axis=1).reshape(shape) * 2 >= labels[0].size
    judge = np.where(rng.random(truth[0].shape) < rng.beta(*JUDGE_RIGHT, (prompts, 1, 1)), truth[0], ~truth[0])
    found = SimulatedStudy(ratings, labels, late, judge)
    for prompt in range(prompts if pairs else 0):
        skill = np.array(world.skill) + rng.normal(0, world.skill_within, METHODS)
        for (i, j), rater in itertools.product(itertools.combinations(range(METHODS), 2), range(raters)):
            found.duels.append((str(i), str(j), float(rng.random() < 1 / (1 + np.exp(skill[j] - skill[i])))))
            found.duel_raters.append(rater)
            found.duel_prompts.append(prompt)
    return found


def figures(study: SimulatedStudy, *, draws: int = 1_000) -> Iterator[tuple[str, Estimate]]:
    """Every kind of interval that a report of this study prints, by name."""
    raters, prompts = study.ratings.shape[:2]
    rater, prompt, method = (kind.ravel().tolist() for kind in np.indices(study.ratings.shape)[:3])
    groups = list(map(str, method))
    rated = crossed(study.ratings.ravel(), groups, rater, prompt)
    yield "mean rating", rated.estimate("0")
    yield "difference of two methods", rated.difference("0", "1")
    yield "% yes", crossed(100 * study.labels.ravel(), groups, rater, prompt).estimate("0")
    halves = crossed(study.ratings.ravel(), list(map(str, study.late.ravel())), rater, prompt)
    yield "second half less the first", halves.difference("True", "False")
    turned = crossed(study.ratings.ravel(), [str(r % 2) for r in rater], rater, prompt)
    yield "raters of one scale less of the other", turned.difference("0", "1")
    majority = study.labels.mean(axis=0) > 0.5
    counts = [[int(n), IMAGES - int(n)] for n in majority[:, 0].sum(axis=1)]
    yield "D1 of labels", bootstrap_mean([100 * discrepancy_range(row) for row in counts], draws=draws)
    yield "D2 of labels", bootstrap_mean([100 * discrepancy_l2(row) for row in counts], draws=draws)
    yield "Avg. R of labels", bootstrap_mean([100 * row[0] / IMAGES for row in counts], draws=draws)
    clusters = np.repeat(np.arange(prompts), METHODS * IMAGES).tolist()
    judged = agreement(majority.ravel().tolist(), study.judge.ravel().tolist(), clusters=clusters)
    yield "people and judge, % alike", judged.share.scaled(100)
    if judged.kappa:
        yield "people and judge, kappa", judged.kappa
    yield "alpha, ordinal", alpha_interval(study.ratings.reshape(raters, -1).T, clusters, "ordinal")
    yield "alpha, nominal", alpha_interval(study.labels.reshape(raters, -1).T, clusters, "nominal")
    if study.duels:
        fit = bradley_terry(study.duels, ridge=0.01)
        yield "log strength", fit.estimates(study.duel_raters, study.duel_prompts)["0"]
        rows = zip(study.duels, study.duel_raters, study.duel_prompts, strict=True)
        won, by, on = zip(*((100 * won, by, on) for (i, j, won), by, on in rows if (i, j) == ("0", "1")), strict=True)
        yield "P(A > B), %", crossed(won, ["won"] * len(won), by, on).estimate("won")


def truths(world: Population, raters: int, exactness: float = 1.0) -> dict[str, float]:
    """What the figures of a study with endless prompts are; of as many raters where their number matters.

    Args:
        exactness: the share of the simulation that is done.
    """
    rng = np.random.default_rng(1)
    spread = np.hypot(np.hypot(world.raters, world.prompts), np.hypot(world.within, world.rest))
    latent = np.array(world.means)[:, None] + rng.normal(0, spread, (METHODS, int(2_000_000 * exactness)))
    means = np.clip(np.round(latent / 25) * 25, 0, 100).mean(axis=1)
    # Labels and alpha depend on who the raters are: the mean over many fives is meant.
    others = [
        dict(figures(draw_study(world, raters, 300, rng, pairs=False), draws=2)) for _ in range(int(200 * exactness))
    ]
    over_raters = {name: float(np.mean([other[name].value for other in others])) for name in others[0]}
    duels = draw_study(world, raters, int(4_000 * exactness), rng).duels
    return over_raters | {
        "mean rating": float(means[0]),
        "difference of two methods": float(means[0] - means[1]),
        "% yes": 50.0,
        "second half less the first": 0.0,
        "raters of one scale less of the other": 0.0,
        "log strength": bradley_terry(duels).log_strengths["0"],
        "P(A > B), %": 100 * float(np.mean([won for i, j, won in duels if (i, j) == ("0", "1")])),
    }


def hold(world: Population, raters: int, prompts: int, number: int, truth: Mapping[str, float]) -> Held:
    """Of the simulated study of this number, which intervals hold the truth."""
    rng = np.random.default_rng([0, prompts, number])
    found = figures(draw_study(world, raters, prompts, rng))
    return {name: bool(one.low <= truth[name] <= one.high) if one.has_interval else None for name, one in found}


def coverage(studies: Iterable[Held]) -> dict[str, Estimate | None]:
    """By figure, the share of printed intervals that hold the truth, with Wilson's; None where none is printed."""
    printed: dict[str, list[bool]] = {}
    for study in studies:
        for name, held in study.items():
            printed.setdefault(name, []).extend([] if held is None else [held])
    return {name: ratio(sum(held), len(held)) if held else None for name, held in printed.items()}


def coverage_table(
    found: Mapping[int, Mapping[str, Estimate | None]], raters: int, studies: int, world: Population = Population()
) -> Table:
    """Coverage by figure and number of prompts.

    Args:
        found: by number of prompts, what `coverage` gave.
    """
    names = dict.fromkeys(name for column in found.values() for name in column)
    rows = tuple(
        (Cell(name), *(figure(found[n][name]) if found[n].get(name) else Cell("none") for n in found)) for name in names
    )
    head = ("interval of", *(f"{count} prompt{'s' if count > 1 else ''}" for count in found))
    note = (
        f"Percent of the printed 95 % intervals that hold the truth, of {studies:,} simulated studies of {raters} "
        f"raters, {METHODS} methods and {IMAGES} images a prompt and method, with Wilson's intervals; none: no "
        f"interval is printed. Standard deviations in points of 100: raters {world.raters:g}, prompts "
        f"{world.prompts:g}, methods within prompts {world.within:g}, rest {world.rest:g}; a rater reads "
        f"{RIGHT[0]:.0%} to {RIGHT[1]:.0%} of labels rightly."
    )
    return Table("coverage", "How often a study's intervals hold the truth", head, rows, note)


def simulate(
    world: Population, raters: int, prompts: Sequence[int], studies: int, out: Path | None, exactness: float = 1.0
) -> dict[int, list[Held]]:
    """All studies, by number of prompts; what stands in `out` already is not simulated again.

    Args:
        out: a file with a line for what is true and a line a study, which is appended to.
        exactness: as in `truths`.
    """
    lines = out.read_bytes().splitlines(keepends=True) if out and out.exists() else []
    whole = [line for line in lines if line.endswith(b"\n")]  # the last one may have been cut
    if out and len(whole) < len(lines):
        out.write_bytes(b"".join(whole))
    done = {(row["raters"], row["prompts"], row["study"]): row["held"] for row in map(json.loads, whole)}

    def once(prompts: int, number: int, make: Callable[[], Any]) -> Any:
        if (raters, prompts, number) not in done:
            held = done[raters, prompts, number] = make()
            if out:
                with out.open("a") as file:
                    row = {"raters": raters, "prompts": prompts, "study": number, "held": held}
                    file.write(json.dumps(row) + "\n")
        return done[raters, prompts, number]

    truth = once(0, 0, lambda: truths(world, raters, exactness))
    return {n: [once(n, i, partial(hold, world, raters, n, i, truth)) for i in range(studies)] for n in prompts}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m livo.study.coverage", description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=2_000, help="simulated studies (%(default)s)")
    parser.add_argument("--prompts", type=int, nargs="+", default=[1, 3, 5, 12])
    parser.add_argument("--raters", type=int, default=5)
    parser.add_argument("--out", type=Path, help="a file in which studies that are done are kept")
    args = parser.parse_args()
    found = simulate(Population(), args.raters, args.prompts, args.studies, args.out)
    covered = {count: coverage(held) for count, held in found.items()}
    print(coverage_table(covered, args.raters, args.studies).markdown())


if __name__ == "__main__":
    main()
