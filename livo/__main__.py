"""The command line: `python -m livo compare PROMPT`, `retrieve PROMPT`, `benchmark`, `evaluate`, `study` and `workshop`.

A composition root: it joins the backbone, the methods of `baselines/` and the judge, and knows how none of them work.
Nothing heavy is imported before the arguments are known to be good.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from livo import principle_check
from livo.classifiers import choice as judges
from livo.classifiers.answers import BiasFigures, ToxicityFigures
from livo.classifiers.hub import JudgeError
from livo.classifiers.panel import OCCUPATION, TOXICITY
from livo.compare import ALL_THAT_APPLY, AUTO, NONE, compare, make_request, principle_of_choice
from livo.evaluation import command as evaluation
from livo.inputs import add_model_arguments, method_settings, parse_seeds, validate_prompt
from livo.record import ComparisonRecord
from livo.retriever import Retriever, retrieve
from livo.retriever import command as retrieval
from livo.study.commands import add_arguments as add_study_arguments
from livo.study.commands import run as run_study_command
from livo.types import InputError, Progress, Retrieval
from livo.vocabulary import vocabulary_of
from livo.workshop import commands as workshop

ALL = "all"
DESCRIPTION = "LiVO: one prompt, a value principle retrieved from it, and aligned images beside the original's."


def build_parser(benchmark: bool = False) -> argparse.ArgumentParser:
    """The arguments of all commands.

    Args:
        benchmark: with those of `benchmark` too; they come with torch, which the other commands parse without.
    """
    parser = argparse.ArgumentParser(prog="python -m livo", description=DESCRIPTION, allow_abbrev=False)
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="{compare,retrieve,principles,benchmark,evaluate,study,workshop}"
    )
    run = commands.add_parser("compare", help="generate, judge and measure", allow_abbrev=False)
    run.add_argument("prompt", metavar="PROMPT")
    add_model_arguments(run)
    run.add_argument(
        "--methods", default="stable_diffusion,livo", help=f"by comma, of baselines/, or {ALL} (%(default)s)"
    )
    run.add_argument(
        "--principle",
        default=AUTO,
        help=f"{AUTO}, {ALL_THAT_APPLY} (that apply), {NONE}, or a principle's id (%(default)s)",
    )
    run.add_argument("--dense", metavar="FOLDER", help="the retriever also by sentence embeddings, as retrieve --dense")
    run.add_argument("--seeds", default="0-7", help="such as 0-49,60: one image each (%(default)s)")
    run.add_argument("--steps", type=int, help="solver steps (the backbone's own)")
    run.add_argument("--guidance", type=float, help="guidance scale (the backbone's own)")
    run.add_argument("--out", type=Path, default=Path("comparison"), help="folder for the images (%(default)s)")
    run.add_argument("--json", action="store_true", help="JSON alone on standard output")
    ask = commands.add_parser("retrieve", help="the principles that a prompt calls for, and why", allow_abbrev=False)
    retrieval.add_arguments(ask)
    principle_check.add_arguments(
        commands.add_parser("principles", help="list them, or what one still lacks", allow_abbrev=False)
    )
    bench = commands.add_parser("benchmark", help="one batch against five diffusers pipelines", allow_abbrev=False)
    if benchmark:
        _quiet_libraries()
        from baselines._benchmark.command import add_arguments

        add_arguments(bench)
    evaluation.add_arguments(commands.add_parser("evaluate", help="the paper's tables and figures", allow_abbrev=False))
    add_study_arguments(
        commands.add_parser("study", help="human evaluation: make a study, serve it, report", allow_abbrev=False)
    )
    workshop.add_arguments(
        commands.add_parser("workshop", help="lessons for a class: check, print, serve", allow_abbrev=False)
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command.

    Returns:
        0, or 2 where the input, the weights or the folder cannot be used: one line on standard error says why.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    args = build_parser(benchmark=arguments[:1] == ["benchmark"]).parse_args(arguments)
    try:
        with _stdout_kept_for_the_answer() as answer:
            runs = {
                "compare": run_compare, "retrieve": run_retrieve, "principles": run_principles,
                "benchmark": run_benchmark, "evaluate": run_evaluate, "study": run_study,
                "workshop": run_workshop,
            }  # fmt: skip
            text = runs[args.command](args)
            print(text, file=answer)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        print("livo: stopped", file=sys.stderr)
        return 130
    except (ValueError, RuntimeError, OSError) as error:
        if not _is_for_people(error):
            raise
        print(f"livo: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


def run_retrieve(args: argparse.Namespace) -> str:
    """The answer of `retrieve`, as JSON or as lines."""
    return retrieval.run(args)


def run_principles(args: argparse.Namespace) -> str:
    """The answer of `principles`; methods are known by their files, and none is loaded."""
    _quiet_libraries()
    from baselines import available

    return principle_check.run(args, {id: module.RISKS for id, module in available().items()})


class Saved(NamedTuple):
    """A comparison whose images are in a folder: their paths and the methods' titles by id."""

    record: ComparisonRecord
    paths: Mapping[str, Sequence[str]]
    titles: Mapping[str, str]


