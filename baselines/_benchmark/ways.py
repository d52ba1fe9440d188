"""`python -m livo benchmark --ways`: what fewer steps, bfloat16 and one batch save on the drawn world, side by side.

In turns within one run, so that what slows the machine down slows all of them: five methods, and Stable Diffusion
alone, with the settings of each way; five diffusers pipelines; an earlier checkout of this code, if its folder is
given; and what the processor would need at the speed of a large product of matrices on the same cores.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from diffusers import UniPCMultistepScheduler

from baselines._benchmark.sides import FivePipelines, OneBatch, Setup
from livo.diffusion.precision import fastest_on_cpu
from livo.types import SamplingOptions

SIZE = 2048
"""Rows and columns of the large product."""
EARLIER = """
import sys, time, torch
torch.set_num_threads(int(sys.argv[1]))
try:
    from baselines._benchmark import sides
    from livo.diffusion.backbones import load_backbone
except ImportError:
    from baselines import _benchmark_sides as sides
    from livo.backbones import load_backbone
backbone = load_backbone("miniature", "cpu")
side, d = sides.OneBatch(backbone), backbone.defaults
for line in sys.stdin:
    images, prompt = line.rstrip().split(" ", 1)
    seeds, size = tuple(range(int(images))), (d.height, d.width)
    options = sides.SamplingOptions(seeds, d.num_inference_steps, d.guidance_scale, *size)
    start = time.perf_counter()
    list(side.engine.stream({"sd": side.stable_diffusion.plan(prompt, None, options)}))
    middle = time.perf_counter()
    side(prompt, options)
    print(middle - start, time.perf_counter() - middle, flush=True)
"""
"""Another checkout's one batch: it answers a line of images and prompt with the seconds of both works."""

Seconds = tuple[float, float]
"""Of Stable Diffusion alone, and of five methods."""
Timed = Callable[[str, int], Seconds]
"""Makes so many pictures of a prompt a method."""


@dataclass(frozen=True)
class Way:
    """How five methods are sampled; None is the backbone's own."""

    dtype: str = "float32"
    steps: int | None = None
    scheduler: type | None = None

    def prepare(self, setup: Setup) -> tuple[OneBatch, SamplingOptions]:
        """Its side, and the options of one image."""
        setup = replace(setup, dtype=self.dtype, steps=self.steps or setup.steps)
        backbone = setup.load()
        side = setup.one_batch(backbone)
        side.engine.scheduler_class = self.scheduler or side.engine.scheduler_class
        return side, setup.options(backbone, 1)


USUAL = "float32, usual steps"
WAYS = {
    USUAL: Way(),
    "float32, quick look (6)": Way(steps=6),
    "float32, UniPC, 5 steps": Way(steps=5, scheduler=UniPCMultistepScheduler),
    "bfloat16, usual steps": Way("bfloat16"),
    "bfloat16, UniPC, 5 steps": Way("bfloat16", 5, UniPCMultistepScheduler),
}
"""The first is what 1b64dc8 did, and what the others are held against; bfloat16 where `--dtype auto` would take it."""


def timed(side: OneBatch, options: SamplingOptions) -> Timed:
    """One way's works."""

    def work(prompt: str, images: int) -> Seconds:
        ask = replace(options, seeds=tuple(range(images)))
        start = time.perf_counter()
        side.engine.generate({"sd": side.stable_diffusion.plan(prompt, None, ask)})
        middle = time.perf_counter()
        side(prompt, ask)
        return middle - start, time.perf_counter() - middle

    return work


def timed_pipelines(setup: Setup) -> Timed:
    """Diffusers' pipelines, alone and five."""
    backbone = setup.load()
    side, options = FivePipelines(backbone, "weights"), setup.options(backbone, 1)

    def work(prompt: str, images: int) -> Seconds:
        ask = replace(options, seeds=tuple(range(images)))
        start = time.perf_counter()
        side._call("stable_diffusion", ask, prompt=prompt)
        middle = time.perf_counter()
        side(prompt, ask)
        return middle - start, time.perf_counter() - middle

    return work


