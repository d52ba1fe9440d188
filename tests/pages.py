"""The page as people start it, for tests that look at it from outside."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


@contextmanager
def page_server(*arguments: str, **environment: str) -> Iterator[tuple[str, list[str]]]:
    """`python app.py` on a free port: its address, and what it printed until it was open."""
    env = os.environ | {"PYTHONUNBUFFERED": "1"} | environment
    command = [sys.executable, "app.py", "--port", "0", *arguments]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env
    ) as server:
        try:
            said: list[str] = []
            for line in server.stdout:
                said.append(line)
                if found := re.search(r"open at (http://\S+)", line):
                    break
            else:
                raise AssertionError("the server did not start:\n" + "".join(said))
            threading.Thread(target=server.stdout.read, daemon=True).start()  # or the pipe fills and blocks the server
            yield found[1], said
        finally:
            server.terminate()
