"""What the plan costs, counted in rows through the U-Net, of which one is measured."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from livo.evaluation.attack_run import Budget
from livo.evaluation.attacks import TITLES
from livo.evaluation.parts import SamplingSetting, evaluation_parts
from livo.miniature.world import TOXIC_KINDS, load_world
from train.edits.training import PRINCIPLES
from train.evidence.plan import EVERY, IMAGES, SHORT, STEPS, Arm


def training_rows(arm: Arm) -> int:
    """Rows through the U-Net that a training takes; a row with its gradient is three, a picture's latents one."""
    steps, batch = int(arm.flags["num-steps"]), int(arm.flags["batch-size"])
    if arm.module == "train.dapt":
        return len(PRINCIPLES) * steps * batch * 4
    if arm.module == "train.concept_ablation":
        return len(TOXIC_KINDS) * steps * batch * 6 + int(arm.flags["anchors"]) * 24
    rows = round(int(arm.flags["pairs"]) * float(arm.flags["fraction"]))
    draws = min(int(arm.flags["num-draws"]) or steps, -(-steps * batch // rows))
    return 6 * batch * steps + 2 * rows * draws


def latent_rows(arm: Arm) -> tuple[tuple[str, ...], int]:
    """Which pictures a training of a value encoder encodes, once for all that see the same, and their rows."""
    if arm.module != "train.value_encoder":
        return (), 0
    return tuple(arm.flags[flag] for flag in ("pairs", "losers", "seed")), 2 * int(arm.flags["pairs"])


def evaluation_rows(steps: int) -> int:
    """Rows that evaluating one training takes: both branches at every solver step."""
    setting, world = SamplingSetting(steps, 1.0), load_world()
    parts = evaluation_parts(world, setting, encoders=["arm"], every=EVERY, images=IMAGES)
    counts = {part.name: sum(len(item.principles) for item in part.items) * len(part.seeds) for part in parts}
    return 2 * steps * (counts["bias"] + counts["toxicity"])


def shipped_rows(steps: int) -> dict[str, int]:
    """Rows of the shipped methods' evaluation and of the attacks on them, roughly: seven methods act on every risk."""
    main = 0
    for part in evaluation_parts(load_world(), SamplingSetting(steps, 2.0)):
        acting = len(part.methods) - 1 if part.methods else 7
        sets = sum(1 + acting * len(item.principles) for item in part.items)
        main += sets * len(part.seeds) * sum(2 * setting.steps for setting in part.settings)
    b = Budget()
    pictures = len(TITLES) * b.subjects * b.each + b.queries * b.per_query
    each = 2 * steps * pictures + 3 * b.token_steps * b.token_batch
    return {"main": main, "attacks": 7 * len(TOXIC_KINDS) * each}


def hours(arms: Sequence[Arm], row_seconds: float, steps: int) -> list[float]:
    """Core-hours of each training with its evaluation, in order."""
    encoded: set[tuple[str, ...]] = set()
    found = []
    for arm in arms:
        pictures, rows = latent_rows(arm)
        evaluated = evaluation_rows(steps) * (len(STEPS) if arm.keep else 1)
        found.append((training_rows(arm) + evaluated + (0 if pictures in encoded else rows)) * row_seconds / 3600)
        encoded.add(pictures)
    return found


def measure_row(backbone: str, work: Path, steps: int = 3) -> float:
    """Processor seconds of a U-Net row in training, measured over a few steps."""
    import torch

    from livo.diffusion.backbones import load_backbone
    from train.preference.trainer import Training
    from train.value_encoder import drawn_data

    torch.set_num_threads(1)
    loaded = load_backbone(backbone)
    config = replace(SHORT, num_steps=steps + 1)
    training = Training(loaded, drawn_data(loaded, work, 2 * config.batch_size, 0), config, work)
    training.step(0)
    started = time.process_time()
    for i in range(1, steps + 1):
        training.step(i)
    return (time.process_time() - started) / (steps * 6 * config.batch_size)


def described(plan: Sequence[Sequence[Arm]], row_seconds: float, steps: int) -> str:
    """The plan with its cost, a line a training."""
    arms = [arm for each in plan for arm in each]
    lines, total = [], 0.0
    for arm, cost in zip(arms, hours(arms, row_seconds, steps), strict=True):
        total += cost
        lines.append(f"{total:6.1f}  {cost:5.2f}  {arm.name:<24} python {shlex.join(arm.words())}")
    rate = 1 / row_seconds
    for name, rows in shipped_rows(steps).items():
        total += rows * row_seconds / 3600
        lines.append(f"{total:6.1f}  {rows * row_seconds / 3600:5.2f}  {name:<24} python -m livo evaluate")
    head = f"core-hours in all, of it, training ({rate:,.0f} U-Net rows a second on one core, {steps} solver steps)"
    return "\n".join(
        [head, *lines, f"{len(arms)} trainings with their evaluation, and the shipped methods': {total:.1f} core-hours"]
    )
