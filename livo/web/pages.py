"""Pages and their files: a template filled in, and the scripts, styles and words that belong to it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response

from livo.web.templates import render

SHARED = Path(__file__).parent / "static"
KINDS = {".js": "text/javascript", ".css": "text/css", ".json": "application/json"}
FRESH = {"cache-control": "no-cache"}


def page(script: str, title: str, *, style: str, template: str = "page.html") -> Callable[[Request], Response]:
    """A handler for a page that a script fills.

    Args:
        script: name of the script, without its ending.
        style: likewise, of the style sheet.
        template: one that extends page.html.
    """

    def handler(request: Request) -> Response:
        deep = request.scope["path"].removeprefix(request.scope.get("root_path", "")).count("/") - 1
        values = {"script": script, "title": title, "style": style, "to_root": "../" * deep or "./"}
        return HTMLResponse(render(template, **values), headers=FRESH)

    return handler


def static_files(*folders: Path) -> Mapping[str, Path]:
    """Files by name of the shared folder and of others, as far as they are scripts, styles or words."""
    return {
        path.name: path for folder in (SHARED, *folders) for path in sorted(folder.iterdir()) if path.suffix in KINDS
    }


def serve_static(files: Mapping[str, Path]) -> Callable[[Request], Awaitable[Response]]:
    """A handler for `{name}`; there is no way to any other file."""

    async def handler(request: Request) -> Response:
        path = files.get(request.path_params["name"])
        if path is None:
            return Response(status_code=404)
        return FileResponse(path, media_type=KINDS[path.suffix], headers=FRESH)

    return handler
