from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from train.loop import save_state, train


class Killed(BaseException):
    """As when the process ends: nothing after it runs."""


class Run:
    """A small training whose data depend on the step alone."""

    def __init__(self, folder, *, num_steps: int = 170, undisciplined: bool = False) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-2)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(self.optimizer, 1e-2, total_steps=max(num_steps, 200))
        self.checkpoint, self.num_steps = folder / "run.pt", num_steps
        self.undisciplined = undisciplined
        self.kill_at: int | None = None
        self.done: list[int] = []

    def step(self, i: int) -> dict[str, float]:
        if i == self.kill_at:
            raise Killed
        self.done.append(i)
        if not self.undisciplined:
            torch.manual_seed(i)
        x = torch.randn(8, 3)
        loss = (self.model(x) - x.sum(1, keepdim=True)).square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.schedule.step()
        return {"loss": loss.item(), "step_number": float(i)}

    def go(self, save_every_seconds: float = -1) -> list[dict[str, float]]:
        parts = {"model": self.model, "optimizer": self.optimizer, "schedule": self.schedule}
        return train("test", self.checkpoint, parts, self.num_steps, self.step, save_every_seconds=save_every_seconds)


def timeless(log: list[dict]) -> list[dict]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in log]


def flat(state) -> list:
    """All numbers of a nested state, tensors as lists."""
    if isinstance(state, dict):
        return [(str(key), flat(value)) for key, value in state.items()]
    if isinstance(state, (list, tuple)):
        return [flat(value) for value in state]
    return state.tolist() if isinstance(state, torch.Tensor) else state


def states(run: Run) -> list:
    return [flat(part.state_dict()) for part in (run.model, run.optimizer, run.schedule)]


def killed_and_resumed(folder, kill_at: int, **options) -> tuple[Run, list[dict]]:
    run = Run(folder, **options)
    run.kill_at = kill_at
    with pytest.raises(Killed):
        run.go()
    again = Run(folder, **options)
    torch.manual_seed(987)  # another process has another state
    return again, again.go()


@pytest.mark.parametrize("kill_at", [0, 49, 50, 137, 169])
def test_a_killed_run_ends_as_an_uninterrupted_one_bit_for_bit(tmp_path, kill_at):
    whole = Run(tmp_path / "whole")
    log = whole.go()
    again, resumed_log = killed_and_resumed(tmp_path / "killed", kill_at)
    assert states(again) == states(whole)
    assert timeless(resumed_log) == timeless(log) and [row["step"] for row in log] == [50, 100, 150, 170]
    assert again.done[0] == kill_at // 50 * 50, "it goes on from the last saved state"
    stored = [torch.load(run.checkpoint, weights_only=True) for run in (whole, again)]
    assert flat({**stored[0], "log": 0, "seconds": 0}) == flat({**stored[1], "log": 0, "seconds": 0})


def test_that_comparison_can_fail(tmp_path):
    whole = Run(tmp_path / "whole", undisciplined=True)
    whole.go()
    again, _ = killed_and_resumed(tmp_path / "killed", 137, undisciplined=True)
    assert states(again) != states(whole)


def test_log_rows_are_means_since_the_last_row(tmp_path):
    log = Run(tmp_path, num_steps=120).go()
    assert [row["step_number"] for row in log] == [24.5, 74.5, 109.5]
    assert all(set(row) == {"step", "loss", "step_number", "seconds"} for row in log)
    assert [row["seconds"] for row in log] == sorted(row["seconds"] for row in log)


def test_a_finished_run_is_not_repeated_and_can_be_lengthened(tmp_path):
    first = Run(tmp_path, num_steps=120)
    log = first.go()
    again = Run(tmp_path, num_steps=120)
    again.kill_at = 0
    assert again.go() == log and again.done == [] and states(again) == states(first)
    longer = Run(tmp_path, num_steps=160)
    rows = longer.go()
    assert longer.done == list(range(120, 160)) and rows[:3] == log
    assert [row["step_number"] for row in rows[3:]] == [134.5, 154.5], "means over the 30 and 10 steps since"
    assert rows[-1]["seconds"] > rows[2]["seconds"]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_none_stops_it_and_the_last_good_state_stays(tmp_path, bad):
    run = Run(tmp_path)
    good = run.step
    run.step = lambda i: good(i) | ({"loss": bad} if i == 70 else {})
    with pytest.raises(FloatingPointError, match=r"test: loss became -?(nan|inf) at step 70; .*run\.pt"):
        run.go()
    state = torch.load(run.checkpoint, weights_only=True)
    assert state["step"] == 50 and all(torch.isfinite(t).all() for t in state["model"].values())
    again = Run(tmp_path)
    whole = Run(tmp_path / "whole")
    whole.go()
    again.go()
    assert states(again) == states(whole), "and can be gone on from"


def test_a_state_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "deep" / "state.pt"
    save_state(path, {"x": torch.ones(3)})
    assert sorted(p.name for p in path.parent.iterdir()) == ["state.pt"]

    def half_a_file(state, scratch):
        scratch.write_bytes(b"PK half")
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", half_a_file)
        with pytest.raises(Killed):
            save_state(path, {"x": torch.zeros(3)})
    assert torch.load(path, weights_only=True)["x"].tolist() == [1, 1, 1]
    save_state(path, {"x": torch.zeros(3)})
    assert torch.load(path, weights_only=True)["x"].tolist() == [0, 0, 0]


def test_it_saves_no_more_often_than_asked(tmp_path, monkeypatch):
    saves = []
    monkeypatch.setattr("train.loop.save_state", lambda path, state: saves.append(state["step"]))
    Run(tmp_path).go(save_every_seconds=1e9)
    assert saves == [170]
    saves.clear()
    Run(tmp_path).go()
    assert saves == [50, 100, 150, 170, 170]
