"""A training loop that a kill cannot hurt: state is saved whole and swapped in atomically, and data depends on the
step alone, so that a resumed run sees what an uninterrupted one would have seen."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm


def save_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write `state` to `path` so that a reader finds the old file or the new one, never half of either.

    Raises:
        OSError: it cannot be written; the old file is still there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_suffix(".partial")
    try:
        torch.save(dict(state), scratch)
    except RuntimeError as error:  # torch's way of saying that the disk is full
        raise OSError(f"{path} cannot be written ({str(error).splitlines()[0]}): make room there") from error
    os.replace(scratch, path)


def descend(
    loss: torch.Tensor, optimizer: torch.optim.Optimizer, learning_rate: float, *, max_norm: float = 1.0
) -> None:
    """One step down `loss` at this learning rate, gradients clipped to `max_norm` over all the optimizer's
    parameters.
    """
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
    torch.nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], max_norm)
    optimizer.step()


def train(
    name: str,
    checkpoint: Path,
    parts: Mapping[str, Any],
    num_steps: int,
    step: Callable[[int], Mapping[str, float]],
    *,
    save_every_seconds: float = 60,
    main: bool = True,
) -> list[dict[str, float]]:
    """Call `step(i)` for i in [0, num_steps), saving and resuming `parts` (anything with state_dict).

    Args:
        name: shown on the progress bar.
        checkpoint: the file that holds the state; a finished run is recognised by it and not repeated.
        step: does one training step and returns the numbers to show; it must draw its data from `i` alone.
        main: whether this process saves and shows; of several that train together one does.

    Returns:
        The shown numbers averaged over every 50 steps, each with "step" and "seconds".

    Raises:
        FloatingPointError: a number became NaN or infinite; the last good state stays on disk.
    """
    start, log, spent = 0, [], 0.0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        for key, part in parts.items():
            part.load_state_dict(state[key])
        start, log, spent = state["step"], state["log"], state["seconds"]

    def save(done: int) -> None:
        if not main:
            return
        states = {key: part.state_dict() for key, part in parts.items()}
        save_state(checkpoint, {**states, "step": done, "log": log, "seconds": spent + time.perf_counter() - began})

    began = saved = time.perf_counter()
    sums: dict[str, float] = {}
    count = 0
    bar = tqdm(range(start, num_steps), desc=name, initial=start, total=num_steps, mininterval=5, disable=not main)
    for i in bar:
        for key, value in step(i).items():
            if value != value or value in (float("inf"), float("-inf")):
                raise FloatingPointError(
                    f"{name}: {key} became {value} at step {i}; the last good state is in {checkpoint}"
                )
            sums[key] = sums.get(key, 0.0) + value
        count += 1
        if (i + 1) % 50 == 0 or i + 1 == num_steps:
            row = {key: total / count for key, total in sums.items()}
            log.append({"step": i + 1, **row, "seconds": spent + time.perf_counter() - began})
            bar.set_postfix({key: f"{value:.4f}" for key, value in row.items()})
            sums, count = {}, 0
            if time.perf_counter() - saved > save_every_seconds:
                save(i + 1)
                saved = time.perf_counter()
    if start < num_steps:
        save(num_steps)
    return log
