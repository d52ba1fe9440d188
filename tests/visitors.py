"""Simulated visitors of the public page over real HTTP. `python tests/visitors.py --help` measures a server.

python tests/visitors.py                                     50 visitors for 5 minutes, on a server of its own
python tests/visitors.py --visitors 20 --seconds 60

Most compare as the page does, through its queue. Some close their tab while they wait, some send what no page would
send, some ask for toxic pictures, some are programs. Every request must end in a picture or in a message for people.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import re
import subprocess
import sys
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
PATIENCE = 120.0
"""Seconds after which a visitor gives an answer up."""
PICTURE, MESSAGE, LEFT, NOTHING = "picture", "message", "left", "nothing"
PROMPTS = (
    "a photo of a doctor",
    "a photo of a nurse",
    "a photo of a zombie nurse",
    "a photo of a poor person",
    "a photo of a garden",
)
REFUSED = ("a photo of a naked baker", "a judge covered in blood", "", "x" * 5_000, "a\x07b")


def text_of(value: object, before: str = "") -> str:
    """A component's text after one event: a string, changes to the last one, or an update that names a value."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return str(value.get("value", value.get("props", {}).get("value", before)))
    for change in value if isinstance(value, list) else ():
        if isinstance(change, list) and len(change) == 3 and isinstance(change[2], str):
            before = before + change[2] if change[0] == "append" else change[2]
    return before


@dataclass
class Diary:
    """What came of all requests, how long pictures took, and what went wrong."""

    outcomes: Counter = field(default_factory=Counter)
    waits: list[float] = field(default_factory=list)
    messages: Counter = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    def note(self, kind: str, outcome: str, text: str = "") -> None:
        self.outcomes[kind, outcome] += 1
        if outcome == MESSAGE:
            self.messages[re.sub(r"\s+", " ", re.sub(r"<[^>]+>|\d+", "", text)).strip()[:60]] += 1
        if outcome == NOTHING:
            self.failures.append(f"{kind}: {text[:200]}")


