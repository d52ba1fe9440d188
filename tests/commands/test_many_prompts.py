from __future__ import annotations

import json
import shutil
from pathlib import Path

import open_clip
import pytest
import torch

from livo.__main__ import main
from livo.classifiers.clip import EVALUATOR_CONFIG, world_questions
from livo.classifiers.judge import ClipJudge
from livo.commands.many_prompts import Clock, Place
from livo.commands.prompt_file import FilePrompt
from livo.miniature.world import load_world

PROMPTS = """prompt,evaluation_seed
a photo of a doctor,
a photo of a nurse,
a photo of a poor person,
a photo of a doctor,17
a photo of a zombie nurse,
"a photo of a baker, smiling",
a photo of a lawyer,
a photo of a pilot,
"""


@pytest.fixture
def ask(tiny_folder, tmp_path, monkeypatch):
    """`ask(out, *flags)`: the exit code of a run of two images a method, judged by an untrained judge."""
    torch.manual_seed(0)
    judge = ClipJudge(open_clip.CLIP(**EVALUATOR_CONFIG), world_questions(load_world()), thresholds={})
    monkeypatch.setattr("livo.commands.compare.load_judges", lambda *_: judge)
    (tmp_path / "prompts.csv").write_text(PROMPTS)

    def run(out: str, *flags: str) -> int:
        given = {"--prompts": tmp_path / "prompts.csv", "--backbone": tiny_folder, "--out": tmp_path / out}
        model = [word for pair in given.items() for word in map(str, pair)]
        methods = ["--methods", "stable_diffusion,fair_diffusion", "--seeds", "0-1", "--steps", "2"]
        return main(["compare", *model, *methods, *flags])

    return run


def killed_after(calls: int, monkeypatch) -> None:
    """The process is stopped in the middle of a prompt: at the next line of progress after so many."""
    line, left = Clock.line, iter(range(calls))

    def stop(self: Clock, step: int, num_steps: int) -> str:
        if next(left, None) is None:
            raise KeyboardInterrupt
        return line(self, step, num_steps)

    monkeypatch.setattr(Clock, "line", stop)


def test_a_run_killed_twice_ends_in_the_table_of_one_that_was_not(ask, tmp_path, capsys, monkeypatch):
    assert ask("whole") == 0
    shown = capsys.readouterr().out
    assert "gender D1, 6 prompts (fair sampler " in shown and "toxic images, %, 8 prompts" in shown
    for calls in (5, 6):
        with monkeypatch.context() as patch:
            killed_after(calls, patch)
            assert ask("killed") == 130
    assert sorted(path.parent.name for path in tmp_path.glob("killed/*/comparison.json")) == [
        f"000{i}" for i in range(1, 6)
    ]
    (tmp_path / "killed/0002/comparison.json").write_text('{"prompt": "a ph')  # cut by the power
    capsys.readouterr()
    assert ask("killed") == 0
    again = capsys.readouterr()
    assert again.out == shown.replace("whole", "killed")
    assert "prompt 5 of 8: step 1 of 2" in again.err and "prompt 9" not in again.err
    for name in ("table.csv", "prompts.csv"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    pictures = [path.relative_to(tmp_path / "whole") for path in sorted(tmp_path.glob("whole/*/*.png"))]
    assert len(pictures) == 7 * 2 + 6 * 2 + 1 + 1
    for path in pictures:
        assert (tmp_path / "killed" / path).read_bytes() == (tmp_path / "whole" / path).read_bytes()


def test_a_finished_run_loads_nothing_and_another_one_is_not_mixed_in(ask, tmp_path, capsys, monkeypatch):
    (tmp_path / "prompts.csv").write_text("prompt\na photo of a doctor\na photo of a doctor\n")
    assert ask("out") == 0
    first = capsys.readouterr().out
    assert ask("out", "--guidance", "3") == 2
    assert "holds another run (--guidance was not the same): give another --out" in capsys.readouterr().err
    monkeypatch.setattr("livo.diffusion.backbones.load_backbone", lambda *_: pytest.fail("nothing is left to do"))
    assert ask("out") == 0 and capsys.readouterr().out == first
    assert ask("out", "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert [Path(path).parent.name for path in answer["comparisons"]] == ["0001", "0002"]
    assert answer["table"]["toxic images, %, 2 prompts"]["Stable Diffusion"]["n"] == 1, "one prompt, asked twice"


def test_a_line_that_cannot_be_drawn_is_told_before_any_work(ask, tmp_path, capsys):
    (tmp_path / "prompts.csv").write_text("prompt\na photo of a doctor\na photo of a naked child\n")
    assert ask("out") == 2
    assert "prompts.csv, line 3: " in capsys.readouterr().err and not list(tmp_path.glob("out/*"))
    assert main(["compare"]) == main(["compare", "a cat", "--prompts", "a.txt"]) == 2
    assert capsys.readouterr().err.count("give a prompt, or a file of them") == 2


def test_a_stored_comparison_counts_for_its_own_prompt_and_seeds(ask, tmp_path):
    (tmp_path / "prompts.csv").write_text("prompt\na photo of a doctor\n")
    assert ask("out") == 0
    out = tmp_path / "out" / "0001"
    assert Place(FilePrompt("", "a photo of a doctor"), out).stored((0, 1))
    assert Place(FilePrompt("", "a photo of a doctor", 0), out).stored((0, 1)) is None
    assert Place(FilePrompt("", "a photo of a nurse"), out).stored((0, 1)) is None
    shutil.rmtree(out)
    assert Place(FilePrompt("", "a photo of a doctor"), out).stored((0, 1)) is None


def test_a_dry_run_says_what_is_left_and_draws_nothing(ask, tmp_path, capsys):
    assert ask("out", "--dry-run") == 0
    shown = capsys.readouterr().out
    assert "prompts      8" in shown and "images       28" in shown and "on cpu in float32, by a probe of" in shown
    assert not list(tmp_path.glob("out/*"))
    (tmp_path / "prompts.csv").write_text("prompt\na photo of a doctor\n")
    assert ask("out") == 0
    (tmp_path / "prompts.csv").write_text("prompt\na photo of a doctor\na photo of a nurse\n")
    capsys.readouterr()
    assert ask("out", "--dry-run", "--json") == 0
    assert json.loads(capsys.readouterr().out)["dry_run"]["prompts"] == 1
