"""The two commands from arguments to a method that plans, on the tiny backbone."""

from __future__ import annotations

import json
import shutil

import open_clip
import pytest
import torch
from pairs import lopsided_shares
from safetensors.torch import load_file

import baselines
import train.dpo
import train.value_encoder as trainer
from livo.classifiers.clip import EVALUATOR_CONFIG, world_questions
from livo.classifiers.judge import save_judge
from livo.diffusion.backbones import load_backbone
from livo.diffusion.engine import Engine
from livo.miniature.world import load_world
from livo.principles import find_principle

WORLD = load_world()


@pytest.fixture
def folder(tiny_folder, tmp_path, monkeypatch):
    """A backbone with a judge, whose shares are planted: nothing random would be biased."""
    folder = tmp_path / "backbone"
    shutil.copytree(tiny_folder, folder)
    config = EVALUATOR_CONFIG | {"vision_cfg": EVALUATOR_CONFIG["vision_cfg"] | {"width": 8}}
    save_judge(open_clip.CLIP(**config), config, world_questions(WORLD), folder / "evaluator")
    monkeypatch.setattr(trainer, "measure_shares", lambda engine, judge, concepts, path: lopsided_shares(WORLD))
    return folder


def arguments(folder, *more: str) -> list[str]:
    work = str(folder.parent / "work")
    few = ["--threads", "1", "--pairs", "12", "--num-steps", "2", "--batch-size", "3", "--learning-rate", "0.001"]
    return ["--backbone", str(folder), "--work", work, *few, *more]


@pytest.mark.parametrize(("main", "flags", "name", "command"), [
    (train.dpo.main, [], "dpo", "python -m train.dpo"),
    (train.dpo.main, ["--variant", "dpo-d", "--alpha", "50"], "dpo_d", "python -m train.dpo --variant dpo-d"),
    (trainer.main, ["--gamma-1", "2"], "livo", "python -m train.value_encoder"),
])  # fmt: skip
def test_a_command_trains_and_its_method_plans(folder, options, main, flags, name, command):
    main(arguments(folder, *flags))
    out = folder / {"livo": "value_encoder"}.get(name, name)
    assert {t.dtype for t in load_file(out / "model.safetensors").values()} == {torch.float16}
    engine, bias = Engine(load_backbone(str(folder), "cpu")), find_principle("gender_equality")
    loaded = baselines.available()[name].load(engine)
    assert loaded.plan("a photo of a boxer", bias, options(seeds=range(4))).notes.count("value") == 2
    training = loaded.artefact(bias).training
    (path,) = (folder.parent / "work").glob("*/log.json")
    log = json.loads(path.read_text(encoding="utf-8"))
    assert set(training) == {"seconds", "images", "steps", "command", "settings", "samples"}
    assert training["seconds"] == log["log"][-1]["seconds"] > 0
    assert (training["images"], training["steps"]) == (12, 2)
    assert training["command"].startswith(command) and str(folder.parent) not in training["command"]
    _, _, _, *again = training["command"].split()
    shutil.rmtree(folder.parent / "work")
    main([*arguments(folder)[:6], *again, "--out", str(folder / "again")])
    before, after = (load_file(place / "model.safetensors") for place in (out, folder / "again"))
    assert all(torch.equal(before[key], after[key]) for key in before), "the stored command makes the same weights"


def test_the_losses_learn_from_the_same_pairs_and_settings(folder):
    for main, flags in ((trainer.main, []), (train.dpo.main, []), (train.dpo.main, ["--variant", "dpo-d"])):
        main(arguments(folder, *flags))
    logs = sorted((folder.parent / "work").glob("*/log.json"))
    runs = [json.loads(path.read_text(encoding="utf-8")) for path in logs]
    assert [run["loss"] for run in runs] == ["dpo_d_loss", "dpo_loss", "livo_loss"]
    for key in ("data", "backbone", "config"):
        assert runs[0][key] == runs[1][key] == runs[2][key]
    assert len({run["log"][-1]["loss"] for run in runs}) == 3
    assert len({(folder / name / "model.safetensors").read_bytes() for name in ("value_encoder", "dpo", "dpo_d")}) == 3


@pytest.mark.parametrize("flags", [["--gamma-1", "2"], ["--alpha", "5"], ["--variant", "livo"]])
def test_a_constant_that_the_loss_does_not_have_is_refused(flags, capsys):
    with pytest.raises(SystemExit):
        train.dpo.main(flags)
    assert flags[0] in capsys.readouterr().err
