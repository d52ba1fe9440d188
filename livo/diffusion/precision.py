"""Which precision this machine's CPU computes a denoiser in fastest: measured once a process, not read off its name."""

from __future__ import annotations

import functools
import statistics
import time

import torch
import torch.nn.functional as F

PAYS = 1.25
"""How many times faster bfloat16 must be: below that its rounding buys nothing."""
TURNS = 5


@functools.cache
def fastest_on_cpu() -> torch.dtype:
    """bfloat16 where the processor has units for it (AMX, AVX512-BF16) and they pay, else float32.

    A convolution and a product of the drawn world's sizes, in turns, in both types; a tenth of a second.
    """
    return torch.bfloat16 if speedup(torch.bfloat16) >= PAYS else torch.float32


@torch.inference_mode()
def speedup(dtype: torch.dtype) -> float:
    """How many times faster than float32 a CPU computes in `dtype`: the median of some turns after one to warm up."""
    maps, kernel, weight = torch.randn(16, 96, 8, 8), torch.randn(96, 96, 3, 3), torch.randn(768, 96)
    operands = {d: tuple(part.to(d) for part in (maps, kernel, weight)) for d in (torch.float32, dtype)}
    ratios = []
    for _ in range(TURNS + 1):
        seconds = {}
        for d, (x, k, w) in operands.items():
            start = time.perf_counter()
            F.linear(F.conv2d(x, k, padding=1).flatten(2).transpose(1, 2), w)
            seconds[d] = time.perf_counter() - start
        ratios.append(seconds[torch.float32] / seconds[dtype])
    return statistics.median(ratios[1:])
