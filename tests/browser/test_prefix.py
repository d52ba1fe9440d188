"""Behind a proxy that cuts a path prefix off: the comparison, links, lessons and the list of functions all work."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from urllib.parse import urljoin, urlsplit

import httpx
import pytest
import uvicorn
from pages import page_server
from playwright.sync_api import Browser, expect
from raters import make_folder
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from students import free_port

pytestmark = pytest.mark.browser
PATIENCE = 90_000
PREFIX = "/livo"
HOP = {"content-length", "connection", "accept-encoding", "transfer-encoding"}

EVIL = "evil.example"


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
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, list[str]]]:
    """The page's address behind the proxy, and the paths that were asked for outside the prefix."""
    study = make_folder(tmp_path_factory.mktemp("study"), raters=2, ratings_per_rater=2, training=0, gold_every=0)
    with page_server("--study", str(study.path), GRADIO_ROOT_PATH=PREFIX) as (address, _):
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


def test_no_redirect_leaves_the_prefix(behind) -> None:
    address, _ = behind
    site = urlsplit(address)
    paths = [
        "", "/workshop", "/study", "/workshop/learn", f"//{EVIL}", f"//{EVIL}/", f"//{EVIL}/%2f..", f"/%2f%2f{EVIL}/",
        f"/\\{EVIL}", f"/%5c{EVIL}/", f"/workshop//{EVIL}", f"/workshop/../../{EVIL}", f"/.//{EVIL}/..;/", "/livo/livo",
        f"/?next=//{EVIL}", f"/?__theme=//{EVIL}", f"/gradio_api//{EVIL}/", "/gradio_api", f"/login?url=//{EVIL}",
        f"/logout?_target_url=https://{EVIL}", "/static", "/workshop/room", "/study/", f"/x%0d%0alocation:%20//{EVIL}",
    ]  # fmt: skip
    redirects = 0
    for path in paths:
        answer = httpx.get(address + path, follow_redirects=False)
        assert answer.status_code < 500, path
        if 300 <= answer.status_code < 400:
            redirects += 1
            to = urlsplit(urljoin(address + path, answer.headers["location"]))
            assert to.netloc == site.netloc and f"{to.path}/".startswith(f"{PREFIX}/"), (path, to)
    assert redirects >= 2, "else nothing was looked at"


@pytest.mark.parametrize(
    "header",
    ["x-forwarded-prefix", "x-script-name", "x-forwarded-path", "x-original-url", "x-rewrite-url", "x-forwarded-uri",
     "forwarded", "x-gradio-server", "x-forwarded-proto"],
)  # fmt: skip
def test_no_header_says_another_prefix(behind, header: str) -> None:
    address, _ = behind
    value = f"host={EVIL};proto=http" if header == "forwarded" else f"https://{EVIL}/evil"
    plain = {path: httpx.get(address + path) for path in ("/", "/config", "/workshop/", "/study/", "/theme.css")}
    for path, before in plain.items():
        answer = httpx.get(address + path, headers={header: value})
        assert answer.status_code == before.status_code and EVIL not in f"{answer.text} {answer.headers}", path
    for path in plain:
        again = httpx.get(address + path)
        assert EVIL not in again.text, "nor in the answer to whoever comes afterwards"


def test_no_name_but_its_own_gets_in_through_the_proxy(behind) -> None:
    address, _ = behind
    for path in ("/", "/config", "/workshop/", "/workshop/api/lessons"):
        answer = httpx.get(address + path, headers={"host": EVIL})
        assert answer.status_code == 421 and f"//{EVIL}" not in answer.text


def test_all_that_pages_name_lies_below_the_prefix(behind) -> None:
    """A study's and the workshop's pages, and the demo's: nothing begins at the site's own root."""
    address, _ = behind
    lessons = httpx.get(f"{address}/workshop/api/lessons").json()
    studies = re.findall(r"study/[\w-]+/", httpx.get(f"{address}/config").text)
    pages = ["/", "/workshop/", "/workshop/join", "/theme.css", *(f"/{study}" for study in set(studies))]
    assert studies and lessons
    for path in pages:
        answer = httpx.get(address + path)
        assert answer.status_code == 200, path
        for name in re.findall(r"(?:href|src|action)=[\"']([^\"'#]+)", answer.text):
            to = urlsplit(urljoin(address + path, name))
            assert to.netloc != urlsplit(address).netloc or f"{to.path}/".startswith(f"{PREFIX}/"), (path, name)
