"""The one guard of all servers: which names and sites may speak to it, how much they may send, who asks, how often.

`Guard` stands outside everything, Gradio included:  Guard(app, Reach(hosts, base, root_path))
`guarded` stands around a handler: refusals become words.
`Buckets` limit what one address may do.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import re
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, cast
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from livo.types import InputError
from livo.web.events import Refused

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
LARGEST_REQUEST = 250_000
"""Bytes; no page sends nearly as much."""
BODY_SECONDS = 20.0
"""How long a request's body may take to arrive."""
NETLOC = re.compile(r"[A-Za-z0-9._-]+(:\d{1,5})?|\[[0-9A-Fa-f:.]+\](:\d{1,5})?")
"""Nothing else names a server: of `evil.example\\@localhost` programs and browsers read different names."""
SAFE = ("GET", "HEAD", "OPTIONS")
REFUSALS, SLOWED, MOST_SLOWED = (60, 1.0), 1.0, 50
"""Refusals that one address gets at once: so many, then so many a second. Further ones come late by so many seconds, of
which so many may be on their way: whoever sends nonsense in a loop costs no more than that."""
MISLEADING = b"x-gradio-server"
"""By this header visitors could tell Gradio that the server is another one, for everybody after them too."""
PROTOCOL = b"x-forwarded-proto"
"""Pages write it into their links; here it is http or https, whatever was sent."""
CONTENT_POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; form-action 'none'"
)
HEADERS = (
    (b"content-security-policy", CONTENT_POLICY.encode()),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-robots-tag", b"noindex"),
)


@dataclass(frozen=True)
class Reach:
    """Under which names a server is reached, and who may frame its pages.

    Attributes:
        hosts: names, small letters, without a port; one that begins with a dot is the end of names. This machine's own
            (`LOOPBACK`) are always among them.
        literals: also any numeric address: a name that was bound to this one by an attacker is none.
        base: address for others, such as https://example.org/livo; "" for the one that was asked for.
        root_path: what a proxy in front puts before every path, such as /livo; "" where there is none.
        framed_by: sites that may show the pages inside their own, besides this one.
    """

    hosts: frozenset[str] = frozenset()
    literals: bool = False
    base: str = ""
    root_path: str = ""
    framed_by: tuple[str, ...] = ()

    def knows(self, netloc: str) -> bool:
        """Whether a Host header, with or without a port, names this server."""
        if not NETLOC.fullmatch(netloc):
            return False
        try:
            name = urlsplit(f"//{netloc}").hostname or ""
        except ValueError:
            return False
        if name in LOOPBACK or name in self.hosts:
            return True
        if any(name.endswith(host) for host in self.hosts if host.startswith(".")):
            return True
        if not self.literals:
            return False
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True

    def address(self, request: Request) -> str:
        """This server's for others, without a slash at the end."""
        return self.base or f"{request.url.scheme}://{request.url.netloc}{self.root_path}"


