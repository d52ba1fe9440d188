"""`python -m livo compare PROMPT`: one prompt through any methods, as images, JSON and a table.

Nothing heavy is imported before the arguments are known to be good.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from livo.classifiers.answers import BiasFigures, ToxicityFigures
from livo.classifiers.choice import AUTO as ANY_JUDGE
from livo.classifiers.choice import load_judges, parse_judges
from livo.classifiers.hub import JudgeError
from livo.classifiers.panel import OCCUPATION, TOXICITY
from livo.compare import ALL_THAT_APPLY, AUTO, NONE, Comparison, compare, make_request, principle_of_choice
from livo.inputs import (
    add_model_arguments,
    add_sampling_arguments,
    method_settings,
    parse_seeds,
    validate_negative_prompt,
    validate_prompt,
)
from livo.presentation.card import Pictures, card_png
from livo.record import ComparisonRecord
from livo.retriever import Retriever, retrieve
from livo.retriever.command import DENSE_HELP, principle_lines
from livo.retriever.dense import AUTO as IF_INSTALLED
from livo.retriever.minors import check_minors
from livo.runs import check_writable
from livo.types import InputError, Progress, Retrieval
from livo.vocabulary import vocabulary_of

ALL = "all"


class Methods(Protocol):
    """What `baselines` offers: which methods there are, and loading them."""

    def available(self) -> Mapping[str, Any]: ...

    def load_methods(
        self, ids: Sequence[str], engine: Any, settings: Mapping[str, Mapping[str, Any]] | None = None, /
    ) -> Mapping[str, Any]: ...


def add_arguments(run: argparse.ArgumentParser) -> None:
    """The arguments of `compare`."""
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
    run.add_argument("--dense", default=IF_INSTALLED, metavar="HEAD", help=DENSE_HELP)
    add_sampling_arguments(run, seeds="0-7")
    run.add_argument("--out", type=Path, default=Path("comparison"), help="folder for the images (%(default)s)")
    run.add_argument(
        "--card", action="store_true", help="also card.png in the folder: all of it as one picture to share"
    )
    run.add_argument("--json", action="store_true", help="JSON alone on standard output")


class Saved(NamedTuple):
    """A comparison whose images are in a folder: their paths and the methods' titles by id."""

    record: ComparisonRecord
    paths: Mapping[str, Sequence[str]]
    titles: Mapping[str, str]


def run(args: argparse.Namespace, methods: Methods) -> str:
    """The answer of `compare`, as JSON or as a table; the images are in the folder by then."""
    retriever = retrieve if args.dense == IF_INSTALLED else Retriever(dense=args.dense)
    (saved,) = comparisons(args, {args.prompt: args.out}, methods, retriever)
    if not any(saved.paths.values()):
        reasons = "; ".join(dict.fromkeys(method.reason for method in saved.record.methods.values()))
        raise InputError(f"no method made a picture: {reasons}")
    return _json(saved.record.to_json(saved.paths)) if args.json else format_table(saved, args.out)


def comparisons(
    args: argparse.Namespace, prompts: Mapping[str, Path], methods: Methods, retriever: Callable[[str], Retrieval]
) -> Iterator[Saved]:
    """Compares each prompt into its folder.

    Raises:
        InputError: an argument is wrong, or the folder cannot be written; nothing was loaded then.
    """
    seeds, negative_prompt = parse_seeds(args.seeds), validate_negative_prompt(args.negative_prompt)
    prompts = {validate_prompt(prompt): out for prompt, out in prompts.items()}
    for prompt in prompts:  # before a model is loaded
        check_minors(prompt)
    principle_of_choice(args.principle)
    parse_judges(args.judge)
    ids = list(dict.fromkeys(id.strip() for id in args.methods.split(",") if id.strip()))
    if not ids:
        raise InputError("no method was asked for: give --methods stable_diffusion,livo")
    for out in prompts.values():
        check_writable(out)

    from livo.diffusion.backbones import find_scheduler, load_backbone
    from livo.diffusion.engine import Engine
    from livo.types import SamplingOptions

    if ids == [ALL]:
        ids = list(methods.available())
    if unknown := [id for id in ids if id not in methods.available()]:
        raise InputError(f"no method {unknown[0]!r} in baselines/; there are: {', '.join(methods.available())}")
    scheduler = find_scheduler(args.scheduler) if args.scheduler else None
    backbone = load_backbone(args.backbone, args.device, args.dtype, args.vae)
    defaults = backbone.defaults
    options = SamplingOptions(
        seeds,
        defaults.num_inference_steps if args.steps is None else args.steps,
        defaults.guidance_scale if args.guidance is None else args.guidance,
        defaults.height if args.height is None else args.height,
        defaults.width if args.width is None else args.width,
        negative_prompt,
    )
    engine = Engine(backbone, scheduler_class=scheduler)
    entries = methods.load_methods(ids, engine, method_settings(args))
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
                if getattr(args, "card", False):  # a study's images have none
                    (out / "card.png").write_bytes(card_of(item, titles))
        print(file=sys.stderr)
        text = _json(saved.record.to_json(saved.paths))
        (out / "comparison.json").write_text(text + "\n", encoding="utf-8")
        yield saved


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
