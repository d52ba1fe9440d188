"""The build: scenarios dealt to processes, one shard a scenario, and at last the manifest and the card.

Processes do not talk: shard i belongs to process i modulo their number, and depends on the plan and on i alone. So any
number of processes on any machines with the same file system make the same files, and a build that was killed goes on
with the shards that are missing.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tqdm import tqdm

from livo.diffusion.engine import Engine
from livo.runs import StoreError, write_whole
from livo.types import InputError, Judge
from train.preference_data.card import card, statistics
from train.preference_data.samples import check_judge, make_rows
from train.preference_data.scenarios import Scenario
from train.preference_data.settings import SampleSettings
from train.preference_data.store import read_facts, read_rows, write_json, write_shard

FORMAT = 1
PACKAGES = ("torch", "diffusers", "transformers", "pyarrow", "pillow")


@dataclass(frozen=True)
class BuildPlan:
    """Everything that decides what is built.

    Attributes:
        made_by: which generator and which judge, by name and by digest.
    """

    settings: SampleSettings
    train: tuple[Scenario, ...]
    evaluation: tuple[Scenario, ...]
    made_by: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        """As `plan.json` has it. Versions belong to it: other ones may draw other pixels."""
        versions = {name: version(name) for name in PACKAGES} | {"python": platform.python_version()}
        return {"format": FORMAT, "versions": versions, **asdict(self)}

    def digest(self) -> str:
        """16 hex digits of all of it."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()[:16]

    def shard(self, out: Path, index: int) -> Path:
        """Where scenario `index` is stored."""
        return out / "data" / f"train-{index:05d}-of-{len(self.train):05d}.parquet"


def build(
    engine: Engine, judge: Judge, plan: BuildPlan, out: Path, *, rank: int = 0, world_size: int = 1
) -> dict[str, Any] | None:
    """Makes this process's missing shards; where they were the last ones, the manifest and the card too.

    Returns:
        The manifest, or None where other processes still work.

    Raises:
        InputError: `out` holds another build, or the judge cannot judge this one.
        StoreError: a file cannot be written.
    """
    check_judge(judge, plan.train)
    claim(plan, out)
    mine = [i for i in range(rank, len(plan.train), world_size) if not plan.shard(out, i).exists()]
    for i in tqdm(mine, desc=f"shards of process {rank}", unit="shard"):
        rows, counted = make_rows(engine, judge, plan.train[i], plan.settings)
        numbers = {what: number for what, number in sorted(counted.items()) if number}
        facts = {"plan": plan.digest(), "kind": plan.train[i].kind, "counted": numbers}
        write_shard(plan.shard(out, i), rows, facts)
    return finish(plan, out)


def claim(plan: BuildPlan, out: Path) -> None:
    """Writes `plan.json`, or finds the same one there.

    Raises:
        InputError: another one is there.
        StoreError: the folder cannot be written.
    """
    path = out / "plan.json"
    with _alone(out):
        if not path.exists():
            write_json(path, {"digest": plan.digest(), **plan.to_json()})
            return
        try:
            there = json.loads(path.read_text(encoding="utf-8"))["digest"]
        except (OSError, ValueError, KeyError, TypeError):
            there = "unreadable"
        if there != plan.digest():
            raise InputError(
                f"{out} holds another build (plan {there}, not {plan.digest()}): other concepts, settings, weights or "
                "versions; give another --out"
            )


def finish(plan: BuildPlan, out: Path) -> dict[str, Any] | None:
    """Writes the evaluation prompts, the manifest and the card once every shard is there; else None."""
    shards = [plan.shard(out, i) for i in range(len(plan.train))]
    if not all(shard.exists() for shard in shards):
        return None
    with _alone(out):
        path = out / "manifest.json"
        if path.exists():
            return json.loads(path.read_text(encoding="utf-8"))
        counted: dict[str, Counter[str]] = {}
        files = []
        for shard in shards:
            facts = read_facts(shard)
            if facts["plan"] != plan.digest():
                raise StoreError(f"{shard} is of another build: delete it, and run the same command")
            counted.setdefault(facts["kind"], Counter()).update(facts["counted"])
            with open(shard, "rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            files.append({"file": f"data/{shard.name}", "bytes": shard.stat().st_size, "sha256": digest})
        columns = ("kind", "prompt", "labels")  # the images may be many GB
        rows = (row for shard in shards for row in read_rows(shard, columns))
        stats = statistics(plan.train, plan.evaluation, rows)
        left_out = {kind: dict(sorted(numbers.items())) for kind, numbers in counted.items()}
        prompts = [
            {"kind": s.kind, "concept": s.concept, "prompt": s.prompt, "principles": list(s.principles)}
            for s in plan.evaluation
        ]
        manifest = {
            "format": FORMAT, "plan": plan.digest(), "made_by": dict(plan.made_by), "settings": asdict(plan.settings),
            "statistics": stats, "counted": left_out, "shards": files,
        }  # fmt: skip
        write_whole(out / "evaluation.jsonl", "".join(f"{json.dumps(p)}\n" for p in prompts).encode())
        write_whole(out / "README.md", card(manifest, has_evaluation=bool(prompts)).encode())
        write_json(path, manifest)  # last: a folder with a manifest is complete
        return manifest


def shards_of(out: Path) -> Sequence[Path]:
    """The shards of a finished build, in order.

    Raises:
        InputError: the folder holds no finished build, or a shard of it is missing.
    """
    try:
        files = json.loads((out / "manifest.json").read_text(encoding="utf-8"))["shards"]
        shards = [out / row["file"] for row in files]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{out} holds no finished build ({error}): finish `build` first") from error
    for shard in shards:
        if not shard.is_file():
            raise InputError(f"{shard} is missing: delete {out / 'manifest.json'}, and build again")
    return shards


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """One process of this file system at a time; a kill frees it."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        folder = os.open(out, os.O_RDONLY)
    except OSError as error:
        raise StoreError(f"{out} cannot be written ({error.strerror}): give another --out") from error
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)
