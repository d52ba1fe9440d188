"""A word is looked up without anything heavy: no numpy, no client of the hub, no torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOOK_UP = """
import argparse, sys
from livo.retriever import command
parser = argparse.ArgumentParser()
command.add_arguments(parser)
print(command.run(parser.parse_args(["a photo of a doctor"])))
print({"torch", "numpy", "scipy", "huggingface_hub", "httpx"} & set(sys.modules))
"""


def test_a_word_is_looked_up_without_anything_heavy():
    done = subprocess.run([sys.executable, "-c", LOOK_UP], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "gender equality" in done.stdout and done.stdout.strip().endswith("set()"), done.stdout
