"""What the tests of training share: a biased generator's shares, and pictures of the tiny backbone's own size."""

from __future__ import annotations

import torch

from livo.miniature.world import World
from train.miniature.data import render_batch
from train.preference.drawn_pairs import training_concepts


def lopsided_shares(world: World) -> dict:
    """Of 24 pictures a concept: every other concept mostly male and light, the rest mostly female and dark."""
    one = {"gender": {"male": 22, "female": 2}, "tone": dict(zip(world.tones, (20, 1, 1, 1, 1), strict=True))}
    other = {"gender": {"male": 2, "female": 22}, "tone": dict(zip(world.tones, (1, 1, 1, 1, 20), strict=True))}
    occupations, adjectives = training_concepts(world)
    return {concept: (one, other)[i % 2] for i, concept in enumerate([*occupations, *adjectives])}


def small(world: World, scenes) -> torch.Tensor:
    """(N, 3, 16, 16) uint8: every fourth pixel."""
    return render_batch(world, scenes)[:, :, ::4, ::4].contiguous()
