"""Attacks on a public server, bounded and over loopback only: `python -m tests.siege` starts one and prints a table.

python -m tests.siege                       a server of its own, one line an attack; exit code 1 where one is not held
python -m tests.siege --crowd 10            afterwards 50 visitors for ten minutes, then beside 20 hostile clients

Each attack is one that a server of an earlier day fell to. What is promised stands in livo/ui/README.md, "Security".
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import re
import resource
import secrets
import signal
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from raters import make_folder  # noqa: E402
from visitors import function_of_the_page  # noqa: E402

from tests.crowd import HONEST, HOSTILE, Window, honest  # noqa: E402

EVIL = "evil.example"
FILES = 1_024
"""Open files that the server may have: the usual limit."""


class Target:
    """The public page with a study and a workshop, in a process of its own."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.folder, self.base = folder, f"http://127.0.0.1:{self.port}"
        self.study = make_folder(folder / "study", raters=4, ratings_per_rater=8, training=0, gold_every=0)
        self.start()

    def start(self) -> None:
        """Opens the page and waits until it answers."""
        command = [
            sys.executable,
            "app.py",
            "--public",
            "--port",
            str(self.port),
            "--rooms",
            str(self.folder / "rooms"),
        ]
        env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        self.log = self.folder / "log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "--study", str(self.study.path)], cwd=ROOT, env=env, stdout=log, stderr=log,
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
        """Of /proc: MB of memory, or seconds of processor time."""
        proc = Path(f"/proc/{self.process.pid}")
        if field == "memory":
            return int(re.search(r"VmRSS:\s+(\d+)", (proc / "status").read_text())[1]) / 1024  # type: ignore[index]
        parts = (proc / "stat").read_text().rpartition(")")[2].split()
        return (int(parts[11]) + int(parts[12])) / os.sysconf("SC_CLK_TCK")

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


@dataclass(frozen=True)
class Line:
    """What came of an attack."""

    threat: str
    attack: str
    held: bool
    found: str


Attack = Callable[[Target], Iterator[Line]]


def statuses(replies: list[httpx.Response]) -> str:
    return ", ".join(f"{n} x {status}" for status, n in sorted(Counter(r.status_code for r in replies).items()))


def queue(target: Target) -> Iterator[Line]:
    """The queue is the only way in, and work ends with its caller."""
    before, data = target.status("memory"), ["a photo of a doctor", "auto", "stable_diffusion,livo,uce", 0, 8]
    with ThreadPoolExecutor(30) as pool:
        url = f"{target.base}/gradio_api/run/compare"
        replies = list(pool.map(lambda _: httpx.post(url, json={"data": data}, timeout=60), range(30)))
    grown = target.status("memory") - before
    held = all(r.status_code >= 400 for r in replies) and grown < 100
    yield Line("queue", "30 direct calls beside the queue", held, f"{statuses(replies)}; memory {grown:+.0f} MB")
    joined = httpx.post(f"{target.base}/gradio_api/call/compare", json={"data": data}).json()
    url = f"{target.base}/gradio_api/call/compare/{joined['event_id']}"
    with contextlib.suppress(httpx.HTTPError), httpx.stream("GET", url, timeout=20) as stream:
        next(stream.iter_raw())
    time.sleep(4)  # the step at hand may end
    begun = target.status("processor")
    time.sleep(6)
    spent = target.status("processor") - begun
    yield Line("queue", "the caller of an API call hangs up", spent < 2, f"{spent:.1f} s of work in the next 6 s")


def uploads(target: Target) -> Iterator[Line]:
    """No files are taken."""
    before = target.stored()
    files = {"files": ("x.png", b"x" * 900_000)}
    replies = [
        httpx.post(f"{target.base}{path}", files=files) for path in ("/gradio_api/upload", "/gradio_api/upload/")
    ]
    with contextlib.suppress(httpx.HTTPError):
        replies.append(httpx.post(f"{target.base}/gradio_api/upload", files={"files": ("x.png", b"x" * 30_000_000)}))
    grown = target.stored() - before
    held = all(r.status_code in (403, 413) for r in replies) and grown < 100_000
    yield Line("uploads", "0.9 MB twice, 30 MB once", held, f"{statuses(replies)}; {grown:+,} bytes on disk")


