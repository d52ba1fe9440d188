"""`python -m livo judge measure FOLDER`: a judge on pictures whose labels are known, as a confusion matrix.

    FOLDER/QUESTION/CLASS/*.png, such as toxicity/clean, toxicity/nudity, gender/female      -> FOLDER/confusion.json

A class may be "cannot tell" for pictures that people could not label: they count as neither right nor wrong. So do
kinds that the judge does not know, such as blood for a judge of nudity; what it says of them is counted apart. The file
lies in the judge's folder, or is given as `--judge NAME@FOLDER`; every figure of the judge is then corrected by it.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from livo.classifiers.answers import CANNOT_TELL
from livo.classifiers.choice import load_judges
from livo.classifiers.judge import CONFUSION
from livo.inputs import PICTURE_FORMATS
from livo.measures.metrics import wilson_interval
from livo.principles import ASSETS
from livo.types import InputError, Judge

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
UNKNOWN = "unknown"
"""In `confusion.json`, by question and label: what the judge says of pictures of kinds that it does not know."""
HELP = "open_nsfw, faces, open_clip, llava, safety_checker or evaluator; as NAME:OPTION@FOLDER (%(default)s)"


def read_picture(path: Path) -> Tensor:
    """(3, H, W) uint8.

    Raises:
        InputError: it is no picture.
    """
    try:
        with Image.open(path, formats=PICTURE_FORMATS) as picture:
            pixels = np.array(picture.convert("RGB"))
    except (OSError, Image.DecompressionBombError, ValueError, SyntaxError) as error:
        raise InputError(f"{path} is no picture that can be read ({type(error).__name__}): take it out") from error
    return torch.from_numpy(pixels).permute(2, 0, 1)


def labelled_pictures(folder: Path, question: str) -> list[tuple[str, Path]]:
    """Label and file of every picture under a question's folder.

    Raises:
        InputError: a picture is a link to somewhere else.
    """
    found: list[tuple[str, Path]] = []
    for inner in sorted(path for path in (folder / question).iterdir() if path.is_dir()):
        paths = [path for path in sorted(inner.iterdir()) if path.suffix.lower() in SUFFIXES]
        if astray := [path for path in paths if not path.resolve().is_relative_to(folder.resolve())]:
            raise InputError(f"{astray[0]} is a link out of {folder}: put the picture itself there")
        found += [(inner.name, path) for path in paths]
    return found


def count_answers(judge: Judge, folder: Path, question: str) -> dict[str, list[int]]:
    """By label of the pictures, how often the judge says each of its K classes, then "cannot tell"; K + 1 integers."""
    counts: dict[str, list[int]] = {}
    for label, path in labelled_pictures(folder, question):
        if label != CANNOT_TELL:
            (answer,) = judge(read_picture(path)[None], question).labels
            row = counts.setdefault(label, [0] * (len(judge.classes(question)) + 1))
            row[-1 if answer is None else answer] += 1
    return counts


def measure_judge(judge: Judge, folder: Path) -> dict[str, dict[str, Any]]:
    """By question, the judge's confusion matrix on a folder of labelled pictures, as `Judge.confusion` gives it; and
    under `UNKNOWN`, where there are such, what `count_answers` counts of kinds that the judge does not know.

    Raises:
        InputError: there is no picture for any of the judge's questions.
    """
    found: dict[str, dict[str, Any]] = {}
    unknown: dict[str, dict[str, list[int]]] = {}
    for question in judge.questions:
        if not (folder / question).is_dir():
            continue
        classes, counts = judge.classes(question), count_answers(judge, folder, question)
        matrix = [counts.pop(name, [0] * (len(classes) + 1)) for name in classes]
        if n := sum(map(sum, matrix)):
            right = sum(matrix[k][k] for k in range(len(classes)))
            found[question] = {"classes": list(classes), "matrix": matrix, "n": n, "accuracy": right / n}
        if counts:
            unknown[question] = counts
    if not found:
        wanted = ", ".join(f"{folder / question}/{judge.classes(question)[0]}" for question in judge.questions)
        raise InputError(
            f"{folder} holds no labelled picture for judge {judge.name}: wanted pictures in {wanted} and so on"
        )
    return {**found, UNKNOWN: unknown} if unknown else found


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `judge`."""
    commands = parser.add_subparsers(dest="judge_command", required=True, metavar="{measure}")
    one = commands.add_parser("measure", help="a judge on a folder of labelled pictures", allow_abbrev=False)
    one.add_argument("folder", metavar="FOLDER", type=Path, help="QUESTION/CLASS/picture")
    one.add_argument("--judge", default="open_nsfw", metavar="NAME", help=HELP)
    one.add_argument("--out", type=Path, help="folder for confusion.json (FOLDER)")


def run(args: argparse.Namespace) -> str:
    """Writes `confusion.json` and answers with the figures.

    Raises:
        InputError: the folder or the judge cannot be used.
    """
    if not args.folder.is_dir():
        raise InputError(f"{args.folder} is no folder: wanted QUESTION/CLASS/picture in it")
    judge = load_judges(args.judge, ASSETS / "miniature")
    if judge is None:
        raise InputError("--judge none cannot be measured: name a judge")
    found, out = measure_judge(judge, args.folder), args.out or args.folder
    out.mkdir(parents=True, exist_ok=True)
    (out / CONFUSION).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    lines = []
    unknown = found.pop(UNKNOWN, {})
    for question, measured in found.items():
        for name, row in zip(measured["classes"], measured["matrix"], strict=True):
            if n := sum(row):
                right = row[measured["classes"].index(name)]
                low, high = wilson_interval(right, n)
                unsure = f", {row[-1]} cannot tell" if row[-1] else ""
                lines.append(f"{question}, {name}: {right} of {n} right ({100 * low:.0f}-{100 * high:.0f} %){unsure}")
    for question, counts in unknown.items():
        for name, row in counts.items():
            said = zip((*judge.classes(question), CANNOT_TELL), row, strict=True)
            lines.append(
                f"{question}, {name}: {sum(row)} of a kind that {judge.name} does not know, in no figure; it says "
                + ", ".join(f"{answer} {n}" for answer, n in said if n)
            )
    return "\n".join([*lines, f"{out / CONFUSION}: `--judge {judge.name}@{out}` or the judge's own folder uses it"])
