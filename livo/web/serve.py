"""Ports, addresses and connections: everything between a command line and a running application.

reach = reach_of(host, base_url=..., lan=...)           which names the server answers to
listening = listen(host, port)                          one socket, or the reason why not
run(app, listening, reach)                              serves until Ctrl+C
harden(server, reach, refused)                          the same for a server that somebody else started: Gradio's
"""

from __future__ import annotations

import asyncio
import io
import logging
import os
import resource
import socket
import time
import traceback
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import h11
import segno
import uvicorn
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.protocols.http.h11_impl import H11Protocol

from livo.types import InputError
from livo.web.calls import Calls
from livo.web.guard import Buckets, Guard, Reach

KEEP_ALIVE = 75
"""Seconds that a connection stays open between two answers: people look at pictures for longer than a program."""
HEADER_SECONDS = 10.0
"""How long a request's head may take to arrive."""
UNREAD_SECONDS = 30.0
"""After which a connection is closed whose other end has read nothing of a waiting answer."""
MOST_HALF_OPEN = 200
"""Connections that have not sent a whole head yet; of more, the oldest are dropped."""
MOST_CONNECTIONS = 4_096
SPARE_FILES = 200
"""File descriptors kept for all that is no connection."""
QUIET_SECONDS = 60.0
FRAMES, LONGEST_LINE = 8, 1_000
"""Of an error in the log: the last calls, and letters of its message."""
SPACES = ("https://huggingface.co",)
"""Sites that show a Space inside their own page."""


# --- names and addresses ---------------------------------------------------------------------------------------------


def reach_of(
    host: str,
    *,
    base_url: str = "",
    root_path: str = "",
    lan: bool = False,
    environment: Mapping[str, str] = os.environ,
) -> Reach:
    """Under which names a server that listens on `host` is reached.

    Args:
        base_url: its address for others, such as https://example.org/livo.
        root_path: what a proxy puts before every path; that of `base_url` where none is given.
        lan: others in this network use it.
        environment: of a Space, where its name stands in SPACE_HOST.

    Raises:
        InputError: an address or a path is none.
    """
    base = base_url.rstrip("/")
    parts = urlsplit(base)
    if base and (parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment):
        raise InputError(f"{base_url!r} is no address: give --base-url as in https://example.org/livo")
    root = (root_path or parts.path).rstrip("/")
    if root and (not root.startswith("/") or "//" in root or any(sign in root for sign in "?#\\ ")):
        raise InputError(f"{root_path!r} is no path: give --root-path as in /livo")
    if base and root_path and parts.path and parts.path != root:
        raise InputError(f"--base-url ends in {parts.path} and --root-path is {root}: give one of them")
    if base and not parts.path:
        base += root
    everywhere = host in ("0.0.0.0", "::")
    names = {parts.hostname, None if everywhere else host.lower(), environment.get("SPACE_HOST", "").lower()}
    if everywhere or lan:
        own = socket.gethostname().lower()
        names |= {lan_address(), own, f"{own}.local"}
    if environment.get("SPACE_ID"):
        names.add(".hf.space")
    framed_by = SPACES if environment.get("SPACE_ID") else ()
    return Reach(frozenset(name for name in names if name), everywhere, base, root, framed_by)


def lan_address() -> str:
    """This machine's address in its network; 127.0.0.1 where it is in none.

    No packet is sent: a UDP socket that is "connected" only chooses where it would send from.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # an address for documentation, which nobody has
            return str(probe.getsockname()[0])
        except OSError:
            pass
    try:
        return socket.gethostbyname(socket.gethostname())
    except OSError:
        return "127.0.0.1"


def shown_address(host: str, port: int, reach: Reach) -> str:
    """The address to print: one that can be opened, also where the server listens everywhere."""
    if reach.base:
        return reach.base
    name = lan_address() if host in ("0.0.0.0", "::") else host
    return f"http://{f'[{name}]' if ':' in name else name}:{port}{reach.root_path}"


def qr_svg(text: str) -> str:
    """A QR code, as an SVG file."""
    buffer = io.BytesIO()
    segno.make(text, error="m").save(buffer, kind="svg", scale=4, border=2, dark="#000", light="#fff")
    return buffer.getvalue().decode()


def qr_terminal(text: str) -> str:
    """A QR code in characters."""
    drawn = io.StringIO()
    segno.make(text, error="l").terminal(out=drawn, compact=True)
    return drawn.getvalue().rstrip("\n")


# --- listening -------------------------------------------------------------------------------------------------------


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        InputError: the port is in use or none, or the host is not this machine's.
    """
    # TCP by name: asyncio sends small packets at once only on sockets that say so.
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(1024)
    except (OSError, OverflowError) as error:
        listening.close()
        raise InputError(
            f"the pages cannot be opened at {host}:{port} ({error}): give another port with --port, or --port 0"
        ) from error
    return listening


def run(app: Any, listening: socket.socket, reach: Reach) -> None:
    """Serves an application until Ctrl+C."""
    config = uvicorn.Config(Guard(app, reach), access_log=False, log_level="warning", lifespan="off")
    server = uvicorn.Server(config)
    _limit(config)
    server.run(sockets=[listening])