def hosts(target: Target) -> Iterator[Line]:
    """Foreign names and sites."""
    key = {"authorization": f"Bearer {target.study.organiser_key}"}
    status = f"/study/{target.study.name}/api/organise/status"
    paths = ("/", "/config", "/workshop/", "/workshop/api/lessons", status)
    for name in ("host", "x-forwarded-host"):
        replies = [httpx.get(target.base + path, headers=key | {name: EVIL}) for path in paths]
        held = all(r.status_code == 421 and f"//{EVIL}" not in r.text for r in replies)
        yield Line("hosts", f"{name}: {EVIL}", held, statuses(replies))
    posts = {
        "/gradio_api/queue/join": {}, "/gradio_api/call/compare": {"data": []},
        "/workshop/api/rooms": {"lesson": "guess-the-set"},
        f"/study/{target.study.name}/api/organise/act": {"act": "pause"},
    }  # fmt: skip
    for origin in (f"http://{EVIL}", "null"):
        replies = [
            httpx.post(target.base + path, json=body, headers=key | {"origin": origin}) for path, body in posts.items()
        ]
        yield Line(
            "origins", f"posts of a page of {origin}", all(r.status_code == 403 for r in replies), statuses(replies)
        )
    replies = [httpx.get(target.base + path, headers=key) for path in paths]
    held = all(
        "frame-ancestors 'self'" in r.headers.get("content-security-policy", "")
        and r.headers.get("x-content-type-options") == "nosniff"
        for r in replies
    )
    yield Line("frames", "pages inside another site's", held, "frame-ancestors 'self' and nosniff on all")


def rooms(target: Target) -> Iterator[Line]:
    """Guessed codes and invented people."""
    code, secret = target.room()
    head = {"content-type": "application/json"}
    begun = time.monotonic()
    with httpx.Client(base_url=f"{target.base}/workshop/api/rooms") as client:
        people = []
        for _ in range(310):
            word = {"authorization": f"Bearer {secrets.token_hex(16)}"}
            body = {"key": secrets.token_hex(8), "place": [1, 0, 0], "value": 1}
            people.append(client.post(f"/{code}/answers", headers=head | word, content=json.dumps(body)))
        seconds, got = time.monotonic() - begun, sum(r.status_code == 200 for r in people)
        yield Line("rooms", "310 invented people", got < 60 + 2.5 * seconds, f"{got} got in, in {seconds:.0f} s")
        letters = "CDFGHJKMNPQRTVWXY"
        guesses = ["".join(secrets.choice(letters) for _ in range(6)) for _ in range(400)]
        begun = time.monotonic()
        replies = [client.get(f"/{guess}") for guess in guesses]
        tried, seconds = sum(r.status_code == 404 for r in replies), time.monotonic() - begun
        yield Line("guesses", "400 codes of rooms", tried < 32 + seconds, f"{tried} were looked up, in {seconds:.0f} s")
        mine = client.get(f"/{code}", headers={"authorization": f"Bearer {'0' * 32}"}).status_code
        host = client.get(f"/{code}/host", headers={"authorization": f"Bearer {secret}"}).status_code
        yield Line(
            "guesses", "the class behind the same address", (mine, host) == (200, 200), f"student {mine}, host {host}"
        )


def connections(target: Target) -> Iterator[Line]:
    """Connections that never say what they want."""
    size, held = target.log.stat().st_size, []
    for _ in range(1_100):
        with contextlib.suppress(OSError):
            connection = socket.create_connection(("127.0.0.1", target.port), timeout=5)
            connection.sendall(b"GET / HTTP/1.1\r\nhost: 127")
            held.append(connection)
    begun = time.monotonic()
    try:
        status = httpx.get(f"{target.base}/workshop/api/lessons", timeout=20).status_code
    except httpx.HTTPError as error:
        status = type(error).__name__  # type: ignore[assignment]
    seconds = time.monotonic() - begun
    for connection in held:
        connection.close()
    for _ in range(200):
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", target.port), timeout=5) as connection,
        ):
            connection.sendall(b"\x16\x03\x01 nonsense\r\n\r\n")
    written = target.log.stat().st_size - size
    fine = status == 200 and seconds < 5 and written < 10_000
    yield Line(
        "connections",
        "1,100 half-open, 200 of nonsense",
        fine,
        f"{status} after {seconds:.2f} s; {written:,} bytes of log",
    )
    slow = socket.create_connection(("127.0.0.1", target.port))
    slow.settimeout(40)
    slow.sendall(
        b"POST /workshop/api/rooms HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
        b"content-length: 99\r\n\r\n{"
    )
    begun, got = time.monotonic(), b""
    with contextlib.suppress(OSError):
        got = slow.recv(4_096)
    yield Line(
        "connections",
        "a body that never ends",
        b"408" in got or got == b"",
        f"{got[9:12].decode() or 'closed'} after {time.monotonic() - begun:.0f} s",
    )


