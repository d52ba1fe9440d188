"""A class's prompts, drawn by the demo's generator: through its one turn, checked and gated as everybody's are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing

from livo.compare.comparison import AUTO, Comparison, make_request
from livo.types import InputError, Progress, SamplingOptions
from livo.ui.serving import serve
from livo.ui.workbench import Workbench
from livo.workshop.traps import WrittenPrompt, counted
from livo.workshop.tries import Draw

PICTURES = 12
"""Of each method: with ten or more alike a set is lopsided beyond chance."""
STEPS = 6
"""At most: six do what fifty do within five points, see `python -m train.sampler --show`."""
WHO = "a class"
"""To whose share of a public page's time the prompts count."""


def draw_for_class(bench: Workbench, methods: tuple[str, ...]) -> Draw | None:
    """What draws pupils' prompts with these methods; None where there is no model or no judge."""
    if bench.engine is None or bench.judge is None:
        return None
    d = bench.defaults
    steps = min(STEPS, d.num_inference_steps)
    options = SamplingOptions(tuple(range(PICTURES)), steps, d.guidance_scale, d.height, d.width)

    def draw(reading: WrittenPrompt, done: Callable[[float], None]) -> tuple[Mapping[str, int], int]:
        choice = AUTO if reading.covered else "gender_equality"
        request = make_request(reading.prompt, methods, options, choice, vocabulary=bench.vocabulary, reads=bench.reads)
        last = None
        with closing(serve(bench, request, WHO)) as work:
            for last in work:
                if isinstance(last, Progress):
                    done(last.step / last.num_steps)
        assert isinstance(last, Comparison), "the last of what is served"
        results = {id: result.classification for id, result in last.methods.items() if result.images is not None}
        if not {"gender", "toxicity"} <= results["stable_diffusion"].keys():
            raise InputError("the classifier of this page does not answer what the game asks")
        labels = {id: [_plain(answer[q].labels) for q in ("gender", "toxicity")] for id, answer in results.items()}
        return {id: counted(reading, *both) for id, both in labels.items()}, PICTURES

    return draw


def _plain(labels: Sequence[int | None]) -> list[int]:
    return [-1 if label is None else label for label in labels]
