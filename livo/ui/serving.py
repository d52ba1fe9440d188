"""How the page's and the API's comparisons are made: checked, on a GPU that may be lent, gated, with a way out.

for item in serve(bench, prompt, ids, options, choice):
    ...                                   # Notice, Progress, and last the Comparison that a visitor may see
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from livo.compare import Comparison, compare
from livo.types import InputError, Progress, SamplingOptions
from livo.ui.zero_gpu import explain, lend, seconds_needed

if TYPE_CHECKING:
    from livo.ui.workbench import Workbench

logger = logging.getLogger(__name__)

Generate = Callable[[str, tuple[str, ...], SamplingOptions, str], Iterator[Progress | Comparison]]
"""A comparison of a prompt under methods, by id, with these options and this choice of principle."""


@dataclass(frozen=True)
class Notice:
    """Something visitors should know about what follows."""

    text: str


def on_this_machine(bench: Workbench) -> Generate:
    """`compare` with the workbench's parts."""

    def generate(
        prompt: str, ids: tuple[str, ...], options: SamplingOptions, choice: str
    ) -> Iterator[Progress | Comparison]:
        methods = {id: bench.entries[id] for id in ids}
        yield from compare(
            prompt, engine=bench.engine, methods=methods, options=options, judge=bench.judge, principle=choice
        )

    return generate


def on_a_lent_gpu(bench: Workbench) -> Generate:
    """The same with one GPU for all methods of a comparison, where GPUs are lent; to be made before the page is launched."""

    def duration(prompt: str, ids: tuple[str, ...], options: SamplingOptions, choice: str) -> int:
        images = len(ids) * len(options.seeds)
        rows = images * options.num_inference_steps * 2.5  # two an image, four for Fair Diffusion
        return seconds_needed(rows * bench.engine.row_flop(options) / 1e12, images)

    return lend(on_this_machine(bench), duration)


def serve(
    bench: Workbench, prompt: str, ids: Sequence[str], options: SamplingOptions, choice: str
) -> Iterator[Notice | Progress | Comparison]:
    """One visitor's comparison.

    Where a GPU fails before anything was drawn and there is a drawn world to fall back on, that answers, after a notice.
    Closing the iterator stops the work before its next step.

    Raises:
        InputError: the prompt is refused (at once), or the GPU failed and nothing else can answer.
    """
    bench.access.check_prompt(prompt)
    return _serve(bench, prompt, ids, options, choice)


def _serve(
    bench: Workbench, prompt: str, ids: Sequence[str], options: SamplingOptions, choice: str
) -> Iterator[Notice | Progress | Comparison]:
    generate = bench.generate or on_this_machine(bench)
    begun = False
    try:
        with closing(generate(prompt, tuple(ids), options, choice)) as work:
            for item in work:
                begun = True
                yield bench.access.gate(item) if isinstance(item, Comparison) else item
        return
    except InputError:
        raise
    except Exception as error:
        if (told := explain(error)) is None:
            raise
        logger.warning("a GPU failed: %s", error)
        if begun or bench.fallback is None:
            raise InputError(f"{told} The stored comparisons can be looked at without a GPU.") from error
    drawn = bench.fallback
    yield Notice(f"{told} The drawn world answers instead.")
    d = drawn.defaults
    options = replace(
        options,
        num_inference_steps=d.num_inference_steps,
        guidance_scale=d.guidance_scale,
        height=d.height,
        width=d.width,
    )
    yield from serve(drawn, prompt, ids, options, choice)
