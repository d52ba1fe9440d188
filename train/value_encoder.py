"""`python -m train.value_encoder`: trains a value encoder, everything else frozen, on the margin loss of Eq. 6.

On the drawn world unless `--data` names a folder: one that `train.preference_data build` made, or one in the official
layout. Several processes: `accelerate launch -m train.value_encoder ...`.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import get_args

import torch
from accelerate import Accelerator
from safetensors import SafetensorError

from livo.classifiers.judge import JudgeError, load_judge
from livo.command_line import add_fields, read_fields
from livo.diffusion.backbones import Backbone, BackboneError, load_backbone, only_stable_diffusion
from livo.diffusion.denoisers import denoiser_of
from livo.diffusion.engine import Engine
from livo.methods.value_encoder import save_encoder
from livo.miniature.world import load_world
from livo.principles import load_principles
from livo.types import InputError
from train.preference.drawn_pairs import Losers, PairMaker, concept_prompts, measure_shares
from train.preference.losses import LOSSES, PreferenceLoss
from train.preference.pairs import PreferenceSet, drawn_pairs, read_pairs, with_neutral
from train.preference.trainer import MINIATURE, PAPER, RuntimeOptions, TrainingConfig, constants, train_value_encoder
from train.preference_data.official import Report

PRECISIONS = {"no": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def drawn_data(backbone: Backbone, work: Path, count: int, seed: int, losers: Losers = "twin") -> PreferenceSet:
    """Pairs of the drawn world in which the backbone is biased, as its own judge sees it.

    Raises:
        InputError: the backbone has no judge.
        JudgeError: the judge's files are broken.
    """
    if not (folder := backbone.folder / "evaluator").is_dir():
        raise InputError(
            f"{folder} is missing: without a judge nobody knows which side of a pair the backbone prefers; "
            f"give --data, or make one for the drawn world: `python -m train.miniature --stages evaluator --out "
            f"{backbone.folder}`"
        )
    world, judge = load_world(), load_judge(folder)
    shares = measure_shares(Engine(backbone), judge, concept_prompts(world), work / "shares.json")
    maker = PairMaker(world, load_principles(), shares, losers=losers)
    return drawn_pairs(maker, count, (backbone.defaults.height, backbone.defaults.width), seed)


def folder_data(backbone: Backbone, folder: Path, shown: bool) -> PreferenceSet:
    """Pairs of a folder; every problem goes to stderr, and their counts.

    Raises:
        InputError: it cannot be trained on.
    """
    report = Report()
    try:
        return read_pairs(folder, (backbone.defaults.height, backbone.defaults.width), report)
    finally:
        if shown:
            for problem in report.problems:
                print(problem, file=sys.stderr)
            counts = "".join(f", {n:,} x {fault}" for fault, n in report.counts().items())
            print(f"{report.rows:,} rows: {report.winners:,} preferred, {report.losers:,} not{counts}", file=sys.stderr)


RUNTIME_HELP = {
    "micro_batch": "pairs in one forward and backward pass; 0 is all",
    "gradient_checkpointing": "less memory, more time",
    "checkpoint_every": "keep an encoder every so many steps; 0 is none",
    "keep": "so many of them",
    "validate_every": "draw pictures every so many steps; 0 is none",
}


def _usual(name: str) -> str:
    """What a field of `TrainingConfig` is where no flag is given."""
    small, paper = getattr(MINIATURE, name), getattr(PAPER, name)
    if isinstance(small, bool):
        return "every step as the official trainer's"
    return f"({small})" if small == paper else f"({small} on the miniature, {paper} elsewhere)"


def add_arguments(parser: argparse.ArgumentParser, loss: PreferenceLoss) -> None:
    """All flags but those that the parser has: where, what, and the fields of `TrainingConfig` and `RuntimeOptions`."""
    parser.add_argument(
        "--backbone", default="miniature", help="miniature, a diffusers folder or a hub id (%(default)s)"
    )
    parser.add_argument("--data", type=Path, help="a folder of preference data; without it the drawn world's")
    parser.add_argument("--pairs", type=int, default=12_288, help="of the drawn world (%(default)s)")
    parser.add_argument("--losers", choices=get_args(Losers), default="twin",
                        help="the rejected picture of such a pair: the chosen one with the attribute changed, or any "
                        "other of its caption (%(default)s)")  # fmt: skip
    parser.add_argument("--principles", nargs="+", metavar="ID", choices=[p.id for p in load_principles()],
                        help="train on these alone (all)")  # fmt: skip
    parser.add_argument("--fraction", type=float, default=1.0, help="of the pairs (%(default)s)")
    parser.add_argument("--neutral", type=float, default=0.0, metavar="SHARE",
                        help="of the pairs, read under a text that says nothing of what they are about, and taught to "
                        "change nothing (%(default)s)")  # fmt: skip
    parser.add_argument("--work", type=Path, default=Path("runs/value_encoder"), help="to resume from (%(default)s)")
    parser.add_argument("--out", type=Path, help="the encoder's folder (value_encoder/ in the backbone's)")
    parser.add_argument("--threads", type=int, default=2, help="on the CPU (%(default)s)")
    parser.add_argument("--mixed-precision", choices=PRECISIONS, default="no", help="(%(default)s)")
    parser.add_argument("--track", choices=["tensorboard", "wandb"], help="log there too")
    add_fields(parser, RuntimeOptions, RUNTIME_HELP, leave_out=("validation", "about"))
    names = [field.name for field in fields(TrainingConfig)]
    add_fields(parser, MINIATURE, {name: _usual(name) for name in names}, optional=names)
    for key, default in constants(loss).items():
        parser.add_argument(f"--{key.replace('_', '-')}", type=float, default=default, help="(%(default)s)")


def run(
    parser: argparse.ArgumentParser, name: str, loss: PreferenceLoss, arguments: Sequence[str] | None = None
) -> None:
    """A command line that trains with `loss` and writes the encoder to `name` in the backbone's folder."""
    add_arguments(parser, loss)
    args = parser.parse_args(arguments)
    usual = MINIATURE if args.backbone == "miniature" else PAPER
    torch.set_num_threads(args.threads)
    try:
        config = read_fields(usual, args)
        _train(
            args, parser, name, functools.partial(loss, **{key: getattr(args, key) for key in constants(loss)}), config
        )
    except (InputError, BackboneError, JudgeError, FloatingPointError) as error:
        sys.exit(f"{parser.prog}: {error}")
    except (OSError, SafetensorError) as error:
        sys.exit(f"{parser.prog}: {error}; what was saved before is whole, and the same command goes on from it")


