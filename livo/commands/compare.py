"""`python -m livo compare PROMPT`: one prompt through any methods, as images, JSON and a table.

Nothing heavy is imported before the arguments are known to be good.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from livo.classifiers.answers import BiasFigures, ToxicityFigures
from livo.classifiers.choice import AUTO as ANY_JUDGE
from livo.classifiers.choice import load_judges, parse_judges
from livo.classifiers.hub import JudgeError
from livo.classifiers.panel import COLOUR, OCCUPATION, TOXICITY
from livo.commands.many_prompts import COMPARISON, Clock, Place, open_run, prompts_csv, table_json, table_of, text_of
from livo.commands.prompt_file import FilePrompt, read_prompts
from livo.compare.comparison import (
    ALL_THAT_APPLY,
    AUTO,
    NONE,
    Comparison,
    ComparisonRequest,
    compare,
    make_request,
    principle_of_choice,
)
from livo.compare.outlook import outlook, spoken
from livo.compare.record import ComparisonRecord
from livo.inputs import (
    add_model_arguments,
    add_sampling_arguments,
    method_settings,
    model_changes,
    parse_seeds,
    validate_negative_prompt,
    validate_prompt,
)
from livo.presentation.card import Pictures, card_png
from livo.retriever import Retriever, retrieve
from livo.retriever.command import DENSE_HELP, principle_lines
from livo.retriever.dense import AUTO as IF_INSTALLED
from livo.retriever.minors import check_minors
from livo.retriever.vocabulary import vocabulary_of
from livo.runs import check_writable, write_whole
from livo.types import InputError, Progress, Retrieval

ALL = "all"
NOT_ASKED = ("command", "prompt", "prompts", "out", "json", "card", "dry_run", "device")
"""Arguments that do not decide what a run's figures are."""


class Methods(Protocol):
    """What `baselines` offers: which methods there are, and loading them."""

    def available(self) -> Mapping[str, Any]: ...

    def load_methods(
        self, ids: Sequence[str], engine: Any, settings: Mapping[str, Mapping[str, Any]] | None = None, /
    ) -> Mapping[str, Any]: ...


def add_arguments(run: argparse.ArgumentParser) -> None:
    """The arguments of `compare`."""
    run.add_argument("prompt", metavar="PROMPT", nargs="?")
    run.add_argument(
        "--prompts", type=Path, metavar="FILE",
        help="many at once: a text file with a prompt a line, or .csv or .jsonl with prompt and, where wanted, "
        "evaluation_seed; a run that was stopped goes on",
    )  # fmt: skip
    add_model_arguments(run)
    run.add_argument(
        "--methods", default="stable_diffusion,livo", help=f"by comma, of baselines/, or {ALL} (%(default)s)"
    )
    run.add_argument(
        "--principle",
        default=AUTO,
        help=f"{AUTO}, {ALL_THAT_APPLY} (that apply), {NONE}, or a principle's id (%(default)s)",
    )
    run.add_argument("--dense", default=IF_INSTALLED, metavar="HEAD", help=DENSE_HELP)
    add_sampling_arguments(run, seeds="0-7")
    run.add_argument("--out", type=Path, default=Path("comparison"), help="folder for the images (%(default)s)")
    run.add_argument(
        "--card", action="store_true", help="also card.png in the folder: all of it as one picture to share"
    )
    run.add_argument(
        "--dry-run", action="store_true", help="only what it would take: rows, TFLOP, memory, seconds by a short probe"
    )
    run.add_argument("--json", action="store_true", help="JSON alone on standard output")


class Saved(NamedTuple):
    """A comparison whose images are in a folder: their paths and the methods' titles by id."""

    record: ComparisonRecord
    paths: Mapping[str, Sequence[str]]
    titles: Mapping[str, str]


def run(args: argparse.Namespace, methods: Methods) -> str:
    """The answer of `compare`, as JSON or as a table; the images are in the folder by then."""
    if (args.prompt is None) == (args.prompts is None):
        raise InputError("give a prompt, or a file of them with --prompts: one of the two")
    retriever = retrieve if args.dense == IF_INSTALLED else Retriever(dense=args.dense)
    if args.prompts:
        return run_file(args, methods, retriever)
    if args.dry_run:
        return dry_run(args, [Place(FilePrompt("", args.prompt), args.out)], methods, retriever)
    (saved,) = comparisons(args, [Place(FilePrompt("", args.prompt), args.out)], methods, retriever)
    if not any(saved.paths.values()):
        reasons = "; ".join(dict.fromkeys(method.reason for method in saved.record.methods.values()))
        raise InputError(f"no method made a picture: {reasons}")
    return _json(saved.record.to_json(saved.paths)) if args.json else format_table(saved, args.out)


