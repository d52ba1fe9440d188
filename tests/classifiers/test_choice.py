"""Which judge is taken, and what is said before and when its weights are not there."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest
import torch

import livo.classifiers.choice
from livo.classifiers import hub
from livo.classifiers.choice import load_judges, parse_judges
from livo.classifiers.hub import JudgeError, Weights, locate
from livo.classifiers.panel import Panel
from livo.diffusion.backbones import ASSETS
from livo.types import InputError

WEIGHTS = Weights("llava", "owner/name", 14.1, "much memory", ("*.json",))
MINIATURE = ASSETS / "miniature"


def test_doctests():
    assert doctest.testmod(livo.classifiers.choice).failed == 0


@pytest.mark.parametrize(("text", "said"), [
    ("clippy", "no judge 'clippy'; there are: evaluator, open_clip, llava, safety_checker, open_nsfw, faces, or none"),
    ("", "no judge ''"),
    ("llava,llava:4bit", "stands there twice"),
    ("open_clip,,llava", "no judge ''"),
])  # fmt: skip
def test_a_choice_that_cannot_be(text, said):
    with pytest.raises(InputError, match=said):
        parse_judges(text)


def test_the_backbones_own_evaluator_is_the_default_and_none_is_none(tmp_path):
    judge = load_judges("auto", MINIATURE)
    assert judge.name == "evaluator" and "tone" in judge.questions
    assert load_judges("none", MINIATURE) is None
    assert load_judges(f"evaluator@{MINIATURE / 'evaluator'}", tmp_path).questions == judge.questions
    with pytest.raises(InputError, match="evaluator has no options"):
        load_judges("evaluator:fast", MINIATURE)
    with pytest.raises(JudgeError, match="cannot be read"):
        load_judges("evaluator", tmp_path)


def test_without_an_evaluator_it_is_open_clip_and_offline_it_says_what_to_do(tmp_path):
    said = []
    with pytest.raises(JudgeError) as error:
        load_judges("auto", tmp_path, say=said.append)
    assert "judge open_clip needs timm/vit_large_patch14_clip_224.openai: about 1.7 GB to download, once" in said[0]
    fetch = "hf download timm/vit_large_patch14_clip_224.openai --local-dir FOLDER"
    for part in ("not on this machine", fetch, "--judge open_clip@FOLDER", "--judge none"):
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("name", "size"), [("llava", "14.1 GB"), ("llava@some/other", "gigabytes"), ("safety_checker", "1.2 GB")]
)
def test_every_judge_says_its_size_before_anything_is_fetched(tmp_path, name, size):
    said = []
    with pytest.raises(JudgeError, match="cannot be downloaded"):
        load_judges(name, tmp_path, say=said.append)
    assert len(said) == 1 and size in said[0] and "loaded it takes" in said[0]


def test_what_is_in_the_cache_is_taken_without_a_word(monkeypatch, tmp_path):
    asked = []

    def download(hub_id, allow_patterns, local_files_only=False):
        asked.append((hub_id, allow_patterns, local_files_only))
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert locate(WEIGHTS, say=pytest.fail) == tmp_path and asked == [("owner/name", ["*.json"], True)]
    assert locate(WEIGHTS, "other/model", say=pytest.fail) == tmp_path and asked[1][0] == "other/model"
    assert locate(WEIGHTS, str(tmp_path), say=pytest.fail) == tmp_path and len(asked) == 2


def test_a_download_is_announced_before_it_begins(monkeypatch, tmp_path):
    log = []

    def download(hub_id, allow_patterns, local_files_only=False, revision=None):
        if local_files_only:
            raise OSError("not cached")
        log.append("download")
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    monkeypatch.setattr("livo.diffusion.hub.reachable", lambda: True)
    locate(WEIGHTS, say=log.append)
    assert len(log) == 2 and "14.1 GB" in log[0] and log[1] == "download"


def test_a_full_disk_is_said_before_the_download(monkeypatch):
    monkeypatch.setattr(hub.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 2e9})())
    with pytest.raises(JudgeError, match="2.0 GB left: make room, or set HF_HOME"):
        locate(WEIGHTS, say=pytest.fail)


@pytest.mark.parametrize("source", ["./nowhere", "no_such_folder", "/a/b", "~/x"])
def test_a_path_that_is_not_there_is_no_hub_id(source):
    with pytest.raises(JudgeError, match="there is no folder"):
        locate(WEIGHTS, source)


def test_two_judges_are_a_panel(monkeypatch, tmp_path):
    class Named:
        def __init__(self, name):
            self.name, self.questions = name, ("toxicity",) if name == "llava" else ("gender", "toxicity")

        def classes(self, question):
            return ("clean", self.name)

        def confusion(self, question):
            return None

        def __call__(self, images, question, prompt=""):
            return self.name

    given = []
    monkeypatch.setattr(
        livo.classifiers.choice, "_load", lambda name, *rest: given.append((name, *rest[:2])) or Named(name)
    )
    panel = load_judges("llava:4bit@x, open_clip", tmp_path)
    assert isinstance(panel, Panel) and given == [("llava", "4bit", "x"), ("open_clip", "", "")]
    assert panel.name == "llava, open_clip" and panel.questions == ("toxicity", "gender")
    images = torch.zeros(1, 3, 4, 4, dtype=torch.uint8)
    assert panel(images, "toxicity") == "llava" and panel(images, "gender") == "open_clip"
    assert (
        panel.classes("toxicity") == ("clean", "llava") and panel.confusion("gender") is panel.confusion("mood") is None
    )
    with pytest.raises(KeyError, match="no judge can be asked 'mood'; they answer: toxicity, gender"):
        panel(images, "mood")


def test_a_backbones_own_safety_checker_is_found(monkeypatch, tmp_path):
    (tmp_path / "safety_checker").mkdir()
    seen = []
    monkeypatch.setattr(
        "livo.classifiers.safety_checker.locate", lambda weights, source, say: seen.append(source) or Path(source)
    )
    with pytest.raises(JudgeError, match="is missing"):
        load_judges("safety_checker", tmp_path)
    assert seen == [str(tmp_path)]
