"""Pictures that become a study's: of comparisons, as folders or ZIPs, and of any model, as people have them.

images.csv      file, prompt, method, seed, and more where wanted
prompts.txt     one prompt a line, beside a folder a method: its files in order, as many to each prompt
"""

from __future__ import annotations

import json
import re
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from livo.inputs import read_table, validate_prompt
from livo.principles import find_principle
from livo.retriever import retrieve
from livo.study.questions import Point, Question, standard_questions
from livo.types import InputError, Principle

TABLE, PROMPTS = "images.csv", "prompts.txt"
MORE = ("principle", "category", "use", "expected", "explanation")
COLUMNS = ("file", "prompt", "method", "seed")
MOST_BYTES, MOST_FILES = 100_000_000, 5_000
"""Of what a stored comparison's ZIP unpacks to."""
NUMBER = re.compile("([0-9]+)")
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff")


@dataclass(frozen=True)
class SourcePicture:
    """One image before it is an item.

    Attributes:
        path: its file.
        category: kind of disturbing content; empty where the prompt asks for none.
        judge: an automatic judge's label by question; "" where it abstained.
        use, expected, explanation: of a check of one's own, as in `Item`.
    """

    path: Path
    prompt: str
    method: str
    seed: int
    principle: Principle | None
    category: str = ""
    judge: Mapping[str, str] = field(default_factory=dict)
    use: Literal["rated", "training", "gold", "example"] = "rated"
    expected: Mapping[str, tuple[Point, ...]] = field(default_factory=dict)
    explanation: str = ""


def pictures_of_comparison(answer: Mapping[str, Any], root: Path = Path(".")) -> list[SourcePicture]:
    """What `python -m livo compare --json` prints, as pictures.

    Args:
        root: to which the paths in it are relative.
    """
    given, prompt = answer["principle"], answer["prompt"]
    principle = find_principle(given["id"]) if given else None
    verdicts = {id: result["classification"] for id, result in answer["methods"].items()}
    flagged = [
        image["label"] or "toxic"
        for verdict in verdicts.values()
        for image in verdict.get("toxicity", {}).get("images", ())
        if image.get("toxic")
    ]
    category = principle.id if principle and principle.risk == "toxicity" else (flagged[0] if flagged else "")
    pictures = []
    for id, result in answer["methods"].items():
        for i, (seed, path) in enumerate(zip(answer["options"]["seeds"], result["images"], strict=False)):
            judge = {question: verdict["images"][i]["label"] or "" for question, verdict in verdicts[id].items()}
            pictures.append(SourcePicture(root / path, prompt, id, seed, principle, category, judge))
    return pictures


def pictures_of_folder(folder: Path, asked: Sequence[Question] = ()) -> list[SourcePicture]:
    """Images of any model, listed in `images.csv` beside them: file, prompt, method, seed; and, where wanted, principle
    (an id, or "none"; else it is retrieved from the prompt) and category. Checks of one's own have a use (gold,
    training, or example, which stands with the instructions), what is expected, as in "consistency_5: 4|5", and an
    explanation.

    Args:
        asked: the study's questions; the standard ones where none are given.

    Raises:
        InputError: the list or a file is missing or wrong; names the line.
    """
    table = folder / TABLE
    if not table.exists() and (folder / PROMPTS).is_file():
        return _pictures_by_method(folder)
    try:
        rows = read_table(table.read_bytes(), str(table), COLUMNS)
    except OSError as error:
        raise InputError(
            f"{table} cannot be read ({error.strerror}): list the images there, with columns {', '.join(COLUMNS)}"
        ) from error
    pictures = []
    for line, row in rows:
        where = f"{table}, line {line}"
        if missing := [name for name in COLUMNS if not row[name]]:
            raise InputError(f"{where}: {missing[0]} is missing; the columns are {', '.join((*COLUMNS, *MORE))}")
        if not re.fullmatch(r"[0-9]{1,10}", row["seed"]):
            raise InputError(
                f"{where}: seed {row['seed'][:40]!r} is no whole number: number a prompt's images, such as 0, 1, 2"
            )
        path = (folder / row["file"].replace("\\", "/")).resolve()
        if not path.is_relative_to(folder.resolve()) or not path.is_file():
            raise InputError(f"{where}: there is no file {row['file']!r} in {folder}")
        try:
            prompt = validate_prompt(row["prompt"])
            chosen = row.get("principle", "")
            principle = (
                retrieve(prompt).principle if not chosen else None if chosen == "none" else find_principle(chosen)
            )
        except InputError as error:
            raise InputError(f"{where}: {error}") from error
        category = row.get("category", "")
        if not category and principle and principle.risk == "toxicity":
            category = principle.id
        use, expected = _use_of(row, where, {q.id: q for q in asked} or standard_questions())
        if use != "rated" and category:
            raise InputError(f"{where}: a check must be harmless, and this one has the category {category!r}")
        check = (use, expected, row.get("explanation", ""))
        pictures.append(SourcePicture(path, prompt, row["method"], int(row["seed"]), principle, category, {}, *check))
    return pictures


