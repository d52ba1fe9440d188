"""Claims about fronts: which methods no other method beats in both quality and conformity."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.special import ndtri

from livo.evaluation.claim_rules import REFUTED, REPRODUCED, UNRESOLVED, Claim, Compared, to_settle
from livo.evaluation.figures import COMPARED
from livo.evaluation.parts import BIAS, LIVO, SD
from livo.evaluation.results import EVERY, Results, Select, Statistic, principles_of, statistic_of
from livo.evaluation.tables import bias_values, toxicity_values
from livo.evaluation.trainings import as_many, comparable
from livo.measures.bootstrap import LEAST, drawn_weights
from livo.measures.estimates import Estimate

DRAWS = 400

Spot = tuple[Statistic, Statistic]
"""Quality and conformity of a method."""


def _spot(results: Results, method: str, part: str, select: Select = EVERY) -> Spot | None:
    principles = BIAS if part == "bias" else principles_of("toxicity", results)
    quality = results.statistic(part, method, principles, "FID" if part == "bias" else "clean FID", select)
    values = (bias_values if part == "bias" else toxicity_values)(results, method, select=select)
    return None if quality is None else (quality, statistic_of(values))


def _acts(results: Results, part: str) -> list[str]:
    principles = BIAS if part == "bias" else principles_of("toxicity", results)
    return [m for m in COMPARED if m in results.methods and all(results.ran(part, m, p) for p in principles)]


def _drawn(spots: dict[str, Spot]) -> np.ndarray:
    """(B + 1, M, 2) quality and conformity of each method: as they are, then under subjects drawn again."""
    every = [clusters for spot in spots.values() for _, clusters in spot]
    subjects = sorted({name for clusters in every for name in clusters})
    place = {name: i for i, name in enumerate(subjects)}
    times = drawn_weights(len(subjects), DRAWS, np.random.default_rng(0))
    times = np.vstack([np.ones(len(subjects)), times])

    def figures(spot: Spot) -> np.ndarray:
        return np.stack([of(times[:, [place[c] for c in clusters]]) for of, clusters in spot], axis=-1)

    drawn = np.stack([figures(spot) for spot in spots.values()], axis=1)
    # A resampled set repeats prompts, which shifts a FID upward, of one method more than of another: taken back.
    drawn[1:] += drawn[0] - drawn[1:].mean(axis=0)
    return drawn


def _free(points: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(B, P) whether each of (B, P, 2) points is dominated by none of (B, M, 2) others: lower is better on both."""
    a, b = points[:, :, None], others[:, None]
    dominated = (b <= a).all(axis=-1) & (b < a).any(axis=-1)
    return np.logical_not(dominated.any(axis=-1))


def _distance(share: float, subjects: int) -> Compared:
    """A share of draws on the front as a distance from it in spreads: one that would be enough is 1 in an interval."""
    z = abs(float(ndtri(min(max(share, 1 / DRAWS), 1 - 1 / DRAWS))))
    reach = 1.96 / max(z, 0.05)
    return Compared(Estimate(0.0, -reach, reach, subjects), "")


def front_claims(main: Results, encoders: Results | None) -> Iterator[Claim | None]:
    """Not dominated: no method is both better aligned and closer to clean images."""
    for part, source in (("bias", "Fig. 3b"), ("toxicity", "Fig. 3c")):
        spots = {method: spot for method in _acts(main, part) if (spot := _spot(main, method, part))}
        if LIVO not in spots or len(set(spots[LIVO][0][1])) < LEAST:
            continue
        drawn, names = _drawn(spots), list(spots)
        mine = names.index(LIVO)
        free = _free(drawn[:, [mine]], np.delete(drawn, mine, axis=1))[:, 0]
        better = [
            main.title(names[i])
            for i in range(len(names))
            if i != mine and not _free(drawn[:1, [mine]], drawn[:1, [i]])[0, 0]
        ]
        share = float(free[1:].mean())
        said = REPRODUCED if share > 0.975 else REFUTED if share < 0.025 else UNRESOLVED
        found = f"dominated by {', '.join(better) or 'none'}; on the front in {100 * share:.0f} % of draws"
        if said == UNRESOLVED:
            found += to_settle([(_distance(share, len(set(spots[LIVO][0][1]))), 1.0)])
        text = f"LiVO is on the front of {part} against quality"
        yield Claim(text, source, "dominated by no method in 97.5 % of draws", found, said)
    if encoders is not None:
        yield _grid(main, encoders)


def _grid(main: Results, encoders: Results) -> Claim | None:
    grid = [method for method in encoders.methods if method.startswith("gamma-")]
    grid = comparable(encoders, grid, {"gamma_1", "gamma_2"}, grid[0])[0] if grid else []
    same, select = main.only(encoders), as_many(encoders)
    others = [method for method in _acts(same, "bias") if method not in (SD, LIVO)]
    spots = {method: _spot(encoders, method, "bias") for method in grid}
    spots |= {method: _spot(same, method, "bias", select) for method in others}
    known = {method: spot for method, spot in spots.items() if spot}
    if not grid or not others or len(known) < len(spots):
        return None
    drawn = _drawn(known)
    shares = _free(drawn[:, : len(grid)], drawn[:, len(grid) :]).mean(axis=1)
    low, high = np.quantile(shares[1:], (0.025, 0.975))
    said = REPRODUCED if low > 0.5 else REFUTED if high <= 0.5 else UNRESOLVED
    count = round(float(shares[0]) * len(grid))
    found = f"{count} of {len(grid)} dominated by no other method; share {shares[0]:.2f} [{low:.2f}, {high:.2f}]"
    if said == UNRESOLVED:
        subjects = len(set(next(iter(known.values()))[0][1]))
        found += to_settle([(Compared(Estimate(shares[0], low, high, subjects), ""), abs(shares[0] - 0.5))])
    text, rule = "Most (γ₁, γ₂) are near the front", "more than half are dominated by no other method"
    return Claim(text, "Fig. 3b", rule, found, said)
