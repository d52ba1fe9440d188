"""The debias loops of Unified Concept Editing: draw, count classes, edit, and again; a state in, the next state out.

Nothing here draws: a `Task` brings the function that does, so that the loops are tested without pictures.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from baselines import _uce_edit as edit
from livo.types import MAX_SEED, InputError
from train.loop import save_state

TOLERANCE = 0.05  # of a share, both releases
STEP_2023 = 0.1

State = dict[str, Any]


@dataclass(frozen=True)
class DebiasConfig:
    """Settings of one run. Where they cap a release's own number, for a laptop's five minutes a form, it stands behind.

    Attributes:
        concepts: that are debiased, the first of the list; 2023 and sequential preserve the others. (The paper: 35;
            LiVO's
            comparison: all.)
        templates: texts of a concept, the first of `train.uce.TEMPLATES`, in 2023 and sequential. (2023: all 5; 2025
            edits the bare concept.)
        images: of a text and round, in 2023 and 2025. (2023: 50; 2025: 10.)
        rounds: at most. (Both: 30.)
        batch: sequential: images of a text between two looks at its test.
        most: sequential: images of a text and round after which the likelier side wins.
        odds: sequential: a class is off balance where its odds are this many times those of an even share, or that
            part of them: 4 means 80 % or 20 % of two classes, 50 % or 6 % of five.
        error: sequential: probability of either wrong verdict, before `most` cuts it short.
        gain: sequential: first step, in attribute tokens per whole of share; the releases' are 0.1 and 1.
        seed: of all noise.
    """

    concepts: int = 12
    templates: int = 1
    images: int = 10
    rounds: int = 10
    batch: int = 4
    most: int = 32
    odds: float = 4.0
    error: float = 0.1
    gain: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("concepts", "templates", "images", "rounds", "batch", "most"):
            if getattr(self, name) < 1:
                raise InputError(f"--{name} {getattr(self, name)} leaves nothing to do: give at least 1")
        if self.odds <= 1 or not 0 < self.error < 0.5 or self.gain <= 0:
            raise InputError("wanted --odds above 1, --error between 0 and 0.5 and --gain above 0")


Sample = Callable[[Mapping[str, Tensor], Mapping[str, Sequence[int]]], dict[str, Tensor]]
"""Edited weights, seeds by text -> (K,) images per class by text."""


@dataclass(frozen=True)
class Task:
    """One principle to debias for.

    Attributes:
        weights: the original ones, by name.
        texts: what is edited, drawn and judged, K attributes each.
        preserve: (m, D) tokens to leave in place, or None.
        sample: draws and judges.
    """

    weights: Mapping[str, Tensor]
    texts: Mapping[str, edit.EditedText]
    preserve: Tensor | None
    sample: Sample
    config: DebiasConfig

    @property
    def classes(self) -> int:
        return len(next(iter(self.texts.values())).attributes)

    def seeds(self, text: str, index: int, start: int, count: int) -> list[int]:
        """Seeds start..start+count of a text's stream in one round: new noise every round, the same in every run."""
        return random.Random(f"{self.config.seed} {index} {text}").sample(range(MAX_SEED), start + count)[start:]


# --- one round of each form: it reads a state and returns the next ---------------------------------------------------


def start(task: Task) -> State:
    """Nothing edited yet.

    `settled` is 2023's growing preserve list; `passed` says after how many edits a text was found balanced, `retested`
    which texts were looked at again.
    """
    return {
        "round": 0, "done": False, "images": 0, "seconds": 0.0, "edits": 0, "history": [],
        "weights": dict(task.weights), "settled": [], "passed": {}, "retested": [], "gaps": {}, "flips": {},
        "coefficients": {text: [0.0] * task.classes for text in task.texts},
    }  # fmt: skip


def gaps_to_even(counts: Tensor) -> list[float]:
    """1/K - r_j for K counts of at least one image."""
    return (1 / len(counts) - counts.double() / counts.sum()).tolist()


def largest(gaps: Sequence[float]) -> float:
    return max(abs(gap) for gap in gaps)


