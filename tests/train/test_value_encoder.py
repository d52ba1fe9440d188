"""The command: its data, its flags, its refusals; several processes; kills."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import open_clip
import pytest
import torch
from accelerate.state import AcceleratorState
from pairs import lopsided_shares
from PIL import Image
from safetensors.torch import load_file

import train.value_encoder as command
from livo.classifiers.clip import EVALUATOR_CONFIG, world_questions
from livo.classifiers.judge import save_judge
from livo.diffusion.backbones import load_backbone
from livo.miniature.world import load_world
from livo.types import InputError

ROOT = Path(__file__).resolve().parents[2]
WORLD = load_world()


@pytest.fixture(autouse=True)
def fresh_process():
    """`accelerate` keeps the first precision that a process asks for."""
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture
def official(tmp_path) -> Path:
    """Two types, four scenes, three winners and two losers each, of 20 x 16 noise."""
    root, rng = tmp_path / "official", random.Random(0)
    for kind, value in (("0-career", "gender equality"), ("4-horror", "zombie considered inappropriate")):
        for scene in range(2):
            folder = root / kind / f"{scene:03d}"
            folder.mkdir(parents=True)
            rows = []
            for i in range(5):
                Image.frombytes("RGB", (20, 16), rng.randbytes(960)).save(folder / f"{i}.png")
                prompt = f"a photo of a {kind[2:]} {scene}"
                rows.append({"file_name": f"{i}.png", "prompt": prompt, "value": value, "label": int(i < 3)})
            (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return root


def arguments(folder: Path, tmp_path: Path, *more: str) -> list[str]:
    given = {"backbone": folder, "work": tmp_path / "work", "out": tmp_path / "out", "threads": 1, "num-steps": 4,
             "batch-size": 4, "learning-rate": 1e-3}  # fmt: skip
    return [word for key, value in given.items() for word in (f"--{key}", str(value))] + list(more)


def encoder(tmp_path: Path) -> dict[str, torch.Tensor]:
    return load_file(tmp_path / "out" / "model.safetensors")


def apart(a: dict, b: dict) -> float:
    return max((a[key].float() - b[key].float()).abs().max().item() for key in a)


@pytest.mark.parametrize("flags", [
    [], ["--official"], ["--num-draws", "2"], ["--micro-batch", "3", "--gradient-checkpointing"],
    ["--loss", "mapo", "--snr", "0.4"], ["--principles", "zombie", "--fraction", "0.5"], ["--mixed-precision", "bf16"],
    ["--mixed-precision", "fp16"],
])  # fmt: skip
def test_the_authors_layout_trains_unchanged(tiny_folder, official, tmp_path, capsys, flags):
    command.main(arguments(tiny_folder, tmp_path, "--data", str(official), *flags))
    output = capsys.readouterr()
    assert "20 rows: 12 preferred, 8 not" in output.err and str(tmp_path / "out") in output.out
    assert {t.dtype for t in encoder(tmp_path).values()} == {torch.float16}
    (path,) = (tmp_path / "work").glob("*/log.json")
    facts = json.loads(path.read_text())
    assert facts["data"].startswith("official") == (flags[:1] != ["--principles"])
    config = facts["config"]
    assert (config["schedule"], config["learning_rate"], config["official"]) == (
        "constant",
        1e-3,
        "--official" in flags,
    )
    assert facts["precision"] == {"bf16": "bfloat16", "fp16": "float16"}.get("".join(flags[-1:]), "float32")


def test_a_built_folder_trains_as_its_export_does(tiny_folder, tmp_path, monkeypatch):
    """The same pairs from parquet shards and from the official layout: the same rows in the same order."""
    from preference_builds import SidedJudge, tiny_plan

    from livo.diffusion.engine import Engine
    from train.preference.pairs import read_pairs
    from train.preference_data.build import build
    from train.preference_data.official import Report, export_official

    build(Engine(load_backbone(str(tiny_folder), "cpu")), SidedJudge(), tiny_plan(), tmp_path / "built")
    export_official(tmp_path / "built", tmp_path / "exported")
    reports = Report(), Report()
    ours, theirs = (
        read_pairs(tmp_path / name, (16, 16), report)
        for name, report in zip(("built", "exported"), reports, strict=True)
    )
    assert [r.winners for r in reports] == [len(ours.rows)] * 2 == [len(theirs.rows)] * 2

    def seen(data):
        return sorted(
            (row.prompt, row.principle.id, data.pictures([row.winner]).sum().item(), len(row.losers))
            for row in data.rows
        )

    assert seen(ours) == seen(theirs) and len({row[1] for row in seen(ours)}) >= 3
    command.main(arguments(tiny_folder, tmp_path, "--data", str(tmp_path / "built")))
    assert encoder(tmp_path)


def test_a_folder_with_faults_names_each_and_trains_on_the_rest(tiny_folder, official, tmp_path, capsys):
    first, second = sorted(official.glob("0-career/*/metadata.jsonl"))
    (first.parent / "0.png").unlink()
    (first.parent / "1.png").write_bytes(b"")
    lines = second.read_text().splitlines()
    second.write_text("\n".join(lines[:3]))
    command.main(arguments(tiny_folder, tmp_path, "--data", str(official)))
    output = capsys.readouterr().err
    assert f"{first}, row 1: missing image: 0.png" in output and f"{first}, row 2: zero-byte image" in output
    assert f"{second}: a scene with no losers" in output
    assert "18 rows: 7 preferred, 6 not, 1 x missing image, 1 x zero-byte image, 1 x a scene with no losers" in output


def test_pictures_are_covered_and_cut_at_the_centre():
    from train.preference.pairs import fit_picture

    wide = Image.new("RGB", (40, 16), "red")
    wide.paste("blue", (12, 0, 28, 16))
    assert fit_picture(wide, (16, 16)).unique(dim=0).shape[0] and (fit_picture(wide, (16, 16))[2] == 255).all()
    assert fit_picture(wide, (8, 16)).shape == (3, 8, 16)


def test_fractions_are_nested_and_principles_are_kept_apart(official):
    from train.preference.pairs import read_pairs
    from train.preference_data.official import Report

    data = read_pairs(official, (16, 16), Report())
    half, most = data.only(fraction=0.5), data.only(fraction=0.75)
    assert set(half.rows) < set(most.rows) < set(data.rows) and len(half.rows) == 6
    assert len({data.digest, half.digest, most.digest, data.only(["zombie"]).digest}) == 4
    assert {row.principle.id for row in data.only(["zombie"]).rows} == {"zombie"}
    assert data.only() is data
    for wrong in ({"fraction": 0.0}, {"fraction": 1.5}, {"principles": ["nudity"]}):
        with pytest.raises(InputError, match="fraction|no pair of nudity"):
            data.only(**wrong)


@pytest.mark.parametrize(("flags", "message"), [
    (["--data", "nowhere"], "there is no folder nowhere"),
    (["--data", "{tmp}"], "holds no scene"),
    ([], "evaluator is missing.*python -m train.miniature --stages evaluator"),
    (["--backbone", "nowhere"], "there is no backbone folder nowhere"),
    (["--data", "{official}", "--fraction", "0.01"], "no pair is left|is left to train on"),
    (["--data", "{official}", "--num-steps", "0"], "give 1 or more"),
    (["--data", "{official}", "--track", "wandb"], "--track wandb needs its package: pip install wandb"),
    (["--data", "{official}", "--beta", "nan"], "loss became nan at step 0"),
])  # fmt: skip
def test_what_cannot_be_trained_is_one_clear_line(tiny_folder, official, tmp_path, flags, message):
    (tmp_path / "empty").mkdir()
    places = {"tmp": tmp_path / "empty", "official": official}
    with pytest.raises(SystemExit, match=f"python -m train.value_encoder: .*({message})") as caught:
        command.main(arguments(tiny_folder, tmp_path, *(flag.format(**places) for flag in flags)))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_broken_image_in_a_shard_is_named(tiny_folder, tmp_path):
    from train.preference.pairs import read_pairs
    from train.preference_data.official import Report
    from train.preference_data.store import write_json, write_shard

    rows = [
        {"image": {"bytes": b"nonsense", "path": None}, "kind": "career", "concept": "boxer", "prompt": "a boxer",
         "made_from": "a boxer", "seed": 0, "labels": [
             {"principle": "gender_equality", "value": "gender equality", "class": "male", "label": label}]}
        for label in (0, 1)
    ]  # fmt: skip
    write_shard(tmp_path / "built" / "data" / "train-00000-of-00001.parquet", rows, {})
    write_json(tmp_path / "built" / "manifest.json", {"shards": [{"file": "data/train-00000-of-00001.parquet"}]})
    data = read_pairs(tmp_path / "built", (16, 16), Report())
    with pytest.raises(InputError, match="train-00000-of-00001.parquet, row 2: its image cannot be read"):
        data.pictures([1])


@pytest.mark.parametrize("room", [20_000, 300_000])
def test_a_full_disk_stops_in_one_line_and_the_same_command_goes_on(tiny_folder, official, tmp_path, room):
    """Full where latents are kept, or where the state is."""
    whole = tmp_path / "whole"
    whole.mkdir()
    command.main(arguments(tiny_folder, whole, "--data", str(official)))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        with pytest.raises(SystemExit, match="the same command goes on from it"):
            command.main(arguments(tiny_folder, tmp_path, "--data", str(official)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    command.main(arguments(tiny_folder, tmp_path, "--data", str(official)))
    assert apart(encoder(tmp_path), encoder(whole)) == 0


def launched(count: int, *words: str) -> subprocess.Popen:
    """The command in `count` processes that talk over gloo."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen([*launch, "-m", "train.value_encoder", *words], cwd=ROOT, env=env, **pipes)


