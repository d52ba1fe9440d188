"""Simulated students in a room over real HTTP. `python tests/students.py --help` measures a server.

python tests/students.py --students 30                 the workshop alone, one lesson, a new room
python tests/students.py --students 300 --kills 5      nothing that was acknowledged may be lost
python tests/students.py --students 30 --base http://127.0.0.1:7860/workshop     a server that is already open
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import secrets
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

ROOT = Path(__file__).resolve().parents[1]
POLL_SECONDS = 1.5
"""As livo/workshop/web/room.js asks for news."""


def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def value_for(ask: dict[str, Any], rng: random.Random) -> Any:
    """Some answer to a question as the page got it."""
    if ask["kind"] == "number":
        return rng.randint(ask["min"], ask["max"])
    if ask["kind"] == "choice":
        return rng.randrange(len(ask["options"]))
    if ask["kind"] == "prompt":
        return f"a picture of a {rng.choice(['doctor', 'baker', 'male pilot', 'female nurse'])}"
    count = ask["album"]["count"] if "album" in ask else len(ask["items"])
    return [rng.randrange(len(ask["options"])) for _ in range(count)]


class Server:
    """The workshop in a process of its own, which can be killed and started again on its port."""

    def __init__(self, rooms: Path, port: int) -> None:
        self.port, self.base = port, f"http://127.0.0.1:{port}/workshop"
        self.command = [sys.executable, "-m", "livo", "workshop", "serve", "--port", str(port), "--rooms", str(rooms)]
        self.start()

    def start(self) -> None:
        env = os.environ | {"PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            self.command, cwd=ROOT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def wait(self, patience: float = 60) -> None:
        """Until it answers."""
        end = time.monotonic() + patience
        while time.monotonic() < end:
            assert self.process.poll() is None, f"the server ended: {self.command}"
            try:
                return ask(self.base, "lessons") and None
            except OSError:
                time.sleep(0.05)
        raise AssertionError("the server did not start")

    def kill(self) -> None:
        """SIGKILL: no handler runs, nothing is flushed."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


def ask(base: str, path: str, body: dict | None = None, word: str = "") -> Any:
    """One request, answered as JSON; raises `urllib.error.HTTPError` for a refusal."""
    headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {word}"} if word else {})
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(f"{base}/api/{path}", data, headers), timeout=30) as reply:
        return json.loads(reply.read())


class Facilitator:
    """Opens a room and leads it."""

    def __init__(self, base: str, lesson: str, school: bool = True) -> None:
        payload = ask(base, "rooms", {"lesson": lesson, "school": school})
        self.base, self.code, self.secret = base, payload["code"], payload["secret"]

    @property
    def state(self) -> dict[str, Any]:
        return patiently(lambda: ask(self.base, f"rooms/{self.code}/host", word=self.secret))

    def act(self, act: str, **more: Any) -> dict[str, Any]:
        body = {"key": secrets.token_hex(8), "act": act, "at": self.state["changes"], **more}
        return patiently(lambda: ask(self.base, f"rooms/{self.code}/acts", body, self.secret))


@dataclass
class Diary:
    """What all students were told, and how long each request took."""

    receipts: dict[str, tuple[str, Any]] = field(default_factory=dict)
    seconds: dict[str, list[float]] = field(default_factory=lambda: {"answer": [], "news": []})


class Student:
    """One student with one connection, who asks for news and answers what is open once."""

    def __init__(self, host: str, port: int, prefix: str, code: str, number: int, diary: Diary) -> None:
        self.host, self.port, self.path, self.diary = host, port, f"{prefix}/api/rooms/{code}", diary
        self.word, self.rng, self.etag = secrets.token_hex(16), random.Random(number), ""
        self.stream: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self.answered: set[tuple[int, ...]] = set()
        # An address of its own, as a device of a class's network has one; the whole of 127/8 is this machine.
        self.own = (f"127.0.{1 + number // 250}.{1 + number % 250}", 0) if host.startswith("127.") else None

    async def request(self, path: str, kind: str, body: dict | None = None) -> tuple[int, bytes]:
        """One request, asked again until it is answered: a server may close idle connections, or be killed."""
        while True:
            begun = time.perf_counter()
            try:
                return await self._request(path, kind, body, begun)
            except (OSError, asyncio.IncompleteReadError):
                if self.stream:
                    self.stream[1].close()
                self.stream = None
                await asyncio.sleep(0.2 * self.rng.random())

    async def _request(self, path: str, kind: str, body: dict | None, begun: float) -> tuple[int, bytes]:
        if self.stream is None:
            self.stream = await asyncio.open_connection(self.host, self.port, local_addr=self.own)
        reader, writer = self.stream
        data = b"" if body is None else json.dumps(body).encode()
        head = (
            f"{'GET' if body is None else 'POST'} {self.path}{path} HTTP/1.1\r\nhost: {self.host}:{self.port}\r\n"
            f"authorization: Bearer {self.word}\r\ncontent-type: application/json\r\n"
            f"if-none-match: {self.etag}\r\ncontent-length: {len(data)}\r\n\r\n"
        )
        writer.write(head.encode() + data)
        await writer.drain()
        answer = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        status = int(answer.split()[1])
        fields = dict(line.split(": ", 1) for line in answer.split("\r\n")[1:] if ": " in line)
        payload = b"" if status == 304 else await reader.readexactly(int(fields.get("content-length", 0)))
        self.diary.seconds[kind].append(time.perf_counter() - begun)
        if body is None:
            self.etag = fields.get("etag", "")
        return status, payload

    async def take_part(self, until: asyncio.Event) -> None:
        await asyncio.sleep(self.rng.random() * POLL_SECONDS)
        state: dict[str, Any] = {}
        while not until.is_set():
            status, payload = await self.request("", "news")
            if status == 200:
                state = json.loads(payload)
            place = tuple(state.get("place", ()))
            if state.get("phase") == "open" and state["step"] and state["step"]["ask"] and place not in self.answered:
                await asyncio.sleep(self.rng.random() * 2)
                value, key = value_for(state["step"]["ask"], self.rng), secrets.token_hex(16)
                status, payload = await self.request(
                    "/answers", "answer", {"key": key, "place": list(place), "value": value}
                )
                self.answered.add(place)
                if status == 200:
                    self.diary.receipts[key] = (json.loads(payload)["key"], value)
            await asyncio.sleep(POLL_SECONDS * (0.85 + 0.3 * self.rng.random()))
        if self.stream:
            self.stream[1].close()


