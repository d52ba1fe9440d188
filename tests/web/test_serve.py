"""Ports, addresses and connections: half-open ones neither stop the server nor fill its log."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from loops import finish
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from livo.types import InputError
from livo.web import serve
from livo.web.guard import Reach

ROOT = Path(__file__).resolve().parents[2]
SERVER = """
import resource, sys
soft = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, soft))
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from livo.web import serve
serve.HEADER_SECONDS = float(sys.argv[2])
listening = serve.listen("127.0.0.1", 0)
print(listening.getsockname()[1], flush=True)
app = Starlette(routes=[Route("/", lambda request: PlainTextResponse("here"))])
serve.run(app, listening, serve.reach_of("127.0.0.1"))
"""


@contextlib.contextmanager
def server(files: int, seconds: float, log: Path) -> Iterator[int]:
    with log.open("wb") as err:
        command = [sys.executable, "-c", SERVER, str(files), str(seconds)]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=err, text=True)
    try:
        assert process.stdout
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.wait()


def answer(port: int) -> tuple[str, float]:
    begun = time.monotonic()
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=20) as reply:
        return reply.read().decode(), time.monotonic() - begun


def closed(connection: socket.socket) -> bool:
    connection.settimeout(5)
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False


def reply(connection: socket.socket) -> bool:
    got = b""
    while not got.endswith(b"here"):
        if not (more := connection.recv(4_096)):
            return False
        got += more
    return b"200 OK" in got


def test_half_open_connections_stop_nobody_and_fill_no_log(tmp_path: Path) -> None:
    """1,100 under the usual limit of 1,024 files stopped the server, and it wrote 52 MB in 20 s."""
    with server(1_024, 60, tmp_path / "log") as port:
        held = [socket.create_connection(("127.0.0.1", port)) for _ in range(1_100)]
        for connection in held:
            with contextlib.suppress(OSError):
                connection.sendall(b"GET / HTTP/1.1\r\nhost: 127")
        text, seconds = answer(port)
        assert text == "here" and seconds < 3
        time.sleep(1)
        for connection in held:
            connection.close()
    assert (tmp_path / "log").stat().st_size < 5_000


def test_a_head_that_never_ends_is_not_waited_for(tmp_path: Path) -> None:
    with server(1_024, 0.5, tmp_path / "log") as port:
        silent = socket.create_connection(("127.0.0.1", port))
        slow = socket.create_connection(("127.0.0.1", port))
        slow.sendall(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
        assert reply(slow)
        slow.sendall(b"GET / HTTP/1.1\r\n")  # the second request on a connection, too
        assert closed(silent) and closed(slow)
        idle = socket.create_connection(("127.0.0.1", port))
        idle.sendall(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
        assert reply(idle)
        time.sleep(1)
        idle.sendall(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
        assert reply(idle), "a connection that waits between two requests is kept"


def test_nonsense_is_one_line_a_minute(tmp_path: Path) -> None:
    with server(1_024, 5, tmp_path / "log") as port:
        for _ in range(300):
            with socket.create_connection(("127.0.0.1", port)) as connection:
                connection.sendall(b"\x16\x03\x01\x02\x00 nonsense\r\n\r\n")
                with contextlib.suppress(OSError):
                    connection.recv(1_024)
        assert answer(port)[0] == "here"
    assert len((tmp_path / "log").read_text().splitlines()) <= 2


def test_lines_of_other_kinds_are_all_written() -> None:
    once = serve.OnceAMinute()
    lines = ["a", "a", "b", "a", "c"]
    records = [logging.LogRecord("x", logging.WARNING, "f", 1, line, None, None) for line in lines]
    assert [once.filter(record) for record in records] == [True, False, True, False, True]


def test_what_strangers_sent_forges_no_line_and_steers_no_terminal() -> None:
    try:
        raise ValueError("no number\n2030-01-01 all is well \x1b[2J" + "x" * 90_000)
    except ValueError:
        error = sys.exc_info()
    record = logging.LogRecord("x", logging.ERROR, "f", 1, "sent: %s", ("a\nb\r\x1b",), error)
    assert serve.OnceAMinute().filter(record)
    first, *_, last = logging.Formatter().format(record).splitlines()
    assert first == r"sent: a\nb\r\x1b"
    assert last.startswith(r"ValueError: no number\n2030-01-01 all is well \x1b[2Jx") and len(last) < 1_100


def test_the_address_in_the_network_is_an_address() -> None:
    assert ipaddress.ip_address(serve.lan_address()).version == 4


def test_without_a_network_there_is_still_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError

    monkeypatch.setattr(serve.socket.socket, "connect", refuse)
    monkeypatch.setattr(serve.socket, "gethostbyname", refuse)
    assert serve.lan_address() == "127.0.0.1"


def test_a_printed_address_can_be_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "lan_address", lambda: "192.168.1.7")
    assert serve.shown_address("0.0.0.0", 80, Reach()) == "http://192.168.1.7:80"
    assert serve.shown_address("::1", 80, Reach(root_path="/livo")) == "http://[::1]:80/livo"
    assert serve.shown_address("0.0.0.0", 80, Reach(base="https://example.org/livo")) == "https://example.org/livo"


@pytest.mark.parametrize(("host", "port"), [("127.0.0.1", 1 << 20), ("203.0.113.9", 0), ("no such host", 0)])
def test_a_port_that_cannot_be_had_is_said_so(host: str, port: int) -> None:
    with pytest.raises(InputError, match="--port"):
        serve.listen(host, port)


def test_codes_are_drawn() -> None:
    assert serve.qr_svg("http://h/study").count("<svg") == 1
    assert serve.qr_terminal("http://h/workshop").count("\n") > 10


# --- connections that read nothing, and many of one address ----------------------------------------------------------


class Wire(asyncio.Transport):
    """A connection whose other end takes as much of an answer as a test says."""

    def __init__(self, host: str, unread: int = 0) -> None:
        super().__init__({"peername": (host, 1), "sockname": ("127.0.0.1", 2)})
        self.unread, self.aborted = unread, False

    def get_write_buffer_size(self) -> int:
        return self.unread

    def abort(self) -> None:
        self.aborted = True


def connected(kind: type[H11Protocol], state: ServerState, wire: Wire) -> H11Protocol:
    async def app(scope: object, receive: object, send: object) -> None:
        raise AssertionError("nothing is asked")

    config = uvicorn.Config(app, lifespan="off")
    config.load()
    protocol = kind(config, state, {}, asyncio.get_running_loop())
    protocol.connection_made(wire)
    return protocol


def test_an_answer_that_nobody_reads_is_not_kept_for_ever() -> None:
    async def run() -> None:
        kind = serve.patient_protocol(9, 9, 60, unread=0.01)
        stuck, slow = Wire("10.0.0.1", 500_000), Wire("10.0.0.2", 500_000)
        for wire in (stuck, slow):
            connected(kind, ServerState(), wire).pause_writing()
        while not stuck.aborted:
            slow.unread -= 1
            await asyncio.sleep(0.001)
        assert not slow.aborted

    finish(run())


def test_room_is_made_where_one_address_has_most_connections() -> None:
    async def run() -> None:
        kind, state = serve.patient_protocol(4, 99, 60), ServerState()
        greedy = [Wire("10.0.0.1") for _ in range(4)]
        for wire in greedy:
            connected(kind, state, wire)
        honest, more = Wire("10.0.0.2"), Wire("10.0.0.1")
        connected(kind, state, honest)
        assert greedy[0].aborted and not honest.aborted
        connected(kind, state, more)
        assert more.aborted and not honest.aborted, "who has most is who gives way"

    finish(run())
