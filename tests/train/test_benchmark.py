"""The training benchmark at tiny size: it measures the ways that it names, and they agree."""

from __future__ import annotations

import json
import shutil

import open_clip
import pytest
from pairs import lopsided_shares

import train.value_encoder
from livo.classifiers.clip import EVALUATOR_CONFIG, world_questions
from livo.classifiers.judge import save_judge
from livo.diffusion.backbones import load_backbone
from livo.methods.value_encoder import ValueEncoder, save_value_encoder
from livo.miniature.world import load_world
from train import benchmark


@pytest.fixture
def folder(tiny_folder, tmp_path, monkeypatch):
    folder = tmp_path / "backbone"
    shutil.copytree(tiny_folder, folder)
    config = EVALUATOR_CONFIG | {"vision_cfg": EVALUATOR_CONFIG["vision_cfg"] | {"width": 8}}
    save_judge(open_clip.CLIP(**config), config, world_questions(load_world()), folder / "evaluator")
    save_value_encoder(ValueEncoder.untrained(load_backbone(str(folder), "cpu")).model, folder / "value_encoder")
    monkeypatch.setattr(train.value_encoder, "measure_shares", lambda *_: lopsided_shares(load_world()))
    monkeypatch.setattr(benchmark, "peak_bytes", lambda *_: 2**20)
    return folder


def test_every_way_is_measured_and_has_the_same_gradient(folder, tmp_path, capsys):
    words = ["--backbone", str(folder), "--turns", "2", "--pairs", "12", "--batch-size", "4", "--threads", "1"]
    benchmark.main([*words, "--work", str(tmp_path / "work"), "--json"])
    found = json.loads(capsys.readouterr().out)
    assert list(found["ways"]) == ["official", "kept", "references", "active"]
    for row in found["ways"].values():
        assert row["pairs/s"] > 0 and row["lowest"] <= row["speed"] <= row["highest"]
    assert found["ways"]["official"]["speed"] == 1.0
    assert max(found["gradient"].values()) < 1e-5 and 0 <= found["active share"] <= 1
    flop = found["sd15 TFLOP"]
    assert flop["official"] == pytest.approx(7.23, abs=0.01), "measured apart: VAE 31 %, reference 22 %, gradients 46 %"
    assert flop["official"] > flop["kept"] > flop["references"] >= flop["active"]
    table = benchmark.lines(found)
    assert "| official |" in table and "gradients agree" in table


def test_no_turns_are_refused(folder):
    with pytest.raises(SystemExit, match="0 turns measure nothing"):
        benchmark.main(["--backbone", str(folder), "--turns", "0"])
