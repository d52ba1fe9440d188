"""Every shipped file that training made says by which command, and the guide's commands are those."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from safetensors import safe_open

ROOT = Path(__file__).resolve().parents[2]
GUIDE = (ROOT / "train" / "README.md").read_text(encoding="utf-8")
SHIPPED = sorted((ROOT / "assets" / "miniature").rglob("*.safetensors"))
USUAL = {"--form": "2023"}  # what a flag is where it is left out, as far as headers spell it out


def settings_of(command: str) -> tuple[str, frozenset[tuple[str, str]]]:
    """Module and flags of `python -m MODULE ...`, without the principle, which has a file of its own, and defaults."""
    _, _, module, *words = shlex.split(command)
    flags = dict(zip(words[::2], words[1::2], strict=True))
    flags.pop("--principles", None)
    return module, frozenset(flags.items() - USUAL.items())


def command_of(path: Path) -> str | None:
    """The command in a file's header; None where no command of its own made it."""
    with safe_open(path, "pt") as file:
        training = (file.metadata() or {}).get("training")
    return json.loads(training)["command"] if training else None


def test_most_shipped_files_say_what_made_them():
    assert sum(command_of(path) is not None for path in SHIPPED) >= 20


@pytest.mark.parametrize("path", [p for p in SHIPPED if command_of(p)], ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_the_guide_has_the_command_that_made_it(path):
    block = GUIDE.split("```bash\n", 1)[1].split("```", 1)[0]
    guide = {settings_of(line) for line in block.splitlines() if line.startswith("python -m train.")}
    command = command_of(path)
    assert command is not None
    assert settings_of(command) in guide, f"{path.name} was made by {command!r}; the guide builds another"
