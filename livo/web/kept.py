"""Answers that are the same for everybody, made once: to ask for a page that takes long is an attack otherwise."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request

from livo.web.events import Refused
from livo.web.guard import Buckets, asker, refusal

MOST = 32
"""Answers that are kept; of more, those unused for longest are forgotten."""
LARGEST = 4_000_000
"""Bytes of one."""
CODINGS = ("br", "gzip")
FIRSTS = (30, 0.2)
"""Answers that are made anew for one address: so many at once, then so many a second. Names of this server with other
ports are without number."""
ASKS = (b"host", b"x-forwarded-host", b"x-forwarded-proto")
"""Headers that an answer may depend on. The application sees these, the coding, and no others."""


class KeptPages:
    """Answers from memory what it has answered before; a query makes no difference.

    Args:
        app: the application behind it.
        paths: after the root path, whose answers are kept.
    """

    def __init__(self, app: Any, paths: tuple[str, ...]) -> None:
        self.app, self.paths = app, paths
        self._answers: dict[tuple[Any, ...], list[Any]] = {}
        self._firsts = Buckets(*FIRSTS)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        wanted = scope["type"] == "http" and scope["method"] == "GET"
        if not wanted or scope["path"].removeprefix(scope.get("root_path", "")) not in self.paths:
            await self.app(scope, receive, send)
            return
        asked = tuple((name, value) for name, value in scope["headers"] if name in ASKS)
        takes = b",".join(value for name, value in scope["headers"] if name == b"accept-encoding").decode("latin-1")
        coding = next((coding for coding in CODINGS if coding in takes), "identity")
        key = (scope["path"], scope.get("scheme"), asked, coding)
        if (answer := self._answers.pop(key, None)) is None:
            if not self._firsts.take(asker(Request(scope))):
                often = Refused(429, "too_often", "your network asks for this page under too many names: wait a minute")
                await refusal(often)(scope, receive, send)
                return
            headers = [*asked, (b"accept-encoding", coding.encode())]
            answer = await self._ask({**scope, "query_string": b"", "headers": headers})
        if _may_be_kept(answer):
            self._answers[key] = answer  # last in order
            while len(self._answers) > MOST:
                del self._answers[next(iter(self._answers))]
        for message in answer:
            await send(dict(message))

    async def _ask(self, scope: Any) -> list[Any]:
        answer: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            answer.append(message)

        await self.app(scope, receive, send)
        return answer


def _may_be_kept(answer: list[Any]) -> bool:
    size = sum(len(message.get("body", b"")) for message in answer)
    personal = any(name.lower() == b"set-cookie" for name, _ in answer[0]["headers"])
    return answer[0]["status"] == 200 and size <= LARGEST and not personal
