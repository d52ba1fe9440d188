"""`python -m livo benchmark`: five methods in one batch, against five diffusers pipelines run one after another.

Measured are the time from the prompt to the images, the peak memory, and how far apart the images are: a saving that
changed pictures would be none. What either side is made of stands in `baselines/_benchmark/sides.py`.
"""

from __future__ import annotations

import argparse
import copy
import json
import multiprocessing
import re
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from baselines import available
from baselines._benchmark.check import check
from baselines._benchmark.sides import METHODS, SD15, SHARING, FivePipelines, OneBatch, Setup
from baselines._benchmark.ways import compare_ways
from livo.inputs import DEVICES
from livo.types import InputError, SamplingOptions

ONE_BATCH = "one_batch"
ROWS = 2 * len(METHODS) + 2
"""U-Net rows that five pipelines compute for an image of each method at a step; Fair Diffusion's edits are two more."""
PROMPTS = tuple(f"a photo of a {who}" for who in ("doctor", "nurse", "farmer", "judge", "teacher", "pilot", "chef"))


def largest_difference(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> dict[str, int]:
    """Grey levels, 0 to 255, between the (N, 3, H, W) uint8 images of both sides, by method."""
    return {name: int((images.int() - theirs[name].int()).abs().max()) for name, images in ours.items()}


def measure_time(ours: OneBatch, theirs: FivePipelines, options: SamplingOptions, repeats: int) -> dict[str, Any]:
    """Seconds, U-Net rows and images of both sides, in turn; every turn has its own prompt, as an engine remembers.

    Returns:
        "seconds" by side, medians; "time_ratio", median, lowest and highest of the turns' own ratios, because what
        slows the machine down for a while slows both sides; "rows" by side; "difference" in grey levels between the
        sides by method, and "effect", how far a method's images are from Stable Diffusion's, to hold it against.
    """
    seconds: list[tuple[float, float]] = []
    difference, effect = dict.fromkeys(METHODS, 0), dict.fromkeys(METHODS, 0)
    for turn in range(repeats + 1):
        prompt = PROMPTS[turn % len(PROMPTS)]
        start = time.perf_counter()
        one = ours(prompt, options)
        middle = time.perf_counter()
        five = theirs(prompt, options)
        if turn > 0:  # the first warms up
            seconds.append((middle - start, time.perf_counter() - middle))
        plain = dict.fromkeys(METHODS, five["stable_diffusion"])
        for found, other in ((difference, one), (effect, plain)):
            found.update({name: max(found[name], grey) for name, grey in largest_difference(five, other).items()})
    ratios = [one / five for one, five in seconds]
    return {
        "seconds": {
            ONE_BATCH: statistics.median(one for one, _ in seconds),
            "pipelines": statistics.median(five for _, five in seconds),
        },
        "time_ratio": {"median": statistics.median(ratios), "lowest": min(ratios), "highest": max(ratios)},
        "rows": {ONE_BATCH: ours.rows, "pipelines": ROWS * options.num_inference_steps * len(options.seeds)},
        "difference": difference,
        "effect": effect,
    }


def rates(found: Mapping[str, Any], images: int, row_flop: int, peak: float | None) -> dict[str, Any]:
    """Images a second of both sides, and the U-Net's 10^12 operations a second, also as a share of the device's best.

    Args:
        found: what `measure_time` returned.
        images: a method.
        row_flop: operations of a U-Net row.
        peak: 10^12 operations a second.
    """
    speed = {side: images * len(METHODS) / seconds for side, seconds in found["seconds"].items()}
    tflops = {side: found["rows"][side] * row_flop / seconds / 1e12 for side, seconds in found["seconds"].items()}
    shares = {} if peak is None else {"share_of_peak": {side: value / peak for side, value in tflops.items()}}
    return {"images_per_second": speed, "tflops": tflops, **shares}


def peak_memory(setup: Setup, side: str, images: int) -> dict[str, int]:
    """Bytes that a fresh process has held at most, once before it loads any weights and once after one run.

    A GPU's memory where there is one ("before" is 0), else the whole process's RAM.

    Args:
        side: `ONE_BATCH`, or what five pipelines share, a key of `SHARING`.
    """
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        before, peak = pool.submit(_load_and_run, setup, side, images).result()
    return {"before": before, "peak": peak}


def _load_and_run(setup: Setup, side: str, images: int) -> tuple[int, int]:
    before = _peak_bytes("cpu")
    backbone = setup.load()
    run = setup.one_batch(backbone) if side == ONE_BATCH else FivePipelines(backbone, side)
    run(PROMPTS[0], setup.options(backbone, images))
    device = backbone.device.type
    return (0 if device == "cuda" else before), _peak_bytes(device)


def _peak_bytes(device: str) -> int:
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    status = Path("/proc/self/status")
    if status.is_file() and (found := re.search(r"VmHWM:\s+(\d+) kB", status.read_text())):
        return 1024 * int(found[1])
    import resource  # missing on Windows. On Linux its figure would begin at the peak of the parent process.

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def memory_ratios(result: Mapping[str, Any], sharing: str) -> tuple[float, float]:
    """One batch against five pipelines: whole processes, and what each took on top of Python and its libraries."""
    ours, theirs = result["memory"][ONE_BATCH], result["memory"][sharing]
    return ours["peak"] / theirs["peak"], (ours["peak"] - ours["before"]) / (theirs["peak"] - theirs["before"])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What can be asked of the benchmark."""
    add = parser.add_argument
    add("--backbone", help=f"miniature, {SD15} with random weights, or a folder (miniature; {SD15} with --device cuda)")
    add("--images", default="1,4,8", help="images a method, a measurement for each count (%(default)s)")
    add("--steps", type=int, help=f"solver steps (the backbone's own; for {SD15} 4 on the CPU, 25 on cuda)")
    add("--size", type=int, help=f"pixels along a side (the backbone's own; for {SD15} 256 on the CPU, 512 on cuda)")
    add("--device", choices=DEVICES, help="(cuda where there is one, else cpu)")
    add(
        "--peak",
        type=float,
        metavar="TFLOPS",
        help="what the device does at best in this precision, to say which share is reached",
    )
    add("--budget", type=float, metavar="GIB", help="activations that a call of one batch may take (1)")
    add(
        "--check",
        action="store_true",
        help="measure nothing: compare both sides' finished latents, in float32, 2 steps, 256 pixels",
    )
    add("--ways", action="store_true", help="fewer steps and bfloat16 side by side, the largest of --images, no memory")
    add("--against", type=Path, metavar="CHECKOUT", help="with --ways: an earlier state of this code in another folder")
    add("--time-only", action="store_true", help="for a machine that cannot hold five complete pipelines")
    add("--repeats", type=int, default=5, help="timed turns, after one that warms up (%(default)s)")
    add("--dtype", choices=("float32", "bfloat16", "float16"), help=f"(float16 on a GPU, float32; {SD15} bfloat16)")
    add("--threads", type=int, help="CPU threads (torch's own choice)")
    add("--json", action="store_true", help="JSON alone on standard output")


def run(args: argparse.Namespace) -> str:
    """The answer of `benchmark`, as JSON or as a table; what is under way goes to standard error.

    Raises:
        InputError: a number that cannot be used.
    """
    counts = _counts(args.images)
    for name, number in (("repeats", args.repeats), ("threads", args.threads)):
        if number is not None and number < 1:
            raise InputError(f"--{name} {number} measures nothing: give 1 or more")
    for name, number in (("peak", args.peak), ("budget", args.budget)):
        if number is not None and not number > 0:
            raise InputError(f"--{name} {number} is none: give more than 0")
    name = args.backbone or (SD15 if args.device == "cuda" else "miniature")
    setup = Setup(name, args.steps, args.size, args.dtype, args.threads, args.device, args.budget)
    if args.check:
        return check(setup, min(counts), as_json=args.json)
    if args.ways:
        setup = replace(setup, dtype="float32", device=args.device or "cpu")
        return compare_ways(setup, max(counts), args.repeats, PROMPTS, args.against, as_json=args.json)
    memory: list[dict[str, dict[str, int]]] = []
    # Before this process holds weights: the measured one may need what the machine has.
    for count in () if args.time_only else counts:
        print(f"peak memory, images a method: {count}", file=sys.stderr)
        memory.append({side: peak_memory(setup, side, count) for side in (ONE_BATCH, *SHARING)})
    backbone = setup.load()
    theirs = FivePipelines(backbone, "weights")
    # Pipelines keep diffusers' own attention.
    ours = setup.one_batch(replace(backbone, unet=copy.deepcopy(backbone.unet)))
    results = []
    for count, peaks in zip(counts, memory or [{}] * len(counts), strict=True):
        print(f"time, images a method: {count}", file=sys.stderr)
        options = setup.options(backbone, count)
        found = measure_time(ours, theirs, options, args.repeats)
        results.append(
            {"images": count, **found, **rates(found, count, ours.engine.row_flop(options), args.peak), "memory": peaks}
        )
    answer = {
        "backbone": name,
        "random_weights": name == SD15,
        "height": options.height,
        "width": options.width,
        "steps": options.num_inference_steps,
        "guidance_scale": options.guidance_scale,
        "dtype": str(backbone.dtype).removeprefix("torch."),
        "device": backbone.device.type,
        "threads": torch.get_num_threads(),
        "repeats": args.repeats,
        "results": results,
    }
    return json.dumps(answer, indent=2) if args.json else format_table(answer)


def _counts(text: str) -> Sequence[int]:
    try:
        counts = [int(count) for count in text.split(",")]
    except ValueError:
        counts = []
    if not counts or min(counts) < 1:
        raise InputError(f"--images {text!r} cannot be measured: give numbers from 1 up, such as 1,4,8")
    return counts


def format_table(answer: Mapping[str, Any]) -> str:
    """The answer for people: image counts in columns."""
    columns = [_column(result) for result in answer["results"]]
    measured = all(result["memory"] for result in answer["results"])
    label = max(map(len, columns[0]))
    widths = [max(map(len, column.values())) for column in columns]
    table = [
        "  ".join([name.ljust(label), *(column[name].rjust(w) for column, w in zip(columns, widths, strict=True))])
        for name in columns[0]
    ]
    setting = "{backbone}, {width} x {height}, {steps} steps, {dtype}, {device}, {threads} CPU threads".format(**answer)
    turns = f"median of {answer['repeats']} turns (lowest-highest)"
    return "\n".join(
        [
            "Five methods in one batch against five diffusers pipelines run one after another: the same weights,",
            "seeds, solver and prompts. Weights are untrained where methods add their own, which costs the same.",
            f"{setting}{', random weights' if answer['random_weights'] else ''}",
            "",
            *table,
            "",
            f"Time: from the prompt to the images, {turns}. LiVO's images all take the value.",
            *(
                ["Memory: peak of a fresh process a side; in brackets without what it held before loading weights."]
                if measured
                else []
            ),
            "Difference: largest of 255 grey levels; in brackets how far the method is from Stable Diffusion.",
        ]
    )


def _share(result: Mapping[str, Any], side: str) -> str:
    return f" ({100 * result['share_of_peak'][side]:.0f} % of peak)" if "share_of_peak" in result else ""


def _column(result: Mapping[str, Any]) -> dict[str, str]:
    memory = result["memory"]
    sides = SHARING if memory else {}
    return {
        "images a method": str(result["images"]),
        "seconds, one batch": f"{result['seconds'][ONE_BATCH]:.3g}",
        "seconds, five pipelines": f"{result['seconds']['pipelines']:.3g}",
        "images/s, one batch": f"{result['images_per_second'][ONE_BATCH]:.3g}",
        "images/s, five pipelines": f"{result['images_per_second']['pipelines']:.3g}",
        "TFLOP/s, one batch": f"{result['tflops'][ONE_BATCH]:.3g}" + _share(result, ONE_BATCH),
        "TFLOP/s, five pipelines": f"{result['tflops']['pipelines']:.3g}" + _share(result, "pipelines"),
        "  time ratio": "{median:.2f} ({lowest:.2f}-{highest:.2f})".format(**result["time_ratio"]),
        "U-Net rows, one batch": str(result["rows"][ONE_BATCH]),
        "U-Net rows, five pipelines": str(result["rows"]["pipelines"]),
        **({"peak GB, one batch": f"{memory[ONE_BATCH]['peak'] / 1e9:.2f}"} if memory else {}),
        **{f"peak GB, {title}": f"{memory[sharing]['peak'] / 1e9:.2f}" for sharing, title in sides.items()},
        **{
            f"  memory ratio, {title}": "{:.2f} ({:.2f})".format(*memory_ratios(result, sharing))
            for sharing, title in sides.items()
        },
        **{
            f"difference, {available()[name].TITLE}": f"{result['difference'][name]} ({result['effect'][name]})"
            for name in METHODS
        },
    }
