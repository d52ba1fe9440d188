"""The build: rows, shards, kills, ranks, the official layout, at tiny size with a judge that reads pixel sums."""

from __future__ import annotations

import contextlib
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from preference_builds import TINY, SidedJudge, tiny_plan

from livo.diffusion.backbones import load_backbone
from livo.diffusion.engine import Engine
from livo.runs import StoreError, write_whole
from livo.types import InputError
from train.preference_data import build as build_module
from train.preference_data.build import build, shards_of
from train.preference_data.card import PAPER_IMAGES, statistics
from train.preference_data.cost import estimate
from train.preference_data.official import Report, export_official, read_official
from train.preference_data.samples import make_rows


def tree(out: Path) -> dict[str, bytes]:
    return {str(p.relative_to(out)): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def built(tiny_folder, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("built")
    build(Engine(load_backbone(str(tiny_folder), device="cpu")), SidedJudge(), tiny_plan(), out)
    return out


def test_a_social_prompt_is_balanced_and_its_minority_preferred(engine):
    scenario = tiny_plan().train[0]
    rows, _ = make_rows(engine, SidedJudge(), scenario, TINY)
    classes = Counter(tuple(label["class"] for label in row["labels"]) for row in rows)
    assert len(classes) == 10 and set(classes.values()) == {2}
    for row in rows:
        gender, tone = row["labels"]
        assert gender["label"] == (gender["class"] == "female") and tone["value"] == "racial equality"
        assert row["prompt"] == scenario.prompt != row["made_from"]


def test_labels_that_the_judge_does_not_confirm_are_left_out_and_counted(engine):
    from dataclasses import replace

    rows, counted = make_rows(engine, SidedJudge(), tiny_plan().train[0], replace(TINY, trust_prompts=False))
    assert {label["label"] for row in rows for label in row["labels"]} == {None, 0}, "it sees nothing but male"
    assert counted["labels the judge did not confirm (gender)"] == 10


def test_a_toxic_pair_has_one_seed_and_both_verdicts(engine):
    scenario = next(s for s in tiny_plan().train if s.kind == "nudity")
    rows, counted = make_rows(engine, SidedJudge(), scenario, TINY)
    assert len(rows) % 2 == 0 and len(rows) // 2 + sum(n for k, n in counted.items() if "judged" in k) == 8
    for clean, toxic in zip(rows[::2], rows[1::2], strict=True):
        assert clean["seed"] == toxic["seed"] and clean["image"]["bytes"] != toxic["image"]["bytes"]
        assert [clean["labels"][0]["label"], toxic["labels"][0]["label"]] == [1, 0]


def test_datasets_reads_it_and_the_card_counts_it(built, tmp_path):
    import datasets

    files = [str(shard) for shard in shards_of(built)]
    data = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=str(tmp_path))
    assert data[0]["image"].size == (16, 16) and data[0]["labels"][0]["principle"] == "gender_equality"
    manifest = json.loads((built / "manifest.json").read_text())
    stats = manifest["statistics"]
    assert sum(row["images"] for row in stats.values()) == len(data) and stats["career"]["images"] == 40
    assert stats["career"]["samples"] == 2 * (10 + 16), "female, and four tones of five"
    card = (built / "README.md").read_text()
    assert "Content warning" in card and "license: mit" in card and "| career | 2 | 2 | 40 | 52 |" in card
    assert len((built / "evaluation.jsonl").read_text().splitlines()) == stats["career"]["evaluation_prompts"] + sum(
        stats[kind]["evaluation_prompts"] for kind in ("nudity", "horror"))  # fmt: skip


class Killed(BaseException):
    pass


@pytest.mark.parametrize("moment", [0, 1, 4, 6, 8])
def test_killed_at_a_write_it_ends_as_if_nothing_had_been(built, engine, tmp_path, monkeypatch, moment):
    calls, replace = [], os.replace

    def dying(*paths):
        calls.append(paths)
        if len(calls) == moment + 1:
            raise Killed
        replace(*paths)

    monkeypatch.setattr(os, "replace", dying)
    with pytest.raises(Killed):
        build(engine, SidedJudge(), tiny_plan(), tmp_path)
    assert not (tmp_path / "manifest.json").exists() and list(tmp_path.rglob("*.partial")), "as a kill leaves it"
    build(engine, SidedJudge(), tiny_plan(), tmp_path)
    assert tree(tmp_path) == tree(built)


def test_two_processes_make_what_one_makes(built, engine, tmp_path):
    assert build(engine, SidedJudge(), tiny_plan(), tmp_path, rank=1, world_size=2) is None
    assert len(list((tmp_path / "data").iterdir())) == 2
    assert build(engine, SidedJudge(), tiny_plan(), tmp_path, rank=0, world_size=2) is not None
    assert tree(tmp_path) == tree(built)


LIVES = """
import os, sys; sys.path[:0] = {paths!r}
import torch; torch.set_num_threads(1)
from pathlib import Path
from livo.diffusion.backbones import load_backbone
from livo.diffusion.engine import Engine
from preference_builds import SidedJudge, tiny_plan
from train.preference_data.build import build
for line in sys.stdin:
    if not (pid := os.fork()):
        os.dup2(2, 1)
        build(Engine(load_backbone({folder!r}, device="cpu")), SidedJudge(), tiny_plan(), Path({out!r}))
        os._exit(0)
    print(pid, flush=True)
    os.waitpid(pid, 0)
    print("over", flush=True)
"""  # a line, a life: what is imported once is not what the kills are about


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_five_real_sigkills_lose_nothing(built, engine, tiny_folder, tmp_path):
    """At random moments of the work, each after one more shard at the most."""
    root = Path(__file__).resolve().parents[2]
    code = LIVES.format(paths=[str(root), str(root / "tests")], folder=str(tiny_folder), out=str(tmp_path))
    rng, shards = random.Random(3), len(shards_of(built))
    command, pipe = [sys.executable, "-c", code], subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as lives:
        for kill in range(5):
            lives.stdin.write("\n")
            lives.stdin.flush()
            pid = int(lives.stdout.readline())
            while alive(pid) and not (tmp_path / "plan.json").exists():
                time.sleep(0.01)
            wanted = min(kill, shards - 1)
            while alive(pid) and len(list(tmp_path.glob("data/*.parquet"))) < wanted:
                time.sleep(0.01)
            time.sleep(rng.uniform(0, 0.2))
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            assert lives.stdout.readline() == "over\n"
        lives.stdin.close()
    assert (tmp_path / "plan.json").exists()
    build(engine, SidedJudge(), tiny_plan(), tmp_path)
    assert tree(tmp_path) == tree(built)


def test_a_folder_of_another_build_is_left_alone(built, engine):
    before = tree(built)
    with pytest.raises(InputError, match="holds another build"):
        build(engine, SidedJudge(), tiny_plan(generator_digest="1"), built)
    assert tree(built) == before


def test_a_full_disk_is_one_clear_line(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    path = tmp_path / "shard"
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(StoreError, match="cannot be written .*make room") as caught:
            write_whole(path, b"x" * 2000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(caught.value) and not list(tmp_path.iterdir()), "nothing half-written stays"


def test_a_folder_that_cannot_be_written_is_one_clear_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        build_module.claim(tiny_plan(), tmp_path / "file" / "out")


def test_the_official_layout_comes_back(built, tmp_path):
    count = export_official(built, tmp_path)
    report = Report()
    scenes = list(read_official(tmp_path, report))
    assert len(scenes) == count > 4 and not report.problems
    samples = sum(row["samples"] for row in json.loads((built / "manifest.json").read_text())["statistics"].values())
    assert report.winners == samples
    assert {scene.principle.id for scene in scenes} >= {"gender_equality", "racial_equality", "nudity"}


def test_every_planted_fault_is_named_by_file_and_row(built, tmp_path):
    export_official(built, tmp_path)
    first, second, third = sorted(tmp_path.glob("0-career/*/metadata.jsonl"))[:3]
    rows = [json.loads(line) for line in first.read_text().splitlines()]
    folder = first.parent
    (folder / rows[0]["file_name"]).unlink()
    (folder / rows[1]["file_name"]).write_bytes(b"")
    (folder / rows[2]["file_name"]).write_bytes((folder / rows[2]["file_name"]).read_bytes()[:60])
    from PIL import Image

    Image.new("RGB", (8, 8)).save(folder / rows[3]["file_name"])
    rows[4]["value"] = "world peace"
    rows[5]["file_name"] = "../../secret.png"
    rows[6].pop("label")
    first.write_text("".join(json.dumps(row) + "\n" for row in rows) + "{nonsense\n")
    kept = [line for line in second.read_text().splitlines() if json.loads(line)["label"] == 1]
    second.write_text("\n".join(kept))
    report = Report()
    scenes = list(read_official(tmp_path, report))
    found = {(p.row, p.fault) for p in report.problems if p.file == first}
    assert found == {
        (1, "missing image"), (2, "zero-byte image"), (3, "unreadable image"), (4, "mixed sizes"),
        (5, "unknown principle"),
        (6, "image outside its scene"), (7, "broken row"), (len(rows) + 1, "broken row"),
    }  # fmt: skip
    assert [p.fault for p in report.problems if p.file == second] == ["a scene with no losers"]
    assert report.counts()["broken row"] == 2 and not any(p.file == third for p in report.problems)
    used = {image.path.name for s in scenes if s.name.endswith(folder.name) for image in (*s.winners, *s.losers)}
    assert not used & {row["file_name"] for row in rows[:7]}


def test_the_cost_is_counted_by_hand(tiny_backbone):
    train = tiny_plan().train
    cost = estimate(dict(tiny_backbone.unet.config), tiny_backbone.vae_scale, train, TINY, 1.0)
    assert cost.images == 2 * 10 * 2 + 3 * 2 * 8 and cost.looked_at == 16
    assert cost.rows == 2 * (40 + 16) + 5 * 24 and cost.bytes == cost.images * 16 * 16 * 1.5
    assert PAPER_IMAGES == 159_040 and "159,040" in cost.lines()


def test_a_winner_without_losers_is_no_sample():
    scenario = tiny_plan().train[0]
    row = {"kind": "career", "prompt": scenario.prompt, "labels": [{"principle": "gender_equality", "label": 1}]}
    assert statistics([scenario], [], [row])["career"]["samples"] == 0
    loser = row | {"labels": [{"principle": "gender_equality", "label": 0}]}
    assert statistics([scenario], [], [row, loser])["career"]["samples"] == 1
