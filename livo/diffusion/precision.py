"""Which precision this machine's CPU computes a denoiser in fastest: measured once a process, not read off its name."""

from __future__ import annotations

import functools
import time

import torch
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn

PAYS = 1.25
"""How many times faster bfloat16 must be: below that its rounding buys nothing."""
HOPELESS = 0.25
"""A CPU without units for bfloat16 takes up to 30 times as long in it; one row tells, and no more is tried then."""
TURNS = 5
ROWS, CHANNELS, SIDE = 16, 64, 16
"""A call of five methods on one picture, at the drawn world's first level. Smaller calls gain less, or nothing."""


@functools.cache
def fastest_on_cpu() -> torch.dtype:
    """bfloat16 where the processor has units for it (AMX, AVX512-BF16) and they pay, else float32.

    A block of the U-Net's, in turns, in both types; 0.2 s where bfloat16 pays.
    """
    return torch.bfloat16 if speedup(torch.bfloat16) >= PAYS else torch.float32


def speedup(dtype: torch.dtype) -> float:
    """How many times faster than float32 a CPU computes in `dtype`: by the fastest call of each, taken in turns, since
    other programs make a call slower and never faster."""
    blocks = {d: ResnetBlock2D(in_channels=CHANNELS, temb_channels=None).to(d) for d in (torch.float32, dtype)}

    def ratio(rows: int) -> float:
        maps = torch.randn(rows, CHANNELS, SIDE, SIDE)
        took = [{d: seconds(block, maps.to(d)) for d, block in blocks.items()} for _ in range(TURNS)]
        return min(turn[torch.float32] for turn in took) / min(turn[dtype] for turn in took)

    return one if (one := ratio(1)) < HOPELESS else ratio(ROWS)


@torch.inference_mode()
def seconds(block: nn.Module, maps: Tensor) -> float:
    """That one call of the block takes on (N, C, h, w) maps."""
    start = time.perf_counter()
    block(maps, None)
    return time.perf_counter() - start