async def run_class(base: str, lesson: str, students: int, seconds: float) -> tuple[Facilitator, Diary]:
    """A whole lesson: every question is open for so many seconds."""
    facilitator = await asyncio.to_thread(Facilitator, base, lesson)
    address = urlparse(base)
    diary, done = Diary(), asyncio.Event()
    people = [
        Student(address.hostname, address.port, address.path, facilitator.code, n, diary) for n in range(students)
    ]
    work = asyncio.gather(*(person.take_part(done) for person in people))
    await asyncio.sleep(3)
    await asyncio.to_thread(facilitator.act, "start")
    while True:
        state = await asyncio.to_thread(lambda: facilitator.state)
        if state["step"]["ask"]:
            await asyncio.sleep(seconds)
            await asyncio.to_thread(facilitator.act, "close")
        await asyncio.sleep(2)
        if state["index"] + 1 == len(state["steps"]):
            break
        await asyncio.to_thread(facilitator.act, "next")
    done.set()
    await work
    return facilitator, diary


async def kill_now_and_then(server: Server, kills: int, every: float) -> None:
    """SIGKILLs in the middle of a lesson; each time the server is started again on its port."""
    for _ in range(kills):
        await asyncio.sleep(every)
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)
        await asyncio.to_thread(server.wait)


def lost(folder: Path, diary: Diary) -> int:
    """Receipts whose answers the store does not hold."""
    from livo.web.events import Store
    from livo.workshop.rooms import FILE, STUDY

    store = Store(f"sqlite:///{folder / FILE}", STUDY)
    try:
        return len(set(diary.receipts) - {event.key for event in store.events()})
    finally:
        store.close()


def percentiles(seconds: Sequence[float]) -> str:
    import numpy as np

    p50, p95, p99 = (1000 * float(np.percentile(seconds, q)) for q in (50, 95, 99))
    return f"p50 {p50:.0f} ms, p95 {p95:.0f} ms, p99 {p99:.0f} ms, n = {len(seconds)}"


async def measured(args: argparse.Namespace, server: Server | None) -> Diary:
    """A whole lesson, with kills in it."""
    killing = asyncio.create_task(kill_now_and_then(server, args.kills, args.seconds)) if server else None
    _, diary = await run_class(args.base or server.base, args.lesson, args.students, args.seconds)
    if killing:
        killing.cancel()
    return diary


def patiently(call: Callable[[], Any], patience: float = 60) -> Any:
    """Asks again while the server is away; a refusal is an answer."""
    end = time.monotonic() + patience
    while True:
        try:
            return call()
        except urllib.error.HTTPError:
            raise
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)


def main() -> None:
    sys.path.insert(0, str(ROOT))  # the store is read with the library
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--students", type=int, default=30)
    parser.add_argument("--lesson", default="the-classifier-is-a-model-too")
    parser.add_argument("--seconds", type=float, default=6, help="how long each question is open (%(default)s)")
    parser.add_argument("--base", help="a workshop that is already open, such as http://127.0.0.1:7860/workshop")
    parser.add_argument("--kills", type=int, default=0, help="kill and restart the server so often in the lesson")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        server = None if args.base else Server(Path(folder), free_port())
        try:
            if server:
                server.wait()
            diary = asyncio.run(measured(args, server))
        finally:
            if server:
                server.kill()
        if server:
            print(f"{args.kills} kills, {lost(Path(folder), diary)} receipts lost")
    print(f"{args.students} students, {len(diary.receipts)} receipts")
    for kind, seconds in diary.seconds.items():
        print(f"{kind}: {percentiles(seconds)}")


if __name__ == "__main__":
    main()