def run_file(args: argparse.Namespace, methods: Methods, retriever: Callable[[str], Retrieval]) -> str:
    """The answer of `compare --prompts`: the prompts that are not done yet are, then one table over all."""
    seeds, prompts = parse_seeds(args.seeds), read_prompts(args.prompts)
    asked = {key: value for key, value in vars(args).items() if key not in NOT_ASKED}
    file_run = open_run(args.out, asked, prompts)
    todo = [place for place in file_run.places if place.stored(seeds) is None]
    if args.dry_run and todo:
        return dry_run(args, todo, methods, retriever)
    clock = Clock(len(file_run.places) - len(todo), len(file_run.places))

    def report(step: Progress) -> str:
        if step.step == 1:
            file_run.begin()
        return clock.line(step.step, step.num_steps)

    for _ in comparisons(args, todo, methods, retriever, report):
        clock.done += 1
    print(file=sys.stderr)
    records = [place.stored(seeds) for place in file_run.places]
    made = [(place, record) for place, record in zip(file_run.places, records, strict=True) if record]
    if not made:
        raise InputError(f"no method made a picture: {args.out}/*/comparison.json says why")
    titles = {id: methods.available()[id].TITLE for id in made[0][1].methods}
    table = table_of([record for _, record in made], titles)
    (args.out / "table.csv").write_text(table.csv(), encoding="utf-8")
    (args.out / "prompts.csv").write_text(prompts_csv(made), encoding="utf-8")
    if args.json:
        return _json({"table": table_json(table), "comparisons": [str(place.out / COMPARISON) for place, _ in made]})
    lacking = len(records) - len(made)
    lines = [text_of(table), "", table.note, *([f"{lacking} prompts have no picture: prompts.csv"] if lacking else [])]
    return "\n".join([*lines, f"table.csv, prompts.csv and a folder a prompt are in {args.out}"])


def step_line(report: Progress) -> str:
    """The line of progress of one prompt."""
    return f"step {report.step} of {report.num_steps}, {report.seconds:.1f} s"


def comparisons(
    args: argparse.Namespace,
    places: Sequence[Place],
    methods: Methods,
    retriever: Callable[[str], Retrieval],
    report: Callable[[Progress], str] = step_line,
) -> Iterator[Saved]:
    """Compares each prompt into its folder; `comparison.json` is written last, and whole.

    Args:
        report: the line of progress after a solver step.

    Raises:
        InputError: as `prepare`.
    """
    if not places:
        return
    ready = prepare(args, places, methods, retriever, places[0].out)
    titles = {id: entry.title for id, entry in ready.entries.items()}
    for place, request in zip(places, ready.requests, strict=True):
        out = place.out
        out.mkdir(parents=True, exist_ok=True)
        for item in compare(request, engine=ready.engine, methods=ready.entries, judge=ready.judge):
            if isinstance(item, Progress):
                print(f"\r{report(item):<72}", end="", file=sys.stderr, flush=True)
            else:
                saved = Saved(item.record(), item.save_images(out), titles)
                if getattr(args, "card", False):  # a study's images have none
                    (out / "card.png").write_bytes(card_of(item, titles))
        if report is step_line:
            print(file=sys.stderr)
        text = _json(saved.record.to_json(saved.paths))
        write_whole(out / COMPARISON, (text + "\n").encode())
        yield saved


def dry_run(
    args: argparse.Namespace, places: Sequence[Place], methods: Methods, retriever: Callable[[str], Retrieval]
) -> str:
    """What the work would take, for people or as JSON; no picture is written."""
    ready = prepare(args, places, methods, retriever)
    found = outlook(ready.requests, engine=ready.engine, methods=ready.entries, judge=ready.judge)
    if args.json:
        return _json({"dry_run": found.to_json()})
    backbone, asked = ready.engine.backbone, ready.requests[0].options
    return "\n".join(
        [
            f"prompts      {found.prompts}",
            f"images       {found.images}",
            f"sampler      {ready.engine.scheduler_class.__name__}, {asked.num_inference_steps} steps, guidance "
            f"{asked.guidance_scale:g}, {asked.width} x {asked.height} pixels",
            f"U-Net rows   {found.rows:,} at the most",
            f"operations   {found.tflop:.3g} TFLOP",
            f"memory       {found.weights / 1e9:.2f} GB of weights, {found.activations / 1e9:.2f} GB a call (estimate)",
            f"time         about {spoken(found.seconds)} on {backbone.device.type} in "
            f"{str(backbone.dtype).removeprefix('torch.')}, by a probe of {found.probe:.1f} s",
        ]
    )


class Ready(NamedTuple):
    """Everything loaded, and what is asked of it."""

    requests: Sequence[ComparisonRequest]
    engine: Any
    entries: Mapping[str, Any]
    judge: Any


