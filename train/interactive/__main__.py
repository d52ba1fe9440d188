"""`python -m train.interactive measure`: the page's training with its defaults, timed, and how far it comes in that
time. `python -m train.interactive shares`: measures what the backbone draws by itself, and stores that in its folder
for the page.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from livo.classifiers.judge import ClipJudge, JudgeError, load_judge
from livo.diffusion.backbones import Backbone, BackboneError, load_backbone, only_stable_diffusion
from livo.diffusion.engine import Engine
from livo.live_training import DEFAULT_STEPS, LOSSES, SHARES, Ended, LiveRequest, Preview, stored_shares, unpack_encoder
from livo.measures.metrics import wilson_interval
from livo.methods.value_encoder import load_value_encoder
from livo.miniature.world import load_world
from livo.types import InputError
from train.interactive.run import PreviewSampler, live_data
from train.interactive.turns import LiveTrainings
from train.preference.drawn_pairs import concept_prompts, measure_shares

FRESH_SEED = 40_000
"""Of the images that are counted: neither the looks' seeds nor those of the shares."""


def measure(args: argparse.Namespace, backbone: Backbone, judge: ClipJudge) -> None:
    """Trains through the page's own queue and process, and counts on fresh seeds."""
    trainings, found = LiveTrainings(args.backbone, args.threads), []
    for seed in range(args.seed, args.seed + args.runs):
        request = replace(LiveRequest(), loss=args.loss, num_steps=args.steps, seed=seed)
        began = time.monotonic()
        last: Preview | None = None
        for update in trainings(request):
            if isinstance(update, Preview):
                last = update
                n, wanted = len(update.images), sum(update.wanted)
                print(
                    f"  {update.seconds:5.1f} s, step {update.step:3}: {wanted} of {n} perceived as the minority, "
                    f"{sum(update.kept)} as asked",
                    flush=True,
                )
            elif isinstance(update, Ended) and update.problem:
                raise InputError(update.problem)
        seconds = time.monotonic() - began
        if last is None or last.encoder is None:
            raise InputError("the training ended before its last pictures: give more --steps")
        share, text = counted(backbone, judge, request, last.encoder, args.images)
        found.append((seconds, share))
        print(
            f"run {seed}: {seconds:.1f} s from the click to the last pictures; minority share, value on: {text}",
            flush=True,
        )
    times, shares = zip(*found, strict=True)
    print(
        f"median of {len(found)}: {statistics.median(times):.1f} s, "
        f"minority share {100 * statistics.median(shares):.1f} %"
    )


def counted(
    backbone: Backbone, judge: ClipJudge, request: LiveRequest, packed: bytes, images: int
) -> tuple[float, str]:
    """The share of minority images over prompts that the model draws one way three times in four, and it in words."""
    engine = Engine(backbone)
    with tempfile.TemporaryDirectory() as folder:
        encoder = load_value_encoder(unpack_encoder(packed, Path(folder)), backbone)
        rare = {c: classes for c, classes in live_data(request, engine, judge, Path(folder))[1].items() if classes}
    look = PreviewSampler(engine, judge, request.principle, rare, images * len(rare), FRESH_SEED).look(encoder, 0, 0.0)
    shares: dict[str, list[bool]] = {}
    for prompt, wanted in zip(look.prompts, look.wanted, strict=True):
        shares.setdefault(prompt, []).append(wanted)
    n, count = len(look.wanted), sum(look.wanted)
    low, high = wilson_interval(count, n)
    each = ", ".join(
        f"{prompt.removeprefix('a photo of ')} {100 * sum(rows) / len(rows):.0f}" for prompt, rows in shares.items()
    )
    kept = 100 * sum(look.kept) / n
    text = f"{100 * count / n:.1f} % [{100 * low:.1f}, {100 * high:.1f}], n = {n} ({each}); as asked {kept:.1f} %"
    return count / n, text


def store_shares(backbone: Backbone, judge: ClipJudge) -> None:
    """Measures what is not stored yet; a kill loses at most one concept."""
    measure_shares(Engine(backbone), judge, concept_prompts(load_world()), backbone.folder / SHARES)
    print(f"written to {backbone.folder / SHARES}: {len(stored_shares(backbone.folder).shares)} concepts")


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m train.interactive",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("command", choices=["measure", "shares"])
    parser.add_argument(
        "--backbone", default="miniature", help="miniature or a diffusers folder with a judge (%(default)s)"
    )
    parser.add_argument("--runs", type=int, default=3, help="with other seeds each (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the first run (%(default)s)")
    parser.add_argument("--images", type=int, default=16, help="counted a prompt (%(default)s)")
    parser.add_argument("--steps", type=int, default=DEFAULT_STEPS, help="(%(default)s)")
    parser.add_argument("--loss", choices=LOSSES, default="livo", help="(%(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="of a training (%(default)s)")
    args = parser.parse_args(arguments)
    try:
        backbone = only_stable_diffusion(load_backbone(args.backbone), parser.prog)
        if backbone.folder is None:
            raise InputError(
                f"backbone {args.backbone} comes from the hub and has no folder: download it and give that"
            )
        judge = load_judge(backbone.folder / "evaluator")
        store_shares(backbone, judge) if args.command == "shares" else measure(args, backbone, judge)
    except (InputError, BackboneError, JudgeError) as error:
        sys.exit(f"{parser.prog}: {error}")


if __name__ == "__main__":
    main()
