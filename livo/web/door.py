"""A door before the demo while a class is in the network: pupils are led to "Join", the host has a link."""

from __future__ import annotations

import hmac
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import RedirectResponse

from livo.web.events import Refused
from livo.web.guard import LOOPBACK, refusal

COOKIE = "livo-host"


class Door:
    """Lets visitors of the network into some rooms only; this machine and whoever opened the host's link go anywhere.

    Args:
        app: the application behind it.
        open_to_all: beginnings of paths, after the root path.
        join: where the bare address leads, after the root path.
        key: of the host's link, `?host=KEY`; "" where nobody of the network may enter.
    """

    def __init__(self, app: Any, open_to_all: tuple[str, ...], join: str, key: str = "") -> None:
        self.app, self.open_to_all, self.join, self.key = app, open_to_all, join, key

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        root = scope.get("root_path", "")
        path = scope["path"].removeprefix(root)
        given = parse_qs(scope["query_string"].decode("latin-1")).get("host", [""])[0]
        if path == "/" and given and self._fits(given):
            reply = RedirectResponse(f"{root}/", 303)
            reply.set_cookie(COOKIE, self.key, httponly=True, samesite="lax", path=f"{root}/")
            await reply(scope, receive, send)
        elif path.startswith(self.open_to_all) or self._may_enter(Request(scope)):
            await self.app(scope, receive, send)
        elif path == "/":
            await RedirectResponse(root + self.join, 307)(scope, receive, send)
        else:
            closed = Refused(403, "closed", "the demo is open to the host of this class: join the room instead")
            await refusal(closed)(scope, receive, send)

    def _fits(self, word: str) -> bool:
        return bool(self.key) and hmac.compare_digest(word.encode(), self.key.encode())

    def _may_enter(self, request: Request) -> bool:
        here = request.client is not None and request.client.host in LOOPBACK
        if here and "x-forwarded-for" not in request.headers:  # a proxy on this machine speaks for others
            return True
        cookie = SimpleCookie(request.headers.get("cookie", "")).get(COOKIE)
        return cookie is not None and self._fits(cookie.value)