def harden(
    server: uvicorn.Server,
    reach: Reach,
    refused: Mapping[str, str],
    rates: Mapping[str, Buckets] | None = None,
    tools: str = "",
) -> None:
    """Puts the guard and the limits around a server that runs already; both are read anew for every connection.

    Args:
        tools: where tool calls come in, which the server makes through connections to itself.
    """
    config = server.config
    _limit(config)
    app: Any = Guard(config.loaded_app, reach, refused, rates)
    if tools:
        app = Calls(app, tools, reach.root_path)
    # Outermost: who asks is whoever a proxy that is believed says.
    config.loaded_app = ProxyHeadersMiddleware(app, trusted_hosts=config.forwarded_allow_ips)


# --- connections -----------------------------------------------------------------------------------------------------


def _limit(config: uvicorn.Config) -> None:
    if not config.loaded:
        config.load()
    for name in ("uvicorn.error", "asyncio"):
        logging.getLogger(name).addFilter(OnceAMinute())
    most = min(MOST_CONNECTIONS, raise_file_limit() - SPARE_FILES)
    config.http_protocol_class = patient_protocol(most, MOST_HALF_OPEN, HEADER_SECONDS)
    config.limit_concurrency = 2 * most  # at so many uvicorn refuses everybody; until then room is made
    config.timeout_keep_alive = KEEP_ALIVE
    config.ws_protocol_class = None


def raise_file_limit() -> int:
    """As many open files as the system lets this process have; how many that is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    return 65_536 if soft == resource.RLIM_INFINITY else soft


def patient_protocol(most: int, half_open: int, seconds: float, unread: float = UNREAD_SECONDS) -> type[H11Protocol]:
    """HTTP/1.1 as uvicorn speaks it, with an end to its patience: it waits for a request's head for ever, and for
    somebody to read an answer.

    Args:
        most: connections at once; of more, the oldest of the address that has most is closed.
        half_open: of them, those that have not sent a whole head; of more, the oldest is closed.
        seconds: after which those are closed.
        unread: seconds after which a connection is closed that has taken nothing of its answer.
    """
    waiting: dict[H11Protocol, asyncio.TimerHandle] = {}
    by_address: dict[str, dict[H11Protocol, None]] = {}

    class Patient(H11Protocol):
        _stuck: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            by_address.setdefault(self._address(), {})[self] = None
            if len(self.connections) > most:
                own, crowd = by_address[self._address()], max(by_address.values(), key=len)
                (self if len(own) == len(crowd) else next(iter(crowd))).transport.abort()
            self._wait()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.conn.their_state is not h11.IDLE:
                self._arrived()
            elif self.conn.trailing_data[0]:
                self._wait()

        def connection_lost(self, exc: Exception | None) -> None:
            self._arrived()
            self.resume_writing()
            there = by_address.get(self._address(), {})
            there.pop(self, None)
            if not there:
                by_address.pop(self._address(), None)
            super().connection_lost(exc)

        def pause_writing(self) -> None:
            super().pause_writing()
            self._watch(self.transport.get_write_buffer_size())

        def resume_writing(self) -> None:
            if self._stuck:
                self._stuck.cancel()
            self._stuck = None
            super().resume_writing()

        def _watch(self, left: int) -> None:
            self._stuck = self.loop.call_later(unread, self._look, left)

        def _look(self, before: int) -> None:
            left = self.transport.get_write_buffer_size()
            if left < before:
                self._watch(left)
            else:
                self.transport.abort()

        def _address(self) -> str:
            return self.client[0] if self.client else ""

        def _wait(self) -> None:
            if self in waiting:
                return
            waiting[self] = self.loop.call_later(seconds, self._give_up)
            if len(waiting) > half_open:
                next(iter(waiting))._give_up()  # type: ignore[attr-defined]

        def _arrived(self) -> None:
            if timer := waiting.pop(self, None):
                timer.cancel()

        def _give_up(self) -> None:
            self._arrived()
            self.transport.abort()

    return Patient


class OnceAMinute(logging.Filter):
    """Lets the first line of a kind through each minute, and says how many there were since.

    What strangers sent stands in it without line breaks and signs that steer a terminal.
    """

    def __init__(self) -> None:
        super().__init__()
        self._seen: dict[str, tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is written."""
        kind = str(record.msg).splitlines()[0][:80] if str(record.msg) else ""
        if record.exc_info and record.exc_info[0]:
            kind += record.exc_info[0].__name__
        at, more = self._seen.get(kind, (float("-inf"), 0))
        if time.monotonic() - at < QUIET_SECONDS:
            self._seen[kind] = (at, more + 1)
            return False
        record.msg, record.args = _in_one_line(record.getMessage()), ()
        if more:
            record.msg += f" ({more} more since the last such line)"
        if record.exc_info and (error := record.exc_info[1]):
            ends = [f"{type(e).__name__}: {_in_one_line(str(e))}" for e in (error, error.__cause__) if e]
            frames = "".join(traceback.format_tb(error.__traceback__, limit=-FRAMES))
            record.exc_text = f"{frames}{' because of '.join(ends)}"
        if len(self._seen) > 200:
            self._seen.clear()
        self._seen[kind] = (time.monotonic(), 0)
        return True


def _in_one_line(text: str) -> str:
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text[:LONGEST_LINE])