def round_2023(task: Task, state: State) -> State:
    """A text once found even is never drawn again. It is preserved from then on, where its first class is exactly even
    (the release looks at the first component only), and edited onto where it is."""
    gaps = dict(state["gaps"])
    asked = [text for text in task.texts if text not in gaps or largest(gaps[text]) >= TOLERANCE]
    seeds = {text: task.seeds(text, state["round"], 0, task.config.images) for text in asked}
    counts = task.sample(state["weights"], seeds)
    gaps |= {text: gaps_to_even(found) for text, found in counts.items()}
    state = record(state, counts) | {"gaps": gaps}
    if all(largest(row) < TOLERANCE for row in gaps.values()):
        return state | {"done": True}
    shifts = {t: [STEP_2023 * g if largest(row) > TOLERANCE else 0.0 for g in row] for t, row in gaps.items()}
    settled = [text for text in task.texts if text in state["settled"] or shifts[text][0] == 0]
    kept = ([] if task.preserve is None else [task.preserve]) + [task.texts[text].text.embeds for text in settled]
    weights = edit.debias_2023(
        state["weights"], list(task.texts.values()), [shifts[t] for t in task.texts], torch.cat(kept) if kept else None
    )
    return state | {"weights": weights, "edits": state["edits"] + 1, "settled": settled}


def round_2025(task: Task, state: State) -> State:
    """Every concept is drawn every round and moved by its raw gap; the release's step size is never used there."""
    seeds = {text: task.seeds(text, state["round"], 0, task.config.images) for text in task.texts}
    counts = task.sample(state["weights"], seeds)
    gaps = {text: gaps_to_even(found) for text, found in counts.items()}
    gaps = {text: row if largest(row) >= TOLERANCE else [0.0] * len(row) for text, row in gaps.items()}
    state = record(state, counts)
    if not any(any(row) for row in gaps.values()):
        return state | {"done": True}
    return move(task, state, {text: gaps[text] for text in task.texts}, preserve_scale=1.0)


def round_sequential(task: Task, state: State) -> State:
    """Wald's sequential test per concept under fixed weights; those found off balance are moved, all others stay.

    The release's stop, an exact tie of ten images, has a fair model draw on and on (25 % pass a round with two classes,
    1 % with five), while a hopelessly skewed concept is drawn as often as one that is nearly even. Here a concept takes
    as many images as its verdict needs, at most `most`. Three more changes: the gap is estimated from the verdict's own
    images; the step is ten times 2023's and shrinks only when the gap changes sign (Kesten's rule), so that a concept
    far off moves fast and one about to arrive does not swing; targets add up from the original weights.

    A concept found balanced rests while others move. Once none is left to move, those found balanced under older
    weights are tested once more, because an edit of one concept moves its neighbours: once, since with many concepts
    some fair one fails at every look.
    """
    config = task.config
    asked = [text for text in task.texts if text not in state["passed"]]
    again = [] if asked else stale(state)
    asked = asked or again
    counts = {text: torch.zeros(task.classes, dtype=torch.long) for text in asked}
    verdicts: dict[str, bool | None] = dict.fromkeys(asked)
    while waiting := [text for text in asked if verdicts[text] is None]:
        seeds = {t: task.seeds(t, state["round"], int(counts[t].sum()), config.batch) for t in waiting}
        for text, found in task.sample(state["weights"], seeds).items():
            counts[text] = counts[text] + found
            verdicts[text] = balanced(counts[text].tolist(), config.odds, config.error, config.most)
    state = record(state, counts)
    off = {text: gaps_to_even(counts[text]) for text in asked if not verdicts[text]}
    passed = {t: edits for t, edits in state["passed"].items() if t not in off}
    passed |= {text: state["edits"] for text in asked if verdicts[text]}
    state = state | {"passed": passed, "retested": [*state["retested"], *again]}
    if not off:
        return state | {"done": not stale(state)}
    flips = dict(state["flips"])
    for text, gaps in off.items():
        before = state["gaps"].get(text, gaps)
        flips[text] = flips.get(text, 0) + (sum(a * b for a, b in zip(before, gaps, strict=True)) < 0)
    steps = {text: [config.gain / (1 + flips[text]) * gap for gap in gaps] for text, gaps in off.items()}
    return move(task, state | {"flips": flips, "gaps": state["gaps"] | off}, steps, preserve_scale=0.1)


