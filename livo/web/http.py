"""What every page that is served beside Gradio keeps to: headers, refusals in words, and who asks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from livo.types import InputError
from livo.web.events import Refused

HEADERS = (
    (b"content-security-policy", b"default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; form-action 'none'"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-robots-tag", b"noindex"),
)  # fmt: skip


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


def guarded(handler: Callable[[Request], Any]) -> Callable[[Request], Awaitable[Response]]:
    """A refusal becomes its status and its words; nothing else of the program's inside gets out."""

    async def run(request: Request) -> Response:
        try:
            if asyncio.iscoroutinefunction(handler):
                return await handler(request)
            return await asyncio.to_thread(handler, request)
        except Refused as refused:
            return JSONResponse({"code": refused.code, "message": str(refused)}, status_code=refused.status)
        except InputError as error:
            return JSONResponse({"code": "input", "message": str(error)}, status_code=422)

    return run


def bearer(request: Request) -> str:
    kind, _, code = request.headers.get("authorization", "").partition(" ")
    return code.strip() if kind.lower() == "bearer" and code.isascii() else ""
