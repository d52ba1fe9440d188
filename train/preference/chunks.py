"""Tensors that are computed once, the reference's errors among them, and kept as files.

Any number of processes share the work; a chunk is there whole or not at all.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm


class Chunks:
    """Rows 0 to count - 1 of equal shape, on disk.

    Chunk k holds rows k * length onwards and is always computed as one batch, so its bits depend neither on which
    process makes it nor on what was there before. A file is written under another name and swapped in.

    Args:
        folder: of the files; it must name all that the rows depend on.
        count: of rows.
        make: (first, end) -> (end - first, ...) of those rows.
        length: rows of a chunk.
    """

    def __init__(self, folder: Path, count: int, make: Callable[[int, int], Tensor], length: int = 256) -> None:
        self.folder, self.count, self.make, self.length = folder, count, make, length
        self._open: dict[int, safe_open] = {}

    def _path(self, chunk: int) -> Path:
        return self.folder / f"{chunk:05d}.safetensors"

    def fill(self, name: str, process: int = 0, processes: int = 1) -> None:
        """Computes the missing chunks that belong to this process; wait for the others before reading theirs.

        Args:
            name: shown on the progress bar of process 0.
        """
        mine = range(process, -(-self.count // self.length), processes)
        missing = [chunk for chunk in mine if not _whole(self._path(chunk))]
        if not missing:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        for chunk in missing if process else tqdm(missing, desc=name):
            first = chunk * self.length
            rows = self.make(first, min(first + self.length, self.count)).cpu().contiguous()
            scratch = self._path(chunk).with_suffix(f".{os.getpid()}.partial")
            save_file({"rows": rows}, scratch)
            os.replace(scratch, self._path(chunk))

    def rows(self, numbers: Sequence[int]) -> Tensor:
        """(n, ...) rows by number, read through the page cache that processes share."""
        found = []
        for number in numbers:
            chunk, place = divmod(number, self.length)
            if chunk not in self._open:
                self._open[chunk] = safe_open(self._path(chunk), "pt")
            found.append(self._open[chunk].get_slice("rows")[place])
        return torch.stack(found)


class ReferenceCache:
    """The reference's errors of every row, a column a draw, computed when a draw comes round for the first time.

    Args:
        folder: of the columns; it must name backbone, precision, data and seed.
        count: of rows.
        errors: row indices and their draws -> (n, 2) errors on y_w and y_l.
    """

    def __init__(self, folder: Path, count: int, errors: Callable[[Sequence[int], Sequence[int]], Tensor]) -> None:
        self.folder, self.count, self.errors = folder, count, errors
        self._columns: dict[int, Chunks] = {}

    def fill(self, draws: Iterable[int], process: int = 0, processes: int = 1) -> bool:
        """Computes this process's share of the columns that are not known yet; whether there were any."""
        new = sorted(set(draws) - self._columns.keys())
        for draw in new:

            def make(first: int, end: int, draw: int = draw) -> Tensor:
                return self.errors(range(first, end), [draw] * (end - first))

            self._columns[draw] = Chunks(self.folder / f"{draw:03d}", self.count, make, 32)
            self._columns[draw].fill(f"reference {draw}", process, processes)
        return bool(new)

    def __call__(self, indices: Sequence[int], draws: Sequence[int]) -> Tensor:
        """(B, 2) errors of filled columns."""
        return torch.stack([self._columns[d].rows([i])[0] for i, d in zip(indices, draws, strict=True)])


def _whole(path: Path) -> bool:
    try:
        with safe_open(path, "pt"):
            return True
    except (OSError, SafetensorError):  # missing, or cut off by a full disk or a power cut
        return False
