"""Calibrates the retriever's dense stage: `python -m train.retriever --model MODEL --out FOLDER`.

    prompts of the development split -> s_v for every toxic kind v
    slope, intercept    logistic regression of "v is a right answer" on s_v, by Newton's steps with a small ridge
    threshold           the least p in [0.5, 1] at which at most MOST_WRONG of the prompts without v that reach the
                        stage are flagged

The curve is fitted on all development prompts, with the toxic ones that words find: only one of them needs this stage,
because the words were chosen on the same prompts. Among prompts that reach the stage toxic ones are rarer, so p is too
high; the threshold does not rest on it. Exemplars and test prompts take no part in the choice. The printed figures are
of the development split, hence too good: `python -m livo retrieve --benchmark --split fresh --dense FOLDER` measures.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from livo.measures.metrics import wilson_interval
from livo.principles import load_entries
from livo.retriever import Retriever
from livo.retriever.benchmark import APART, Labelled, load_prompts
from livo.retriever.dense import Calibration, DenseRetriever, SentenceEncoder, probability
from livo.types import InputError

MOST_WRONG = 0.01
"""Share of prompts without a principle that may be flagged: with the other stages, hard negatives stay below 5 %."""
RIDGE = 1e-2


def fit_logistic(x: Sequence[float], y: Sequence[bool], ridge: float = RIDGE, steps: int = 100) -> tuple[float, float]:
    """Slope and intercept of p(y) = sigmoid(slope * x + intercept), of largest likelihood under a ridge on the slope.

    Args:
        x, y: n of each; y holds both answers.
        ridge: keeps the slope finite where x divides the answers wholly.

    Raises:
        ValueError: there is only one answer, or the two are not equally many.
    """
    values, answers = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if values.shape != answers.shape or len(set(answers.tolist())) < 2:
        raise ValueError(
            "a curve needs values with both answers; "
            f"got {values.size} values and answers {sorted(set(answers.tolist()))}"
        )
    middle, spread = values.mean(), values.std() or 1.0
    design = np.stack([(values - middle) / spread, np.ones_like(values)], axis=1)
    weights, penalty = np.zeros(2), np.diag([ridge, 0.0])
    for _ in range(steps):
        p = 1 / (1 + np.exp(-np.clip(design @ weights, -30, 30)))
        gradient = design.T @ (p - answers) + penalty @ weights
        step = np.linalg.solve(design.T @ (design * (p * (1 - p))[:, None]) + penalty + 1e-9 * np.eye(2), gradient)
        weights -= step * min(1.0, 5.0 / max(np.abs(step).max(), 1e-12))
        if np.abs(step).max() < 1e-9:
            break
    slope = float(weights[0] / spread)
    return slope, float(weights[1] - slope * middle)


def choose_threshold(p: Sequence[float], y: Sequence[bool], most_wrong: float = MOST_WRONG) -> float:
    """The least threshold, at least 0.5, at which at most that share of the answers without y lies above it.

    Example:
        >>> choose_threshold([0.9, 0.8, 0.7, 0.2], [True, True, False, False], 0.0) > 0.7
        True
    """
    wrong = sorted((value for value, right in zip(p, y, strict=True) if not right), reverse=True)
    allowed = int(most_wrong * len(wrong))
    if allowed >= len(wrong) or wrong[allowed] < 0.5:
        return 0.5
    return float(np.nextafter(wrong[allowed], 2.0))


@dataclass(frozen=True)
class Case:
    """One prompt and one toxic kind: their similarity, whether the kind is right, whether the prompt gets this far."""

    similarity: float
    right: bool
    reaches: bool


def cases(encode: Callable, prompts: Sequence[Labelled]) -> list[Case]:
    """Every prompt with every toxic kind that has exemplars; other languages apart."""
    entries, chain = load_entries(), Retriever()
    stage = DenseRetriever(entries, encode, Calibration("", 0.0, 0.0, 0.5, 0))
    kinds = [entry.principle.id for entry in entries if entry.principle.risk == "toxicity" and entry.exemplars]
    found = []
    for row in prompts:
        if row.group != APART:
            answer, similarities = chain(row.prompt).principle, stage.similarities(row.prompt)
            reaches = answer is None or answer.risk != "toxicity"
            found += [Case(similarities[id][0], id in row.principles, reaches) for id in kinds]
    return found


def calibrate(model: str, known: Sequence[Case], prompts: int) -> Calibration:
    """The calibration for the embeddings of that name.

    Raises:
        InputError: the cases do not hold both answers.
    """
    try:
        slope, intercept = fit_logistic([case.similarity for case in known], [case.right for case in known])
    except ValueError as error:
        raise InputError(f"these prompts cannot be learnt from: {error}") from error
    reaching = [case for case in known if case.reaches]
    p = [probability(case.similarity, slope, intercept) for case in reaching]
    return Calibration(model, slope, intercept, choose_threshold(p, [case.right for case in reaching]), prompts)


def main(arguments: list[str] | None = None) -> int:
    """Returns 0, or 2 where the embeddings or the folder cannot be used."""
    parser = argparse.ArgumentParser(
        prog="python -m train.retriever", description=__doc__.splitlines()[0], allow_abbrev=False
    )
    parser.add_argument("--model", required=True, help="sentence-transformers folder, or a hub id")
    parser.add_argument("--out", type=Path, default=Path("runs/dense"), help="folder for dense.json (%(default)s)")
    args = parser.parse_args(arguments)
    try:
        model = str(Path(args.model).resolve()) if Path(args.model).is_dir() else args.model
        prompts = [row for row in load_prompts(split="dev") if row.group != APART]
        known = cases(SentenceEncoder(model), prompts)
        calibration = calibrate(model, known, len(prompts))
        path = calibration.save(args.out)
    except (InputError, OSError) as error:
        print(f"livo: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    groups = {
        "toxic prompts, found": [case for case in known if case.right],
        "of them, those that words miss, found": [case for case in known if case.right and case.reaches],
        "prompts without the kind that reach the stage, flagged": [
            case for case in known if not case.right and case.reaches
        ],
    }
    for name, group in groups.items():
        hits = [
            probability(c.similarity, calibration.slope, calibration.intercept) >= calibration.threshold for c in group
        ]
        low, high = wilson_interval(sum(hits), len(hits)) if hits else (0.0, 1.0)
        print(f"{name}: {sum(hits)} of {len(hits)} ({100 * low:.0f}-{100 * high:.0f} %)")
    curve = f"p = sigmoid({calibration.slope:.2f} s {calibration.intercept:+.2f}), from {calibration.threshold:.3f} on"
    print(f"{curve}; chosen on {calibration.prompts} development prompts; {path} is for --dense {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
