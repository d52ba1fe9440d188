from __future__ import annotations

import argparse
import copy
import json
from dataclasses import replace

import pytest
from diffusers import UniPCMultistepScheduler

from baselines._benchmark import ways
from baselines._benchmark.command import (
    ONE_BATCH,
    ROWS,
    Setup,
    add_arguments,
    format_table,
    largest_difference,
    peak_memory,
    run,
)
from baselines._benchmark.sides import EDITED, METHODS, SHARING, FivePipelines, OneBatch, edited_weights
from livo.diffusion.backbones import load_backbone
from livo.types import InputError

PROMPT = "a photo of a doctor"


def arguments(*given: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(given)


@pytest.fixture(scope="module")
def sides(tiny_folder) -> tuple[OneBatch, FivePipelines]:
    backbone = load_backbone(str(tiny_folder), device="cpu")
    theirs = FivePipelines(backbone, "weights")
    return OneBatch(replace(backbone, unet=copy.deepcopy(backbone.unet))), theirs


def test_both_sides_make_the_same_images(sides, options):
    ours, theirs = sides
    ask = options(seeds=(3, 1, 2), num_inference_steps=4)
    one, five = ours(PROMPT, ask), theirs(PROMPT, ask)
    assert one.keys() == five.keys() == set(METHODS)
    assert max(largest_difference(one, five).values()) <= 1
    effect = largest_difference(five, dict.fromkeys(METHODS, five["stable_diffusion"]))
    assert effect.pop("stable_diffusion") == 0 and min(effect.values()) > 10, effect


def test_a_pipeline_computes_as_many_rows_as_is_said(sides, options, count_rows):
    _, theirs = sides
    unets = {id(pipe.unet): pipe.unet for pipe in theirs.pipes.values()}.values()
    rows = [count_rows(unet) for unet in unets]
    theirs(PROMPT, options(seeds=(3, 1, 2), num_inference_steps=2))
    assert sum(map(sum, rows)) == ROWS * 3 * 2


def test_planted_differences_show(sides, options):
    ours, theirs = sides
    ask = options(seeds=(3, 1), num_inference_steps=4)
    five = theirs(PROMPT, ask)
    other_seed = largest_difference(ours(PROMPT, replace(ask, seeds=(3, 2))), five)
    assert min(other_seed.values()) > 10, other_seed
    unet = ours.engine.backbone.unet
    ours.engine.add_projection("uce", edited_weights(unet, 5))
    other_weights = largest_difference(ours(PROMPT, ask), five)
    ours.engine.add_projection("uce", edited_weights(unet, EDITED["uce"]))
    assert other_weights.pop("uce") > 10 and max(other_weights.values()) <= 1, other_weights


@pytest.mark.parametrize(("sharing", "unets", "others"), [("nothing", 5, 5), ("encoder", 5, 1), ("weights", 3, 1)])
def test_what_the_pipelines_share(tiny_folder, sharing, unets, others):
    pipes = FivePipelines(load_backbone(str(tiny_folder), device="cpu"), sharing).pipes.values()
    for part, count in (("unet", unets), ("text_encoder", others), ("vae", others)):
        assert len({id(getattr(pipe, part)) for pipe in pipes}) == count


def test_peak_memory_is_that_of_a_process_of_its_own(tiny_folder):
    found = peak_memory(Setup(str(tiny_folder), steps=1, size=16, dtype="float32", threads=1), ONE_BATCH, 1)
    assert 0 <= found["before"] < found["peak"], "the parent's own peak must not show"


def test_the_command(tiny_folder, monkeypatch, capsys):
    asked = []

    def peak(setup, side, images):
        asked.append((side, images))
        return {"before": 100, "peak": 300 if side == ONE_BATCH else 900}

    monkeypatch.setattr("baselines._benchmark.command.peak_memory", peak)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    small = ["--backbone", str(tiny_folder), "--images", "1,2", "--steps", "2", "--repeats", "1", "--size", "16"]
    answer = json.loads(run(arguments(*small, "--json")))
    assert asked == [(side, images) for images in (1, 2) for side in (ONE_BATCH, *SHARING)]
    assert (answer["height"], answer["steps"], answer["dtype"]) == (16, 2, "float32")
    assert [result["images"] for result in answer["results"]] == [1, 2]
    for result in answer["results"]:
        assert min(*result["seconds"].values(), *result["time_ratio"].values()) > 0
        assert 0 < result["rows"]["one_batch"] < result["rows"]["pipelines"] == ROWS * 2 * result["images"]
        assert set(result["difference"]) == set(METHODS) and max(result["difference"].values()) <= 1
        assert min(grey for name, grey in result["effect"].items() if name != "stable_diffusion") > 5
    shown = " ".join(format_table(answer).split())
    assert "16 x 16, 2 steps, float32, cpu, 1 CPU threads" in shown and "random" not in shown
    assert "memory ratio, five complete pipelines 0.33 (0.25) 0.33 (0.25)" in shown
    assert "difference, Fair Diffusion" in shown and "time ratio" in shown
    assert "time, images a method: 2" in capsys.readouterr().err
    asked.clear()
    shown = run(arguments(*small, "--time-only"))
    assert not asked and "time ratio" in shown and "memory ratio" not in shown and "peak GB" not in shown


@pytest.mark.parametrize(
    ("given", "says"),
    [(["--images", "one"], "such as 1,4,8"), (["--images", "4,0"], "such as 1,4,8"), (["--repeats", "0"], "1 or more")],
)
def test_numbers_that_measure_nothing(given, says):
    with pytest.raises(InputError, match=says):
        run(arguments(*given))


def test_ways_are_timed_in_turns_beside_another_checkout(tiny_folder, monkeypatch):
    """The other checkout's answers are made up; `ways.EARLIER` itself is for a person to run."""
    few = {ways.USUAL: ways.Way(), "float32, UniPC, 2 steps": ways.Way(steps=2, scheduler=UniPCMultistepScheduler)}
    monkeypatch.setattr(ways, "WAYS", few)
    monkeypatch.setattr(ways, "SIZE", 64)
    monkeypatch.setattr(
        ways, "EARLIER", "for line in open(0): print(0.5, 1.5 * int(line.split(' ', 1)[0]), flush=True)"
    )
    small = ["--backbone", str(tiny_folder), "--images", "1,2", "--steps", "3", "--size", "16", "--repeats", "2"]
    answer = json.loads(run(arguments(*small, "--ways", "--against", str(tiny_folder), "--json")))
    assert answer["images"] == 2 and all(len(way["five"]) == 2 for way in answer["ways"].values())
    assert list(answer["ways"]) == [*few, "five diffusers pipelines", f"checkout {tiny_folder.name}"]
    assert answer["ways"][f"checkout {tiny_folder.name}"] == {"alone": [0.5] * 2, "five": [3.0] * 2}
    limits = [answer["ways"][name]["limit"] for name in few]
    assert limits[1] / limits[0] == pytest.approx(2 / 3, abs=0.1), "rows are counted by steps"
    answer["ways"][ways.USUAL]["five"] = [6.0, 9.0]
    assert f"| checkout {tiny_folder.name} | 4.0 | 3.00 | 2.50 (2.00-3.00) |  |" in ways.table(answer)