def bodies(target: Target) -> Iterator[Line]:
    """What no page sends, and paths out of the folders."""
    rater = {"authorization": f"Bearer {target.study.code(0)}", "content-type": "application/json"}
    study, room = f"/study/{target.study.name}/api/events", "/workshop/api/rooms"
    raws = (b"[" * 2_000, b'{"key": "\\ud800"}', b'{"key": "\\u0000"}', b"{}", b"\xff", b'{"key": ' + b"9" * 400 + b"}")
    replies = [httpx.post(target.base + path, content=raw, headers=rater) for path in (study, room) for raw in raws]
    held = all(r.status_code == 422 and "Traceback" not in r.text for r in replies)
    yield Line("bodies", "brackets, surrogates, nulls, digits", held, statuses(replies))
    replies = [
        httpx.post(target.base + path, content=b"{}", headers=rater | {"content-type": "text/plain"})
        for path in (study, room)
    ]
    yield Line("bodies", "text/plain", all(r.status_code == 415 for r in replies), statuses(replies))
    paths = (
        "/gradio_api/file=/etc/passwd", "/gradio_api/file=../../etc/passwd", "/file=/etc/passwd",
        f"/study/{target.study.name}/static/..%2f..%2fitems.json", f"/study/{target.study.name}/secret.key",
        "/workshop/pictures/..%2f..%2f..%2frequirements.txt", "/workshop/static/..%2fserver.py",
        "/static/..%2f..%2fapp.py",
        "/gradio_api/proxy=http://127.0.0.1:1/x", "/monitoring", "/assets/..%2f..%2f..%2froutes.py",
    )  # fmt: skip
    replies = [httpx.get(target.base + path) for path in paths]
    held = all(r.status_code >= 400 and "root:" not in r.text and "import " not in r.text for r in replies)
    yield Line("files", f"{len(paths)} paths out of the folders", held, statuses(replies))


def kills(target: Target) -> Iterator[Line]:
    """kill -9 in the middle: nothing acknowledged is lost."""
    code, secret = target.room()
    receipts: list[str] = []
    with httpx.Client(base_url=f"{target.base}/workshop/api/rooms") as client:
        for _ in range(25):
            body = {"key": secrets.token_hex(8), "place": [1, 0, 0], "value": 1}
            head = {"authorization": f"Bearer {secrets.token_hex(16)}"}
            if client.post(f"/{code}/answers", json=body, headers=head).status_code == 200:
                receipts.append(body["key"])  # type: ignore[arg-type]
    target.stop(signal.SIGKILL)
    target.start()
    tally = httpx.get(
        f"{target.base}/workshop/api/rooms/{code}/host", headers={"authorization": f"Bearer {secret}"}
    ).json()
    yield Line(
        "kills",
        "kill -9 after 25 receipts",
        tally["answered"] == len(receipts) > 0,
        f"{tally['answered']} of {len(receipts)} are there",
    )