@pytest.mark.parametrize("flags", [["--num-draws", "2"], ["--official"]])
def test_two_processes_train_what_one_trains(tiny_folder, official, tmp_path, flags):
    """Data parallel over gloo, the same global batch: epochs end within a step, so draws change there too."""
    more = ["--data", str(official), "--num-steps", "7", *flags]
    (tmp_path / "two").mkdir()
    child = launched(2, *arguments(tiny_folder, tmp_path / "two", *more))
    out, _ = child.communicate(timeout=240)
    assert child.returncode == 0, out[-3000:]
    command.main(arguments(tiny_folder, tmp_path, *more))
    one, two = ((place / "work").glob("*/log.json") for place in (tmp_path, tmp_path / "two"))
    one, two = (json.loads(next(paths).read_text())["log"][-1] for paths in (one, two))
    assert {k: v for k, v in one.items() if k != "seconds"} == pytest.approx(
        {k: v for k, v in two.items() if k != "seconds"}, abs=2e-4
    )
    start = {f"text_model.{k}": v for k, v in load_backbone(str(tiny_folder), "cpu").text_encoder.state_dict().items()}
    trained = encoder(tmp_path)
    assert apart(trained, encoder(tmp_path / "two")) < 1e-3 < apart(trained, start) / 3, "stored in half precision"