def _train(
    args: argparse.Namespace, parser: argparse.ArgumentParser, name: str, loss: PreferenceLoss, config: TrainingConfig
) -> None:
    if args.track and not importlib.util.find_spec(args.track):
        raise InputError(f"--track {args.track} needs its package: pip install {args.track}")
    accelerator = Accelerator(
        cpu=not torch.cuda.is_available(), mixed_precision=args.mixed_precision, log_with=args.track,
        project_dir=args.work,
    )  # fmt: skip
    backbone = load_backbone(args.backbone, accelerator.device, PRECISIONS[args.mixed_precision])
    if not denoiser_of(backbone.unet).is_flow:
        only_stable_diffusion(backbone, "training a value encoder")
    main = accelerator.is_main_process
    if args.data:
        data = folder_data(backbone, args.data, shown=main)
    else:
        with accelerator.main_process_first():
            data = drawn_data(backbone, args.work, args.pairs, config.seed, args.losers)
    data = with_neutral(data.only(args.principles, args.fraction), args.neutral)
    validation = tuple({row.principle.id: (row.prompt, row.principle.id) for row in data.rows}.values())
    about = {
        "command": _command(args, parser),
        "settings": settings_of(args, config, loss, data),
        "samples": dict(Counter(row.kind for row in data.rows)),
    }
    runtime = replace(read_fields(RuntimeOptions(), args), validation=validation, about=about)
    if args.track:
        accelerator.init_trackers("livo", asdict(config) | constants(loss))
    encoder, log = train_value_encoder(backbone, data, config, args.work, loss, runtime, accelerator)
    accelerator.end_training()
    if not main:
        return
    training = {
        "seconds": log[-1]["seconds"],
        "images": 2 * config.num_steps * config.batch_size,
        "steps": config.num_steps,
        **about,
    }
    out = args.out or backbone.folder / name
    save_encoder(encoder, out, half=True, training=training)
    print(f"written to {out}")


def settings_of(
    args: argparse.Namespace, config: TrainingConfig, loss: PreferenceLoss, data: PreferenceSet
) -> dict[str, object]:
    """All that decides the result, by name, defaults too: what trainings are compared by."""
    names = ("pairs", "losers", "principles", "fraction", "neutral", "mixed_precision")
    of_data = {name: getattr(args, name) for name in names} | {"data": data.source if args.data else "drawn"}
    return {"loss": getattr(loss, "func", loss).__name__, **constants(loss), **asdict(config), **of_data}


def _command(args: argparse.Namespace, parser: argparse.ArgumentParser) -> str:
    """The command that makes the encoder again: what differs from the defaults, no paths, nothing about the machine."""
    elsewhere = {"backbone", "data", "work", "out", "threads", "track"} | {
        field.name for field in fields(RuntimeOptions)
    }
    words = [parser.prog]
    for key, value in vars(args).items():
        if key in elsewhere or value == parser.get_default(key):
            continue
        words.append(f"--{key.replace('_', '-')}")
        words += [] if value is True else map(str, value if isinstance(value, list) else [value])
    return " ".join(words)


def main(arguments: Sequence[str] | None = None) -> None:
    """`python -m train.value_encoder`; the loss is read first, because it says which constants there are to set."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--loss", choices=LOSSES, default="livo", help="(%(default)s)")
    name = first.parse_known_args(arguments)[0].loss
    parser = argparse.ArgumentParser(
        prog="python -m train.value_encoder", description=__doc__.split("\n\n")[0], parents=[first], allow_abbrev=False
    )
    run(parser, "value_encoder" if name == "livo" else name.replace("-", "_"), LOSSES[name], arguments)


if __name__ == "__main__":
    main()
