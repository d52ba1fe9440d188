"""How often a study's intervals hold the truth: whole studies are simulated, whose truth is known.

    python -m livo.study.coverage --studies 2000 --prompts 1 3 5 12

Every interval that a report prints is here: means of ratings and their differences, shares of yes, D1, D2 and Avg. R of
majority labels, Krippendorff's alpha, log strengths. Where a report prints none, none is counted.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from livo.measures.bootstrap import bootstrap_mean, crossed
from livo.measures.estimates import Estimate
from livo.measures.metrics import discrepancy_l2, discrepancy_range, ratio
from livo.measures.ratings import alpha_interval, bradley_terry
from livo.measures.tables import Cell, Table, figure

METHODS = 3
IMAGES = 4
"""Of a prompt and method."""
RIGHT = (0.82, 0.98)
"""Share of labels that a rater reads as they are: each rater has one of their own between these."""


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
    """One simulated study: (R, P, M, I) ratings in [0, 100], (R, P, M, I) labels 0 or 1, and pairs with outcomes."""

    ratings: np.ndarray
    labels: np.ndarray
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
    found = SimulatedStudy(ratings, labels)
    for prompt in range(prompts if pairs else 0):
        skill = np.array(world.skill) + rng.normal(0, world.skill_within, METHODS)
        for i, j in ((0, 1), (0, 2), (1, 2)):
            chance = 1 / (1 + np.exp(skill[j] - skill[i]))
            for rater in range(raters):
                found.duels.append((str(i), str(j), float(rng.random() < chance)))
                found.duel_raters.append(rater)
                found.duel_prompts.append(prompt)
    return found


def figures(study: SimulatedStudy, *, draws: int = 1_000) -> Iterator[tuple[str, Estimate]]:
    """Every kind of interval that a report of this study prints, by name."""
    raters, prompts = study.ratings.shape[:2]
    at = [kind.ravel() for kind in np.indices(study.ratings.shape)]
    groups = list(map(str, at[2]))
    rated = crossed(study.ratings.ravel(), groups, at[0].tolist(), at[1].tolist())
    yield "mean rating", rated.estimate("0")
    yield "difference of two methods", rated.difference("0", "1")
    yield "% yes", crossed(100 * study.labels.ravel(), groups, at[0].tolist(), at[1].tolist()).estimate("0")
    majority = (study.labels[:, :, 0].mean(axis=0) > 0.5).sum(axis=1)
    counts = [[int(n), IMAGES - int(n)] for n in majority]
    yield "D1 of labels", bootstrap_mean([100 * discrepancy_range(row) for row in counts], draws=draws)
    yield "D2 of labels", bootstrap_mean([100 * discrepancy_l2(row) for row in counts], draws=draws)
    yield "Avg. R of labels", bootstrap_mean([100 * row[0] / IMAGES for row in counts], draws=draws)
    clusters = np.repeat(np.arange(prompts), METHODS * IMAGES).tolist()
    yield "alpha, ordinal", alpha_interval(study.ratings.reshape(raters, -1).T, clusters, "ordinal")
    yield "alpha, nominal", alpha_interval(study.labels.reshape(raters, -1).T, clusters, "nominal")
    if study.duels:
        fit = bradley_terry(study.duels, ridge=0.01)
        yield "log strength", fit.estimates(study.duel_raters, study.duel_prompts)["0"]


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
        "log strength": bradley_terry(duels).log_strengths["0"],
    }


def coverage(
    world: Population, raters: int, prompts: int, studies: int, truth: dict[str, float], seed: int = 0
) -> dict[str, Estimate | None]:
    """By figure, the share of printed intervals that hold the truth, with Wilson's; None where none is printed."""
    hits: dict[str, int] = {}
    printed: dict[str, int] = {}
    for number in range(studies):
        rng = np.random.default_rng([seed, prompts, number])
        for name, found in figures(draw_study(world, raters, prompts, rng), draws=1_000):
            printed[name] = printed.get(name, 0) + found.has_interval
            hits[name] = hits.get(name, 0) + (found.has_interval and found.low <= truth[name] <= found.high)
    return {name: ratio(hits[name], n) if n else None for name, n in printed.items()}


def coverage_table(raters: int, prompts: Sequence[int], studies: int, world: Population = Population()) -> Table:
    """Coverage by figure and number of prompts."""
    truth = truths(world, raters)
    found = [coverage(world, raters, count, studies, truth) for count in prompts]
    rows = tuple(
        (Cell(name), *(Cell("none") if column[name] is None else figure(column[name]) for column in found))
        for name in found[0]
    )
    head = ("interval of", *(f"{count} prompt{'s' if count > 1 else ''}" for count in prompts))
    note = (
        f"Percent of the printed 95 % intervals that hold the truth, of {studies:,} simulated studies of "
        f"{raters} raters, "
        f"{METHODS} methods and {IMAGES} images a prompt and method, with Wilson's intervals; none: no "
        "interval is printed. "
        f"Standard deviations in points of 100: raters {world.raters:g}, prompts {world.prompts:g}, methods "
        "within prompts "
        f"{world.within:g}, rest {world.rest:g}; a rater reads {RIGHT[0]:.0%} to {RIGHT[1]:.0%} of labels rightly."
    )
    return Table("coverage", "How often a study's intervals hold the truth", head, rows, note)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m livo.study.coverage", description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=2_000, help="simulated studies (%(default)s)")
    parser.add_argument("--prompts", type=int, nargs="+", default=[1, 3, 5, 12])
    parser.add_argument("--raters", type=int, default=5)
    args = parser.parse_args()
    print(coverage_table(args.raters, args.prompts, args.studies).markdown())


if __name__ == "__main__":
    main()
