from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from livo.diffusion.backbones import ASSETS
from train.lineage import Lineage, digest, read_lineage, read_tensors, stamp, this_command, this_commit
from train.verify import faults

MADE = Lineage("python -m train.example", "0" * 40, 0, 1, 7, {})


@pytest.fixture
def folder(tmp_path):
    """A model of two networks, the second made from half of the first and from a file of data."""
    torch.manual_seed(0)
    (tmp_path / "unet").mkdir()
    save_file(
        {"encoder.a": torch.randn(3, 4), "decoder.b": torch.randn(5)}, tmp_path / "vae.safetensors", {"format": "pt"}
    )
    save_file({"c": torch.randn(2)}, tmp_path / "unet" / "u.safetensors")
    (tmp_path / "world.yaml").write_text("a: 1", encoding="utf-8")
    stamp(tmp_path / "vae.safetensors", MADE)
    made_from = {name: digest(name, tmp_path) for name in ("vae.safetensors#encoder.", "world.yaml")}
    stamp(tmp_path / "unet", replace(MADE, made_from=made_from))
    return tmp_path


def rewrite(path, **tensors):
    kept = read_lineage(path)
    save_file({**load_file(path), **tensors}, path)
    stamp(path, kept)


def test_a_stamp_is_read_back_and_changes_neither_tensors_nor_digest(tmp_path):
    path = tmp_path / "w.safetensors"
    weights = {"x": torch.arange(6.0).view(2, 3).half(), "y": torch.tensor([1, 2])}
    save_file(weights, path, {"format": "pt"})
    before = digest("w.safetensors", tmp_path)
    assert read_lineage(path) is None
    for lineage in (MADE, replace(MADE, steps=8, made_from={"x": "ü"})):
        stamp(path, lineage)
        assert read_lineage(path) == lineage and digest("w.safetensors", tmp_path) == before
        assert all(torch.equal(value, weights[key]) for key, value in load_file(path).items())
        with safe_open(path, "pt") as file:
            assert file.metadata()["format"] == "pt", "what the header said stays"


def test_a_digest_sees_every_tensor_and_only_the_part_asked_for(folder):
    whole, half = digest("vae.safetensors", folder), digest("vae.safetensors#encoder.", folder)
    rewrite(folder / "vae.safetensors", **{"decoder.b": torch.zeros(5)})
    assert digest("vae.safetensors", folder) != whole and digest("vae.safetensors#encoder.", folder) == half
    rewrite(folder / "vae.safetensors", **{"encoder.a": torch.zeros(3, 4)})
    assert digest("vae.safetensors#encoder.", folder) != half
    with pytest.raises(FileNotFoundError, match="nothing of that name"):
        digest("nowhere.safetensors", folder)


def test_verify_is_silent_while_the_chain_holds_and_names_each_break(folder):
    assert faults(folder) == []
    rewrite(folder / "vae.safetensors", **{"decoder.b": torch.zeros(5)})
    assert faults(folder) == [], "what was made from the encoder does not care"
    rewrite(folder / "vae.safetensors", **{"encoder.a": torch.zeros(3, 4)})
    (folder / "world.yaml").write_text("a: 2", encoding="utf-8")
    assert faults(folder) == [
        "unet/u.safetensors was made from another vae.safetensors#encoder. than the one that is here",
        "unet/u.safetensors was made from another world.yaml than the one that is here",
    ]
    (folder / "world.yaml").unlink()
    assert any("nothing of that name" in fault for fault in faults(folder))


def test_verify_wants_a_lineage_and_a_commit(folder, tmp_path):
    save_file({"c": torch.ones(1)}, folder / "new.safetensors")
    stamp(folder / "unet", replace(MADE, commit="abc+"))
    assert faults(folder) == [
        "new.safetensors does not say how it was made",
        "unet/u.safetensors was made by code that no commit holds (abc+)",
    ]
    (tmp_path / "empty").mkdir()
    assert "holds no weights" in faults(tmp_path / "empty")[0]


def test_the_command_prints_what_it_found_and_fails_on_a_break(folder):
    def run():
        return subprocess.run([sys.executable, "-m", "train.verify", folder], capture_output=True, text=True)

    whole = run()
    assert whole.returncode == 0 and "the lineage holds" in whole.stdout
    assert "vae.safetensors: python -m train.example, 7 steps at 000000000" in whole.stdout
    stamp(folder / "unet", replace(MADE, commit=""))
    broken = run()
    assert broken.returncode == 1 and "outside git" in broken.stderr


def test_the_commit_says_where_files_differ_from_it(tmp_path):
    def git(*arguments):
        subprocess.run(
            ["git", "-c", "user.name=a", "-c", "user.email=b@c", *arguments],
            cwd=tmp_path,
            check=True,
            capture_output=True,
        )

    assert this_commit(tmp_path) == ""
    git("init")
    (tmp_path / "a").write_text("1", encoding="utf-8")
    weights = tmp_path / "assets" / "miniature" / "w"
    weights.parent.mkdir(parents=True)
    weights.write_text("1", encoding="utf-8")
    git("add", "a", "assets")
    git("commit", "-m", "a")
    weights.write_text("2", encoding="utf-8")
    assert len(this_commit(tmp_path)) == 40, "what a training left is no change of the code"
    (tmp_path / "a").write_text("2", encoding="utf-8")
    assert this_commit(tmp_path).endswith("+") and json.dumps(this_commit(tmp_path))


def test_what_is_no_weight_file_is_named(tmp_path):
    (tmp_path / "w.safetensors").write_bytes(b"nonsense")
    with pytest.raises(ValueError, match="w.safetensors is no .safetensors file"):
        read_lineage(tmp_path / "w.safetensors")


def test_a_header_names_no_folder_of_the_machine(monkeypatch):
    monkeypatch.setattr(
        sys, "argv", ["x", "--work", "/far/away", "--out=/far/off", "--stages", "text", "--threads", "1"]
    )
    assert this_command().endswith(" --stages text --threads 1") and "/far" not in this_command()
    for file in ASSETS.rglob("*.safetensors"):
        header = json.dumps(read_tensors(file)[0].get("__metadata__", {}))
        assert not re.search(r"[ =\"]/(tmp|root|home)/", header), f"{file}: {header}"
