"""Attacks on a public server, bounded and over loopback only: `python -m tests.siege` starts one and prints a table.

python -m tests.siege                       a server of its own, one line an attack; exit code 1 where one is not held
python -m tests.siege --crowd 10            afterwards 50 visitors alone for 5 minutes, beside 20 hostile clients for 10
python -m tests.siege --only hosts rooms    some of the attacks

Each attack is one that a server of an earlier day fell to. What is promised stands in livo/ui/README.md, "Security".
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import secrets
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from tests.besieged import Attack, Line, Target, statuses
from tests.crowd import written
from tests.faults import clock, damage, full_disk, kills
from tests.side_by_side import beside
from tests.visitors import function_of_the_page

EVIL = "evil.example"


def queue(target: Target) -> Iterator[Line]:
    """The queue is the only way in, and work ends with its caller."""
    before, data = target.status("memory"), ["a photo of a doctor", "auto", "stable_diffusion,livo,uce", 0, 8]
    with ThreadPoolExecutor(30) as pool:
        url = f"{target.base}/gradio_api/run/compare"
        replies = list(pool.map(lambda _: httpx.post(url, json={"data": data}, timeout=60), range(30)))
    grown = target.status("memory") - before
    held = all(r.status_code >= 400 for r in replies) and grown < 100
    yield Line("queue", "30 direct calls beside the queue", held, f"{statuses(replies)}; memory {grown:+.0f} MB")
    for name, given in (("compare", data), ("bias_report", ["a photo of a doctor", "auto", "livo", 0, 50])):
        joined = httpx.post(f"{target.base}/gradio_api/call/{name}", json={"data": given}).json()
        url = f"{target.base}/gradio_api/call/{name}/{joined['event_id']}"
        with contextlib.suppress(httpx.HTTPError), httpx.stream("GET", url, timeout=20) as stream:
            next(stream.iter_raw())
        spent = work_after(target)
        yield Line("queue", f"whoever called {name} hangs up", spent < 2, f"{spent:.1f} s of work in the next 6 s")


def tools(target: Target) -> Iterator[Line]:
    """Tool calls count as their caller's, whoever that claims to be, and end with them."""
    arguments = {"prompt": "a photo of a doctor", "images": 50}
    call = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {"name": "bias_report", "arguments": arguments},
    }
    more = "accept: application/json, text/event-stream\r\nx-forwarded-for: 10.1.2.3\r\n"
    raw, callers = written("POST", "/gradio_api/mcp/", call, more=more), list[socket.socket]()
    for _ in range(20):
        caller = socket.create_connection(("127.0.0.1", target.port), timeout=10, source_address=("127.0.2.9", 0))
        caller.sendall(raw)
        callers.append(caller)
    time.sleep(5)
    refused = 0
    for caller in callers:
        caller.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            refused += caller.recv(12) == b"HTTP/1.1 429"
        caller.close()
    spent = work_after(target)
    held = refused == 16 and spent < 2
    yield Line("tools", "20 calls for 50 pictures, and away", held, f"{refused} x 429; {spent:.1f} s of work in 6 s")
    paths = ("/gradio_api/mcp/sse", "/gradio_api/mcp/messages/", "/gradio_api/mcp/schema")
    replies = [httpx.get(f"{target.base}{path}", headers={"accept": "text/event-stream"}, timeout=5) for path in paths]
    held = all(r.status_code in (403, 405) for r in replies)
    yield Line("tools", "streams that stay open", held, statuses(replies))


def work_after(target: Target) -> float:
    """Seconds of processor time in six, four seconds from now: the step at hand may end."""
    time.sleep(4)
    begun = target.status("processor")
    time.sleep(6)
    return target.status("processor") - begun


def unread(target: Target) -> Iterator[Line]:
    """Large answers that nobody reads, thirty in a row on each connection."""

    def files() -> int:
        return len(os.listdir(f"/proc/{target.process.pid}/fd"))

    before, memory, raw = files(), target.status("memory"), b"GET /config HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n" * 30
    readers = []
    for _ in range(60):
        reader = socket.socket()
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        reader.bind(("127.0.2.10", 0))
        reader.connect(("127.0.0.1", target.port))
        reader.sendall(raw)
        readers.append(reader)
    time.sleep(2)
    open_files, begun = files() - before, time.monotonic()
    status = httpx.get(f"{target.base}/workshop/api/lessons", timeout=20).status_code
    seconds = time.monotonic() - begun
    grown = target.status("memory") - memory
    while files() - before > 5 and time.monotonic() - begun < 60:
        time.sleep(1)
    left, waited = files() - before, time.monotonic() - begun
    for reader in readers:
        reader.close()
    held = status == 200 and seconds < 5 and left <= 5 and grown < 100
    found = (
        f"{open_files} open, {status} after {seconds:.2f} s; {left} open after {waited:.0f} s; memory {grown:+.0f} MB"
    )
    yield Line("connections", "1,800 answers that nobody reads", held, found)


