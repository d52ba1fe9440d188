"""A method is one file: put into a fresh copy of the repository, the page, the shell and the shared tests have it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
METHOD = '''"""Puts the principle's words before the prompt."""
from livo.diffusion.engine import classifier_free_plan

TITLE, PAPER, RISKS = "Words First", "arXiv:2401.00000", ("bias",)

class WordsFirst:
    def __init__(self, engine): self.engine = engine
    def plan(self, prompt, principle, options):
        text = prompt if principle is None else f"{principle.text}, {prompt}"
        return classifier_free_plan(self.engine, [self.engine.condition(text)], options)

load = WordsFirst
'''


@pytest.fixture(scope="module")
def copy_of_it(tmp_path_factory) -> Path:
    """The repository's sources, its assets linked, and the one new file."""
    folder = tmp_path_factory.mktemp("newcomer")
    for name in ("livo", "baselines", "train", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("app.py", ".pytest.ini", "README.md"):
        shutil.copy(ROOT / name, folder / name)
    (folder / "assets").symlink_to(ROOT / "assets")
    (folder / "baselines" / "words_first.py").write_text(METHOD, encoding="utf-8")
    return folder


def run(folder: Path, *command: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    return subprocess.run([sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True)


def test_the_shell_has_it(copy_of_it):
    ask = ("compare", "a photo of a doctor", "--methods", "all", "--seeds", "0", "--steps", "2", "--json")
    done = run(copy_of_it, "-m", "livo", *ask)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    made = answer["methods"]["words_first"]
    assert made["applies"] and len(made["images"]) == 1
    plain = answer["methods"]["stable_diffusion"]["images"][0]
    assert (copy_of_it / made["images"][0]).read_bytes() != (copy_of_it / plain).read_bytes(), "it does something"


def test_the_shared_tests_run_on_it(copy_of_it):
    done = run(copy_of_it, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/methods/test_methods.py",
               "-k", "words_first")  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) >= 3


def test_the_page_lists_it(copy_of_it):
    command = [sys.executable, "app.py", "--port", "0"]
    server = subprocess.Popen(command, cwd=copy_of_it, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              env={**os.environ, "PYTHONPATH": str(copy_of_it)})  # fmt: skip
    try:
        lines = iter(server.stdout.readline, "")
        address = next(found[1] for line in lines if (found := re.search(r"open at (http://\S+)", line)))
        with urllib.request.urlopen(f"{address}/config", timeout=30) as answer:
            config = answer.read().decode()
    finally:
        server.terminate()
        server.wait(30)
    assert "Words First" in config and "Fair Diffusion" in config