def peak(dtype: str) -> float:
    """Operations a second of a large product: the best of three."""
    a = torch.randn(SIZE, SIZE, dtype=getattr(torch, dtype))
    best = 0.0
    for _ in range(3):
        start = time.perf_counter()
        a @ a
        best = max(best, 2 * SIZE**3 / (time.perf_counter() - start))
    return best


def measure(setup: Setup, images: int, repeats: int, prompts: Sequence[str], earlier: Path | None) -> dict[str, Any]:
    """Another way begins each turn.

    Returns:
        Under "ways", of each "alone" and "five", seconds of all turns, and where counted "limit", seconds of five
        methods at the peak; under "peak", operations a second by dtype.
    """
    sides = {
        name: way.prepare(setup)
        for name, way in WAYS.items()
        if fastest_on_cpu() == torch.bfloat16 or way.dtype == "float32"
    }
    works = {name: timed(*side) for name, side in sides.items()} | {"five diffusers pipelines": timed_pipelines(setup)}
    other = None
    if earlier is not None:
        command = [sys.executable, "-c", EARLIER, str(torch.get_num_threads())]
        other = subprocess.Popen(command, cwd=earlier, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        works[f"checkout {earlier.name}"] = lambda prompt, count: _ask(other, prompt, count)
    found: dict[str, Any] = {name: {"alone": [], "five": []} for name in works}
    try:
        for turn in range(repeats + 1):
            for name in sorted(works, key=lambda name: (list(works).index(name) - turn) % len(works)):
                alone, five = works[name](prompts[turn % len(prompts)], images)
                print(
                    f"turn {turn}, {name}: {alone:.3f} s alone, {five:.3f} s five methods", file=sys.stderr, flush=True
                )
                if turn:  # the first warms up
                    found[name]["alone"].append(alone)
                    found[name]["five"].append(five)
    finally:
        if other is not None:
            other.kill()
            other.communicate()
    peaks = {dtype: peak(dtype) for dtype in dict.fromkeys(WAYS[name].dtype for name in sides)}
    for name, (side, options) in sides.items():
        found[name]["limit"] = side.rows * side.engine.row_flop(options) / peaks[WAYS[name].dtype]
    return {"ways": found, "images": images, "peak": peaks, "threads": torch.get_num_threads()}


def _ask(other: subprocess.Popen[str], prompt: str, images: int) -> Seconds:
    assert other.stdin is not None and other.stdout is not None
    print(images, prompt, file=other.stdin, flush=True)
    alone, five = map(float, other.stdout.readline().split())
    return alone, five


def table(answer: Mapping[str, Any]) -> str:
    """Markdown: pictures a second of Stable Diffusion alone, seconds of five methods, how many times faster than the
    usual way (median, lowest and highest turn), and the share of the counted limit."""
    rows = [
        "| way | pictures/s, alone | five methods, s | times as fast | share of the limit |",
        "|---|---|---|---|---|",
    ]
    usual = answer["ways"][USUAL]["five"]
    for name, way in answer["ways"].items():
        ratios = [a / b for a, b in zip(usual, way["five"], strict=True)]
        five = statistics.median(way["five"])
        share = f"{100 * way['limit'] / five:.0f} %" if "limit" in way else ""
        alone = answer["images"] / statistics.median(way["alone"])
        rows.append(
            f"| {name} | {alone:.1f} | {five:.2f} | {statistics.median(ratios):.2f} "
            f"({min(ratios):.2f}-{max(ratios):.2f}) | {share} |"
        )
    peaks = ", ".join(f"{value / 1e9:.0f} GFLOP/s in {dtype}" for dtype, value in answer["peak"].items())
    return "\n".join([*rows, "", f"{len(usual)} turns of {answer['images']} images a method, {answer['threads']} CPU "
                      f"threads; a product of {SIZE} x {SIZE} reaches {peaks}."])  # fmt: skip


def compare_ways(
    setup: Setup, images: int, repeats: int, prompts: Sequence[str], earlier: Path | None, *, as_json: bool
) -> str:
    """The measurement as JSON or as a table."""
    answer = measure(setup, images, repeats, prompts, earlier)
    return json.dumps(answer, indent=2) if as_json else table(answer)