def run_compare(args: argparse.Namespace) -> str:
    """The answer of `compare`, as JSON or as a table; the images are in the folder by then."""
    retriever = Retriever(dense=args.dense) if args.dense else retrieve
    (saved,) = _comparisons(args, {args.prompt: args.out}, retriever)
    return _json(saved.record.to_json(saved.paths)) if args.json else format_table(saved, args.out)


def run_study(args: argparse.Namespace) -> str:
    """The answer of `study`; it alone knows how to make a study's images."""

    def generate(args: argparse.Namespace, scratch: Path) -> tuple[list[dict[str, Any]], dict[str, str]]:
        made = list(_comparisons(args, {prompt: scratch / str(i) for i, prompt in enumerate(args.prompts)}))
        return [saved.record.to_json(saved.paths) for saved in made], dict(made[0].titles)

    return run_study_command(args, generate)


def run_workshop(args: argparse.Namespace) -> str:
    """The answer of `workshop`; `pack` alone needs methods."""

    def load(ids: Sequence[str], engine: Any) -> Mapping[str, Any]:
        _quiet_libraries()
        from baselines import load_methods

        return load_methods(ids, engine)

    return workshop.run(args, load)


def _comparisons(
    args: argparse.Namespace, prompts: Mapping[str, Path], retriever: Callable[[str], Retrieval] = retrieve
) -> Iterator[Saved]:
    """Compares each prompt into its folder."""
    seeds = parse_seeds(args.seeds)
    prompts = {validate_prompt(prompt): out for prompt, out in prompts.items()}
    principle_of_choice(args.principle)
    judges.parse_judges(args.judge)
    ids = list(dict.fromkeys(id.strip() for id in args.methods.split(",") if id.strip()))
    if not ids:
        raise InputError("no method was asked for: give --methods stable_diffusion,livo")
    for out in prompts.values():
        _check_writable(out)

    _quiet_libraries()
    from baselines import available, load_methods
    from livo.diffusion.backbones import load_backbone
    from livo.diffusion.engine import Engine
    from livo.types import SamplingOptions

    if ids == [ALL]:
        ids = list(available())
    if unknown := [id for id in ids if id not in available()]:
        raise InputError(f"no method {unknown[0]!r} in baselines/; there are: {', '.join(available())}")
    backbone = load_backbone(args.backbone, args.device, args.dtype)
    defaults = backbone.defaults
    options = SamplingOptions(
        seeds,
        defaults.num_inference_steps if args.steps is None else args.steps,
        defaults.guidance_scale if args.guidance is None else args.guidance,
        defaults.height,
        defaults.width,
    )
    engine = Engine(backbone)
    entries = load_methods(ids, engine, method_settings(args))
    problems = [entry.problem for entry in entries.values() if entry.problem]
    if len(problems) == len(entries):
        raise InputError(problems[0])
    for problem in problems:
        print(f"livo: {problem}", file=sys.stderr)
    judge = _judge(args.judge, backbone)
    titles, known = {id: entries[id].title for id in ids}, vocabulary_of(backbone.name)
    for prompt, out in prompts.items():
        request = make_request(prompt, ids, options, args.principle, retriever, known)
        for item in compare(request, engine=engine, methods=entries, judge=judge):
            if isinstance(item, Progress):
                line = f"\rstep {item.step} of {item.num_steps}, {item.seconds:.1f} s"
                print(line, end="", file=sys.stderr, flush=True)
            else:
                saved = Saved(item.record(), item.save_images(out), titles)
        print(file=sys.stderr)
        text = _json(saved.record.to_json(saved.paths))
        (out / "comparison.json").write_text(text + "\n", encoding="utf-8")
        yield saved


def _judge(choice: str, backbone: Any) -> Any:
    """The judge; where nobody chose one, one that is not here costs the figures and not the images."""
    try:
        return judges.load_judges(choice, backbone.folder, backbone.device)
    except JudgeError as error:
        if choice != judges.AUTO or (backbone.folder / "evaluator").is_dir():
            raise
        print(f"livo: backbone {backbone.name} has no judge: images without figures; {error}", file=sys.stderr)
    return None


def run_benchmark(args: argparse.Namespace) -> str:
    """The answer of `benchmark`, as JSON or as tables."""
    from baselines._benchmark.command import run

    return run(args)


