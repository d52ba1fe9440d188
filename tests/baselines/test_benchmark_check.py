from __future__ import annotations

import argparse
import json

import pytest
import torch

from baselines._benchmark import sides as _benchmark_sides
from baselines._benchmark.command import ONE_BATCH, add_arguments, format_table, rates, run
from baselines._benchmark.sides import METHODS
from livo.types import InputError


def arguments(*given: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(given)


def test_both_sides_end_in_the_same_latents(tiny_folder):
    payload = json.loads(
        run(arguments("--backbone", str(tiny_folder), "--device", "cpu", "--check", "--images", "2", "--json"))
    )
    assert set(payload["difference"]) == set(METHODS) and max(payload["difference"].values()) < 1e-4
    assert min(effect for name, effect in payload["effect"].items() if name != "stable_diffusion") > 1e-2
    assert (payload["steps"], payload["dtype"], payload["images"]) == (2, "torch.float32", 2)
    shown = run(
        arguments("--backbone", str(tiny_folder), "--device", "cpu", "--check", "--images", "1", "--size", "24")
    )
    assert "24 x 24, 2 steps, float32" in shown and "all within 0.001" in shown and "Fair Diffusion" in shown


def test_a_planted_difference_fails_the_check(tiny_folder, monkeypatch):
    edited = _benchmark_sides.edited_weights
    calls = []

    def other_in_the_pipelines(unet, seed):
        calls.append(seed)
        return edited(unet, seed if len(calls) <= 2 else seed + 10)  # the engine asks first

    monkeypatch.setattr(_benchmark_sides, "edited_weights", other_in_the_pipelines)
    with pytest.raises(InputError, match="UCE is .* off, more than 0.001"):
        run(arguments("--backbone", str(tiny_folder), "--device", "cpu", "--check", "--images", "1"))
    assert len(calls) == 4


def test_rates_are_work_over_time():
    found = {"seconds": {ONE_BATCH: 0.5, "pipelines": 2.0}, "rows": {ONE_BATCH: 1000, "pipelines": 1200}}
    computed = rates(found, 8, 800_000_000_000, 1000.0)
    assert computed["images_per_second"] == {ONE_BATCH: 80.0, "pipelines": 20.0}
    assert computed["tflops"] == {ONE_BATCH: 1600.0, "pipelines": 480.0}
    assert computed["share_of_peak"] == {ONE_BATCH: 1.6, "pipelines": 0.48}
    assert "share_of_peak" not in rates(found, 8, 1, None)


def test_the_table_has_speed_and_share(tiny_folder, monkeypatch):
    monkeypatch.setattr(
        "baselines._benchmark.command.peak_memory", lambda setup, side, images: {"before": 100, "peak": 300}
    )
    small = [
        "--backbone",
        str(tiny_folder),
        "--device",
        "cpu",
        "--images",
        "1",
        "--steps",
        "1",
        "--repeats",
        "1",
        "--size",
        "16",
    ]
    answer = json.loads(run(arguments(*small, "--peak", "0.5", "--budget", "0.001", "--json")))
    (result,) = answer["results"]
    assert result["images_per_second"][ONE_BATCH] == pytest.approx(5 / result["seconds"][ONE_BATCH])
    assert result["share_of_peak"][ONE_BATCH] == pytest.approx(result["tflops"][ONE_BATCH] / 0.5)
    shown = format_table(answer)
    assert "images/s, one batch" in shown and "TFLOP/s, five pipelines" in shown and "% of peak" in shown


@pytest.mark.parametrize(
    ("given", "says"),
    [(["--peak", "0"], "--peak 0.0"), (["--budget", "-1"], "--budget -1"), (["--device", "cuda"], "finds no cuda")],
)
def test_what_cannot_be_measured(given, says, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises((InputError, RuntimeError), match=says):
        run(arguments(*given, "--check"))


def test_random_weights_at_real_size_are_asked_for_by_device(monkeypatch):
    """On a GPU the paper's size and steps, elsewhere what a laptop bears; built on the meta device."""
    seen = {}
    monkeypatch.setattr(_benchmark_sides, "projection_weights", lambda unet: {})
    backbone = _benchmark_sides.random_sd15(torch.float32, torch.device("meta"))
    seen["meta"] = (backbone.defaults.num_inference_steps, backbone.defaults.height)
    assert seen == {"meta": (4, 256)} and sum(p.numel() for p in backbone.unet.parameters()) == 859_520_964
