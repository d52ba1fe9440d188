"""The official layout, `type/scene/metadata.jsonl` with rows {file_name, prompt, value, label}: read and written.

Reading never trusts: every row that cannot be used is named with its file and number, skipped and counted.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from livo.inputs import PICTURE_FORMATS
from livo.principles import load_principles
from livo.runs import write_whole
from livo.types import InputError, Principle
from train.preference_data.build import shards_of
from train.preference_data.concepts import FOLDERS
from train.preference_data.store import read_rows

METADATA = "metadata.jsonl"


@dataclass(frozen=True)
class LabelledImage:
    """One usable row: the image's file, which was read to its end, the prompt and the image's size (W, H)."""

    path: Path
    prompt: str
    size: tuple[int, int]


@dataclass(frozen=True)
class PreferenceScene:
    """One scene under one principle; both sides hold at least one image."""

    name: str
    principle: Principle
    winners: tuple[LabelledImage, ...]
    losers: tuple[LabelledImage, ...]


@dataclass(frozen=True)
class Problem:
    """What could not be used: the metadata file, the row (0: the file or scene itself), the kind of fault, details."""

    file: Path
    row: int
    fault: str
    detail: str

    def __str__(self) -> str:
        where = f"{self.file}, row {self.row}" if self.row else f"{self.file}"
        return f"{where}: {self.fault}: {self.detail}"


@dataclass
class Report:
    """What a reading met; filled while the scenes are read."""

    rows: int = 0
    winners: int = 0
    losers: int = 0
    problems: list[Problem] = field(default_factory=list)

    def counts(self) -> Counter[str]:
        """Problems by fault."""
        return Counter(problem.fault for problem in self.problems)


def find_value(text: str) -> Principle | None:
    """The principle that a `value` means, in the wordings of the paper and of its release, misspellings included.

    Example:
        >>> [find_value(v).id for v in ("Please ensure gender equality", "bloody considered inapproporiate")]
        ['gender_equality', 'bloody']
        >>> find_value("world peace") is None
        True
    """

    def core(words: str) -> str:
        words = re.sub(r"[^a-z ]", " ", words.casefold().replace("_", " ").replace("inapproporiate", "inappropriate"))
        return " ".join(w for w in words.split() if w not in ("please", "ensure", "content", "is", "considered"))

    wanted = core(text).replace("horror", "zombie")
    return next((p for p in load_principles() if wanted in (core(p.text), core(p.id))), None)


def read_official(root: Path, report: Report) -> Iterator[PreferenceScene]:
    """The scenes of a folder that can be trained on, in the order of their names.

    A row is skipped where its JSON, its label or its principle is wrong, its image is missing, empty or unreadable, or
    not of the size that most of its scene's images have. A scene is skipped where a side is empty.

    Args:
        report: gets every problem, and the counts.

    Raises:
        InputError: `root` holds no scene.
    """
    files = sorted(root.glob(f"*/*/{METADATA}"))
    if not files:
        raise InputError(f"{root} holds no scene: wanted <type>/<scene>/{METADATA}")
    for file in files:
        scenes: dict[str, tuple[Principle, list[tuple[int, int, LabelledImage]]]] = {}
        usable = _rows(file, report)
        # Of equally frequent sizes the first one met: the same answer whenever the folder is read.
        usual = Counter(image.size for _, _, _, image in usable).most_common(1)
        for number, label, principle, image in usable:
            if image.size != usual[0][0]:
                shown = "{} x {} pixels, not {} x {} as most of its scene".format(*image.size, *usual[0][0])
                report.problems.append(Problem(file, number, "mixed sizes", f"{image.path.name} has {shown}"))
            else:
                scenes.setdefault(principle.id, (principle, []))[1].append((number, label, image))
        for principle, rows in scenes.values():
            winners = tuple(image for _, label, image in rows if label == 1)
            losers = tuple(image for _, label, image in rows if label == 0)
            if not winners or not losers:
                empty = ("no winners", f"{len(losers)} losers") if losers else ("no losers", f"{len(winners)} winners")
                detail = f"'{principle.text}' has {empty[1]} only"
                report.problems.append(Problem(file, 0, f"a scene with {empty[0]}", detail))
                continue
            report.winners += len(winners)
            report.losers += len(losers)
            yield PreferenceScene("/".join(file.parts[-3:-1]), principle, winners, losers)


def _rows(file: Path, report: Report) -> list[tuple[int, int, Principle, LabelledImage]]:
    """The usable rows of one file: number, label, principle, image."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        report.problems.append(Problem(file, 0, "unreadable metadata", _line(error)))
        return []
    usable = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        report.rows += 1
        try:
            usable.append((number, *_row(file.parent, line)))
        except _Fault as fault:
            report.problems.append(Problem(file, number, *fault.args))
    return usable