def stale(state: State) -> list[str]:
    """Texts found balanced under weights that have changed since, and not tested again yet."""
    passed = state["passed"].items()
    return [text for text, edits in passed if edits != state["edits"] and text not in state["retested"]]


def log_evidence(counts: Sequence[int], odds: float) -> float:
    """How much likelier the counts are off balance than in balance: the log of a likelihood ratio.

    Off balance is the even mixture of 2K alternatives: one class has `odds` times, or 1/`odds` of, the odds of an even
    share, the others share the rest.

    Example:
        >>> round(log_evidence([8, 0], 3.0), 2), round(log_evidence([8, 8], 3.0), 2)
        (2.55, -2.3)
    """
    k, n = len(counts), sum(counts)
    logs = []
    for factor in (odds, 1 / odds):
        p = factor / (factor + k - 1)
        rest = (1 - p) / (k - 1)
        logs += [count * math.log(p) + (n - count) * math.log(rest) + n * math.log(k) for count in counts]
    top = max(logs)
    return top + math.log(sum(math.exp(value - top) for value in logs) / len(logs))


def balanced(counts: Sequence[int], odds: float, error: float, most: int) -> bool | None:
    """The verdict of the sequential test, or None for more images.

    A balanced concept is called off balance with a probability below `error`, and one off balance is called balanced
    with a probability below `error` on average over the alternatives (Wald 1947). From `most` images on, the likelier.
    """
    evidence, bound = log_evidence(counts, odds), math.log(1 / error)
    if abs(evidence) < bound and sum(counts) < most:
        return None
    return evidence < 0


def record(state: State, counts: Mapping[str, Tensor]) -> State:
    """The state with a round's images counted and its shares on record."""
    shares = {text: [round(share, 3) for share in (found / found.sum()).tolist()] for text, found in counts.items()}
    images = state["images"] + sum(int(found.sum()) for found in counts.values())
    return state | {"images": images, "history": [*state["history"], {"images": images, "shares": shares}]}


def move(task: Task, state: State, steps: Mapping[str, Sequence[float]], preserve_scale: float) -> State:
    """The state with `steps` added to its coefficients, and weights solved from the original ones."""
    coefficients = dict(state["coefficients"])
    for text, row in steps.items():
        coefficients[text] = [a + b for a, b in zip(coefficients[text], row, strict=True)]
    texts = list(task.texts)
    weights = edit.debias_from_original(
        task.weights, [task.texts[t] for t in texts], [coefficients[t] for t in texts], task.preserve, preserve_scale
    )
    return state | {"coefficients": coefficients, "weights": weights, "edits": state["edits"] + 1}


@dataclass(frozen=True)
class LoopForm:
    """Where the files of a form go, which tokens it edits, how it erases (None: it does not), and its round."""

    method: str
    blocks: edit.Blocks
    erase: Callable[..., dict[str, Tensor]] | None
    advance: Callable[[Task, State], State]


FORMS = {
    "2023": LoopForm("uce", edit.blocks_to_the_end, edit.erase_2023, round_2023),
    "2025": LoopForm("uce_2025", edit.last_tokens, edit.erase_2025, round_2025),
    "sequential": LoopForm("uce_sequential", edit.blocks_to_the_end, None, round_sequential),
}


def debias(task: Task, form: str, checkpoint: Path) -> State:
    """Rounds until the form's own stop or `config.rounds`, saved after each.

    Returns:
        The last state: "weights", "images", "seconds", "done" (whether the form stopped by itself), "history"...
    """
    state = torch.load(checkpoint, weights_only=True) if checkpoint.exists() else start(task)
    with tqdm(total=task.config.rounds, initial=state["round"], desc=checkpoint.stem) as bar:
        while not state["done"] and state["round"] < task.config.rounds:
            began = time.perf_counter()
            state = FORMS[form].advance(task, state)
            state |= {"round": state["round"] + 1, "seconds": state["seconds"] + time.perf_counter() - began}
            save_state(checkpoint, state)
            bar.set_postfix(images=state["images"])
            bar.update()
    return state
