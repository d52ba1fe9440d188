"""A new study from the organiser's page: `python -m livo study create` in its own process, then opened beside others.

The process keeps the generator out of this one, and its one line of complaint is what the page shows.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from livo.types import InputError

ROOT = Path(__file__).resolve().parents[3]
MOST_PROMPTS = 100
MOST_CHARACTERS = 50_000
LONGEST = 3 * 3600
"""Seconds that making the images may take."""
FIELDS = {
    "title": "--title", "methods": "--methods", "seeds": "--seeds", "questions": "--questions", "raters": "--raters",
    "ratings": "--ratings-per-rater", "pairs": "--pairs-per-rater", "contact": "--contact",
}  # fmt: skip


def create_command(path: Path, form: Mapping[str, Any]) -> list[str]:
    """The command that makes the study.

    Args:
        form: `prompts`, one a line, and the fields of `FIELDS`, all texts.

    Raises:
        InputError: a field is no text, or there is no prompt, or too many.
    """
    for name, value in form.items():
        if name not in ("act", "prompts", *FIELDS) or not isinstance(value, str) or "\0" in value:
            raise InputError(f"{name!r} is no text of a new study; there are: prompts, {', '.join(FIELDS)}")
    prompts = [line.strip() for line in form.get("prompts", "").splitlines() if line.strip()]
    if not 1 <= len(prompts) <= MOST_PROMPTS or len(form["prompts"]) > MOST_CHARACTERS:
        raise InputError(f"{len(prompts)} prompts were given: give 1 to {MOST_PROMPTS}, one on each line")
    if odd := next((prompt for prompt in prompts if prompt.startswith("-")), None):
        raise InputError(
            f"the prompt {odd[:40]!r} begins with a dash: describe a picture, such as 'a photo of a doctor'"
        )
    options = [f"{FIELDS[name]}={value}" for name, value in form.items() if name in FIELDS and value.strip()]
    return [sys.executable, "-m", "livo", "study", "create", str(path), *options, "--prompts", *prompts]


class Maker:
    """Makes one study at a time, beside an existing one.

    Args:
        parent: folder in which new studies are made.
        opened: serves a finished one and says where its organiser's page is.
    """

    def __init__(self, parent: Path, opened: Callable[[Path], str]) -> None:
        self.parent, self.opened = parent, opened
        self._lock = threading.Lock()
        self._state: dict[str, str] = {"state": "none"}

    @property
    def state(self) -> dict[str, str]:
        """One of "none", "running", "done" with the new study's `page`, or "failed" with a `message`."""
        return dict(self._state)

    def start(self, form: Mapping[str, Any]) -> None:
        """Begins to make a study; returns at once.

        Raises:
            InputError: a field is wrong, or one is being made.
        """
        path = self.parent / f"study-{os.urandom(4).hex()}"
        command = create_command(path, form)
        if not self._lock.acquire(blocking=False):
            raise InputError("a study is being made: wait until it is done")
        self._state = {"state": "running"}
        threading.Thread(target=self._run, args=(command, path), daemon=True).start()

    def _run(self, command: list[str], path: Path) -> None:
        try:
            done = subprocess.run(
                command, cwd=ROOT, capture_output=True, text=True, timeout=LONGEST, stdin=subprocess.DEVNULL
            )
            if done.returncode:
                said = [line for line in done.stderr.splitlines() if line.strip()]
                raise InputError(said[-1].rpartition("livo: ")[2] if said else "the images could not be made")
            self._state = {"state": "done", "page": self.opened(path), "folder": str(path)}
        except (InputError, OSError, subprocess.TimeoutExpired) as error:
            self._state = {"state": "failed", "message": str(error)}
        finally:
            self._lock.release()
