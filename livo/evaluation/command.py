"""`python -m livo evaluate`: generates and judges the evaluation set, or prints a table or figure of what was found.

    python -m livo evaluate --quick --out runs/quick                  # 20 images a prompt, fewer prompts
    torchrun --nproc-per-node 2 -m livo evaluate --threads 1          # all of it, on two processes
    python -m livo evaluate --table 2 --results runs/evaluation

Nothing heavy is imported before the arguments are known to be good.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from livo.classifiers.choice import load_judges, parse_judges
from livo.evaluation.parts import SD, Part, SamplingSetting, choose_parts, evaluation_parts
from livo.inputs import add_change_arguments, model_changes
from livo.miniature.world import load_world
from livo.runs import check_writable
from livo.types import InputError

TABLES = ("1", "2", "3")
FIGURES = ("3a", "3b", "3c", "4", "5")
REPORTS = ("claims", "controls", "attacks", "card", "trainings", "margins")
METHODS = "stable_diffusion,fair_diffusion,concept_ablation,uce,dapt,dpo,dpo_d,livo"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What can be asked of an evaluation."""
    run = parser.add_argument_group("generate and judge")
    run.add_argument(
        "--backbone",
        default="miniature",
        help="miniature, or a diffusers folder with a judge in evaluator/ (%(default)s)",
    )
    run.add_argument(
        "--judge",
        default="auto",
        metavar="NAME",
        help="evaluator or open_clip, as NAME:OPTION@FOLDER (the backbone's, else open_clip)",
    )
    add_change_arguments(run)
    run.add_argument("--methods", default=METHODS, help="by comma, of baselines/ (%(default)s)")
    run.add_argument("--value-encoders", nargs="+", default=[], metavar="NAME=FOLDER",
                     help="these trainings alone: LiVO with another value encoder, or edited weights; figures know "
                     "fraction-20, gamma-1.0-0.5, livo-at-300, dpo-at-300 and without-margin by their names, tables "
                     "livo-seed-1, dpo-seed-1 and so on as further trainings of a method")  # fmt: skip
    run.add_argument("--parts", default="", help="by comma, such as bias,toxicity,reference (all; of trainings those)")
    run.add_argument("--quick", action="store_true", help="20 images a prompt, a third of the prompts, no sweeps")
    run.add_argument("--every", type=int, default=0, metavar="N", help="every N-th prompt (all; half for trainings)")
    run.add_argument("--images", type=int, default=0, metavar="N", help="a prompt (50; 20 for trainings)")
    run.add_argument("--validation", action="store_true", help="on the prompts that settings are chosen on")
    run.add_argument("--steps", type=int, help="solver steps (the backbone's own)")
    run.add_argument("--guidance", type=float, help="guidance scale (the backbone's own)")
    run.add_argument("--threads", type=int, help="CPU threads of each process (an even share of them)")
    run.add_argument("--keep-images", action="store_true", help="write every image as PNG under OUT/images")
    run.add_argument(
        "--attacks", action="store_true", help="attack the methods that detoxify, instead of asking plainly"
    )
    run.add_argument("--dry-run", action="store_true", help="print how many images it would be, and stop")
    run.add_argument(
        "--out",
        type=Path,
        default=Path("runs/evaluation"),
        help="folder of the run; the same command goes on there (%(default)s)",
    )
    show = parser.add_argument_group("print what was found, as Markdown")
    what = show.add_mutually_exclusive_group()
    what.add_argument("--table", choices=TABLES, help="of the paper")
    what.add_argument("--figure", choices=FIGURES, help="of the paper")
    what.add_argument(
        "--report",
        choices=REPORTS,
        help="the paper's claims, the methods that the paper lacks, attacks on methods, what made every figure, all "
        "trainings with new seeds counted, or the margins that the written rule chooses on validation prompts",
    )
    what.add_argument(
        "--readme", type=Path, metavar="FILE", help="put tables, figures and claims between this file's markers"
    )
    what.add_argument(
        "--check", action="store_true", help="make all stored tables and figures again, and say what differs"
    )
    show.add_argument("--results", type=Path, nargs="+", help="results files or their folders (assets/results)")
    show.add_argument("--save", type=Path, metavar="FOLDER", help="also as CSV, SVG or PNG in this folder")