class Guard:
    """Refuses what no page of this server would send, and puts every request into one form.

    Requests of foreign names (421), state-changing ones of other sites (403), bodies that are too large (413) or too
    slow (408), and refused paths (403) end here. Afterwards the path begins with the root path, whether the proxy cut
    it off or not.

    Args:
        app: the application.
        refused: beginnings of paths that are not served, after the root path, each with the reason.
        rates: beginnings of paths by which work is asked for, each with how often an address may.
    """

    def __init__(
        self,
        app: Any,
        reach: Reach,
        refused: Mapping[str, str] | None = None,
        rates: Mapping[str, Buckets] | None = None,
    ) -> None:
        self.app, self.reach, self.refused, self.rates = app, reach, dict(refused or {}), dict(rates or {})
        self._refusals, self._slowed = Buckets(*REFUSALS), Counter[str]()
        ancestors = " ".join(("'self'", *reach.framed_by))
        self._always = (
            (b"content-security-policy", f"frame-ancestors {ancestors}".encode()),
            (b"x-content-type-options", b"nosniff"),
        )

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        scope = self._in_one_form(scope)
        if scope["path"] and scope["path"] == self.reach.root_path:  # relative links want the slash
            await RedirectResponse(f"{scope['path'].rsplit('/', 1)[-1]}/", 307)(scope, receive, send)
            return
        body = _Limited(receive, scope)
        begun = False

        async def with_headers(message: Any) -> None:
            nonlocal begun
            if body.refused and not begun:
                return  # whatever the application makes of a body that broke off
            if message["type"] == "http.response.start":
                begun = True
                if message["status"] >= 400:
                    await self._slow_down(asker(Request(scope)))
                there = {name for name, _ in message["headers"]} - {b"content-security-policy"}
                message["headers"] = [*message["headers"], *(h for h in self._always if h[0] not in there)]
            await send(message)

        try:
            self._check(Request(scope))
            await self.app(scope, body, with_headers)
        except Refused as refused:
            body.refused = refused
        except Exception:
            if not body.refused:
                raise
        if (stopped := body.refused) and not begun:
            body.refused = None
            await refusal(stopped)(scope, receive, with_headers)

    async def _slow_down(self, who: str) -> None:
        if self._refusals.take(who) or self._slowed[who] >= MOST_SLOWED:
            return
        self._slowed[who] += 1
        try:
            await asyncio.sleep(SLOWED)
        finally:
            self._slowed[who] -= 1
            self._slowed += Counter()  # forgets who has none

    def _in_one_form(self, scope: Any) -> Any:
        root, path = self.reach.root_path, scope["path"]
        if root and path != root and not path.startswith(f"{root}/"):
            raw = scope.get("raw_path") or path.encode()
            scope = {**scope, "path": root + path, "raw_path": root.encode() + raw}
        forwarded = Request(scope).headers.get("x-forwarded-host", "").split(",")[0].strip()
        if forwarded and self.reach.knows(forwarded):
            others = [(name, value) for name, value in scope["headers"] if name != b"host"]
            scope = {**scope, "headers": [(b"host", forwarded.encode("latin-1")), *others]}
        headers = [(name, value) for name, value in scope["headers"] if name not in (MISLEADING, PROTOCOL)]
        told = Request(scope).headers.get(PROTOCOL.decode(), "").split(",")[0].strip()
        scheme = told if told in ("http", "https") else scope.get("scheme", "http")
        return {**scope, "root_path": root, "headers": [*headers, (PROTOCOL, scheme.encode())]}

    def _check(self, request: Request) -> None:
        for name in ("host", "x-forwarded-host"):
            given = request.headers.get(name, "")
            for one in given.split(","):
                if (one.strip() or name == "host") and not self.reach.knows(one.strip()):
                    raise Refused(
                        421,
                        "foreign_host",
                        f"this server does not answer to the name {one.strip()[:80]!r}: whoever runs it can allow it "
                        "with --base-url",
                    )
        path = request.scope["path"][len(self.reach.root_path) :]
        for start, reason in self.refused.items():
            if path.startswith(start):
                raise Refused(403, "not_served", reason)
        if request.method not in SAFE:
            check_origin(request, self.reach)
            for start, bucket in self.rates.items():
                if path.startswith(start) and not bucket.take(asker(request)):
                    raise Refused(429, "too_often", "your network asks too often: wait a few seconds")
        length = request.headers.get("content-length", "0")
        if not length.isdecimal() or len(length) > 12 or int(length) > LARGEST_REQUEST:
            raise Refused(413, "too_large", f"a request has at most {LARGEST_REQUEST} bytes")


class _Limited:
    """A request's body as far as it is small and quick; then whatever the server says of the connection.

    Attributes:
        refused: why nothing more is read of it.
    """

    def __init__(self, receive: Any, scope: Any) -> None:
        self.receive, self.refused = receive, cast("Refused | None", None)
        self._left, self._until = LARGEST_REQUEST, time.monotonic() + BODY_SECONDS
        # Without a body there is nothing to wait for: whoever asks whether the client has gone must not wait.
        self._whole = scope["method"] in SAFE

    async def __call__(self) -> Any:
        if self._whole:
            return await self.receive()
        try:
            message = await asyncio.wait_for(self.receive(), self._until - time.monotonic())
        except TimeoutError:
            return self._stop(Refused(408, "too_slow", f"a request has to arrive within {BODY_SECONDS:.0f} s"))
        self._whole = message["type"] != "http.request" or not message.get("more_body", False)
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            return self._stop(Refused(413, "too_large", f"a request has at most {LARGEST_REQUEST} bytes"))
        return message

    def _stop(self, refused: Refused) -> dict[str, str]:
        self.refused, self._whole = refused, True
        return {"type": "http.disconnect"}


