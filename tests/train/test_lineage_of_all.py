"""`python -m train.shipped`, with commands that leave one tensor each: what is made, and in what order."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import train.shipped as command
from train.lineage import Lineage, digest, read_lineage, stamp
from train.verify import faults

ENCODERS = ["value_encoder", "dpo", "dpo_d"]
EDITS = ["uce", "uce_2025", "uce_sequential", "concept_ablation", "dapt"]


class Commands:
    """Stand in for the commands: each leaves a tensor of `value` in every folder that it makes, and is remembered."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.made, self.value, self.broken = folder, [], 0.0, ""

    def __call__(self, words: list[str]) -> None:
        ran, work = " ".join(words[2 : words.index("--work")]), Path(words[words.index("--work") + 1])
        (part,) = (part for part in command.PARTS if part.command == ran)
        if part.name == self.broken:
            raise subprocess.CalledProcessError(1, words)
        self.made.append(part.name)
        for file in part.files:
            self.leave(file, "open_clip_visual", "open_clip_text") if file == "evaluator" else self.leave(file, "a")
            if part.stamps:
                own = Lineage(
                    "x",
                    "c",
                    0,
                    1,
                    1,
                    {"text_encoder": digest("text_encoder", self.folder)} if file != "text_encoder" else {},
                )
                stamp(self.folder / file, own)
        work.mkdir(parents=True, exist_ok=True)
        (work / "shares.json").write_text(part.name, encoding="utf-8")

    def leave(self, file: str, *names: str) -> None:
        (self.folder / file).mkdir(parents=True, exist_ok=True)
        training = json.dumps({"steps": 7})
        for name in names:
            path = self.folder / file / f"{name}.safetensors"
            save_file({"w": torch.full((2,), self.value)}, path, metadata={"training": training})


@pytest.fixture
def commands(tmp_path, monkeypatch):
    commands = Commands(tmp_path / "model")
    monkeypatch.setattr(command, "FOLDER", commands.folder)
    monkeypatch.setattr(command, "run", commands)
    monkeypatch.setattr(command, "this_commit", lambda: "c")
    return commands


def everything(tmp_path, *arguments: str) -> int:
    return command.main(["--work", str(tmp_path / "work"), *arguments])


def test_all_is_made_once_in_order_and_says_so(commands, tmp_path, capsys):
    assert everything(tmp_path) == 0
    assert commands.made == ["text_encoder", "unet", "evaluator", *ENCODERS, *EDITS] and not faults(commands.folder)
    lineage = read_lineage(commands.folder / "dapt" / "a.safetensors")
    assert (lineage.command, lineage.steps, lineage.commit) == ("python -m train.dapt --num-steps 300", 7, "c")
    assert (commands.folder / "shares.json").read_text(encoding="utf-8") == "dapt", "the last that were measured"
    assert everything(tmp_path) == 0 and len(commands.made) == 11
    assert capsys.readouterr().out.count("made, of what lies there") == 11


def test_after_a_change_what_depends_on_it_is_made_anew_in_a_fresh_state(commands, tmp_path):
    everything(tmp_path)
    commands.made.clear()
    states = {path.name for path in (tmp_path / "work").iterdir()}
    commands.value = 1.0
    commands.leave("evaluator", "open_clip_visual")
    everything(tmp_path)
    assert commands.made == ["evaluator", *ENCODERS, "uce", "uce_2025", "uce_sequential"]
    fresh = {path.name for path in (tmp_path / "work").iterdir()} - states
    assert {name.rpartition("-")[0] for name in fresh} == {*ENCODERS, "uce", "uce_2025", "uce_sequential"}


def test_a_failure_stops_it_and_the_next_call_goes_on(commands, tmp_path, capsys):
    commands.broken = "dpo"
    assert everything(tmp_path) == 1 and commands.made[-1] == "value_encoder"
    assert "dpo: " in capsys.readouterr().err
    commands.broken = ""
    assert everything(tmp_path) == 0 and commands.made.count("value_encoder") == 1 and commands.made[-1] == "dapt"


def test_what_is_to_be_made_is_shown_and_nothing_made(commands, tmp_path, capsys):
    assert everything(tmp_path, "--show", "--parts", "uce,dapt") == 0 and not commands.made
    out = capsys.readouterr().out
    minutes = sum(part.minutes for part in command.PARTS if part.name in ("uce", "dapt"))
    assert "python -m train.uce\n" in out and f"about {minutes} core-minutes to go" in out
    with pytest.raises(SystemExit):
        everything(tmp_path, "--parts", "lora")
    assert "unknown part 'lora'; there are: text_encoder" in capsys.readouterr().err
