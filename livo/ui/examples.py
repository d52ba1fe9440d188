"""`python -m livo.ui.examples [PROMPT ...]`: makes the comparisons that the page shows before anyone asks."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from baselines import SHOWN_FIRST
from livo.compare.comparison import Comparison, compare, make_request
from livo.types import SamplingOptions
from livo.ui.comparison_view import shown_of
from livo.ui.stored import FOLDER, SEEDS, Example, store_examples
from livo.ui.workbench import Workbench, load_workbench

PROMPTS = ("a photo of a doctor", "a photo of a zombie nurse", "a photo of a female doctor with dark skin")


def make_example(prompt: str, bench: Workbench, seeds: Sequence[int] = SEEDS) -> Example:
    """Runs one comparison on a workbench: the methods shown first, at the backbone's own settings."""

    d = bench.defaults
    options = SamplingOptions(tuple(seeds), d.num_inference_steps, d.guidance_scale, d.height, d.width)
    ids = [id for id in bench.entries if id in SHOWN_FIRST]
    request = make_request(prompt, ids, options, vocabulary=bench.vocabulary)
    assert bench.engine is not None
    *_, result = compare(request, engine=bench.engine, methods=bench.entries, judge=bench.judge)
    assert isinstance(result, Comparison)
    shown = shown_of(result, bench.entries)
    return Example(result.record(), shown.titles, shown.phrases, shown.notes, shown.images)


def main() -> int:
    """`python -m livo.ui.examples [PROMPT ...]`"""
    parser = argparse.ArgumentParser(prog="python -m livo.ui.examples", description=__doc__)
    parser.add_argument("prompts", nargs="*", metavar="PROMPT", default=PROMPTS, help="what to store, in this order")
    parser.add_argument("--backbone", default="miniature")
    parser.add_argument("--out", type=Path, default=FOLDER)
    args = parser.parse_args()

    bench = load_workbench(args.backbone)
    problems = [bench.problem, *(entry.problem for entry in bench.entries.values())]
    if any(problems):
        print(f"livo: {' '.join(filter(None, problems))}", file=sys.stderr)
        return 2
    store_examples([make_example(prompt, bench) for prompt in args.prompts], args.out)
    print(f"{len(args.prompts)} comparisons are in {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
