"""The server that `tests.siege` attacks, in a process of its own, and what came of an attack."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from raters import make_folder  # noqa: E402

FILES = 1_024
"""Open files that the server may have: the usual limit."""


class Target:
    """The public page with a study and a workshop, in a process of its own."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.folder, self.base = folder, f"http://127.0.0.1:{self.port}"
        self.rooms = folder / "rooms" / "rooms.sqlite"
        self.study = make_folder(folder / "study", raters=4, ratings_per_rater=8, training=0, gold_every=0)
        self.start()

    def start(self, program: tuple[str, ...] = ("app.py",)) -> None:
        """Opens the page and waits until it answers."""
        command = [sys.executable, *program, "--public", "--dtype", "auto", "--port", str(self.port)]
        command += ["--rooms", str(self.rooms.parent), "--study", str(self.study.path)]
        env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        self.log = self.folder / "log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=env, stdout=log, stderr=log,
                preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, FILES)),
            )  # fmt: skip
        for _ in range(1_200):
            if self.process.poll() is not None:
                raise RuntimeError(self.log.read_text()[-2_000:])
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{self.base}/workshop/api/lessons", timeout=5).status_code == 200:
                    return
            time.sleep(0.25)
        raise RuntimeError("the server never answered")

    def stop(self, sign: signal.Signals = signal.SIGTERM) -> None:
        """Ends the process."""
        self.process.send_signal(sign)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(20)
        self.process.kill()

    def status(self, field: str) -> float:
        """Of /proc: MB of "memory" now or at its "peak", or seconds of processor time."""
        proc = Path(f"/proc/{self.process.pid}")
        if name := {"memory": "VmRSS", "peak": "VmHWM"}.get(field):
            return int(re.search(rf"{name}:\s+(\d+)", (proc / "status").read_text())[1]) / 1024  # type: ignore[index]
        parts = (proc / "stat").read_text().rpartition(")")[2].split()
        return (int(parts[11]) + int(parts[12])) / os.sysconf("SC_CLK_TCK")

    def resting(self, longest: float = 60) -> float:
        """MB of memory once nothing is at work any more, as far as that comes within some seconds."""
        until = time.monotonic() + longest
        while time.monotonic() < until:
            spent = self.status("processor")
            time.sleep(2)
            if self.status("processor") - spent < 0.2:
                break
        return self.status("memory")

    def stored(self) -> int:
        """Bytes below the folder, and what Gradio keeps of files."""
        places = (self.folder, Path(tempfile.gettempdir()) / "gradio")
        return sum(f.stat().st_size for place in places for f in place.rglob("*") if f.is_file())

    def room(self) -> tuple[str, str]:
        """A room that has begun: its code and the facilitator's secret."""
        payload = httpx.post(f"{self.base}/workshop/api/rooms", json={"lesson": "guess-the-set"}).json()
        self.act(payload["code"], payload["secret"], "start", 1)
        return payload["code"], payload["secret"]

    def act(self, code: str, secret: str, act: str, at: int) -> int:
        """One act of a room's facilitator."""
        body, head = {"key": secrets.token_hex(8), "act": act, "at": at}, {"authorization": f"Bearer {secret}"}
        return httpx.post(f"{self.base}/workshop/api/rooms/{code}/acts", json=body, headers=head).status_code

    def answer(self, code: str, times: int) -> tuple[list[str], list[httpx.Response]]:
        """So many people's answers in a room: keys of those with a receipt, and all replies."""
        keys, replies = list[str](), list[httpx.Response]()
        with httpx.Client(base_url=f"{self.base}/workshop/api/rooms") as client:
            for _ in range(times):
                key = secrets.token_hex(8)
                body = {"key": key, "place": [1, 0, 0], "value": 1}
                head = {"authorization": f"Bearer {secrets.token_hex(16)}"}
                replies.append(client.post(f"/{code}/answers", json=body, headers=head))
                keys += [key] if replies[-1].status_code == 200 else []
        return keys, replies

    def answered(self, code: str, secret: str) -> int:
        """People of a room who have answered, as its facilitator is told."""
        head = {"authorization": f"Bearer {secret}"}
        return httpx.get(f"{self.base}/workshop/api/rooms/{code}/host", headers=head).json()["answered"]

    def told_since(self, size: int) -> str:
        """The log from a byte on."""
        return self.log.read_bytes()[size:].decode(errors="replace")


@dataclass(frozen=True)
class Line:
    """What came of an attack."""

    threat: str
    attack: str
    held: bool
    found: str


Attack = Callable[[Target], Iterator[Line]]


def statuses(replies: Sequence[httpx.Response]) -> str:
    return ", ".join(f"{n} x {status}" for status, n in sorted(Counter(r.status_code for r in replies).items()))
