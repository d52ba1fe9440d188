"""Simulated raters over real HTTP, and small studies for them. `python -m tests.rating_siege` measures a server."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import random
import signal
import subprocess
import sys
import time
import urllib.request
import uuid
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from livo.principles import find_principle
from livo.study.build import make_study
from livo.study.session import own_body
from livo.study.sources import SourcePicture
from livo.study.study_file import Study, StudyFolder, load_study
from livo.web.events import Store

ROOT = Path(__file__).resolve().parents[1]
METHODS = {"stable_diffusion": "Stable Diffusion", "uce": "UCE", "livo": "LiVO"}
PATIENCE = 180
"""Seconds after which a rater gives a server up."""
PROMPTS = ("doctor", "nurse", "pilot", "baker", "clown", "judge")


def make_folder(
    path: Path, *, methods: int = 3, prompts: int = 4, toxic: int = 0, seeds: int = 3, examples: int = 0, **fields
) -> StudyFolder:
    """A study of tiny noise images; `toxic` prompts ask for zombies. The "judge" reads every occupation rightly."""
    pictures, rng = [], np.random.default_rng(0)
    source = path.parent / f"{path.name}-pictures"
    source.mkdir(parents=True, exist_ok=True)
    names = [f"a photo of a {PROMPTS[i % 6]}{'' if i < 6 else f' {i}'}" for i in range(prompts)]
    names += [f"a photo of a zombie {PROMPTS[i % 6]}" for i in range(toxic)]
    for p, prompt in enumerate(names):
        principle = find_principle("zombie" if p >= prompts else "gender_equality")
        for m, method in enumerate(list(METHODS)[:methods]):
            for seed in range(seeds):
                file = source / f"{p}-{m}-{seed}.png"
                Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(file)
                judge = {
                    "occupation": PROMPTS[p % 6],
                    "gender": "male",
                    "toxicity": "zombie" if p >= prompts and m == 0 else "clean",
                }
                pictures.append(
                    SourcePicture(file, prompt, method, seed, principle, "zombie" if p >= prompts else "", judge)
                )
    for number in range(examples):  # with the instructions, and what is right on a slider
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(
            file := source / f"example-{number}.png"
        )
        expected = {"consistency_100": (75.0, 100.0)}
        check = {"use": "example", "expected": expected, "explanation": "All of it is there."}
        pictures.append(SourcePicture(file, "a photo of a baker", "drawn", number, None, **check))
    make_study(path, Study(**{"title": "Rating pictures", **fields}), pictures, METHODS)
    return load_study(path)


# --- a rater ---------------------------------------------------------------------------------------------------------


@dataclass
class Diary:
    """What all raters were told: receipts by key, with what was answered, how long each first try took, and kills."""

    receipts: dict[str, tuple[int, str, object]] = field(default_factory=dict)
    seconds: dict[str, list[float]] = field(default_factory=lambda: {"answer": [], "image": []})
    retries: int = 0
    kills: int = 0


class Rater:
    """One rater with one connection, who asks again until there is a receipt."""

    def __init__(self, host: str, port: int, name: str, code: str, number: int, diary: Diary) -> None:
        self.host, self.port, self.base, self.code = host, port, f"/study/{name}/api", code
        self.number, self.diary, self.rng = number, diary, random.Random(number)
        self.stream: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, path: str, body: dict | None = None) -> tuple[int, bytes]:
        """One request; raises OSError or IncompleteReadError where the server is away."""
        if self.stream is None:
            self.stream = await asyncio.open_connection(self.host, self.port)
        reader, writer = self.stream
        data = b"" if body is None else json.dumps(body).encode()
        head = (
            f"{'GET' if body is None else 'POST'} {self.base}/{path} HTTP/1.1\r\nhost: {self.host}:{self.port}\r\n"
            f"authorization: Bearer {self.code}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n"
        )
        try:
            writer.write(head.encode() + data)
            await writer.drain()
            answer = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            status = int(answer.split()[1])
            if sizes := [line.split(":")[1] for line in answer.split("\r\n") if line.startswith("content-length")]:
                return status, await reader.readexactly(int(sizes[0]))
            body = await reader.read()  # until it closes, as where the demo says that it opens in a moment
            writer.close()
            self.stream = None
            return status, body
        except BaseException:
            writer.close()
            self.stream = None
            raise

    async def insist(self, path: str, body: dict | None = None, kind: str = "") -> bytes:
        """Asks until the server answers."""
        end = time.monotonic() + PATIENCE
        turn = -1
        while time.monotonic() < end:
            turn += 1
            begun = time.perf_counter()
            try:
                try:
                    reused = self.stream is not None
                    status, payload = await self.ask(path, body)
                except (OSError, asyncio.IncompleteReadError):
                    if not reused:
                        raise
                    status, payload = await self.ask(
                        path, body
                    )  # the server had closed an idle connection, as browsers know
            except (OSError, asyncio.IncompleteReadError):
                self.diary.retries += 1
                await asyncio.sleep(min(0.1 * 2 ** min(turn, 5), 1) * (0.5 + self.rng.random()))
                continue
            if status >= 500 or (status >= 400 and b'"code"' not in payload):  # as the pages do: not from us, so again
                self.diary.retries += 1
                await asyncio.sleep(0.2)
                continue
            if turn == 0 and kind:
                self.diary.seconds[kind].append(time.perf_counter() - begun)
            assert status == 200, (path, body, status, payload)
            return payload
        raise AssertionError("the server never came back")

    async def event(self, **event: object) -> dict:
        body = {"key": str(uuid.UUID(int=self.rng.getrandbits(128))), **event}
        receipt = json.loads(await self.insist("events", body, "answer"))
        assert receipt["key"] == body["key"]
        self.diary.receipts[body["key"]] = (self.number, str(event["kind"]), event.get("body", {}))
        return receipt

    async def rate(self, items: int, think: float) -> None:
        """Consents and rates so many trials, thinking a while before each answer."""
        await asyncio.sleep(self.rng.random() * think * 2)
        session = json.loads(await self.insist("session"))
        version = session["study"]["version"]
        await self.event(kind="consent", body={"adult": True, "version": version, "language": "en"})
        session = json.loads(await self.insist("session"))
        for trial in session["trials"][:items]:
            for side in range(trial["sides"]):
                await self.insist(f"image/{trial['trial']}/{side}", kind="image")
            for question in trial["questions"]:
                await asyncio.sleep(self.rng.expovariate(1 / think) if think else 0)
                value = self.rng.choice(question["values"])
                await self.event(
                    kind="answer", trial=trial["trial"], question=question["id"], body={"value": value, "ms": 900}
                )
        if self.stream:
            self.stream[1].close()


class Visitor:
    """One who asks with a code, one request after another; for servers within the test."""

    def __init__(self, client, site, code: str) -> None:
        self.client, self.base, self.code, self.site, self.n = client, f"/{site.folder.name}/api", code, site, 0

    def get(self, path: str):
        return self.client.get(f"{self.base}/{path}", headers={"authorization": f"Bearer {self.code}"})

    def send(self, kind: str, **event):
        self.n += 1
        body = {"key": f"{self.code}-{self.n:08d}", "kind": kind, **event}
        return self.post(json.dumps(body).encode())

    def post(self, raw: bytes, kind: str = "application/json"):
        """Whatever somebody sends as an event."""
        head = {"authorization": f"Bearer {self.code}"} | ({"content-type": kind} if kind else {})
        return self.client.post(f"{self.base}/events", headers=head, content=raw)

    def consent(self) -> Visitor:
        body = {"adult": True, "version": self.site.folder.digest, "language": "en"}
        assert self.send("consent", body=body).status_code == 200
        return self

    @property
    def session(self) -> dict:
        return self.get("session").json()

    def trials(self, *, training: bool = False) -> list[dict]:
        return [t for t in self.session["trials"] if t["training"] == training]

    def answer(self, trial: dict, i: int = 0, value=None, **event):
        question = trial["questions"][i]
        value = question["values"][0] if value is None else value
        if question["look"] and trial["category"] and trial["trial"] not in self.session["revealed"]:
            self.send("reveal", trial=trial["trial"])
        return self.send(
            "answer", trial=trial["trial"], question=question["id"], body={"value": value, "ms": 5}, **event
        )


# --- a server --------------------------------------------------------------------------------------------------------


class Server:
    """A server process that can be killed and started again on its port."""

    def __init__(self, path: Path, port: int, *, app: bool = False, store: str | None = None) -> None:
        command = (
            [sys.executable, "app.py", "--study", str(path)]
            if app
            else [sys.executable, "-m", "livo", "study", "serve", str(path)]
        )
        self.command = [*command, "--port", str(port), *(["--store", store] if store else [])]
        self.port = port
        self.start()

    def start(self) -> None:
        env = os.environ | {"PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            self.command, cwd=ROOT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def wait(self, patience: float = 120) -> None:
        """Until it answers."""
        end = time.monotonic() + patience
        while time.monotonic() < end:
            assert self.process.poll() is None, f"the server ended: {self.command}"
            with (
                contextlib.suppress(OSError),
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/study/none", timeout=5),
            ):
                return
            with contextlib.suppress(OSError):
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
                connection.request("GET", "/study/none/")
                if connection.getresponse().status < 500:  # the demo's port answers before the demo does
                    return
            time.sleep(0.05)
        raise AssertionError("the server did not start")

    def kill(self) -> None:
        """SIGKILL: no handler runs, nothing is flushed."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def run_raters(
    folder: StudyFolder,
    port: int,
    raters: int,
    items: int,
    think: float,
    server: Server | None = None,
    kills: int = 0,
    every: float = 1.0,
) -> Diary:
    """All raters at once; meanwhile the server is killed so many times, and not once they are through."""
    diary = Diary()
    people = [Rater("127.0.0.1", port, folder.name, folder.code(n), n, diary) for n in range(raters)]
    work = asyncio.gather(*(person.rate(items, think) for person in people))
    for _ in range(kills):
        await asyncio.sleep(every * (0.5 + random.random()))
        if work.done():
            break
        server.kill()
        diary.kills += 1
        server.start()
        await asyncio.to_thread(server.wait)  # else a slow start would be killed before anybody is served
    await work
    return diary


def account(folder: StudyFolder, url: str, diary: Diary) -> dict[str, int]:
    """Receipts against the store: what was receipted and is lost, doubled or other than receipted."""
    store = Store(url, folder.digest, folder.secret)
    events, problems = store.events(), store.verify()
    store.close()
    stored = {event.key: event for event in events}
    counts = Counter(event.key for event in events)
    return {
        "receipts": len(diary.receipts),
        "stored": len(events),
        "lost": sum(key not in stored for key in diary.receipts),
        "doubled": sum(n > 1 for n in counts.values()),
        "changed": sum(
            key in stored and (stored[key].stream, stored[key].kind, own_body(stored[key])) != sent
            for key, sent in diary.receipts.items()
        ),
        "problems": len(problems),
        "retries": diary.retries,
    }