def check_origin(request: Request, reach: Reach) -> None:
    """Whether a state-changing request comes from a page of this server, or from no page at all.

    Raises:
        Refused: another site's page sent it.
    """
    origin = request.headers.get("origin")
    own = {request.headers.get("host", ""), urlsplit(reach.base).netloc} - {""}
    if origin is not None:
        foreign = urlsplit(origin).netloc not in own
    else:
        foreign = request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin")
    if foreign:
        raise Refused(403, "foreign_site", "another site's page sent this: open this server's own page")


class Headers:
    """Adds the headers that keep a page to itself."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *HEADERS]
            await send(message)

        await self.app(scope, receive, with_headers)


def refusal(refused: Refused) -> Response:
    """A refusal as an answer."""
    return JSONResponse({"code": refused.code, "message": str(refused)}, refused.status)


def guarded(handler: Callable[[Request], Any]) -> Callable[[Request], Awaitable[Response]]:
    """A refusal becomes its status and its words; nothing else of the program's inside gets out."""

    async def run(request: Request) -> Response:
        try:
            if asyncio.iscoroutinefunction(handler):
                return await handler(request)
            return await asyncio.to_thread(handler, request)
        except Refused as refused:
            return refusal(refused)
        except InputError as error:
            return refusal(Refused(422, "input", str(error)))

    return run


def bearer(request: Request) -> str:
    """The code, key or word that the request carries; "" where it carries none."""
    kind, _, code = request.headers.get("authorization", "").partition(" ")
    return code.strip() if kind.lower() == "bearer" and code.isascii() else ""


class HasClient(Protocol):
    """A request, of Starlette or of Gradio."""

    @property
    def client(self) -> Any:
        """Whose `host` is the address."""
        ...


def asker(request: HasClient) -> str:
    """Who asks, as far as a network tells: an address, of IPv6 the network of one household."""
    host = request.client.host if request.client else ""
    with contextlib.suppress(ValueError):
        if isinstance(address := ipaddress.ip_address(host), ipaddress.IPv6Address):
            return str(ipaddress.ip_network((address, 64), strict=False))
    return host


@dataclass
class Buckets:
    """So many at once, then so many a second; one bucket a name.

    Attributes:
        burst: how many at once.
        rate: how many more a second.
        most: names that are remembered; those unused for longest are forgotten first.
    """

    burst: float
    rate: float
    most: int = 20_000
    _left: dict[str, tuple[float, float]] = field(default_factory=dict)

    def left(self, name: str = "") -> float:
        """How many are left now."""
        now = time.monotonic()
        left, at = self._left.get(name, (self.burst, now))
        return min(self.burst, left + (now - at) * self.rate)

    def take(self, name: str = "") -> bool:
        """Whether there was one left."""
        left = self.left(name)
        self.spend(name, 1 if left >= 1 else 0)
        return left >= 1

    def spend(self, name: str, amount: float) -> None:
        """Takes as much, whether it is left or not: what is owed has to fill up first."""
        left = self.left(name)
        self._left.pop(name, None)
        self._left[name] = (left - amount, time.monotonic())  # last in order
        while len(self._left) > self.most:
            del self._left[next(iter(self._left))]


class Guesses:
    """Limits how many wrong codes one asker may try, without locking out whoever knows one.

    A class sits behind one address: what was opened from it before stays open, whatever a neighbour tries.

    Args:
        burst: wrong codes at once.
        rate: how many more a second.
    """

    def __init__(self, burst: float = 30, rate: float = 0.2, most: int = 50_000) -> None:
        self._wrong, self._known, self._most = Buckets(burst, rate), dict[tuple[str, str], None](), most

    def check(self, who: str, code: str) -> None:
        """Before a code is looked up.

        Raises:
            Refused: too many wrong ones came from there, and this one was never right.
        """
        if (who, code) not in self._known and self._wrong.left(who) < 1:
            raise Refused(
                429, "too_many_guesses", "many wrong codes came from your network: wait a minute, and try again"
            )

    def wrong(self, who: str) -> None:
        """The code was nobody's."""
        self._wrong.take(who)

    def right(self, who: str, code: str) -> None:
        """The code opened something."""
        self._known[who, code] = None
        while len(self._known) > self._most:
            del self._known[next(iter(self._known))]