def test_pairs_that_processes_cannot_share_are_refused(tiny_folder, official, tmp_path):
    child = launched(2, *arguments(tiny_folder, tmp_path, "--data", str(official), "--batch-size", "3"))
    out, _ = child.communicate(timeout=120)
    assert child.returncode and "3 pairs a step cannot be dealt to 2 processes evenly" in out


def test_five_sigkills_lose_nothing(tiny_folder, official, tmp_path):
    """At random moments, caches and state included; the end is that of a run that was left alone."""
    more = ["--data", str(official), "--num-steps", "120", "--num-draws", "2"]
    whole = tmp_path / "whole"
    whole.mkdir()
    command.main(arguments(tiny_folder, whole, *more))
    rng, kills = random.Random(5), 0
    code = (
        "import functools, sys, train.loop, train.preference.trainer as t, train.value_encoder as v;"
        "t.train = functools.partial(train.loop.train, save_every_seconds=0); v.main(sys.argv[1:])"
    )
    while kills < 5:
        env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        command_line = [sys.executable, "-c", code, *arguments(tiny_folder, tmp_path, *more)]
        child = subprocess.Popen(command_line, cwd=ROOT, env=env, stderr=subprocess.DEVNULL)
        while child.poll() is None and not (tmp_path / "work").exists():
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 1.2))
        if child.poll() is None:
            child.send_signal(signal.SIGKILL)
            kills += 1
        else:  # it was done: begin again with what a kill leaves of it
            shutil.rmtree(tmp_path / "work")
        child.wait()
    command.main(arguments(tiny_folder, tmp_path, *more))
    assert apart(encoder(tmp_path), encoder(whole)) == 0
    logs = [json.loads(next((place / "work").glob("*/log.json")).read_text())["log"] for place in (tmp_path, whole)]
    assert [row["step"] for row in logs[0]] == [row["step"] for row in logs[1]] == [50, 100, 120]
    assert [row["loss"] for row in logs[0]] == [row["loss"] for row in logs[1]]


def test_the_drawn_world_asks_its_judge_once(tiny_folder, tmp_path, monkeypatch):
    folder = tmp_path / "backbone"
    shutil.copytree(tiny_folder, folder)
    config = EVALUATOR_CONFIG | {"vision_cfg": EVALUATOR_CONFIG["vision_cfg"] | {"width": 8}}
    save_judge(open_clip.CLIP(**config), config, world_questions(WORLD), folder / "evaluator")
    asked = []
    monkeypatch.setattr(command, "measure_shares", lambda *given: asked.append(given[-1]) or lopsided_shares(WORLD))
    command.main([*arguments(folder, tmp_path)[:6], "--pairs", "9", "--num-steps", "1", "--batch-size", "2"])
    assert asked == [tmp_path / "work" / "shares.json"]
    hub = dataclasses.replace(load_backbone(str(folder), "cpu"), folder=tmp_path / "from-the-hub")
    with pytest.raises(InputError, match="without a judge.*give --data"):
        command.drawn_data(hub, tmp_path, 3, 0)
