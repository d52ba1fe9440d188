"""What a principle still lacks on a backbone: `python -m livo principles check ID`.

One entry of `principles.yaml` is enough to be retrieved, chosen on the page and given to every method. What has to be
trained or measured for it is looked for here, by the names and headers of files: no model is loaded.
"""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from livo.classifiers.choice import EVALUATOR
from livo.classifiers.panel import CLEAN, TOXICITY
from livo.miniature.world import TOXIC_KINDS
from livo.principles import ASSETS, Entry, attributes_by_principle, find_principle, load_entries, load_principles
from livo.types import InputError, Principle

MINIATURE = "miniature"
MAKE_PAIRS, TRAIN = "make pairs with `python -m train.preference_data`", "python -m train.value_encoder"
DRAWN = ("gender", "tone")
"""Attributes that the drawn world can draw."""


@dataclass(frozen=True)
class Requirement:
    """One thing that a principle needs somewhere.

    Attributes:
        missing: what it lacks and the way out; empty where it is there.
        found: what is there, in words.
    """

    name: str
    found: str = ""
    missing: str = ""


def check(entry: Entry, folder: Path, methods: Mapping[str, Sequence[str]]) -> tuple[Requirement, ...]:
    """What there is for a principle, and what it lacks.

    Args:
        folder: the backbone's.
        methods: by id, the risks that a method acts on.
    """
    principle = entry.principle
    words = sum(map(len, (entry.lexicon, entry.names, entry.persons, entry.describes)))
    parts = [Requirement("retriever", f"{words} words, {len(entry.exemplars)} exemplars")]
    parts.append(_judge(principle, folder / EVALUATOR))
    parts.append(_value_encoder(principle, folder / "value_encoder" / "model.safetensors"))
    ids = {p.id for p in load_principles()}
    for method, risks in methods.items():
        files = {path.stem for path in (folder / method).glob("*") if path.suffix in (".safetensors", ".bin", ".pt")}
        if principle.risk not in risks or not files & ids:
            continue
        if principle.id in files:
            parts.append(Requirement(f"edited weights, {method}", "in the backbone's folder"))
        else:
            command = training_of(folder / method / f"{min(files & ids)}.safetensors").get("command")
            how = f"; `{command}` made the others: give it --principles {principle.id}" if command else ""
            lacking = f"{folder / method / principle.id}.safetensors is missing, so the method is left out{how}"
            parts.append(Requirement(f"edited weights, {method}", missing=lacking))
    return tuple(parts)


def _judge(principle: Principle, folder: Path) -> Requirement:
    name = f"judge, {EVALUATOR}"
    try:
        rows = json.loads((folder / "questions.json").read_text(encoding="utf-8"))
        questions = {str(row["name"]): tuple(row["classes"]) for row in rows}
    except (OSError, ValueError, KeyError, TypeError):
        questions = {}
    if principle.risk == "toxicity":
        kind = principle.classes[1]
        if kind in questions.get(TOXICITY, ()):
            return Requirement(name, f"tells {CLEAN} from {kind}")
    else:
        for attribute in principle.attributes or (principle.id,):
            if attribute in questions:
                return Requirement(name, f"asks about {attribute}")
    return Requirement(name, missing="--judge open_clip asks about every principle by sentences; else it cannot tell")


def _value_encoder(principle: Principle, path: Path) -> Requirement:
    name, train = "value encoder", f"{MAKE_PAIRS}, then `{TRAIN} --data FOLDER --principles {principle.id}`"
    if not path.is_file():
        return Requirement(name, missing=f"the backbone has none: {train}")
    command = shlex.split(training_of(path).get("command", ""))
    named = command[command.index("--principles") + 1 :] if "--principles" in command else []
    if principle.id in (named or (*attributes_by_principle(DRAWN), *TOXIC_KINDS)):
        return Requirement(name, "trained with it")
    return Requirement(name, missing=f"it was trained without it, so what it makes of these words is chance: {train}")


def training_of(path: Path) -> dict[str, Any]:
    """What making a file of weights took, as its header has it; nothing where the header says nothing."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "np") as file:
            training = json.loads((file.metadata() or {}).get("training", "{}"))
    except (OSError, ValueError, SafetensorError):
        return {}
    return training if isinstance(training, dict) else {}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `principles`."""
    commands = parser.add_subparsers(dest="principles_command", required=True, metavar="{list,check}")
    commands.add_parser("list", help="the principles of assets/principles.yaml", allow_abbrev=False)
    one = commands.add_parser("check", help="what a principle still lacks", allow_abbrev=False)
    one.add_argument("id", metavar="ID", help="as in assets/principles.yaml")
    one.add_argument("--backbone", default=MINIATURE, help="miniature, or a diffusers folder (%(default)s)")


def run(args: argparse.Namespace, methods: Mapping[str, Sequence[str]]) -> str:
    """The answer of `principles`.

    Args:
        methods: as `check` takes them.

    Raises:
        InputError: there is no such principle or folder.
    """
    if args.principles_command == "list":
        return "\n".join(f"{p.id:<18} {p.risk:<9} {p.text}" for p in load_principles())
    principle = find_principle(args.id)
    folder = ASSETS / MINIATURE if args.backbone == MINIATURE else Path(args.backbone)
    if not folder.is_dir():
        raise InputError(f"--backbone {args.backbone}: wanted miniature or a folder in diffusers format")
    entry = next(entry for entry in load_entries() if entry.id == principle.id)
    parts = check(entry, folder, methods)
    lines = [f"{principle.id}: {principle.text} ({principle.risk}), on {args.backbone}"]
    lines += [f"  {'lacks' if part.missing else 'has  '}  {part.name}: {part.missing or part.found}" for part in parts]
    lacking = sum(bool(part.missing) for part in parts)
    whole = (
        "nothing is lacking" if not lacking else f"{lacking} of {len(parts)} are lacking; all else works without them"
    )
    return "\n".join([*lines, whole])
