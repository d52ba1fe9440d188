"""What comparisons would cost, before they are made: rows, operations, memory, and seconds by a short probe.

Rows are counted on the methods' own plans. The probe makes a few images in one and in three steps, judge included, and
takes what a step and what the rest needs from their difference; it ends after a few seconds, or after one step where
that takes longer.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from livo.compare.comparison import ComparisonRequest, MethodEntry, compare, plan_for
from livo.types import InputError, Judge, Plan, SamplingOptions

if TYPE_CHECKING:
    from livo.diffusion.engine import Engine

logger = logging.getLogger(__name__)

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
    found = work(counted, engine, methods)
    share = sum(len(r.options.seeds) for r in requests) / sum(len(r.options.seeds) for r in counted)
    started = clock()
    seconds = probe(requests[0], clock=clock, engine=engine, methods=methods, judge=judge)
    taken, per_image = clock() - started, seconds / len(requests[0].options.seeds)
    rows = round(found.rows * share)
    return replace(
        found, prompts=len(requests), images=round(found.images * share), rows=rows,
        tflop=rows * engine.row_flop(requests[0].options) / 1e12,
        seconds=per_image * sum(len(request.options.seeds) for request in requests), probe=taken,
    )  # fmt: skip


def work(requests: Sequence[ComparisonRequest], engine: Engine, methods: Mapping[str, MethodEntry]) -> Outlook:
    """Everything that is counted and not timed: seconds are 0.

    Raises:
        InputError: the options cannot be used.
    """
    images = rows = largest = 0
    for request in requests:
        plans = _plans(request, engine, methods)
        if plans:
            of_run, of_step = engine.rows(plans)
            rows, largest = rows + of_run, max(largest, of_step)
            images += sum(len(plan.options.seeds) for plan in plans.values())
    options = requests[0].options
    tflop = rows * engine.row_flop(options) / 1e12
    return Outlook(len(requests), images, rows, tflop, *memory(engine, largest, options), 0.0, 0.0)


def spoken(seconds: float) -> str:
    """Seconds as people say them.

    Example:
        >>> spoken(4.2), spoken(89), spoken(200), spoken(5 * 3600)
        ('5 s', '89 s', '4 min', '5 h 0 min')
    """
    whole = -int(-seconds // 1)
    if whole < 90:
        return f"{whole} s"
    minutes = -(-whole // 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


class Pace:
    """How fast this machine has been, for whoever is asked often: seconds a TFLOP of the denoiser.

    The last comparison tells. Before any, one or two calls of a single row do: a small one, and where that is over at
    once, as on a GPU, which small calls leave idle, one of the model's own size.
    """

    SMALL, AT_ONCE = 16, 0.2
    """Latent pixels along a side of the small call; seconds."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._per_tflop: float | None = None

    def learn(self, tflop: float, seconds: float) -> None:
        """What a comparison took."""
        if tflop > 0:
            self._per_tflop = seconds / tflop

    def seconds(self, engine: Engine, tflop: float) -> float:
        """What so many operations will take, about."""
        if self._per_tflop is None:
            self._measure(engine)
        return tflop * (self._per_tflop or 0.0)

    def _measure(self, engine: Engine) -> None:
        from livo.diffusion.engine import classifier_free_plan

        d, side = engine.backbone.defaults, self.SMALL * engine.backbone.vae_scale
        for height, width in ((side, side), (side, side), (d.height, d.width)):  # the first one warms up
            options = SamplingOptions((0,), 1, 0.0, height, width)
            started = self._clock()
            engine.sample({"": classifier_free_plan(engine, [engine.condition("")], options)})
            taken = self._clock() - started
            self.learn(engine.row_flop(options) / 1e12, taken)
            if taken > self.AT_ONCE:
                return


def memory(engine: Engine, rows: int, options: SamplingOptions) -> tuple[int, int]:
    """Bytes of the backbone's weights, and by estimate of the activations of a call, of a step of so many rows."""
    backbone, budget = engine.backbone, engine.memory_budget
    networks = [backbone.unet, backbone.vae, *backbone.text.encoders.values()]
    weights = sum(w.numel() * w.element_size() for network in networks for w in network.parameters())
    row = engine.denoiser.row_bytes(options.height // backbone.vae_scale, options.width // backbone.vae_scale)
    return weights, row * max(1, min(rows, budget // row))


def _plans(request: ComparisonRequest, engine: Engine, methods: Mapping[str, MethodEntry]) -> dict[str, Plan]:
    plans = {}
    for id in request.methods:
        entry = methods[id]
        if entry.method is not None and not entry.reason_against(request.principle):
            try:
                plan = plan_for(entry.method, request.words.text, request.principles, request.options)
                engine.stream({id: plan}).close()  # checks it, does no work
            except InputError:
                raise
            except Exception:  # as in the comparison itself, which says so: it has no images
                logger.debug("%s makes no plan", id, exc_info=True)
            else:
                plans[id] = plan
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
