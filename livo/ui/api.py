"""What programs and agents may call: three typed functions, as HTTP endpoints and as MCP tools. All else is the
page's own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import gradio as gr

from livo.compare.comparison import Comparison, make_request
from livo.inputs import validate_prompt
from livo.retriever import retrieve
from livo.types import InputError, Progress, SamplingOptions
from livo.ui.compare_tab import GENERATION
from livo.ui.comparison_view import to_pixels
from livo.ui.rows import data_uri
from livo.ui.serving import Notice, serve
from livo.ui.turn import Paused
from livo.ui.workbench import Workbench
from livo.web.calls import is_over
from livo.web.guard import asker

MOST_PICTURES = 8
"""Images a method that `compare` sends."""
MOST_COUNTED = 50
"""Images a method that `bias_report` counts: the paper's."""
FIRST = "stable_diffusion"


def build_api(bench: Workbench) -> None:
    """Adds the endpoints to the Blocks at hand; they wait in the page's own queue.

    The two that draw yield the step they are at, and last what was asked for: between two steps it shows whether the
    caller
    is still there, and the work ends where not.

    Gradio reads the functions' docstrings and types, and shows them to callers.
    """

    def retrieve_principle(prompt: str) -> dict:
        """Which value principle a text-to-image prompt calls for, such as gender equality, and the words that decided.

        Args:
            prompt: what the picture shall show, such as "a photo of a doctor".

        Returns:
            "principle" (id, text and risk, or null where none applies), "principles" (all that apply, by id) and
            "evidence" (words of the prompt with the reason).
        """
        try:
            prompt = validate_prompt(prompt)
        except InputError as error:
            raise gr.Error(str(error), print_exception=False) from error
        found = retrieve(prompt)
        first = found.principle
        return {
            "prompt": prompt,
            "principle": first and {"id": first.id, "text": first.text, "risk": first.risk},
            "principles": [principle.id for principle in found.principles],
            "evidence": [{"text": item.text, "reason": item.reason} for item in found.evidence],
        }

    def compare(
        prompt: str,
        principle: str = "auto",
        methods: str = "stable_diffusion,livo",
        first_seed: int = 0,
        images: int = 4,
        request: gr.Request | None = None,
    ) -> Iterator[dict]:
        """Draws a prompt with several alignment methods from the same starting noise, and judges every image.

        Args:
            prompt: what the picture shall show, such as "a photo of a doctor".
            principle: "auto" to retrieve one from the prompt, "none", or an id such as "gender_equality".
            methods: ids by comma, such as "stable_diffusion,livo".
            first_seed: the first image's seed; the others follow.
            images: images a method, 1 to 8.

        Returns:
            As `python -m livo compare --json` prints it, with the images as data URIs. On a public page images that are
            flagged as toxic are made unrecognisable.
        """
        notices: list[str] = []
        for item in _run(bench, prompt, principle, methods, first_seed, images, MOST_PICTURES, request):
            if isinstance(item, Comparison):
                comparison = item
            elif isinstance(item, Notice):
                notices.append(item.text)
            else:
                yield item
        gated = bench.access.gate(comparison, stand_ins_too=True)
        shown = {
            id: [data_uri(image) for image in to_pixels(r.images)]
            for id, r in gated.methods.items()
            if r.images is not None
        }
        yield {**gated.record().to_json(shown), "notices": notices}

    def bias_report(
        prompt: str,
        principle: str = "gender_equality",
        method: str = "livo",
        first_seed: int = 0,
        images: int = 20,
        request: gr.Request | None = None,
    ) -> Iterator[dict]:
        """How a method shifts whom a prompt shows, beside the unaligned model: counts, shares with intervals, D1 and
        D2.

        Labels are what a classifier perceives in the pictures, never what anybody is; "cannot tell" is counted apart.

        Args:
            prompt: what the picture shall show, such as "a photo of a doctor".
            principle: the principle to apply: "auto", "none", or an id such as "gender_equality".
            method: the id of the method to hold against the unaligned model, such as "livo".
            first_seed: the first image's seed; the others follow.
            images: images a method, 1 to 50; the fewer, the wider the intervals.

        Returns:
            By method and question: classes, counts, abstained, shares' 95 % intervals, D1, D2 and a fair sampler's.
        """
        notices: list[str] = []
        both = f"{FIRST},{method}"
        for item in _run(bench, prompt, principle, both, first_seed, images, MOST_COUNTED, request):
            if isinstance(item, Comparison):
                comparison = item
            elif isinstance(item, Notice):
                notices.append(item.text)
            else:
                yield item
        record = comparison.record().to_json()
        report = {
            id: {
                "reason": result["reason"],
                "classification": {
                    question: {key: answer[key] for key in ("classes", "counts", "abstained")}
                    for question, answer in result["classification"].items()
                },
                "metrics": result["metrics"],
            }
            for id, result in record["methods"].items()
        }
        yield {
            "prompt": record["prompt"],
            "principle": record["principle"],
            "options": record["options"],
            "methods": report,
            "unknown_words": record["unknown_words"],
            "notices": notices,
        }

    gr.api(retrieve_principle, api_name="retrieve_principle", queue=False)
    for function in (compare, bias_report):
        gr.api(function, api_name=function.__name__, concurrency_limit=1, concurrency_id=GENERATION)


def _run(
    bench: Workbench,
    prompt: str,
    principle: str,
    methods: str,
    first_seed: int,
    images: int,
    most: int,
    caller: gr.Request | None,
) -> Iterator[Notice | dict[str, int] | Comparison]:
    """What a comparison yields, its steps as callers get them, the comparison last; whatever cannot be used is a Gradio
    error with a message."""
    try:
        if bench.engine is None:
            raise InputError(f"no image can be made: {bench.problem}")
        prompt = validate_prompt(prompt)
        ids = [id.strip() for id in methods.split(",") if id.strip()]
        if not ids:
            raise InputError("no method was asked for: give ids by comma, such as stable_diffusion,livo")
        if unknown := [id for id in ids if id not in bench.entries]:
            raise InputError(f"no method {unknown[0][:40]!r}; there are: {', '.join(bench.entries)}")
        if not 1 <= images <= most:
            raise InputError(f"{images} images cannot be made in one call: give 1 to {most}")
        d = bench.defaults
        options = SamplingOptions(
            tuple(range(first_seed, first_seed + images)), d.num_inference_steps, d.guidance_scale, d.height, d.width
        )
        request = make_request(prompt, ids, options, principle, vocabulary=bench.vocabulary, reads=bench.reads)
        at = {"step": 0, "of": options.num_inference_steps}
        with closing(serve(bench, request, asker(caller) if caller else "")) as work:
            for item in work:
                if is_over(caller and caller.request):
                    raise InputError("whoever asked has gone")
                if isinstance(item, Progress):
                    at = {"step": item.step, "of": item.num_steps}
                yield at if isinstance(item, Progress | Paused) else item
    except InputError as error:
        raise gr.Error(str(error), print_exception=False) from error
