"""Prompts from a file that people have: a text file with a prompt a line, a table, or JSON a line.

prompts.txt      a photo of a doctor
prompts.csv      prompt,evaluation_seed
                 a photo of a doctor,3761
prompts.jsonl    {"prompt": "a photo of a doctor", "evaluation_seed": 3761}
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from livo.inputs import decode_text, described, read_table, validate_prompt
from livo.types import MAX_SEED, InputError

PROMPT, SEED = "prompt", "evaluation_seed"
TABLES, JSON_LINES = (".csv", ".tsv"), (".jsonl", ".ndjson")


@dataclass(frozen=True)
class FilePrompt:
    """A prompt of a file.

    Attributes:
        where: file and line, for messages.
        seed: its own one image's; None where the command's seeds are meant.
    """

    where: str
    prompt: str
    seed: int | None = None


def read_prompts(path: Path) -> tuple[FilePrompt, ...]:
    """The prompts of a file, in its order; empty lines are left out, the same line may stand there twice.

    Args:
        path: `.csv` and `.tsv` are tables with a column "prompt" and, where wanted, "evaluation_seed"; `.jsonl` has
            an object with these fields a line; any other file has a prompt a line. Further columns are left alone.

    Raises:
        InputError: it cannot be read, holds no prompt, or a line of it cannot be used; the message names the line.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"--prompts {path} cannot be read ({reason}): give a file with a prompt a line") from error
    suffix = path.suffix.lower()
    if suffix in TABLES:
        rows: Iterator[tuple[int, Mapping[str, Any]]] = iter(read_table(data, str(path), (PROMPT,)))
    elif suffix in JSON_LINES:
        rows = _json_lines(decode_text(data, str(path)), path)
    else:
        lines = enumerate(decode_text(data, str(path)).splitlines(), 1)
        rows = ((number, {PROMPT: line}) for number, line in lines if line.strip())
    found = tuple(_file_prompt(f"{path}, line {number}", row) for number, row in rows)
    if not found:
        raise InputError(f"--prompts {path} holds no prompt: write one a line")
    return found


def _json_lines(text: str, path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in enumerate(text.split("\n"), 1):  # a JSON string may hold other line breaks as they are
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}, line {number} is no JSON ({error}): write an object a line") from error
        if not isinstance(row, dict):
            raise InputError(f'{path}, line {number}: wanted {{"prompt": ...}}, got {described(row)}')
        yield number, row


def _file_prompt(where: str, row: Mapping[str, Any]) -> FilePrompt:
    if not isinstance(text := row.get(PROMPT), str):
        raise InputError(f"{where}: wanted words as {PROMPT!r}, got {described(text)}")
    try:
        prompt = validate_prompt(text)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    seed = row.get(SEED)
    if seed is None or seed == "":
        return FilePrompt(where, prompt)
    digits = str(seed)
    if isinstance(seed, bool) or not (digits.isascii() and digits.isdigit()) or int(digits[:20]) > MAX_SEED:
        raise InputError(f"{where}: {SEED} {described(seed)} is no seed: give a whole number from 0 to {MAX_SEED}")
    return FilePrompt(where, prompt, int(digits))
