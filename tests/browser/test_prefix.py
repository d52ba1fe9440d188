"""Behind a proxy that cuts a path prefix off: the comparison, links, lessons and the list of functions all work."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import httpx
import pytest
import uvicorn
from pages import page_server
from playwright.sync_api import Browser, expect
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from students import free_port

pytestmark = pytest.mark.browser
PATIENCE = 90_000
PREFIX = "/livo"
HOP = {"content-length", "connection", "accept-encoding", "transfer-encoding"}


def proxy(upstream: str, outside: list[str]) -> Starlette:
    client = httpx.AsyncClient(timeout=None)

    async def forward(request: Request) -> Response:
        path = request.url.path
        if not path.startswith(PREFIX):
            outside.append(path)
            return PlainTextResponse("outside the prefix", 404)
        target = f"{upstream}{path[len(PREFIX) :] or '/'}?{request.url.query}".rstrip("?")
        headers = {k: v for k, v in request.headers.items() if k not in HOP}
        headers |= {"x-forwarded-host": request.headers["host"], "x-forwarded-proto": "http"}
        asked = client.build_request(request.method, target, headers=headers, content=await request.body())
        answer = await client.send(asked, stream=True)
        kept = {k: v for k, v in answer.headers.items() if k not in HOP}
        return StreamingResponse(answer.aiter_raw(), answer.status_code, headers=kept)

    return Starlette(routes=[Route("/{path:path}", forward, methods=["GET", "POST", "HEAD"])])


@pytest.fixture(scope="module")
def behind() -> Iterator[tuple[str, list[str]]]:
    """The page's address behind the proxy, and the paths that were asked for outside the prefix."""
    with page_server(GRADIO_ROOT_PATH=PREFIX) as (address, _):
        outside: list[str] = []
        port = free_port()
        upstream = address.rstrip("/").removesuffix(PREFIX)
        server = uvicorn.Server(uvicorn.Config(proxy(upstream, outside), port=port, log_level="error"))
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}{PREFIX}", outside
        server.should_exit = True
        thread.join(10)


def test_everything_works_behind_a_prefix(browser: Browser, behind) -> None:
    address, outside = behind
    page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(address)
    page.wait_for_url(f"{address}/")
    outside.clear()  # the browser may look for two files ahead of the script that sets the slash
    expect(page.locator("#grid .comparison")).to_be_visible(timeout=PATIENCE)
    page.get_by_label("Prompt", exact=True).fill("a photo of a nurse")
    page.get_by_role("button", name="Compare", exact=True).click()
    expect(page.locator("#status")).to_contain_text("Done in", timeout=PATIENCE)
    link = page.locator(".permalink input").input_value()
    assert link.startswith(f"{address}/?r="), link
    page.goto(link)
    expect(page.locator("#status")).to_contain_text("Done in", timeout=PATIENCE)
    page.get_by_role("tab", name="Learn").click()
    lesson = page.locator("#lessons a.study-link").first
    page.goto(lesson.evaluate("a => a.href"))
    expect(page.get_by_role("button", name="Start")).to_be_visible()
    assert page.url.startswith(f"{address}/workshop/lesson/")
    room = httpx.post(f"{address}/workshop/api/rooms", json={"lesson": "guess-the-set"}).json()
    page.goto(f"{address}/workshop/room/{room['code']}/host#{room['secret']}")
    expect(page.locator(".address")).to_have_text(f"{address}/workshop/room/{room['code']}")
    assert not [path for path in outside if path != "/favicon.ico"], outside
