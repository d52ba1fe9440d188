"""`python -m train.evidence`: every training that the tables, figures and claims rest on, and their evaluation."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from livo.evaluation.trainings import base_of
from livo.runs import write_whole
from livo.types import InputError
from train.evidence.cost import described, hours, measure_row
from train.evidence.plan import EVERY, IMAGES, STEPS, Arm, rounds, sweeps
from train.preference.losses import LOSSES


@dataclass(frozen=True)
class PlanRun:
    """Where the work is done.

    Attributes:
        run: a command's words after the interpreter -> nothing, or it raises.
    """

    work: Path
    backbone: str
    run: Callable[[Sequence[str]], Any]

    def out(self, arm: Arm) -> Path:
        return self.work / "arms" / arm.name

    def done(self, arm: Arm) -> bool:
        """Whether it was trained by this very command."""
        note = self.out(arm) / "arm.json"
        return note.is_file() and json.loads(note.read_text())["command"] == shlex.join(arm.words())

    def train(self, arm: Arm) -> None:
        """Trains what is not trained yet, unless another process is at it."""
        with locked(self.work / "locks" / arm.name) as mine:
            if not mine or self.done(arm):
                return
            where = ["--backbone", self.backbone, "--work", str(self.work / arm.module), "--out", str(self.out(arm)),
                     "--threads", "1"]  # fmt: skip
            kept = ["--checkpoint-every", str(STEPS[0]), "--keep", str(STEPS[-1] // STEPS[0])] if arm.keep else []
            self.run([*arm.words(), *where, *kept])
            write_whole(self.out(arm) / "arm.json", json.dumps({"command": shlex.join(arm.words())}).encode())

    def shipped(self, name: str) -> None:
        """Evaluates the shipped methods ("main"), or attacks them ("attacks"), unless another process is at it."""
        with locked(self.work / "locks" / name) as mine:
            if mine:
                what = ["--attacks"] if name == "attacks" else []
                where = ["--backbone", self.backbone, "--out", str(self.work / name), "--threads", "1"]
                self.run(["-m", "livo", "evaluate", *what, *where])

    def evaluate(self, arms: Sequence[Arm]) -> None:
        """Evaluates all that are trained: on evaluation prompts; margins on validation prompts; what tokens are read.

        Nothing is done where another process is at it, and nothing twice.
        """
        trained = [arm for arm in arms if self.done(arm)]
        margins = [arm for arm in trained if arm.name.startswith("gamma-")]
        tokens = [arm for arm in trained if arm.name in ("fraction-100", "livo-neutral")]
        with locked(self.work / "locks" / "evaluate") as mine:
            if mine:
                self._evaluate("encoders", trained, ["--every", str(EVERY)])
                self._evaluate("validation", margins, ["--validation"])
                self._evaluate("controls", tokens, ["--parts", "controls"])

    def _evaluate(self, name: str, arms: Sequence[Arm], which: Sequence[str]) -> None:
        of = self.evaluated if name == "encoders" else lambda arm: {arm.name: self.out(arm)}
        named = [f"{known}={path}" for arm in arms for known, path in of(arm).items()]
        if named:
            where = ["--backbone", self.backbone, "--out", str(self.work / name), "--threads", "1"]
            self.run(["-m", "livo", "evaluate", *where, *which, "--images", str(IMAGES), "--value-encoders", *named])

    def evaluated(self, arm: Arm) -> dict[str, Path]:
        """Folders by the name that evaluation has for each: the training, and its checkpoints."""
        found = {arm.name: self.out(arm)}
        if arm.keep:
            base, seed = base_of(arm.name), arm.name.removeprefix(base_of(arm.name))
            found |= {f"{base}-at-{at}{seed}": path for at, path in self.checkpoints(arm).items()}
            found[f"{base}-at-{STEPS[-1]}{seed}"] = self.out(arm)
        return found

    def checkpoints(self, arm: Arm) -> dict[int, Path]:
        """Kept encoders by step, found by what the run's log says of itself."""
        for log in (self.work / arm.module).glob("*/log.json"):
            facts = json.loads(log.read_text())
            told = {**facts["constants"], **facts["config"], "loss": facts["loss"]}
            known = {key.replace("_", "-"): str(value) for key, value in told.items()}
            mine = {**arm.flags, "loss": LOSSES[arm.flags["loss"]].__name__}
            if all(mine[flag] == value for flag, value in known.items() if flag in mine):
                return {at: log.parent / "checkpoints" / f"{at:06d}" for at in STEPS[:-1]}
        return {}


def run_python(words: Sequence[str]) -> None:
    """A command in a process of its own; raises CalledProcessError."""
    subprocess.run([sys.executable, *words], check=True)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Whether this process has the lock; another's ends with it, also when it is killed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def work_through(shop: PlanRun, plan: Sequence[Sequence[Arm]]) -> None:
    """Every round in turn; each ends with an evaluation of all so far."""
    arms: list[Arm] = []
    for each in plan:
        for arm in each:
            shop.train(arm)
        arms += each
        shop.evaluate(arms)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m train.evidence", description=__doc__.split("\n\n")[0])
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these trainings, by the names of the plan")
    parser.add_argument(
        "--hours",
        type=float,
        help="only the first trainings that fit in so many core-hours, and not the shipped methods",
    )
    parser.add_argument("--dry-run", action="store_true", help="print the plan and what it costs, and stop")
    parser.add_argument("--backbone", default="miniature", help="(%(default)s)")
    parser.add_argument("--work", type=Path, default=Path("runs/evidence"), help="to resume from (%(default)s)")
    args = parser.parse_args(arguments)
    try:
        plan = rounds()
        arms = [arm for each in plan for arm in each]
        for sweep in sweeps(arms):
            sweep.check()
        if unknown := set(args.only or ()) - {arm.name for arm in arms}:
            raise InputError(f"the plan has no training {min(unknown)!r}; `--dry-run` lists them")
        if args.only:
            plan = tuple(tuple(arm for arm in each if arm.name in args.only) for each in plan)
            arms = [arm for each in plan for arm in each]
        if args.dry_run or args.hours:
            from livo.diffusion.backbones import load_backbone

            steps = load_backbone(args.backbone).defaults.num_inference_steps
            row = measure_row(args.backbone, args.work / "measured")
            if args.hours:
                left, fits = args.hours, set()
                for arm, cost in zip(arms, hours(arms, row, steps), strict=True):
                    left -= cost
                    fits |= {arm.name} if left >= 0 else set()
                plan = tuple(tuple(arm for arm in each if arm.name in fits) for each in plan)
            if args.dry_run:
                print(described(plan, row, steps))
                return
        shop = PlanRun(args.work, args.backbone, run_python)
        work_through(shop, plan)
        for name in () if args.only or args.hours else ("main", "attacks"):
            shop.shipped(name)
    except InputError as error:
        sys.exit(f"{parser.prog}: {error}")
    except subprocess.CalledProcessError as error:
        sys.exit(f"{parser.prog}: {shlex.join(error.cmd[1:4])} ... ended with {error.returncode}; run this again")


if __name__ == "__main__":
    main()
