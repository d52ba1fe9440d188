"""How the page's and the API's comparisons are made: checked, on a GPU that may be lent, gated, with a way out.

for item in serve(bench, request):
    ...                                   # Notice, Paused, Progress, and last the Comparison that a visitor may see
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, replace

from livo.compare.comparison import Comparison, ComparisonRequest, compare
from livo.compare.outlook import spoken, work
from livo.diffusion.backbones import Defaults
from livo.types import InputError, Progress
from livo.ui.turn import Paused
from livo.ui.workbench import Generate, Workbench
from livo.ui.zero_gpu import explain, lend, seconds_needed

MOST_STEPS = 5_000
"""Methods x pictures x solver steps of one request on a public page."""
MOST_STEPS_BESIDE_OTHERS = 1_200
"""The same while other addresses ask too: they wait for one that is at work. A class's prompt takes 504."""
MOST_STEPS_AT_HOME = 50_000
"""The same where no stranger asks."""

LONG = 30.0
"""Seconds of a comparison that are said beforehand."""
SURELY_SHORT = 0.3
"""TFLOP that take less on any machine, and are not worth a look ahead."""

ROWS_AN_IMAGE = 4
"""Of a method, at a step, at the most."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Notice:
    """Something visitors should know about what follows."""

    text: str


def on_this_machine(bench: Workbench) -> Generate:
    """`compare` with these bench."""

    def generate(request: ComparisonRequest) -> Generator[Progress | Comparison, None, None]:
        assert bench.engine is not None, "a page without a model refuses before it asks"
        yield from compare(request, engine=bench.engine, methods=bench.entries, judge=bench.judge)

    return generate


def on_a_lent_gpu(bench: Workbench) -> Generate:
    """The same with one GPU for all methods of a comparison, where GPUs are lent; to be made before the page is
    launched."""

    def duration(request: ComparisonRequest) -> int:
        assert bench.engine is not None
        options, images = request.options, len(request.methods) * len(request.options.seeds)
        rows = images * options.num_inference_steps * 2.5  # two an image, four for Fair Diffusion
        return seconds_needed(rows * bench.engine.row_flop(options) / 1e12, images)

    return lend(on_this_machine(bench), duration)


def serve(
    bench: Workbench, request: ComparisonRequest, who: str = ""
) -> Generator[Notice | Paused | Progress | Comparison, None, None]:
    """One visitor's comparison, while no other is at work. Where it takes more than half a minute, that is said first.

    Where a GPU fails before anything was drawn and there is a drawn world to fall back on, that answers, after a
    notice.
    Closing the iterator stops the work before its next step.

    Args:
        who: the visitor's address; on a public page nobody has all the time while others ask too.

    Raises:
        InputError: the prompt or the size is refused, or others' turn it is (at once); or the GPU failed and nothing
            else can answer.
    """
    bench.access.check(request)
    check_size(request, MOST_STEPS if bench.access.public else MOST_STEPS_AT_HOME, bench.defaults)
    if not bench.access.public:
        return bench.turn.hold(_serve(bench, request))
    if bench.turn.shares.check(who):
        check_size(request, MOST_STEPS_BESIDE_OTHERS, bench.defaults, " while others are here too")
    return bench.turn.hold(_serve(bench, request), who, size_of(request, bench.defaults))


def size_of(request: ComparisonRequest, usual: Defaults) -> int:
    """Methods x pictures x solver steps; pictures larger than the model's own size count for as many as they hold of
    it."""
    options = request.options
    larger = max(1.0, options.height * options.width / (usual.height * usual.width))
    return round(len(request.methods) * len(options.seeds) * options.num_inference_steps * larger)


def check_size(request: ComparisonRequest, most: int, usual: Defaults, when: str = "") -> None:
    """Whether a request is one that a page of this server makes.

    Args:
        most: its size.
        usual: the model's own size of pictures.
        when: in which case that is so.

    Raises:
        InputError: it asks for more.
    """
    if (asked := size_of(request, usual)) <= most:
        return
    options = request.options
    larger = options.height * options.width / (usual.height * usual.width)
    size = f" x {larger:.3g} times the usual size" if larger > 1 else ""
    raise InputError(
        f"{len(request.methods)} methods x {len(options.seeds)} images x {options.num_inference_steps} steps{size} are "
        f"{asked:,}; one request may be {most:,}{when}: ask for fewer"
    )


def look_ahead(bench: Workbench, request: ComparisonRequest) -> str:
    """What a comparison on this machine would take, where that is more than half a minute; else empty.

    Raises:
        InputError: the options cannot be used.
    """
    if bench.engine is None or bench.generate is not None:  # a lent GPU says itself how much of it is left
        return ""
    options = request.options
    bench.engine.check_options(options)
    most = len(request.methods) * len(options.seeds) * options.num_inference_steps * ROWS_AN_IMAGE
    if most * bench.engine.row_flop(options) / 1e12 < SURELY_SHORT:
        return ""
    ahead = work([request], bench.engine, bench.entries)
    if (seconds := bench.pace.seconds(bench.engine, ahead.tflop)) < LONG:
        return ""
    return (
        f"this takes about {spoken(seconds)} on this machine's {bench.engine.backbone.device.type}: {ahead.images} "
        f"images, {ahead.rows:,} denoiser rows, {ahead.tflop:.3g} TFLOP, {ahead.weights / 1e9:.2f} GB of weights and "
        f"{ahead.activations / 1e9:.2f} GB a call (estimates); Stop ends it"
    )


def _serve(bench: Workbench, request: ComparisonRequest) -> Iterator[Notice | Progress | Comparison]:
    generate = bench.generate or on_this_machine(bench)
    begun = False
    try:
        if ahead := look_ahead(bench, request):
            yield Notice(ahead)
        with closing(generate(request)) as work:
            for item in work:
                begun = True
                if isinstance(item, Progress) and item.images is not None and bench.engine is not None:
                    bench.pace.learn(item.rows * bench.engine.row_flop(request.options) / 1e12, item.seconds)
                yield bench.access.gate(item) if isinstance(item, Comparison) else item
        return
    except InputError:
        raise
    except Exception as error:
        if (words := explain(error)) is None:
            raise
        logger.warning("a GPU failed: %s", error)
        if begun or bench.fallback is None:
            raise InputError(f"{words} The stored comparisons can be looked at without a GPU.") from error
    yield Notice(f"{words} The drawn world answers instead.")
    d = bench.fallback.defaults
    options = replace(
        request.options, num_inference_steps=d.num_inference_steps, guidance_scale=d.guidance_scale, height=d.height,
        width=d.width,
    )  # fmt: skip
    known = bench.fallback.vocabulary(request.prompt)
    if known.refused:
        raise InputError(known.refused)
    instead = replace(request, options=options, words=known)
    bench.fallback.access.check(instead)
    yield from _serve(bench.fallback, instead)
