"""What comparisons would cost, before they are made: rows, operations, memory, and seconds by a short probe.

Rows are counted on the methods' own plans. The probe makes a few images in one and in three steps, judge included, and
takes what a step and what the rest needs from their difference; it ends after a few seconds, or after one step where
that takes longer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from livo.compare.comparison import ComparisonRequest, MethodEntry, compare, plan_for
from livo.types import Judge, Lacking, Plan, SamplingOptions

if TYPE_CHECKING:
    from livo.diffusion.engine import Engine

COUNTED = 10
"""Prompts whose plans are counted; of more, evenly spread ones stand for all."""
PATIENCE = 3.0
"""Seconds after which the probe takes no more images."""


@dataclass(frozen=True)
class Outlook:
    """What the work would take.

    Attributes:
        images: over all prompts and methods.
        rows: denoiser rows; at the most, since methods share rows for as long as their latents are equal.
        tflop: 10^12 operations of the denoiser for these rows.
        weights, activations: bytes; the latter of the largest call, by estimate.
        seconds: on this device, estimated.
        probe: seconds that the estimate took.
    """

    prompts: int
    images: int
    rows: int
    tflop: float
    weights: int
    activations: int
    seconds: float
    probe: float

    def to_json(self) -> dict[str, Any]:
        """Rounded to what is known."""
        rounded = {name: float(f"{getattr(self, name):.3g}") for name in ("tflop", "seconds", "probe")}
        return asdict(self) | rounded


def outlook(
    requests: Sequence[ComparisonRequest],
    *,
    engine: Engine,
    methods: Mapping[str, MethodEntry],
    judge: Judge | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Outlook:
    """Of at least one comparison.

    Raises:
        InputError: the options cannot be used.
    """
    step = -(-len(requests) // COUNTED)
    counted = requests[::step]
    images = rows = largest = 0
    for request in counted:
        plans = _plans(request, methods)
        if plans:
            of_run, of_step = engine.rows(plans)
            rows, largest = rows + of_run, max(largest, of_step)
            images += sum(len(plan.options.seeds) for plan in plans.values())
    share = sum(len(r.options.seeds) for r in requests) / sum(len(r.options.seeds) for r in counted)
    started = clock()
    seconds = probe(requests[0], clock=clock, engine=engine, methods=methods, judge=judge)
    taken, per_image = clock() - started, seconds / len(requests[0].options.seeds)
    weights, activations = memory(engine, largest, requests[0].options)
    rows = round(rows * share)
    return Outlook(
        len(requests), round(images * share), rows, rows * engine.row_flop(requests[0].options) / 1e12, weights,
        activations, per_image * sum(len(request.options.seeds) for request in requests), taken,
    )  # fmt: skip


def memory(engine: Engine, rows: int, options: SamplingOptions) -> tuple[int, int]:
    """Bytes of the backbone's weights, and by estimate of the activations of a call, of a step of so many rows."""
    backbone, budget = engine.backbone, engine.memory_budget
    networks = [backbone.unet, backbone.vae, *backbone.text.encoders.values()]
    weights = sum(w.numel() * w.element_size() for network in networks for w in network.parameters())
    row = engine.denoiser.row_bytes(options.height // backbone.vae_scale, options.width // backbone.vae_scale)
    return weights, row * max(1, min(rows, budget // row))


def _plans(request: ComparisonRequest, methods: Mapping[str, MethodEntry]) -> dict[str, Plan]:
    plans = {}
    for id in request.methods:
        entry = methods[id]
        if entry.method is not None and not entry.reason_against(request.principle):
            try:
                plans[id] = plan_for(entry.method, request.words.text, request.principles, request.options)
            except Lacking:  # as in the comparison itself: it has no images
                continue
    return plans


def probe(request: ComparisonRequest, *, clock: Callable[[], float] = time.perf_counter, **parts: Any) -> float:
    """Estimated seconds of a comparison.

    Args:
        parts: as `compare` takes them.
    """
    seeds, steps = request.options.seeds, request.options.num_inference_steps

    def timed(images: int, num_steps: int) -> float:
        few = replace(request.options, seeds=seeds[:images], num_inference_steps=num_steps)
        started = clock()
        for _ in compare(replace(request, options=few), **parts):
            pass
        return clock() - started

    begun, images = clock(), 1
    if (first := timed(1, 1)) > PATIENCE:  # nearly all of it is the step
        return first * steps * len(seeds)
    while True:
        one, three = timed(images, 1), timed(images, 3)
        if images == len(seeds) or clock() - begun > PATIENCE:
            break
        images = min(4 * images, len(seeds))
    step = max(0.0, three - one) / 2
    return (steps * step + max(0.0, one - step)) * len(seeds) / images