def damage(target: Target) -> Iterator[Line]:
    """Two pages of the rooms' database overwritten: one line in the log, stated refusals, and the page goes on."""
    code, secret = target.room()
    target.stop(signal.SIGKILL)
    path = target.folder / "rooms" / "rooms.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
    whole = path.read_bytes()
    torn = bytearray(whole)
    torn[pages // 2 * 4_096 : (pages // 2 + 2) * 4_096] = secrets.token_bytes(8_192)
    path.write_bytes(torn)
    target.start()
    size = target.log.stat().st_size
    replies = [httpx.post(f"{target.base}/workshop/api/rooms", json={"lesson": "guess-the-set"}) for _ in range(5)]
    replies.append(httpx.get(f"{target.base}/"))
    told = target.log.read_bytes()[size:].decode()
    held = [r.status_code for r in replies] == [503] * 5 + [200] and told.count("\n") == 1 and "Traceback" not in told
    found = f"{statuses(replies)}; log: {told.strip()[:70]}"
    target.stop(signal.SIGKILL)
    path.write_bytes(whole)
    target.start()
    back = httpx.get(
        f"{target.base}/workshop/api/rooms/{code}/host", headers={"authorization": f"Bearer {secret}"}
    ).status_code
    yield Line("damage", "two pages of the database overwritten", held and back == 200, f"{found}; the copy: {back}")


# --- a crowd ---------------------------------------------------------------------------------------------------------


def beside(target: Target, seconds: float) -> Iterator[Line]:
    """Honest visitors without and with hostile clients, twice each in turn; every client has an address of its own."""
    function = function_of_the_page(target.base)
    windows, memory, answers = {False: Window(), True: Window()}, list[float](), Counter[str]()
    for turn in range(4):
        attacked = bool(turn % 2)
        command = [sys.executable, "-m", "tests.crowd", target.base, str(function), str(seconds / 2)]
        attack = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) if attacked else None
        asyncio.run(honest(target.base, function, windows[attacked], 1_000 * turn, seconds / 2))
        if attack:
            for line in attack.communicate(timeout=60)[0].splitlines():
                act, _, rest = line.rpartition(": ")
                answers[f"{act}: {rest.split(' x ')[1]}"] += int(rest.split(" x ")[0])
        memory.append(target.status("memory"))
    for attacked, window in windows.items():
        for failure in window.diary.failures[:5]:
            print(f"{'beside' if attacked else 'alone'}: {failure}", file=sys.stderr)
    print("\n".join(f"{n:>7} x {answer}" for answer, n in sorted(answers.items())), file=sys.stderr)
    alone, there = windows[False], windows[True]

    def p95(waits: list[float]) -> float:
        return statistics.quantiles(waits, n=20)[-1]

    def held(before: list[float], after: list[float]) -> bool:
        return p95(after) <= 1.5 * p95(before) and not there.diary.failures

    title = f"{HONEST} visitors beside {HOSTILE} hostile"
    waits, waits_there = alone.diary.waits, there.diary.waits
    yield Line(
        "load", f"{title}: pictures", held(waits, waits_there),
        f"p95 {p95(waits):.1f} s alone (n={len(waits)}), {p95(waits_there):.1f} s beside them (n={len(waits_there)}); "
        f"{sum(there.diary.messages.values())} other messages, {len(there.diary.failures)} without an answer; "
        f"{sum(answers.values()) / seconds:.0f} attacks a second",
    )  # fmt: skip
    yield Line(
        "load", f"{title}: other answers", held(alone.looks, there.looks),
        f"p95 {1000 * p95(alone.looks):.0f} ms alone (n={len(alone.looks)}), "
        f"{1000 * p95(there.looks):.0f} ms beside them (n={len(there.looks)})",
    )  # fmt: skip
    grown = max(memory[1:]) / memory[0] - 1
    yield Line("load", f"{title}: memory", grown < 0.05, f"{100 * grown:+.1f} % of {memory[0]:.0f} MB")


def main(arguments: list[str] | None = None) -> int:
    """Runs all attacks; 1 where one is not held."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--crowd", type=float, metavar="MINUTES", help="of a crowd, each way, after the attacks")
    parser.add_argument("--only", choices=("attacks", "crowd"), help="one of them")
    args = parser.parse_args(arguments)
    lines: list[Line] = []
    with tempfile.TemporaryDirectory() as folder:
        target = Target(Path(folder))
        try:
            attacks: list[Attack] = [hosts, uploads, bodies, queue, rooms, connections, kills, damage]
            if args.only == "crowd":
                attacks = []
            if minutes := args.crowd or (2 if args.only == "crowd" else 0):
                attacks.append(lambda target: beside(target, 60 * minutes))
            print(f"| {'threat':<11} | {'attack':<38} | held | found |\n|---|---|---|---|")
            for attack in attacks:
                for line in attack(target):
                    lines.append(line)
                    print(
                        f"| {line.threat:<11} | {line.attack:<38} | {'yes' if line.held else 'NO':<4} | {line.found} |",
                        flush=True,
                    )
        finally:
            target.stop()
    return 0 if all(line.held for line in lines) else 1


if __name__ == "__main__":
    sys.exit(main())