def prepare(
    args: argparse.Namespace,
    places: Sequence[Place],
    methods: Methods,
    retriever: Callable[[str], Retrieval],
    out: Path | None = None,
) -> Ready:
    """Checks what was asked, then loads.

    Args:
        out: where pictures will be written, which is tried; None where none are.

    Raises:
        InputError: an argument is wrong, or the folder cannot be written; nothing was loaded then, but for a word that
            the loaded model does not draw.
    """
    seeds, negative_prompt = parse_seeds(args.seeds), validate_negative_prompt(args.negative_prompt)
    for place in places:  # before a model is loaded
        with said_where(place):
            check_minors(validate_prompt(place.asked.prompt))
    principle_of_choice(args.principle)
    parse_judges(args.judge)
    ids = list(dict.fromkeys(id.strip() for id in args.methods.split(",") if id.strip()))
    if not ids:
        raise InputError("no method was asked for: give --methods stable_diffusion,livo")
    if out:
        check_writable(out)

    from livo.diffusion.engine import load_engine
    from livo.types import SamplingOptions

    if ids == [ALL]:
        ids = list(methods.available())
    if unknown := [id for id in ids if id not in methods.available()]:
        raise InputError(f"no method {unknown[0]!r} in baselines/; there are: {', '.join(methods.available())}")
    engine = load_engine(args.backbone, args.device, args.dtype, model_changes(args), graphs=args.graphs)
    backbone = engine.backbone
    defaults = backbone.defaults
    options = SamplingOptions(
        seeds,
        defaults.num_inference_steps if args.steps is None else args.steps,
        defaults.guidance_scale if args.guidance is None else args.guidance,
        defaults.height if args.height is None else args.height,
        defaults.width if args.width is None else args.width,
        negative_prompt,
    )
    entries = methods.load_methods(ids, engine, method_settings(args))
    problems = [entry.problem for entry in entries.values() if entry.problem]
    if len(problems) == len(entries):
        raise InputError(problems[0])
    for problem in problems:
        print(f"livo: {problem}", file=sys.stderr)
    judge = _judge(args.judge, backbone)
    known, reads, requests = vocabulary_of(backbone.name), backbone.text.read, []
    for place in places:  # a word that is not drawn is told now, and not after an hour
        seed = place.asked.seed
        own = options if seed is None else replace(options, seeds=(seed,))
        with said_where(place):
            requests.append(make_request(place.asked.prompt, ids, own, args.principle, retriever, known, reads))
    return Ready(requests, engine, entries, judge)


@contextlib.contextmanager
def said_where(place: Place) -> Iterator[None]:
    """What is wrong with a prompt of a file is told with its line."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{place.asked.where}: {error}" if place.asked.where else str(error)) from None


def card_of(comparison: Comparison, titles: Mapping[str, str]) -> bytes:
    """The card; pictures of words that the model never saw are covered on it, whatever they show."""
    made = {id: result.images for id, result in comparison.methods.items() if result.images is not None}
    images = {id: tiles.permute(0, 2, 3, 1).contiguous().numpy() for id, tiles in made.items()}
    unknown = not comparison.request.words.measurable
    covered = {id: [True] * len(tiles) for id, tiles in images.items()} if unknown else {}
    return card_png(comparison.record(), Pictures(titles, images, covered))


def _judge(choice: str, backbone: Any) -> Any:
    """The judge; where nobody chose one, one that is not here costs the figures and not the images."""
    try:
        return load_judges(choice, backbone.folder, backbone.device)
    except JudgeError as error:
        if choice != ANY_JUDGE or (backbone.folder / "evaluator").is_dir():
            raise
        print(f"livo: backbone {backbone.name} has no judge: images without figures; {error}", file=sys.stderr)
    return None


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
            verb = "cheeks nearest" if question == COLOUR else "perceived"
            for name, count in zip(answer.classes, answer.counts, strict=True):
                text = str(count)
                if bias:
                    low, high = bias.intervals[name]
                    text = f"{100 * count / bias.n:.0f} % ({100 * low:.0f}-{100 * high:.0f})"
                put(f"{verb} {name}", id, text)
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
            put(f"{'transformer rows, text in each,' if cost.joint else 'U-Net rows'} a step", id, f"{cost.rows:.4g}")
            put("GFLOP an image", id, f"{1000 * cost.tflop:.4g}")
            put("added to the model", id, f"{cost.artefact.bytes / 1e6:.2f} MB" if cost.artefact else "-")
    label = max(map(len, rows), default=0)
    methods = list(record.methods)
    widths = {id: max(len(titles[id]), *(len(row.get(id, "-")) for row in rows.values())) for id in methods}
    payload = record.to_json()
    lines = [f"prompt     {record.prompt}", *principle_lines(payload["principle"], payload["evidence"]), ""]
    lines.append("  ".join([" " * label, *(titles[id].rjust(widths[id]) for id in methods)]))
    for name, row in rows.items():
        lines.append("  ".join([name.ljust(label), *(row.get(id, "-").rjust(widths[id]) for id in methods)]))
    lines += [f"note: {remark}" for remark in record.remarks]
    lines += [f"{titles[id]}: {method.reason}" for id, method in record.methods.items() if method.reason]
    return "\n".join([*lines, "", f"images and comparison.json are in {out}"])


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)
