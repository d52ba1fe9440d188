"""Where a weight file came from, kept in its own header: command, commit, seed, threads, and digests of what it was
made from.

A digest is of what a network computes with (names, shapes and bytes of tensors), so that writing the header changes
none, and half of a network has one of its own (`vae#encoder.,quant_conv.`).
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

KEY = "lineage"
ROOT = Path(__file__).resolve().parents[1]
COUNTED = (".", ":(exclude)assets/miniature*")


@dataclass(frozen=True)
class Lineage:
    """How a file was made.

    Attributes:
        command: as typed, such as `python -m train.miniature.second --quick`.
        commit: of the repository, "+" behind it where tracked files differed from it, "" outside git.
        seed, threads: of the run.
        steps: training steps taken.
        made_from: digests by name: a path from the model's folder, with `#prefix,prefix` for part of a network, or a
            path from the repository's root for data.
    """

    command: str
    commit: str
    seed: int
    threads: int
    steps: int
    made_from: Mapping[str, str]


def read_tensors(path: Path) -> tuple[dict[str, Any], bytes]:
    """Header and data of a .safetensors file.

    Raises:
        ValueError: it is none.
    """
    raw = path.read_bytes()
    try:
        size = struct.unpack("<Q", raw[:8])[0]
        return json.loads(raw[8 : 8 + size]), raw[8 + size :]
    except (struct.error, ValueError) as error:
        raise ValueError(f"{path} is no .safetensors file ({error})") from None


def digest(name: str, folder: Path) -> str:
    """Of a weight file, of all the weight files of a folder, or of any other file (its bytes); 64 hex digits.

    Raises:
        FileNotFoundError: there is nothing of that name in the folder or from the repository's root.
    """
    where, _, prefixes = name.partition("#")
    path = folder / where if (folder / where).exists() else ROOT / where
    if not path.exists():
        raise FileNotFoundError(f"{name}: nothing of that name in {folder} or {ROOT}")
    files = sorted(path.rglob("*.safetensors")) if path.is_dir() else [path]
    found = hashlib.sha256()
    for file in files:
        if file.suffix != ".safetensors":
            found.update(file.read_bytes())
            continue
        header, data = read_tensors(file)
        for tensor, entry in sorted(header.items()):
            if tensor != "__metadata__" and (not prefixes or tensor.startswith(tuple(prefixes.split(",")))):
                begin, end = entry["data_offsets"]
                found.update(f"{tensor} {entry['dtype']} {entry['shape']}\n".encode() + data[begin:end])
    return found.hexdigest()


def stamp(path: Path, lineage: Lineage) -> None:
    """Write a lineage into the header of a .safetensors file, or of every one in a folder."""
    for file in sorted(path.rglob("*.safetensors")) if path.is_dir() else [path]:
        header, data = read_tensors(file)
        header["__metadata__"] = {**header.get("__metadata__", {}), KEY: json.dumps(asdict(lineage))}
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        scratch = file.with_suffix(".partial")
        scratch.write_bytes(struct.pack("<Q", len(text)) + text + data)
        os.replace(scratch, file)


def read_lineage(path: Path) -> Lineage | None:
    """What a file's header says; None where it says nothing."""
    text = read_tensors(path)[0].get("__metadata__", {}).get(KEY)
    return Lineage(**json.loads(text)) if text else None


def this_commit(root: Path = ROOT) -> str:
    """The commit checked out, "+" behind it where tracked files differ from it; "" outside git.

    What trainings leave in models' folders does not count: digests tell it.
    """

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + (
            "+" if git("status", "--porcelain", "--untracked-files=no", "--", *COUNTED) else ""
        )
    except (OSError, subprocess.CalledProcessError):
        return ""


def this_command() -> str:
    """How this process was started, from the repository's root; absolute paths are this machine's own, and left out."""
    module = sys.modules["__main__"].__spec__
    name = module.name.removesuffix(".__main__") if module else Path(sys.argv[0]).name
    words: list[str] = []
    for word in sys.argv[1:]:
        if not Path(word.rpartition("=")[2]).is_absolute():
            words.append(word)
        elif "=" not in word and words and words[-1].startswith("--"):
            words.pop()  # its flag
    return " ".join(["python -m", name, *words])