def run_evaluate(args: argparse.Namespace) -> str:
    """The answer of `evaluate`: where the results are, or a table or figure of them as Markdown."""
    _quiet_libraries()
    if not (args.table or args.figure or args.report or args.readme):
        _check_writable(args.out)

    def load(ids: Sequence[str], engine: Any) -> dict[str, Any]:
        from baselines import load_methods

        return load_methods(ids, engine)

    return evaluation.run(args, load)


def format_table(saved: Saved, out: Path) -> str:
    """The comparison for people: methods in columns, percentages with their intervals."""
    record, titles = saved.record, saved.titles
    rows: dict[str, dict[str, str]] = {}

    def put(name: str, id: str, text: str) -> None:
        rows.setdefault(name, {})[id] = text

    for id, method in record.methods.items():
        put("images", id, str(len(saved.paths.get(id, ()))))
        for question, answer in method.answers.items():
            if question in (TOXICITY, OCCUPATION):
                continue
            figures = method.figures.get(question)
            bias = figures if isinstance(figures, BiasFigures) else None
            for name, count in zip(answer.classes, answer.counts, strict=True):
                text = str(count)
                if bias:
                    low, high = bias.intervals[name]
                    text = f"{100 * count / bias.n:.0f} % ({100 * low:.0f}-{100 * high:.0f})"
                put(f"perceived {name}", id, text)
            put(f"{question}: cannot tell", id, str(answer.abstained))
            if bias:
                pairs = zip((bias.discrepancy_range, bias.discrepancy_l2), bias.floor, strict=True)
                for name, (value, floor) in zip(("D1", "D2"), pairs, strict=True):
                    put(f"{question} {name} (fair sampler)", id, f"{100 * value:.1f} ({100 * floor:.1f})")
                known = f"{100 * bias.corrected.discrepancy_range:.1f}" if bias.corrected else "not measured"
                put(f"{question} D1, judge's errors corrected", id, known)
        if isinstance(toxicity := method.figures.get(TOXICITY), ToxicityFigures):
            put("toxic images", id, f"{100 * toxicity.toxicity_ratio:.0f} %")
            put("toxicity score", id, f"{100 * toxicity.toxicity_score:.1f}")
            known = f"{100 * toxicity.corrected.toxicity_ratio:.0f} %" if toxicity.corrected else "not measured"
            put("toxic images, judge's errors corrected", id, known)
        for question, two in method.agreement.items():
            kappa = "-" if two.kappa is None else f"{two.kappa:.2f}"
            put(f"{question}: {two.second} agrees (kappa)", id, f"{100 * two.alike:.0f} % ({kappa})")
        if cost := method.cost:
            put("U-Net rows a step", id, f"{cost.rows:.4g}")
            put("GFLOP an image", id, f"{1000 * cost.tflop:.4g}")
            put("added to the model", id, f"{cost.artefact.bytes / 1e6:.2f} MB" if cost.artefact else "-")
    label = max(map(len, rows), default=0)
    methods = list(record.methods)
    widths = {id: max(len(titles[id]), *(len(row.get(id, "-")) for row in rows.values())) for id in methods}
    told = record.to_json()
    lines = [f"prompt     {record.prompt}", *retrieval.principle_lines(told["principle"], told["evidence"]), ""]
    lines.append("  ".join([" " * label, *(titles[id].rjust(widths[id]) for id in methods)]))
    for name, row in rows.items():
        lines.append("  ".join([name.ljust(label), *(row.get(id, "-").rjust(widths[id]) for id in methods)]))
    lines += [f"note: {remark}" for remark in record.remarks]
    lines += [f"{titles[id]}: {method.reason}" for id, method in record.methods.items() if method.reason]
    return "\n".join([*lines, "", f"images and comparison.json are in {out}"])


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _check_writable(out: Path) -> None:
    """Before any work: an hour's images must not be lost to a read-only folder."""
    probe = out / f".{os.getpid()}"
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"the folder {out} cannot be written ({reason}): give another with --out") from error


@contextlib.contextmanager
def _stdout_kept_for_the_answer() -> Iterator[Any]:
    """Whatever a library prints goes to standard error; the answer alone goes to standard output."""
    answer = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):
        yield answer
    answer.flush()


def _is_for_people(error: Exception) -> bool:
    """Whether the message was written for the person at the keyboard, by class name: torch stays unimported."""
    names = {cls.__name__ for cls in type(error).__mro__}
    return bool(
        names & {"InputError", "BackboneError", "ValueEncoderError", "ProjectionError", "JudgeError", "OSError"}
    )


def _quiet_libraries() -> None:
    """Progress bars and advice of the libraries would drown the one line that matters."""
    for name in ("HF_HUB_DISABLE_PROGRESS_BARS", "TQDM_DISABLE"):
        os.environ.setdefault(name, "1")
    for name in ("TRANSFORMERS_VERBOSITY", "DIFFUSERS_VERBOSITY"):
        os.environ.setdefault(name, "error")


if __name__ == "__main__":
    sys.exit(main())
