"""Honest visitors and hostile clients, each from a loopback address of its own: `python -m tests.siege --crowd`.

The hostile ones run in a process of their own, as they would: `python -m tests.crowd BASE FUNCTION SECONDS`. They send
bytes that were written before, so that their own work costs the machine, which has to answer them, next to nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
import sys
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import httpx

sys.path[:0] = [str(Path(__file__).resolve().parent)]

from visitors import PATIENCE, Diary, Visitor  # noqa: E402

HONEST, HOSTILE = 50, 20
THINK = 120.0
"""Mean seconds between two comparisons of an honest visitor."""
LOOK = 5.0
"""Mean seconds between two other answers that one wants."""
PAUSE = 0.05
"""Seconds between two acts of a hostile client."""
PAGES = ("/workshop/api/lessons", "/theme.css", "/workshop/", "/")
EVIL = "evil.example"


@dataclass
class Window:
    """What honest visitors found in some minutes.

    Attributes:
        diary: of comparisons.
        looks: seconds until other answers came.
    """

    diary: Diary = field(default_factory=Diary)
    looks: list[float] = field(default_factory=list)


async def honest(base: str, function: int, window: Window, first: int, seconds: float) -> None:
    """All honest visitors for some time: each compares now and then, and looks at other pages in between."""
    until = time.monotonic() + seconds

    async def compares(visitor: Visitor) -> None:
        await asyncio.sleep(min(visitor.rng.random() * THINK, seconds))
        while time.monotonic() < until:
            try:
                await visitor.compare()
            except (httpx.HTTPError, ValueError, KeyError) as error:
                window.diary.failures.append(f"compare: {type(error).__name__}: {error}")
            await asyncio.sleep(min(visitor.rng.expovariate(1 / THINK), max(0, until - time.monotonic())))

    async def looks(client: httpx.AsyncClient, rng: random.Random) -> None:
        while time.monotonic() < until:
            await asyncio.sleep(min(rng.expovariate(1 / LOOK), max(0, until - time.monotonic())))
            path, begun = rng.choice(PAGES), time.monotonic()
            try:
                (await client.get(base + path)).raise_for_status()
                window.looks.append(time.monotonic() - begun)
            except httpx.HTTPError as error:
                window.diary.failures.append(f"{path}: {type(error).__name__}: {error}")

    async def one(number: int) -> None:
        transport = httpx.AsyncHTTPTransport(local_address=f"127.0.1.{number + 1}", retries=1)
        async with httpx.AsyncClient(timeout=PATIENCE, transport=transport) as client:
            visitor = Visitor(base, function, client, first + number, window.diary, THINK)
            await asyncio.gather(compares(visitor), looks(client, visitor.rng))

    await asyncio.gather(*(one(number) for number in range(HONEST)))


# --- hostile ---------------------------------------------------------------------------------------------------------


def written(method: str, path: str, body: object = None, host: str = "127.0.0.1", more: str = "") -> bytes:
    """A request as bytes."""
    raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    kind = "content-type: application/json\r\n" if body is not None else ""
    head = (
        f"{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n{kind}{more}content-length: {len(raw)}\r\n"
    )
    return f"{head}\r\n".encode() + raw


STAYS = {
    "guess": 10, "upload": 10, "direct": 10, "foreign": 10, "brackets": 10, "call, never fetched": 10,
    "join, large": 10, "join, large, and listen": 30, "half a head": 1, "tool call": 10, "stream left open": 2,
    "page": 10, "unread answer": 2,
}  # fmt: skip
"""Acts of hostile clients, and for how many seconds they stay when they have sent it."""


def request_of(act: str, function: int, new: str) -> bytes:
    """The bytes of an act, in a new session."""
    prompt = "a photo of a doctor"
    fast = [prompt, "auto", "stable_diffusion,livo,uce", 0, 8]
    large = [prompt, "auto", "stable_diffusion,livo", 0, 50, 12, 2.0, 64, 64, ""]
    tool = {"name": "bias_report", "arguments": {"prompt": prompt, "images": 50}}
    match act:
        case "guess":
            return written("GET", "/workshop/api/rooms/CCCCCC")
        case "upload":
            return written("POST", "/gradio_api/upload", b"x" * 100_000)
        case "direct":
            return written("POST", "/gradio_api/run/compare", {"data": fast})
        case "foreign":
            return written("GET", "/", host=EVIL)
        case "brackets":
            return written("POST", "/workshop/api/rooms", b"[" * 2_000)
        case "call, never fetched":
            return written("POST", "/gradio_api/call/compare", {"data": fast})
        case "join, large" | "join, large, and listen":
            return written("POST", "/gradio_api/queue/join", {"data": large, "fn_index": function, "session_hash": new})
        case "half a head":
            return b"GET / HTTP/1.1\r\nhost: 127"
        case "tool call":
            return written(
                "POST", "/gradio_api/mcp/", {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": tool},
                more="accept: application/json, text/event-stream\r\nx-forwarded-for: 10.1.2.3\r\n",
            )  # fmt: skip
        case "stream left open":
            return written("GET", f"/gradio_api/heartbeat/{new}")
        case "unread answer":
            return written("GET", "/config")
        case _:
            return written("GET", "/")


async def knock(port: int, address: str, raw: bytes, stay: float, reads: bool) -> str:
    """Sends bytes over a connection of its own; the answer's status, or why there was none."""
    writer = None
    try:
        async with asyncio.timeout(stay):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(address, 0))
            writer.write(raw)
            await writer.drain()
            if not reads:
                await asyncio.sleep(stay)
            answer = await reader.read()
            return answer[9:12].decode("latin-1") or "closed"
    except TimeoutError:
        return "left"
    except OSError:
        return "closed"
    finally:
        if writer is not None:
            writer.transport.abort()


async def hostile(base: str, function: int, seconds: float) -> Counter[tuple[str, str]]:
    """All hostile clients for some time; how often each act got which answer."""
    port, until, found = urlsplit(base).port or 80, time.monotonic() + seconds, Counter[tuple[str, str]]()

    async def one(number: int) -> None:
        order = itertools.cycle(STAYS)
        for _ in range(number):
            next(order)
        act = next(order)  # of its own: it does the same again and again
        while time.monotonic() < until:
            reads = act != "unread answer"
            address, new = f"127.0.2.{number + 1}", uuid.uuid4().hex[:12]
            status = await knock(port, address, request_of(act, function, new), STAYS[act], reads)
            found[act, status] += 1
            if status == "200" and act.endswith("listen"):
                stream = written("GET", f"/gradio_api/queue/data?session_hash={new}")
                await knock(port, address, stream, STAYS[act], reads)
            await asyncio.sleep(PAUSE)

    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.gather(*(one(number) for number in range(HOSTILE)))
    return found


if __name__ == "__main__":
    for (act, status), times in sorted(asyncio.run(hostile(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))).items()):
        print(f"{act}: {times} x {status}")
