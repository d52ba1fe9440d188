"""What long runs share: files that survive a kill, this process's share of the work, a digest of weights."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from livo.types import InputError

if TYPE_CHECKING:
    from torch import nn


class StoreError(InputError):
    """A file cannot be written or read; the message names it, why, and the way out."""


def write_whole(path: Path, content: bytes, *, shared: bool = False) -> None:
    """Puts a file in place so that a reader finds it whole or not at all, also after a power cut.

    Args:
        shared: other processes may be writing this very file; else what a kill left of it is swept away.

    Raises:
        StoreError: the disk is full, the folder cannot be written, and so on.
    """
    scratch = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for stale in () if shared else path.parent.glob(f".{path.name}.*.partial"):
            stale.unlink(missing_ok=True)
        try:
            with open(scratch, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(scratch, path)
        except OSError:
            scratch.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise StoreError(
            f"{path} cannot be written ({error.strerror}): make room there or give another --out; finished files stay, "
            "and the same command goes on from them"
        ) from error


def check_writable(out: Path) -> None:
    """Before any work: an hour's images must not be lost to a read-only folder."""
    probe = out / f".{os.getpid()}"
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"the folder {out} cannot be written ({reason}): give another with --out") from error


def rank_of_process(environment: Mapping[str, str] = os.environ) -> tuple[int, int, int]:
    """Rank, number of processes and rank on this machine, as `accelerate launch` and `torchrun` set them.

    Raises:
        InputError: they make no sense.

    Example:
        >>> rank_of_process({"RANK": "3", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}), rank_of_process({})
        ((3, 8, 1), (0, 1, 0))
    """
    try:
        rank, count = int(environment.get("RANK", 0)), int(environment.get("WORLD_SIZE", 1))
        local = int(environment.get("LOCAL_RANK", rank))
    except ValueError as error:
        raise InputError(f"RANK, WORLD_SIZE and LOCAL_RANK are whole numbers: {error}") from error
    if not 0 <= rank < count:
        raise InputError(f"RANK {rank} of WORLD_SIZE {count}: wanted 0 to {count - 1}")
    return rank, count, local


def weights_digest(*modules: nn.Module) -> str:
    """Which weights these are: 16 hex digits of all of them as float16, the same from half and from full precision."""
    parts = hashlib.sha256()
    for module in modules:
        for name, tensor in module.state_dict().items():
            stored = tensor.half() if tensor.is_floating_point() else tensor
            parts.update(name.encode() + stored.cpu().contiguous().numpy().tobytes())
    return parts.hexdigest()[:16]
