"""Simulated raters over real HTTP, and small studies for them. `python tests/raters.py --help` measures a server.

python tests/raters.py --raters 200 --items 60                    one server process, latency, all receipts in the store
python tests/raters.py --raters 200 --items 60 --kills 20         the server is killed while they rate
python tests/raters.py --raters 200 --items 60 --app --busy       beside the demo, whose generator works throughout
python tests/raters.py ... --store postgresql+psycopg://HOST/NAME
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))

from livo.principles import find_principle  # noqa: E402
from livo.study.build import SourcePicture, make_study  # noqa: E402
from livo.study.session import own_body  # noqa: E402
from livo.study.study_file import Study, StudyFolder, load_study  # noqa: E402
from livo.web.events import Store, default_url  # noqa: E402

METHODS = {"stable_diffusion": "Stable Diffusion", "uce": "UCE", "livo": "LiVO"}
PATIENCE = 60
"""Seconds after which a rater gives a server up."""
PROMPTS = ("doctor", "nurse", "pilot", "baker", "clown", "judge")


def make_folder(
    path: Path, *, methods: int = 3, prompts: int = 4, toxic: int = 0, seeds: int = 3, **fields
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
    make_study(path, Study(**{"title": "Rating pictures", **fields}), pictures, METHODS)
    return load_study(path)


# --- a rater ---------------------------------------------------------------------------------------------------------


@dataclass
class Diary:
    """What all raters were told: receipts by key, with what was answered, and how long each first try took."""

    receipts: dict[str, tuple[int, str, object]] = field(default_factory=dict)
    seconds: dict[str, list[float]] = field(default_factory=lambda: {"answer": [], "image": []})
    retries: int = 0


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
            size = int(next(line.split(":")[1] for line in answer.split("\r\n") if line.startswith("content-length")))
            return int(answer.split()[1]), await reader.readexactly(size)
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
            if status >= 500:
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
                import http.client

                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
                connection.request("GET", "/study/none/")
                connection.getresponse()
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
    """All raters at once; meanwhile the server is killed so many times."""
    diary = Diary()
    people = [Rater("127.0.0.1", port, folder.name, folder.code(n), n, diary) for n in range(raters)]
    work = asyncio.gather(*(person.rate(items, think) for person in people))
    for _ in range(kills):
        await asyncio.sleep(every * (0.5 + random.random()))
        server.kill()
        server.start()
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


def percentiles(seconds: Sequence[float]) -> str:
    if not seconds:
        return "-"
    p50, p95, p99 = (1000 * float(np.percentile(seconds, q)) for q in (50, 95, 99))
    return f"p50 {p50:.0f} ms, p95 {p95:.0f} ms, p99 {p99:.0f} ms, n = {len(seconds)}"


class Busy:
    """Comparisons one after another on the demo's own queue, until it is left."""

    def __init__(self, port: int) -> None:
        self.base, self.stop, self.done = f"http://127.0.0.1:{port}/gradio_api", False, 0

    def run(self) -> None:
        with urllib.request.urlopen(self.base.removesuffix("/gradio_api") + "/config") as response:
            config = json.load(response)
        index = next(i for i, d in enumerate(config["dependencies"]) if len(d["inputs"]) == 7)
        while not self.stop:
            session = uuid.uuid4().hex[:12]
            data = ["a photo of a doctor", "auto", "stable_diffusion,livo,uce", 0, 8, 20, 4.0]
            body = json.dumps({"data": data, "fn_index": index, "session_hash": session}).encode()
            request = urllib.request.Request(f"{self.base}/queue/join", body, {"content-type": "application/json"})
            urllib.request.urlopen(request).read()
            with urllib.request.urlopen(f"{self.base}/queue/data?session_hash={session}") as stream:
                for line in stream:
                    if b"process_completed" in line or self.stop:
                        self.done += b'"success":true' in line.replace(b" ", b"")
                        break


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--raters", type=int, default=200)
    parser.add_argument("--items", type=int, default=60)
    parser.add_argument("--think", type=float, default=2.0, help="mean seconds before an answer (%(default)s)")
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--every", type=float, default=6.0, help="mean seconds between kills (%(default)s)")
    parser.add_argument("--app", action="store_true", help="the demo's process serves the study")
    parser.add_argument("--busy", action="store_true", help="the demo generates throughout")
    parser.add_argument("--store")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = make_folder(
            Path(scratch) / "study", prompts=10, seeds=6, raters=args.raters, ratings_per_rater=args.items,
            questions=("consistency_5",), training=0, gold_every=0
        )  # fmt: skip
        port = free_port()
        server = Server(folder.path, port, app=args.app, store=args.store)
        try:
            server.wait()
            busy = Busy(port)
            if args.busy:
                import threading

                threading.Thread(target=busy.run, daemon=True).start()
                time.sleep(2)
            begun = time.monotonic()
            diary = asyncio.run(
                run_raters(folder, port, args.raters, args.items, args.think, server, args.kills, args.every)
            )
            seconds = time.monotonic() - begun
            busy.stop = True
        finally:
            server.kill()
        counts = account(folder, args.store or default_url(folder.path), diary)
        print(
            f"{args.raters} raters x {args.items} items in {seconds:.0f} s, {args.kills} kills, "
            f"{busy.done} comparisons meanwhile"
        )
        print(", ".join(f"{name} {n}" for name, n in counts.items()))
        for kind, times in diary.seconds.items():
            print(f"{kind}: {percentiles(times)}")
    return int(bool(counts["lost"] or counts["doubled"] or counts["changed"] or counts["problems"]))


if __name__ == "__main__":
    sys.exit(main())
