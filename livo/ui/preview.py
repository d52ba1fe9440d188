"""What the page's links look like where they are shared: title, description and picture, in the page's own words; and
the slash at the end of its address."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

if TYPE_CHECKING:
    from starlette.routing import Route

TITLE = "LiVO: one prompt, one value principle, images side by side"
DESCRIPTION = (
    "See how alignment methods change who a text-to-image model draws: the same prompt, the same noise, a method a "
    "row, with the bias and toxicity a classifier perceives and how sure that is."
)
PICTURE = "page.png"
"""Served beside the page."""
FILE = Path(__file__).resolve().parents[2] / "assets" / PICTURE
_GRADIO = re.compile(
    r"""<meta\s+(?:property|name)=["'](?:og:(?:title|type|url|description|image)|twitter:\w+)["'][^>]*>\s*"""
)

_SLASH = (
    '<script>if (!location.pathname.endsWith("/")) '
    "location.replace(`${location.pathname}/${location.search}${location.hash}`);</script>"
)
"""Behind a proxy that cuts a prefix off the server cannot see that the slash is missing, which relative links want."""

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Callable[[], Awaitable[Message]], Send], Awaitable[None]]


def preview_html(address: str) -> Markup:
    """The tags that chats and search pages read.

    Args:
        address: the page's own, without a slash at its end; empty leaves the picture's address relative.
    """
    picture = f"{address}/{PICTURE}"
    tags = {"og:title": TITLE, "og:type": "website", "og:description": DESCRIPTION, "og:image": picture}
    tags |= {"og:url": f"{address}/"} if address else {}
    names = {"description": DESCRIPTION, "twitter:card": "summary_large_image", "twitter:title": TITLE}
    names |= {"twitter:description": DESCRIPTION, "twitter:image": picture}
    meta = Markup('<meta {}="{}" content="{}">')
    lines = [meta.format("property", name, text) for name, text in tags.items()]
    return Markup("\n").join([*lines, *(meta.format("name", name, text) for name, text in names.items())])


class OwnPreview:
    """The page with its own tags in place of Gradio's: an ASGI application around Gradio's."""

    def __init__(self, application: Application) -> None:
        self.application = application

    async def __call__(self, scope: Scope, receive: Callable[[], Awaitable[Message]], send: Send) -> None:
        if scope["type"] != "http" or scope["path"].rstrip("/") != scope.get("root_path", "").rstrip("/"):
            await self.application(scope, receive, send)
            return
        headers = {name.decode().lower(): value.decode() for name, value in scope["headers"]}
        scheme = str(headers.get("x-forwarded-proto") or scope.get("scheme") or "http").split(",")[0]
        address = f"{scheme}://{headers.get('host', 'localhost')}{scope.get('root_path', '')}"
        started: list[Message] = []
        body = b""

        async def hold(message: Message) -> None:
            nonlocal body
            if message["type"] == "http.response.start":
                started.append(message)
                return
            body += message.get("body", b"")
            if message.get("more_body"):
                return
            html = body
            kinds = [value for name, value in started[0]["headers"] if name.lower() == b"content-type"]
            if kinds and kinds[0].startswith(b"text/html"):
                html = with_own_tags(body.decode(), address).encode()
            rest = [(name, value) for name, value in started[0]["headers"] if name.lower() != b"content-length"]
            length = (b"content-length", str(len(html)).encode())
            await send({**started[0], "headers": [*rest, length]})
            await send({"type": "http.response.body", "body": html})

        await self.application(scope, receive, hold)


def with_own_tags(html: str, address: str) -> str:
    """A page of Gradio's with our tags instead of its own.

    Example:
        >>> page = '<head><meta property="og:title" content="Gradio" /></head>'
        >>> "Gradio" in with_own_tags(page, "http://x"), TITLE in with_own_tags(page, "http://x")
        (False, True)
        >>> with_own_tags('<link rel="manifest" href="/manifest.json" />', "")
        '<link rel="manifest" href="./manifest.json" />'
    """
    html = _GRADIO.sub("", html).replace("<head>", f"<head>{_SLASH}", 1)
    html = html.replace('href="/', 'href="./')  # Gradio's manifest, which would be looked for outside of a prefix
    return html.replace("</head>", f"{preview_html(address)}\n</head>", 1)


def own_routes() -> list[Route]:
    """The preview's picture."""
    from starlette.requests import Request
    from starlette.responses import FileResponse
    from starlette.routing import Route

    async def picture(request: Request) -> FileResponse:
        return FileResponse(FILE)

    return [Route(f"/{PICTURE}", picture)]