def logs(target: Target) -> Iterator[Line]:
    """Whatever goes wrong, over and over, with other words each time."""
    size, function = target.log.stat().st_size, function_of_the_page(target.base)
    data = ["a photo of a doctor", "auto", "livo", 0, 1, 12, 2.0, 64, 64, ""]

    def one(number: int) -> None:
        word = f"{number}\n{secrets.token_hex(8)}\x1b[31m"
        join = {"data": [word, *data[1:]], "fn_index": function, "session_hash": secrets.token_hex(6)}
        asked: list[tuple[str, dict[str, object]]] = [
            ("queue/join", {"json": join | {"fn_index": 10**6 + number}}),
            ("queue/join", {"json": join | {"data": word}}),
            ("queue/join", {"json": join | {"data": [word] * 3}}),
            ("queue/join", {"json": join | {"data": data[:3] * 4}}),
            (f"call/{number}", {"json": {"data": []}}),
            ("call/compare", {"json": {"data": [word] * 4}}),
            ("mcp/", {"json": {"jsonrpc": "2.0", "id": number, "method": word}}),
            ("mcp/", {"content": word.encode(), "headers": {"content-type": "application/json"}}),
            ("cancel", {"json": join}),
        ]
        path, given = asked[number % len(asked)]
        transport = httpx.HTTPTransport(local_address=f"127.0.3.{number % 50 + 1}")
        client = httpx.Client(transport=transport, base_url=f"{target.base}/gradio_api/", timeout=20)
        with client, contextlib.suppress(httpx.HTTPError):
            reply = client.post(path, **given)  # type: ignore[arg-type]
            if "event_id" in reply.text and reply.status_code == 200:
                event = f"queue/data?session_hash={join['session_hash']}"
                client.get(event if path == "queue/join" else f"{path}/{reply.json()['event_id']}", timeout=5)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, range(450)))
    told = target.told_since(size)
    held = len(told) < 30_000 and "\x1b" not in told
    yield Line("logs", "450 errors of nine kinds", held, f"{len(told):,} bytes of log, {told.count(chr(10))} lines")


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
            people.append((head | word, json.dumps(body)))
        with ThreadPoolExecutor(40) as pool:
            replies = list(
                pool.map(lambda one: client.post(f"/{code}/answers", headers=one[0], content=one[1]), people)
            )
        seconds, got = time.monotonic() - begun, sum(r.status_code == 200 for r in replies)
        yield Line("rooms", "310 invented people", got < 60 + 2.5 * seconds, f"{got} got in, in {seconds:.0f} s")
        letters = "CDFGHJKMNPQRTVWXY"
        guesses = ["".join(secrets.choice(letters) for _ in range(6)) for _ in range(400)]
        begun = time.monotonic()
        with ThreadPoolExecutor(40) as pool:
            replies = list(pool.map(lambda guess: client.get(f"/{guess}"), guesses))
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


ATTACKS: dict[str, Attack] = {
    attack.__name__: attack
    for attack in (
        hosts, uploads, bodies, queue, tools, rooms, connections, unread, logs, kills, damage, full_disk, clock
    )
}  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """Runs all attacks; 1 where one is not held."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--crowd", type=float, metavar="MINUTES", help="of a crowd beside hostile clients, after the attacks"
    )
    parser.add_argument("--only", nargs="+", choices=(*ATTACKS, "crowd"), help="some of them")
    args = parser.parse_args(arguments)
    names = args.only or [*ATTACKS, *(["crowd"] if args.crowd else [])]
    lines: list[Line] = []
    with tempfile.TemporaryDirectory() as folder:
        target = Target(Path(folder))
        try:
            attacks = [ATTACKS[name] for name in names if name in ATTACKS]
            if "crowd" in names:
                attacks.append(lambda target: beside(target, 60 * (args.crowd or 2)))
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