def run(args: argparse.Namespace, load_methods: Callable) -> str:
    """The answer of `evaluate`.

    Args:
        load_methods: (ids, engine) -> entries by id.

    Raises:
        InputError: something asked for cannot be used.
    """
    if args.table or args.figure or args.report or args.readme or args.check:
        from livo.evaluation.report import answer

        return answer(args)
    if args.save or args.results:
        raise InputError(
            "--save and --results go with --table, --figure, --report, --readme or --check: give one of them"
        )
    check_writable(args.out)
    return evaluate(args, load_methods)


def evaluate(args: argparse.Namespace, load_methods: Callable) -> str:
    """Runs, and says where the results are."""
    ids = list(dict.fromkeys(id.strip() for id in args.methods.split(",") if id.strip()))
    if args.threads is not None and args.threads < 1:
        raise InputError(f"--threads {args.threads} computes nothing: give 1 or more")
    for name in ("steps", "guidance"):
        if (value := getattr(args, name)) is not None and not 0 < value <= 200:
            raise InputError(f"--{name} {value} cannot be run: give more than 0, and at most 200")

    for name in ("every", "images"):
        if getattr(args, name) < 0:
            raise InputError(f"--{name} {getattr(args, name)}: give 1 or more")
    parse_judges(args.judge)
    encoders, world = parse_encoders(args.value_encoders), load_world()

    def parts_at(setting: SamplingSetting) -> tuple[Part, ...]:
        every = evaluation_parts(
            world, setting, quick=args.quick, encoders=list(encoders), every=args.every, images=args.images,
            validation=args.validation,
        )  # fmt: skip
        return choose_parts(every, args.parts or ("bias,toxicity,reference" if encoders or args.validation else ""))

    parts_at(SamplingSetting(1, 1.0))

    import os

    import torch

    from livo.classifiers.judge import ClipJudge
    from livo.diffusion.engine import load_engine
    from livo.evaluation.methods import build_methods
    from livo.evaluation.run import CPU_BUDGET, Evaluation, sampler_name, to_stderr
    from livo.runs import rank_of_process

    rank, world_size, local = rank_of_process()
    torch.set_num_threads(args.threads or max(1, (os.cpu_count() or 1) // world_size))
    device = f"cuda:{local % torch.cuda.device_count()}" if torch.cuda.is_available() else "cpu"
    budget = CPU_BUDGET if device == "cpu" else None
    engine = load_engine(args.backbone, device, changes=model_changes(args), memory_budget=budget)
    backbone = engine.backbone
    d = backbone.defaults
    setting = SamplingSetting(
        args.steps or d.num_inference_steps, d.guidance_scale if args.guidance is None else args.guidance,
        sampler_name(engine.scheduler_class),
    )  # fmt: skip
    parts = parts_at(setting)
    judge = load_judges(args.judge, backbone.folder, device)
    if not isinstance(judge, ClipJudge):  # FID, KID, IS and the CLIP score are of its features
        raise InputError(
            f"--judge {args.judge}: an evaluation needs one judge with features of images: evaluator, or open_clip"
        )
    methods = build_methods(engine, load_methods([SD] if encoders else ids, engine), encoders)
    if args.attacks:
        from livo.evaluation.attack_run import Attacker

        chosen = {id: method for id, method in methods.items() if id in (SD, *ids, *encoders)}
        made = Attacker(engine, judge, chosen, world, args.out).run(rank, world_size, to_stderr if not rank else None)
        return f"attacks are in {made}" if made else f"process {rank} is done; the last one to finish writes the file"
    evaluation = Evaluation(engine, judge, methods, parts, args.out, pictures=args.keep_images)
    counts = evaluation.count()
    if args.dry_run:
        return "\n".join(
            [
                *(f"{name:<12}{n:>8,} images" for name, n in counts.items()),
                f"{'all':<12}{sum(counts.values()):>8,} images",
            ]
        )
    found = evaluation.run(rank, world_size, to_stderr if rank == 0 else None)
    if found is None:
        return f"process {rank} is done; the last one to finish writes the results file"
    return f"{sum(counts.values()):,} images; results are in {found}"


def parse_encoders(words: Sequence[str]) -> dict[str, Path]:
    """`NAME=FOLDER` of the command line.

    Raises:
        InputError: a word without a name or a folder, or a name given twice.
    """
    found: dict[str, Path] = {}
    for word in words:
        name, sign, path = word.partition("=")
        if not sign or not name or not path:
            raise InputError(f"--value-encoders {word!r}: give NAME=FOLDER, such as fraction-20=runs/fraction-20")
        if name in found:
            raise InputError(f"--value-encoders: the name {name!r} stands there twice")
        found[name] = Path(path)
    return found
