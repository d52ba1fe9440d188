"""The plan of all trainings: complete, comparable, resumable, and what it costs."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import pytest

from livo.evaluation.trainings import base_of
from livo.types import InputError
from train.evidence.__main__ import PlanRun, locked, work_through
from train.evidence.cost import described, hours, shipped_rows, training_rows
from train.evidence.plan import STEPS, Sweep, rounds, sweeps
from train.preference.trainer import MINIATURE

ARMS = [arm for each in rounds() for arm in each]


def test_the_plan_has_every_training_that_is_asked_for():
    assert len({arm.name for arm in ARMS}) == len(ARMS)
    trainings = Counter(base_of(arm.name) for arm in ARMS)
    assert trainings["without-margin"] == 4, "and with the shipped one four of each"
    assert [trainings[name] for name in ("livo", "dpo", "dpo_d", "dapt", "concept_ablation")] == [3, 3, 3, 2, 2]
    assert {name: n for name, n in trainings.items() if name.startswith("fraction")} == {
        "fraction-5": 3, "fraction-20": 3, "fraction-40": 1, "fraction-60": 1, "fraction-80": 1, "fraction-100": 3,
    }  # fmt: skip
    assert sum(name.startswith("gamma-") for name in trainings) >= 9
    assert {a.flags["beta"] for a in ARMS if a.name.startswith("dpo-beta-")} == {"250.0", "1000.0", "4000.0"}
    assert {(a.flags["loss"], a.flags["losers"]) for a in ARMS if a.name.endswith("-random")} == {
        ("livo", "random"), ("dpo", "random")
    }  # fmt: skip
    assert len(STEPS) >= 8 and sum(arm.keep for arm in ARMS) == 6
    assert all(step % STEPS[0] == 0 for step in STEPS), "checkpoints are kept there"


def test_every_sweep_varies_one_thing_and_a_second_one_is_refused():
    for sweep in sweeps(ARMS):
        sweep.check()
    shares = next(sweep for sweep in sweeps(ARMS) if sweep.title == "Figure 3a")
    wrong = replace(shares.arms[1], flags={**shares.arms[1].flags, "num-draws": "1"})
    with pytest.raises(InputError, match=f"{shares.arms[0].name} and {wrong.name} differ in num-draws as well"):
        Sweep("Figure 3a", shares.varied, (*shares.arms, wrong)).check()


def test_shipped_methods_are_trained_again_by_their_own_settings():
    for arm in ARMS:
        if base_of(arm.name) in ("livo", "dpo", "dpo_d", "without-margin"):
            assert int(arm.flags["num-steps"]) == MINIATURE.num_steps and arm.flags["num-draws"] == "1"
    assert all("seed" in arm.flags for arm in ARMS)


def test_commands_are_such_as_the_trainers_take():
    import train.value_encoder as command

    for arm in ARMS:
        if arm.module == "train.value_encoder":
            known = Parsed()
            command.add_arguments(known, command.LOSSES[arm.flags["loss"]])
            assert set(arm.flags) - {"loss"} <= known.names, arm.name


class Parsed:
    """The flags that a parser is given."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def add_argument(self, flag: str, **_: object) -> None:
        self.names.add(flag.removeprefix("--"))


def test_what_is_done_is_not_done_again_and_another_command_is(tmp_path):
    ran: list[list[str]] = []
    shop = PlanRun(tmp_path, "miniature", lambda words: ran.append(list(words)))
    plan = [[ARMS[0]], [ARMS[5]]]
    work_through(shop, plan)
    assert [words[1] for words in ran] == ["train.value_encoder", "livo"] * 2 + ["livo"]
    assert f"{ARMS[0].name}={tmp_path / 'arms' / ARMS[0].name}" in ran[1] and len(ran[3]) > len(ran[1])
    ran.clear()
    work_through(shop, plan)
    assert all(words[1] == "livo" for words in ran)
    ran.clear()
    shop.train(replace(ARMS[0], flags={**ARMS[0].flags, "beta": "7"}))
    assert len(ran) == 1, "the plan was changed: what lies there is another training"


def test_a_killed_training_is_run_again_and_anothers_is_left_to_it(tmp_path):
    def killed(words):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        PlanRun(tmp_path, "miniature", killed).train(ARMS[0])
    ran: list = []
    shop = PlanRun(tmp_path, "miniature", ran.append)
    with locked(tmp_path / "locks" / ARMS[0].name):
        shop.train(ARMS[0])
    assert not ran and not shop.done(ARMS[0])
    shop.train(ARMS[0])
    assert len(ran) == 1 and shop.done(ARMS[0])


def test_checkpoints_are_found_by_what_the_log_says(tmp_path):
    arm = next(arm for arm in ARMS if arm.keep)
    facts = {"loss": "livo_loss", "constants": {"beta": 1000.0, "alpha": 500.0, "gamma_1": 1.0, "gamma_2": 0.5}}
    for name, seed in (("a", 0), ("b", int(arm.flags["seed"]))):
        log = tmp_path / arm.module / name / "log.json"
        log.parent.mkdir(parents=True)
        log.write_text(json.dumps({**facts, "config": {"num_steps": 1500, "seed": seed, "official": False}}))
    found = PlanRun(tmp_path, "miniature", print).evaluated(arm)
    assert found["livo-at-100-seed-1"] == tmp_path / arm.module / "b" / "checkpoints" / "000100"
    assert found["livo-at-1500-seed-1"] == found[arm.name] and len(found) == 1 + len(STEPS)


def test_the_cost_counts_rows_and_shared_pictures_once():
    assert training_rows(ARMS[0]) == 6 * 16 * 1500 + 2 * 12_288
    assert training_rows(next(a for a in ARMS if a.name == "fraction-5")) == 6 * 16 * 500 + 2 * 400 * 4
    first, again = hours([ARMS[0], replace(ARMS[0], name="other")], 1.0, 12)
    assert first - again == pytest.approx(2 * 12_288 / 3600)
    assert 0 < shipped_rows(12)["attacks"] < shipped_rows(12)["main"]
    assert "core-hours" in described(rounds(), 0.01, 12).splitlines()[-1]
