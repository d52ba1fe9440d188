"""`python -m train.preference_data`: preference data as the paper's Sec. 3.4 makes it.

concepts   more concepts of a kind from a language model
prompts    prompts of a toxic kind from a language model
build      images and labels; any number of processes: accelerate launch -m train.preference_data build ...
export     a build in the official layout type/scene/metadata.jsonl
check      what of a folder in the official layout can be trained on
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

from livo.command_line import add_fields, read_fields
from livo.retriever.endpoint import Endpoint, Tally
from livo.runs import rank_of_process, weights_digest, write_whole
from livo.types import InputError
from train.preference_data.author import collect
from train.preference_data.concepts import CONCEPTS_PATH, KINDS, TOXIC, load_concepts
from train.preference_data.scenarios import (
    PAPER_PROMPTS,
    Scenario,
    check_split,
    drawn,
    photographs,
    read_prompts,
    without_doubles,
)
from train.preference_data.settings import HELP, SampleSettings

DRAWN = "drawn"


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(
        prog="python -m train.preference_data",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(dest="command", required=True)
    lists = argparse.ArgumentParser(add_help=False)
    lists.add_argument("--concepts", nargs="+", metavar="FILE",
                       help=f"concept files, or '{DRAWN}' for the drawn world's own (its default)")  # fmt: skip

    asking = argparse.ArgumentParser(add_help=False, parents=[lists])
    asking.add_argument("--base-url", required=True, help="OpenAI-compatible, such as http://localhost:8000/v1")
    asking.add_argument("--model", required=True)
    asking.add_argument("--count", type=int, default=50, help="how many (%(default)s)")
    asking.add_argument("--max-tokens", type=int, default=Endpoint.max_tokens, help="cost cap (%(default)s)")
    asking.add_argument("--timeout", type=float, default=Endpoint.timeout, help="seconds an answer (%(default)s)")
    asking.add_argument("--out", type=Path, required=True, help="the file to write; one that is there is added to")
    add = commands.add_parser("concepts", parents=[asking], help="more concepts from a language model")
    add.add_argument("--kind", choices=KINDS, required=True)
    add = commands.add_parser("prompts", parents=[asking], help="prompts of a toxic kind from a language model")
    add.add_argument("--kind", choices=TOXIC, required=True)

    add = commands.add_parser("build", parents=[lists], help="images and labels")
    add.add_argument("--backbone", default="miniature", help="miniature, a diffusers folder or a hub id (%(default)s)")
    add.add_argument("--judge", type=Path, help="the judge's folder (evaluator/ in the backbone's)")
    add.add_argument("--out", type=Path, default=Path("runs/preference_data"), help="(%(default)s)")
    add.add_argument("--prompts", nargs="+", metavar="KIND=N", default=[f"{k}={n}" for k, n in PAPER_PROMPTS.items()],
                     help="training prompts by kind at most; others are left out (%(default)s)")  # fmt: skip
    add.add_argument("--toxic-prompts", type=Path, metavar="FILE",
                     help="JSON lines {kind, prompt}: prompts of toxic kinds instead of the templates'")  # fmt: skip
    add_fields(add, SampleSettings, HELP, leave_out=("height", "width"),
               optional=("num_inference_steps", "guidance_scale"))  # fmt: skip
    add.add_argument("--licence", default="other", help="of the images, for the card: the generator's (%(default)s)")
    add.add_argument("--gpu-tflops", type=float, default=100.0, help="what a GPU sustains (%(default)s)")
    add.add_argument("--threads", type=int, default=2, help="on the CPU (%(default)s)")
    add.add_argument("--dry-run", action="store_true", help="print what it would take, and stop")

    add = commands.add_parser("export", help="write a build in the official layout")
    add.add_argument("build", type=Path)
    add.add_argument("out", type=Path)
    add = commands.add_parser("check", help="read a folder in the official layout and report")
    add.add_argument("folder", type=Path)
    add.add_argument("--json", action="store_true", help="print counts as JSON")
    return top


def scenarios_of(args: argparse.Namespace) -> tuple[list[Scenario], list[Scenario]]:
    """Training and evaluation scenarios that a build's arguments ask for.

    Raises:
        InputError: an argument or a file is wrong, or training and evaluation overlap.
    """
    limits = {}
    for word in args.prompts:
        kind, _, number = word.partition("=")
        if kind not in KINDS or not number.isdecimal() or int(number) < 1:
            raise InputError(f"--prompts {word}: wanted KIND=N, N at least 1; kinds are: {', '.join(KINDS)}")
        limits[kind] = int(number)
    if (args.concepts or [DRAWN if args.backbone == "miniature" else str(CONCEPTS_PATH)]) == [DRAWN]:
        from livo.miniature.world import load_world

        train, evaluation = drawn(load_world(), limits)
    else:
        train, evaluation = photographs(load_concepts(args.concepts or (CONCEPTS_PATH,)), limits)
    if args.toxic_prompts:
        own = read_prompts(args.toxic_prompts, load_concepts())
        train = [s for s in train if s.kind not in TOXIC] + own
    train = without_doubles(train)
    check_split(train, evaluation)
    return train, evaluation


def run_build(args: argparse.Namespace) -> None:
    """Prints the cost, then builds."""
    train, evaluation = scenarios_of(args)
    import torch

    from livo.classifiers.judge import load_judge
    from livo.diffusion.backbones import load_backbone, only_stable_diffusion
    from livo.diffusion.engine import Engine
    from train.preference_data.build import BuildPlan, build
    from train.preference_data.card import table
    from train.preference_data.cost import estimate

    torch.set_num_threads(args.threads)
    rank, world_size, local = rank_of_process()
    device = f"cuda:{local % torch.cuda.device_count()}" if torch.cuda.is_available() else "cpu"
    backbone = only_stable_diffusion(load_backbone(args.backbone, device), "python -m train.preference_data")
    usual = backbone.defaults
    size = SampleSettings(usual.num_inference_steps, usual.guidance_scale, usual.height, usual.width)
    settings = read_fields(size, args)
    cost = estimate(dict(backbone.unet.config), backbone.vae_scale, train, settings, args.gpu_tflops)
    if rank == 0:
        print(f"prompts   {len(train):,} to train, {len(evaluation):,} to evaluate\n{cost.lines()}", flush=True)
    if args.dry_run:
        return
    folder = args.judge or backbone.folder / "evaluator"
    judge = load_judge(folder)
    made_by = {
        "generator": args.backbone,
        "generator_digest": weights_digest(backbone.text_encoder, backbone.unet, backbone.vae),
        "judge": folder.name,
        "judge_digest": weights_digest(judge.model),
        "device": device.partition(":")[0],
        "licence": "mit" if args.backbone == "miniature" else args.licence,
    }
    plan = BuildPlan(settings, tuple(train), tuple(evaluation), made_by)
    manifest = build(Engine(backbone), judge, plan, args.out, rank=rank, world_size=world_size)
    if manifest is None:
        print(f"process {rank} is done; the last process to finish writes {args.out / 'manifest.json'}")
    else:
        print(f"{table(manifest['statistics'])}\nwritten to {args.out}")


def run_author(args: argparse.Namespace) -> None:
    """Asks a language model, and keeps what is new after every item: a kill loses nothing."""
    paths = args.concepts or [str(CONCEPTS_PATH)]
    as_prompts = args.command == "prompts"
    known = list(load_concepts(paths)[args.kind].concepts)
    rows: list[str] = []
    if args.out.exists() and not as_prompts:
        rows = list(load_concepts([*paths, args.out])[args.kind].concepts)[len(known) :]
    elif args.out.exists():
        rows = [s.prompt for s in read_prompts(args.out, load_concepts()) if s.kind == args.kind]
    before, tally = len(rows), Tally()
    endpoint = Endpoint(args.base_url, args.model, timeout=args.timeout, max_tokens=args.max_tokens)
    for item in collect(endpoint, args.kind, [*known, *rows], args.count, tally, prompts=as_prompts, seed=before):
        rows.append(item)
        if as_prompts:
            text = "".join(json.dumps({"kind": args.kind, "prompt": row}, ensure_ascii=False) + "\n" for row in rows)
        else:
            text = yaml.safe_dump({args.kind: {"concepts": rows}}, allow_unicode=True, width=110)
        write_whole(args.out, text.encode())
    print(f"{len(rows) - before} new in {args.out} ({tally.line()})")
    if len(rows) == before:
        sys.exit(f"python -m train.preference_data: {args.base_url} gave nothing that can be used")


def run_check(args: argparse.Namespace) -> None:
    """Prints every problem to stderr and the counts to stdout."""
    from train.preference_data.official import Report, read_official

    report = Report()
    scenes = sum(1 for _ in read_official(args.folder, report))
    for problem in report.problems:
        print(problem, file=sys.stderr)
    numbers = {"scenes": scenes, "rows": report.rows, "winners": report.winners, "losers": report.losers}
    if args.json:
        print(json.dumps(numbers | {"problems": dict(report.counts())}))
    else:
        print(", ".join(f"{n:,} {what}" for what, n in (numbers | dict(report.counts())).items()))


def main(arguments: Sequence[str] | None = None) -> None:
    """`python -m train.preference_data`."""
    from livo.classifiers.judge import JudgeError
    from livo.diffusion.backbones import BackboneError

    args = parser().parse_args(arguments)
    try:
        if args.command == "build":
            run_build(args)
        elif args.command == "export":
            from train.preference_data.official import export_official

            print(f"{export_official(args.build, args.out):,} scenes in {args.out}")
        elif args.command == "check":
            run_check(args)
        else:
            run_author(args)
    except (InputError, BackboneError, JudgeError) as error:
        sys.exit(f"python -m train.preference_data: {error}")


if __name__ == "__main__":
    main()
