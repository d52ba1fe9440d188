"""Tool calls of agents (MCP): who makes them, and whether they are still there.

Gradio runs such a call through a connection of its own to this server, which hides both.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any

from livo.web.events import Refused
from livo.web.guard import refusal

HEADER = b"x-livo-call"
MOST_CALLS, MOST_EACH = 12, 4
"""Calls at once: each waits in a thread. The second number is for one address."""
HIDDEN = frozenset({HEADER, b"x-forwarded-for", b"forwarded", b"x-real-ip"})
"""Headers of a caller that its call does not carry on: this server believes them of its own connections."""
SCOPE = "livo.call"


@dataclass
class ToolCall:
    """A call under way.

    Attributes:
        client: address and port of whoever makes it.
        over: it has been answered, or they have gone.
    """

    client: tuple[str, int]
    over: bool = False


class Calls:
    """Stands outside of the guard.

    Args:
        app: the application behind it.
        path: of tool calls, after the root path.
    """

    def __init__(self, app: Any, path: str, root_path: str = "") -> None:
        self.app, self._starts = app, (path, root_path + path)
        self._open: dict[bytes, ToolCall] = {}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
        elif not scope["path"].startswith(self._starts):
            await self.app(self._as_its_caller(scope), receive, send)
        elif scope["method"] == "GET" and b"text/event-stream" in dict(scope["headers"]).get(b"accept", b""):
            none = Refused(405, "no_stream", "this server sends nothing unasked: post each call")
            await refusal(none)(scope, receive, send)
        else:
            await self._call(scope, receive, send)

    async def _call(self, scope: Any, receive: Any, send: Any) -> None:
        client = tuple(scope["client"] or ("", 0))
        there = [call for call in self._open.values() if not call.over]
        if len(there) >= MOST_CALLS or sum(call.client[0] == client[0] for call in there) >= MOST_EACH:
            full = Refused(429, "too_many_calls", "too many tool calls are under way: wait for one to end")
            await refusal(full)(scope, receive, send)
            return
        name, call = secrets.token_hex(16).encode(), ToolCall(client)
        self._open[name] = call

        async def watched() -> Any:
            message = await receive()
            call.over |= message["type"] == "http.disconnect"
            return message

        kept = [(key, value) for key, value in scope["headers"] if key not in HIDDEN]
        try:
            await self.app({**scope, "headers": [*kept, (HEADER, name)]}, watched, send)
        finally:
            call.over = True
            del self._open[name]

    def _as_its_caller(self, scope: Any) -> Any:
        """A connection that runs a call is its caller's."""
        names = [value for key, value in scope["headers"] if key == HEADER]
        if not names:
            return scope
        if (call := self._open.get(names[0])) is None:
            call = ToolCall(scope["client"], over=True)
        return {**scope, "client": call.client, SCOPE: call}


def is_over(request: Any) -> bool:
    """Whether a request runs a tool call that nobody waits for any more; `request` has a Starlette scope."""
    call = request.scope.get(SCOPE) if request is not None else None
    return call is not None and call.over
