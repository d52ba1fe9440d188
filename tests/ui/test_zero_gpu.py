"""Lent GPUs with the real `spaces`: where it is not installed, these fail."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

from baselines.fair_diffusion import FairDiffusion
from baselines.stable_diffusion import StableDiffusion
from livo.principles import find_principle
from livo.types import SamplingOptions
from livo.ui.zero_gpu import _first_sentences

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def lent(tiny_folder) -> dict:
    environment = os.environ | {"PYTHONPATH": f"{ROOT}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "tests/lent_gpu.py", str(tiny_folder)], cwd=ROOT, env=environment, capture_output=True,
        text=True, timeout=500,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_pictures_come_back_from_the_lent_process_and_are_those_of_this_one(lent, engine):
    assert version("spaces") and lent["device"] == "cuda:0", "the model waits for a GPU that is not there yet"
    assert lent["steps"] == 3
    options, principle = SamplingOptions((0, 1), 3, 5.0, 16, 16), find_principle("gender_equality")
    methods = {"stable_diffusion": StableDiffusion(engine), "fair_diffusion": FairDiffusion(engine)}
    plans = {id: method.plan("a photo of a doctor", principle, options) for id, method in methods.items()}
    for id, wanted in engine.generate(plans).items():
        assert (torch.tensor(lent["pictures"][id]) - wanted.int()).abs().max() <= 1, id


def test_a_gpu_is_asked_for_as_long_as_it_takes_and_given_back(lent):
    paths = [path for path, _ in lent["calls"]]
    assert paths == ["/schedule", "/allow", "/release", "/schedule"]
    assert lent["calls"][0][1]["durationSeconds"] == "10" and lent["calls"][2][1]["fail"].lower() == "false"


def test_when_no_time_is_left_the_drawn_world_answers_in_plain_words(lent):
    assert lent["notice"].startswith("your free GPU time is used up for now. ") and ". For more" in lent["notice"]
    assert lent["notice"].endswith("The drawn world answers instead.") and lent["instead"] == "miniature"


def test_the_drawn_world_asks_for_no_gpu(lent):
    assert lent["drawn"] == "cpu"


def test_a_sentence_ends():
    assert _first_sentences("It is full. Try again after one") == "It is full. Try again after one."
    assert _first_sentences("Later. <a>x</a>") == "Later."
    assert _first_sentences("") == ""