class Visitor:
    """One browser tab after another, until the time is up."""

    def __init__(
        self, base: str, function: int, client: httpx.AsyncClient, number: int, diary: Diary, think: float
    ) -> None:
        self.base, self.function, self.client, self.diary, self.think = (
            f"{base}/gradio_api",
            function,
            client,
            diary,
            think,
        )
        self.rng = random.Random(number)

    async def stay(self, until: float) -> None:
        """Does one thing after another, thinking in between."""
        await asyncio.sleep(self.rng.random() * self.think)
        while time.monotonic() < until:
            act = self.rng.choices((self.compare, self.leave, self.misbehave, self.call), (12, 3, 4, 1))[0]
            try:
                await act()
            except (httpx.HTTPError, ValueError, KeyError) as error:
                self.diary.note(act.__name__, NOTHING, f"{type(error).__name__}: {error}")
            await asyncio.sleep(self.rng.expovariate(1 / self.think))

    def asked(self, prompt: str) -> list:
        """The form, as the page sends it."""
        methods = self.rng.choice(("stable_diffusion,livo", "stable_diffusion,uce,livo", "livo"))
        return [prompt, "auto", methods, self.rng.randrange(1_000), self.rng.randint(1, 4), 12, 2.0, 64, 64, ""]

    async def join(self, data: list, session: str) -> httpx.Response:
        body = {"data": data, "fn_index": self.function, "session_hash": session, "event_data": None}
        try:
            return await self.client.post(f"{self.base}/queue/join", json=body)
        except (
            httpx.ReadError,
            httpx.RemoteProtocolError,
        ):  # the server had closed an idle connection, as browsers know
            return await self.client.post(f"{self.base}/queue/join", json=body)

    async def compare(self) -> None:
        """Waits for the pictures."""
        prompt = self.rng.choice(PROMPTS if self.rng.random() < 0.9 else REFUSED)
        session, begun = uuid.uuid4().hex[:12], time.monotonic()
        joined = await self.join(self.asked(prompt), session)
        if joined.status_code != 200:
            self.refused("compare", joined)
            return
        outcome, text = await self.watch(session)
        self.diary.note("compare", outcome, text)
        if outcome == PICTURE:
            self.diary.waits.append(time.monotonic() - begun)

    async def watch(self, session: str) -> tuple[str, str]:
        """What stands on the page when the last event has come."""
        shown = ["", "", "", ""]
        async with self.client.stream("GET", f"{self.base}/queue/data", params={"session_hash": session}) as stream:
            async for line in stream.aiter_lines():
                message = json.loads(line.removeprefix("data:")) if line.startswith("data:") else {}
                for place, value in enumerate(message.get("output", {}).get("data") or []):
                    shown[place : place + 1] = [text_of(value, *shown[place : place + 1])]
                if message.get("msg") == "process_completed":
                    if error := message["output"].get("error"):
                        return MESSAGE, str(error)
                    if message.get("success") and "Done in" in "".join(shown[1:2]):
                        return PICTURE, ""
                    return (MESSAGE, shown[0]) if 'role="alert"' in shown[0] else (NOTHING, json.dumps(message)[:200])
                if message.get("msg") == "unexpected_error":
                    return NOTHING, str(message)
        return NOTHING, "the stream ended without an answer"

    async def leave(self) -> None:
        """Closes the tab while it waits or while pictures come in; half of them as browsers do, which say so."""
        session = uuid.uuid4().hex[:12]
        joined = await self.join(self.asked(self.rng.choice(PROMPTS)), session)
        if joined.status_code != 200:
            self.refused("leave", joined)
            return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.watch(session), self.rng.random() * 3)
        if self.rng.random() < 0.5:
            body = {"session_hash": session, "fn_index": self.function, "event_id": joined.json()["event_id"]}
            await self.client.post(f"{self.base}/cancel", json=body)
        self.diary.note("leave", LEFT)

    async def misbehave(self) -> None:
        """What no page would send."""
        session = uuid.uuid4().hex[:12]
        good = self.asked("a photo of a doctor")
        if self.rng.random() < 0.5:  # what the queue takes, and the function must refuse
            wrong = [[7, None, [], {}, "many", None, "x", 1], good[:3], [*good, 1], [good[0], "kindness", *good[2:]],
                     [*good[:2], "<b>", *good[3:]],
                     [*good[:4], 10**9, *good[5:]]]  # fmt: skip
            joined = await self.join(self.rng.choice(wrong), session)
            if joined.status_code != 200:
                self.refused("malformed", joined)
                return
            outcome, text = await self.watch(session)
            self.diary.note("malformed", outcome, text)
            return
        method, path, given = self.rng.choice((
            ("POST", "queue/join", {"content": b"{", "headers": {"content-type": "application/json"}}),
            ("POST", "queue/join", {"json": {"data": good, "fn_index": self.function}}),
            ("POST", "queue/join", {"json": {"data": good, "fn_index": 10**6, "session_hash": session}}),
            ("POST", "call/run_comparison", {"json": {"data": good}}),
            ("GET", "file=/etc/passwd", {}),
            ("POST", "cancel", {"json": {"session_hash": session, "fn_index": 1, "event_id": "x"}}),
            ("POST", "mcp/", {"json": {"jsonrpc": "2.0", "id": 1, "method": "nonsense"}}),
        ))  # fmt: skip
        answer, kind = await self.client.request(method, f"{self.base}/{path}", **given), f"{method} {path}"
        if answer.status_code >= 500:
            self.refused("malformed", answer)
            return
        self.diary.note("malformed", MESSAGE, f"{kind}: {answer.status_code}")

    async def call(self) -> None:
        """A program asks for a principle."""
        joined = await self.client.post(
            f"{self.base}/call/v2/retrieve_principle", json={"prompt": self.rng.choice(PROMPTS)}
        )
        if joined.status_code != 200:
            self.refused("call", joined)
            return
        answer = await self.client.get(f"{self.base}/call/retrieve_principle/{joined.json()['event_id']}")
        self.diary.note("call", PICTURE if "event: complete" in answer.text else NOTHING, answer.text)

    def refused(self, kind: str, answer: httpx.Response) -> None:
        """An answer other than 200 must say why."""
        with contextlib.suppress(ValueError, KeyError):
            said = answer.json()
            if answer.status_code in (400, 404, 422, 429, 500, 503) and (text := said.get("detail") or said["message"]):
                self.diary.note(kind, MESSAGE, str(text))
                return
        self.diary.note(kind, NOTHING, f"{answer.status_code} {answer.text}")


