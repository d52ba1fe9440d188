"""Where a judge's weights are: in a folder, in the hub's cache, or still to be downloaded, which is said beforehand."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from livo.diffusion.hub import HubError, fetch, is_hub_id


class JudgeError(RuntimeError):
    """A judge's files are missing or broken; the message names the file and the way out."""


@dataclass(frozen=True)
class Weights:
    """What a judge must have on disk.

    Attributes:
        judge: the judge's name, as `--judge` takes it.
        hub_id: where it comes from, unless a folder or another id is given.
        gigabytes: to download, 10^9 bytes.
        memory: what it takes once loaded, in words.
        files: patterns of the files wanted; the rest of the repository stays where it is.
    """

    judge: str
    hub_id: str
    gigabytes: float
    memory: str
    files: tuple[str, ...]


def locate(weights: Weights, source: str = "", say: Callable[[str], None] = print) -> Path:
    """The folder with a judge's weights; says what it takes before anything is downloaded.

    Args:
        source: a folder, or another id of the hub; empty for the judge's own.
        say: takes one line.

    Raises:
        JudgeError: they are not here and cannot be had; the message says what is missing and what to do.
    """
    if source and Path(source).is_dir():
        return Path(source)
    hub_id = source or weights.hub_id
    if not is_hub_id(hub_id):
        raise JudgeError(
            f"judge {weights.judge}: there is no folder {source}; give one, or a hub id such as {weights.hub_id}"
        )
    # Here, because a judge in a folder needs no hub.
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(hub_id, allow_patterns=list(weights.files), local_files_only=True))
    except (LocalEntryNotFoundError, OSError):
        pass
    size = f"about {weights.gigabytes:g} GB" if hub_id == weights.hub_id else "gigabytes"
    remedy = (
        f"where there is a network, `hf download {hub_id} --local-dir FOLDER` fetches it ({size}); then give "
        f"--judge {weights.judge}@FOLDER, or --judge none for images without figures"
    )
    cache = Path(constants.HF_HUB_CACHE)
    free = shutil.disk_usage(next(folder for folder in (cache, *cache.parents) if folder.is_dir())).free / 1e9
    if hub_id == weights.hub_id and free < weights.gigabytes:
        raise JudgeError(
            f"judge {weights.judge} needs {hub_id}, {size}, and {cache} has {free:.1f} GB left: "
            "make room, or set HF_HOME"
        )
    say(
        f"judge {weights.judge} needs {hub_id}: {size} to download, once, into {cache}; "
        f"loaded it takes {weights.memory}"
    )
    try:
        return fetch(hub_id, weights.files)
    except HubError as error:
        lacking = (
            f"judge {weights.judge} needs {hub_id}, which is not on this machine and cannot be downloaded ({error})"
        )
        raise JudgeError(f"{lacking}: {remedy}") from error


def missing_files(folder: Path, names: Sequence[str], judge: str) -> None:
    """Looks before loading, because the loaders do not name the way out.

    Args:
        names: patterns, each of which must match a file of the folder.

    Raises:
        JudgeError: one does not.
    """
    for name in names:
        if not any(folder.glob(name)):
            raise JudgeError(f"judge {judge}: {folder / name} is missing: download the folder again, whole")


def load_whole(model_class: Any, folder: Path, judge: str, **options: Any) -> Any:
    """`model_class.from_pretrained`, which alone would fill weights that the files lack with random numbers.

    Raises:
        JudgeError: some are lacking.
    """
    model, loading = model_class.from_pretrained(folder, output_loading_info=True, **options)
    if lacking := sorted(loading["missing_keys"]):
        raise JudgeError(
            f"judge {judge}: {folder} lacks {len(lacking)} weights, such as {lacking[0]}: download it again, whole"
        )
    return model
