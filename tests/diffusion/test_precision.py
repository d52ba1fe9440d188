"""Which precision a CPU is given, and that a seed is the same picture in all of them."""

from __future__ import annotations

import pytest
import torch

from livo.diffusion import precision
from livo.diffusion.backbones import find_dtype
from livo.diffusion.engine import Engine, load_engine


def test_bfloat16_is_taken_where_it_pays_and_measured_once(monkeypatch):
    measured = []
    for ratio, wanted in ((precision.PAYS + 0.1, torch.bfloat16), (precision.PAYS - 0.1, torch.float32)):
        monkeypatch.setattr(precision, "speedup", lambda dtype, ratio=ratio: measured.append(dtype) or ratio)
        precision.fastest_on_cpu.cache_clear()
        cpu = torch.device("cpu")
        assert find_dtype("auto", cpu) == find_dtype("auto", cpu) == wanted
    assert measured == [torch.bfloat16] * 2
    assert find_dtype("auto", torch.device("cuda")) is None and find_dtype(None, cpu) is None
    precision.fastest_on_cpu.cache_clear()


@pytest.mark.parametrize(
    ("one", "sixteen", "wanted", "calls"),
    [(1.0, 0.5, torch.bfloat16, 20), (1.0, 0.9, torch.float32, 20), (30.0, 0.5, torch.float32, 10)],
)
def test_the_precision_follows_from_measured_times(monkeypatch, one, sixteen, wanted, calls):
    """What bfloat16 takes of float32's time, on one row and on a call's; other programs slow all calls but one down."""
    measured = []

    def seconds(block, maps):
        measured.append(maps.dtype)
        share = one if len(maps) == 1 else sixteen
        busy = 1 if len(measured) % 10 in (5, 8) else 50 + len(measured) % 7
        return busy * (share if maps.dtype == torch.bfloat16 else 1.0)

    monkeypatch.setattr(precision, "seconds", seconds)
    precision.fastest_on_cpu.cache_clear()
    assert precision.fastest_on_cpu() is wanted and len(measured) == calls
    precision.fastest_on_cpu.cache_clear()


def test_a_real_call_of_both_types_is_measured():
    assert 0 < precision.speedup(torch.bfloat16) < 1000


@pytest.mark.parametrize(("dtype", "most"), [("bfloat16", 0.05), ("float16", 0.01)])
def test_a_seed_is_the_same_latents_in_every_precision_but_for_rounding(
    tiny_folder, tiny_backbone, options, dtype, most
):
    from baselines.stable_diffusion import StableDiffusion

    engines = Engine(tiny_backbone), load_engine(str(tiny_folder), "cpu", dtype)
    wanted, made = (e.sample({"sd": StableDiffusion(e).plan("a cat", None, options())})["sd"] for e in engines)
    assert made.dtype == torch.float32
    assert (made - wanted).abs().max() < most * wanted.abs().max()
