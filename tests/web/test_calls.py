"""Tool calls: the connection that runs one counts as its caller's, and knows when they have gone."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from loops import finish

from livo.web.calls import HEADER, MOST_EACH, SCOPE, Calls, is_over


def scope(path: str, method: str = "POST", client: str = "10.0.0.1", **headers: str) -> dict[str, Any]:
    named = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return {"type": "http", "path": path, "method": method, "client": (client, 5), "headers": named}


async def gone() -> dict[str, str]:
    return {"type": "http.disconnect"}


class Gradio:
    """Runs a tool call through a connection of its own, from this machine, with the caller's headers."""

    def __init__(self) -> None:
        self.calls = Calls(self, "/mcp")
        self.inner: list[dict[str, Any]] = []
        self.wait = asyncio.Event()
        self.wait.set()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] != "/mcp":
            self.inner.append(scope)
            return
        await self.wait.wait()
        own = {**scope, "path": "/join", "client": ("127.0.0.1", 9)}
        await self.calls(own, receive, send)
        assert not is_over(SimpleNamespace(scope=self.inner[-1]))
        await receive()
        assert is_over(SimpleNamespace(scope=self.inner[-1]))
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def ask(self, **given: Any) -> int:
        statuses: list[int] = []

        async def send(message: Any) -> None:
            statuses.append(message.get("status", 0))

        await self.calls(scope(**given), gone, send)
        return statuses[0]


def test_a_call_is_its_callers_and_ends_with_them() -> None:
    async def run() -> None:
        gradio = Gradio()
        assert await gradio.ask(path="/mcp", x_forwarded_for="10.9.9.9") == 200
        (inner,) = gradio.inner
        assert inner["client"] == ("10.0.0.1", 5)
        assert b"x-forwarded-for" not in dict(inner["headers"]), "an address that a caller chose"

    finish(run())


def test_nobody_else_can_speak_for_a_caller() -> None:
    async def run() -> None:
        gradio = Gradio()
        await gradio.calls(scope("/join", **{HEADER.decode().replace("-", "_"): "0" * 32}), gone, gone)
        assert gradio.inner[0]["client"] == ("10.0.0.1", 5) and gradio.inner[0][SCOPE].over
        assert not is_over(None) and not is_over(SimpleNamespace(scope={}))

    finish(run())


def test_one_address_has_some_calls_at_once_and_no_open_stream() -> None:
    async def run() -> None:
        gradio = Gradio()
        gradio.wait.clear()
        some = [asyncio.create_task(gradio.ask(path="/mcp")) for _ in range(MOST_EACH)]
        await asyncio.sleep(0)
        assert await gradio.ask(path="/mcp") == 429
        other = asyncio.create_task(gradio.ask(path="/mcp", client="10.0.0.2"))
        assert await gradio.ask(path="/mcp", method="GET", client="10.0.0.3", accept="text/event-stream") == 405
        gradio.wait.set()
        assert await asyncio.gather(*some, other) == [200] * (MOST_EACH + 1)
        assert await gradio.ask(path="/mcp") == 200

    finish(run())