class _Fault(Exception):
    """Fault and detail of one row."""


def _row(folder: Path, line: str) -> tuple[int, Principle, LabelledImage]:
    try:
        row: Any = json.loads(line)
        name, prompt, value, label = (row[key] for key in ("file_name", "prompt", "value", "label"))
    except (ValueError, TypeError, RecursionError) as error:
        raise _Fault("broken row", _line(error)) from None
    except KeyError as error:
        raise _Fault("broken row", f"field {error} is missing") from None
    if label not in (0, 1) or not all(isinstance(text, str) and text.strip() for text in (name, prompt, value)):
        raise _Fault("broken row", f"wanted texts and a label of 0 or 1, got {line.strip()[:120]}")
    if (principle := find_value(value)) is None:
        raise _Fault("unknown principle", repr(value))
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise _Fault("image outside its scene", name)
    if not path.is_file():
        raise _Fault("missing image", name)
    if not path.stat().st_size:
        raise _Fault("zero-byte image", name)
    try:
        with Image.open(path, formats=PICTURE_FORMATS) as image:
            image.load()  # the header alone would let half a file pass
            return int(label), principle, LabelledImage(path, prompt, image.size)
    except Exception as error:  # a decoder of a broken file may raise anything
        raise _Fault("unreadable image", f"{name} ({_line(error)})") from None


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def export_official(out: Path, target: Path) -> int:
    """Writes a finished build in the official layout: a scene for every prompt and principle with both sides.

    Metadata is written last: a scene that has it is complete, and a killed export goes on with the others.

    Returns:
        The number of scenes.

    Raises:
        InputError: `out` holds no finished build.
        StoreError: a file cannot be written.
    """
    scenes = 0
    for shard in shards_of(out):
        rows = list(read_rows(shard))
        principles = list(dict.fromkeys(label["principle"] for row in rows for label in row["labels"]))
        for principle_id in principles:
            found = [(row, _of(row, principle_id)) for row in rows]
            labelled = [(row, label) for row, label in found if label is not None and label["label"] is not None]
            if {label["label"] for _, label in labelled} == {0, 1}:
                scenes += 1
                concept = re.sub("[^a-z0-9]+", "-", rows[0]["concept"].lower())[:60]
                name = f"{shard.name.split('-')[1]}-{concept}-{principle_id}"
                _write_scene(target / FOLDERS[rows[0]["kind"]] / name, labelled)
    return scenes


def _of(row: dict[str, Any], principle_id: str) -> dict[str, Any] | None:
    return next((label for label in row["labels"] if label["principle"] == principle_id), None)


def _write_scene(folder: Path, labelled: Sequence[tuple[dict[str, Any], dict[str, Any]]]) -> None:
    if (folder / METADATA).exists():
        return
    lines = []
    for number, (row, label) in enumerate(labelled):
        name = f"{number:04d}.png"
        write_whole(folder / name, row["image"]["bytes"])
        meta = {"file_name": name, "prompt": row["prompt"], "value": label["value"], "label": label["label"]}
        lines.append(json.dumps(meta, ensure_ascii=False) + "\n")
    write_whole(folder / METADATA, "".join(lines).encode())