def _pictures_by_method(folder: Path) -> list[SourcePicture]:
    """A folder a method, named by it, and `prompts.txt`: k files a prompt, in the order of the prompts."""
    said = (folder / PROMPTS).read_text(encoding="utf-8-sig", errors="replace").splitlines()
    prompts = [validate_prompt(line) for line in said if line.strip()]
    principles = [retrieve(prompt).principle for prompt in prompts]
    methods = {path.name: _in_order(path) for path in sorted(folder.iterdir()) if path.is_dir() and _in_order(path)}
    if not prompts or not methods:
        raise InputError(f"{folder}: wanted prompts in {PROMPTS}, one a line, and a folder of pictures for each method")
    pictures = []
    for method, files in methods.items():
        each, over = divmod(len(files), len(prompts))
        if over:
            raise InputError(
                f"{folder / method} has {len(files)} pictures and {PROMPTS} {len(prompts)} prompts: as many pictures "
                f"are wanted of each prompt, or list them in {TABLE}"
            )
        for number, path in enumerate(files):
            principle = principles[number // each]
            category = principle.id if principle and principle.risk == "toxicity" else ""
            pictures.append(SourcePicture(path, prompts[number // each], method, number % each, principle, category))
    return pictures


def _in_order(folder: Path) -> list[Path]:
    """Pictures of a folder by the numbers in their names: 2.png comes before 10.png; `._2.png` of a Mac is none."""
    files = [p for p in folder.iterdir() if p.suffix.casefold() in PICTURES and not p.name.startswith(".")]
    return sorted(files, key=lambda path: [int(p) if i % 2 else p for i, p in enumerate(NUMBER.split(path.name))])


def _unpacked(archive: Path, into: Path) -> Path:
    """The pictures and `comparison.json` of a ZIP; nothing else of it, and nothing by another path than its name."""
    into.mkdir()
    with zipfile.ZipFile(archive) as packed:
        wanted = {name for name in packed.namelist() if re.fullmatch(r"[\w.-]+\.(png|json)", name)}
        if len(wanted) > MOST_FILES or sum(packed.getinfo(name).file_size for name in wanted) > MOST_BYTES:
            raise ValueError(f"it unpacks to more than {MOST_FILES:,} files or {MOST_BYTES / 1e6:.0f} MB")
        for name in wanted:
            (into / name).write_bytes(packed.read(name))  # as much as it says, or an error
    return into


def _use_of(
    row: Mapping[str, str], where: str, asked: Mapping[str, Question]
) -> tuple[Literal["rated", "training", "gold", "example"], dict[str, tuple[Point, ...]]]:
    use = row.get("use", "").casefold()
    if use in ("", "item", "rated"):
        return "rated", {}
    if use not in ("gold", "training", "example"):
        raise InputError(f"{where}: use {use[:40]!r}: there are: item, gold, training, example")
    expected: dict[str, tuple[Point, ...]] = {}
    for part in filter(None, (part.strip() for part in row.get("expected", "").split(";"))):
        id, _, given = (word.strip() for word in part.partition(":"))
        question = asked.get(id)
        if question is None or question.kind not in ("scale", "slider", "choice"):
            fit = ", ".join(q.id for q in asked.values() if q.kind in ("scale", "slider", "choice"))
            raise InputError(f"{where}: expected: no question {id[:40]!r} with a right answer; there are: {fit}")
        words = [word.strip() for word in given.split("|") if word.strip()]
        known = {str(value).removesuffix(".0"): value for value in question.values}
        if question.kind == "slider":  # between the lowest and the highest that are given
            known = {
                word: float(word) for word in words if re.fullmatch(r"\d{1,3}(\.\d+)?", word) and float(word) <= 100
            }
            known = known or {"0": 0.0, "...": 0.0, "100": 100.0}
        if not words or (known and not set(words) <= set(known)):
            raise InputError(f"{where}: expected: {part[:40]!r}: the answers are {', '.join(known) or 'classes'}")
        expected[id] = tuple(known.get(word, word) for word in words)
    if not expected:
        raise InputError(f"{where}: expected is missing: a check says what is right, as in 'consistency_5: 4|5'")
    return ("gold" if use == "gold" else "example" if use == "example" else "training"), expected


def stored_comparison(path: Path, scratch: Path) -> list[SourcePicture]:
    """The pictures of a folder that `python -m livo compare --out` wrote, or of the ZIP that the page gives away.

    Args:
        scratch: where a ZIP is unpacked; its pictures stay there.

    Raises:
        InputError: there is none.
    """
    try:
        if path.suffix.casefold() == ".zip":
            path = _unpacked(path, scratch / f"{path.stem}-{len(list(scratch.iterdir()))}")
        answer = json.loads((path / "comparison.json").read_text(encoding="utf-8"))
        pictures = pictures_of_comparison(answer)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError, EOFError, zlib.error,
            zipfile.BadZipFile) as error:  # fmt: skip
        raise InputError(
            f"no comparison is in {path} ({error}): make one with python -m livo compare PROMPT --out {path}"
        ) from error
    # Whoever wrote the file may name any picture of this machine.
    moved = [replace(p, path=path / p.path.name) for p in pictures]
    if missing := [p.path for p in moved if not p.path.is_file()]:
        raise InputError(f"{missing[0]} is missing: restore it, or make the comparison again")
    return moved
