"""Training pictures of the drawn world, rendered on the fly by seed."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from livo.miniature.captions import random_scene
from livo.miniature.renderer import render
from livo.miniature.world import Scene, World


@dataclass(frozen=True)
class Source:
    """What an edition's trainings draw: scenes with captions by (world, seed, count), (N, 3, H, W) uint8 pictures of
    scenes."""

    scenes: Callable[[Any, int, int], list[tuple[Any, str]]]
    pictures: Callable[[Any, Sequence[Any]], Tensor]


def scenes(world: World, seed: int, count: int) -> list[tuple[Scene, str]]:
    """`count` scenes with captions, the same for the same seed."""
    rng = random.Random(seed)
    return [random_scene(world, rng) for _ in range(count)]


def render_batch(world: World, batch: Sequence[Scene]) -> Tensor:
    """(N, 3, H, W) uint8 pictures of N scenes."""
    return (
        torch.from_numpy(np.stack([np.asarray(render(world, scene)) for scene in batch]))
        .permute(0, 3, 1, 2)
        .contiguous()
    )


def to_model_range(images: Tensor) -> Tensor:
    """uint8 [0, 255] -> float [-1, 1]."""
    return images.float() / 127.5 - 1


FIRST = Source(scenes, render_batch)