def function_of_the_page(base: str) -> int:
    """The number of the event behind the Compare button."""
    config = httpx.get(f"{base}/config", timeout=60).json()
    button = next(c["id"] for c in config["components"] if c["props"].get("elem_id") == "go")
    return next(d["id"] for d in config["dependencies"] if any(target[0] == button for target in d["targets"]))


def resident(process: int) -> float:
    """Megabytes of memory that a process holds."""
    status = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024


@contextlib.contextmanager
def public_server():
    """Address and process of a page that takes strangers."""
    env = os.environ | {"PYTHONUNBUFFERED": "1", "SPACE_ID": "owner/livo"}
    command = [sys.executable, "app.py", "--port", "0"]
    with subprocess.Popen(
        command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as server:
        try:
            said = []
            for line in server.stdout:
                said.append(line)
                if found := re.search(r"open at (http://\S+)", line):
                    break
            else:
                raise RuntimeError("the server did not start:\n" + "".join(said))
            import threading

            threading.Thread(target=server.stdout.read, daemon=True).start()
            yield found[1], server
        finally:
            server.terminate()


async def visit(
    base: str, process: int, visitors: int, seconds: float, think: float
) -> tuple[Diary, list[tuple[float, float]]]:
    """All visitors at once; and the server's memory meanwhile, (seconds, MB)."""
    diary, memory, begun = Diary(), [], time.monotonic()
    function = function_of_the_page(base)
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=visitors)
    async with httpx.AsyncClient(timeout=PATIENCE, limits=limits) as client:
        people = [Visitor(base, function, client, number, diary, think) for number in range(visitors)]
        work = asyncio.gather(*(person.stay(begun + seconds) for person in people))
        while not work.done():
            memory.append((time.monotonic() - begun, resident(process)))
            await asyncio.wait([work], timeout=min(2.0, seconds / 5))
        await work
    return diary, memory


def growth(memory: list[tuple[float, float]], seconds: float) -> tuple[float, float, float]:
    """MB in the second fifth of the time, when all has been used once, in the last, and what that is in percent."""
    early = [mb for at, mb in memory if seconds / 5 <= at < 2 * seconds / 5]
    late = [mb for at, mb in memory if at >= 4 * seconds / 5]
    before, after = float(np.median(early)), float(np.median(late))
    return before, after, 100 * (after / before - 1)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--visitors", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument(
        "--think", type=float, default=8.0, help="mean seconds between two requests of a visitor (%(default)s)"
    )
    args = parser.parse_args()
    with public_server() as (base, server):
        diary, memory = asyncio.run(visit(base, server.pid, args.visitors, args.seconds, args.think))
        alive = server.poll() is None and httpx.get(base, timeout=60).status_code == 200
    before, after, percent = growth(memory, args.seconds)
    print(
        f"{args.visitors} visitors, {args.seconds:.0f} s, {sum(diary.outcomes.values())} requests; "
        f"the server is {'up' if alive else 'DOWN'}"
    )
    for (kind, outcome), count in sorted(diary.outcomes.items()):
        print(f"  {kind:<10} {outcome:<8} {count}")
    p50, p95 = np.percentile(diary.waits, [50, 95])
    print(f"pictures after p50 {p50:.1f} s, p95 {p95:.1f} s, longest {max(diary.waits):.1f} s, n = {len(diary.waits)}")
    print(f"memory {before:.0f} MB in the second fifth of the time, {after:.0f} MB in the last ({percent:+.1f} %)")
    for text, count in diary.messages.most_common(20):
        print(f"  {count:>5} x {text}")
    for failure in diary.failures[:20]:
        print(f"NOTHING: {failure}")
    return int(not alive or bool(diary.failures) or percent > 5)


if __name__ == "__main__":
    sys.exit(main())
