"""Scenes by seed, and their pictures kept in one file, so that a training may see one more than once."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from livo.miniature.second.captions import random_scene
from livo.miniature.second.renderer import SIZE, render
from livo.miniature.second.world import Scene, World
from train.miniature.data import Source


def scenes(world: World, seed: int, count: int) -> list[tuple[Scene, str]]:
    """`count` scenes with captions, the same for the same seed."""
    rng = random.Random(seed)
    return [random_scene(world, rng) for _ in range(count)]


def keep_pictures(world: World, drawn: Sequence[Scene], path: Path) -> np.ndarray:
    """(N, 3, 128, 128) uint8 pictures of N scenes, drawn once and read from `path` ever after.

    Raises:
        ValueError: the file holds another number of pictures.
    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_suffix(".partial")
        out = np.lib.format.open_memmap(scratch, "w+", np.uint8, (len(drawn), 3, SIZE, SIZE))
        for i, scene in enumerate(tqdm(drawn, desc=path.stem)):
            out[i] = np.asarray(render(world, scene)).transpose(2, 0, 1)
        out.flush()
        scratch.replace(path)
    kept = np.load(path, mmap_mode="r")
    if len(kept) != len(drawn):
        raise ValueError(
            f"{path} holds {len(kept)} pictures and {len(drawn)} are wanted: remove it, and it is drawn again"
        )
    return kept


def batch_of(pictures: np.ndarray, size: int, step: int) -> tuple[Tensor, Sequence[int]]:
    """The pictures of a step in [-1, 1] and their numbers: each once an epoch, in an order of the epoch's own."""
    epoch, k = divmod(step, len(pictures) // size)
    order = torch.randperm(len(pictures), generator=torch.Generator().manual_seed(epoch))
    chosen = order[k * size : (k + 1) * size].tolist()
    return torch.from_numpy(np.stack([pictures[i] for i in chosen])).float() / 127.5 - 1, chosen


def render_batch(world: World, batch: Sequence[Scene]) -> Tensor:
    """(N, 3, 128, 128) uint8 pictures of N scenes."""
    pictures = np.stack([np.asarray(render(world, scene)) for scene in batch])
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous()


SECOND = Source(scenes, render_batch)
