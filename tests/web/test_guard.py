"""Which names and sites may speak to a server, how large and slow a request may be, and how often somebody may ask."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from loops import finish
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.testclient import TestClient

from livo.types import InputError
from livo.web import guard
from livo.web.guard import Buckets, Guard, Reach, asker, guarded
from livo.web.serve import reach_of


async def echo(request: Request) -> Response:
    misled, size = request.headers.get("x-gradio-server", ""), len(await request.body())
    proto = ",".join(request.headers.getlist("x-forwarded-proto"))
    return JSONResponse(
        {"url": str(request.url), "bytes": size, "asker": asker(request), "misled": misled, "proto": proto}
    )


def client(reach: Reach, **more: Any) -> TestClient:
    inner = Starlette(routes=[Mount("/study", routes=[Route("/x", echo, methods=["GET", "POST"])])])
    return TestClient(Guard(inner, reach, **more), base_url="http://127.0.0.1")


LAN = Reach(frozenset({"192.168.1.7", "class.example"}))


@pytest.mark.parametrize(("host", "status"), [
    ("127.0.0.1:7860", 200), ("localhost", 200), ("[::1]:7860", 200), ("192.168.1.7:7860", 200), ("class.example", 200),
    ("CLASS.example", 200), ("evil.example", 421), ("evil.example:7860", 421), ("192.168.1.8", 421), ("", 421),
    ("127.0.0.1.evil.example", 421), ("class.example@evil.example", 421), ("[::1", 421),
    ("evil.example\\@localhost", 421), ("localhost/evil", 421), ("localhost:999999", 421), ("localhost#evil", 421),
])  # fmt: skip
def test_a_foreign_name_is_no_name_of_this_server(host: str, status: int) -> None:
    """A name that an attacker binds to this machine's address (DNS rebinding) is refused."""
    assert client(LAN).get("/study/x", headers={"host": host}).status_code == status


def test_a_forwarded_name_counts_only_where_it_is_known() -> None:
    reply = client(LAN).get("/study/x", headers={"x-forwarded-host": "class.example:8443"})
    assert reply.json()["url"] == "http://class.example:8443/study/x"
    assert client(LAN).get("/study/x", headers={"x-forwarded-host": "evil.example"}).status_code == 421
    assert client(LAN).get("/study/x", headers={"x-forwarded-host": "class.example, evil.example"}).status_code == 421


def test_nobody_tells_gradio_that_the_server_is_another() -> None:
    assert client(Reach()).get("/study/x", headers={"x-gradio-server": "http://evil.example"}).json()["misled"] == ""


def test_no_page_writes_another_protocol_into_its_links() -> None:
    def proto(**headers: str) -> str:
        return client(Reach()).get("/study/x", headers=headers).json()["proto"]

    assert [proto(**{"x-forwarded-proto": told}) for told in ("https", "http, https", "javascript", '"><script>')] == [
        "https", "http", "http", "http"
    ]  # fmt: skip
    assert proto() == "http"


def test_numeric_addresses_are_known_where_the_server_listens_everywhere() -> None:
    for host, status in (("10.0.0.5:80", 200), ("[fe80::1]", 200), ("evil.example", 421)):
        assert client(Reach(literals=True)).get("/study/x", headers={"host": host}).status_code == status


@pytest.mark.parametrize(("headers", "status"), [
    ({}, 200), ({"origin": "http://127.0.0.1"}, 200), ({"sec-fetch-site": "same-origin"}, 200),
    ({"sec-fetch-site": "none"}, 200), ({"origin": "http://evil.example"}, 403), ({"origin": "null"}, 403),
    ({"origin": "http://127.0.0.1:9"}, 403), ({"sec-fetch-site": "cross-site"}, 403),
    ({"sec-fetch-site": "same-site"}, 403),
])  # fmt: skip
def test_another_sites_page_changes_nothing_here(headers: dict[str, str], status: int) -> None:
    there = client(LAN)
    assert there.post("/study/x", headers=headers).status_code == status
    assert there.get("/study/x", headers=headers).status_code == 200, "reading is what links do"


def test_the_public_address_is_an_origin_of_this_server() -> None:
    reach = Reach(frozenset({"example.org"}), base="https://example.org/livo")
    assert client(reach).post("/study/x", headers={"origin": "https://example.org"}).status_code == 200


def test_large_and_slow_bodies_end_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "LARGEST_REQUEST", 1_000)
    assert client(LAN).post("/study/x", content=b"x" * 1_000).json()["bytes"] == 1_000
    assert client(LAN).post("/study/x", content=b"x" * 1_001).status_code == 413
    assert client(LAN).post("/study/x", content=iter([b"x" * 600] * 3)).status_code == 413, (
        "without a length, in chunks"
    )
    assert client(LAN).post("/study/x", headers={"content-length": "-5"}).status_code == 413


def test_a_body_that_never_comes_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "BODY_SECONDS", 0.2)
    sent: list[dict[str, Any]] = []

    async def receive() -> Any:
        await asyncio.sleep(60)

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": "POST", "path": "/study/x", "headers": [(b"host", b"localhost")], "query_string": b"",
        "scheme": "http", "server": ("localhost", 80), "client": ("127.0.0.1", 5), "http_version": "1.1",
    }  # fmt: skip
    app = Guard(Starlette(routes=[Mount("/study", routes=[Route("/x", echo, methods=["POST"])])]), LAN)
    finish(asyncio.wait_for(app(scope, receive, send), 5))
    assert sent[0]["status"] == 408


def test_refused_paths_say_why_with_and_without_the_prefix() -> None:
    there = client(Reach(root_path="/livo"), refused={"/gradio_api/upload": "this page takes no files"})
    for path in ("/gradio_api/upload", "/livo/gradio_api/upload", "/livo/gradio_api/upload/x"):
        reply = there.post(path)
        assert reply.status_code == 403 and reply.json()["message"] == "this page takes no files"


def test_an_address_that_asks_for_work_too_often_is_told_so() -> None:
    one = client(LAN, rates={"/echo": Buckets(2, 0.001)})
    assert [one.post("/echo").status_code for _ in range(3)][2] == 429
    assert one.get("/echo").status_code != 429 and "too often" in one.post("/echo").json()["message"]


def test_refusals_in_a_loop_come_late_and_answers_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    slept = list[float]()

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(guard, "REFUSALS", (2, 0.0))
    asked = client(Reach())
    monkeypatch.setattr(asyncio, "sleep", sleep)
    assert [asked.get(path).status_code for path in ("/none", "/none", "/study/x")] == [404, 404, 200] and not slept
    for path, host, status in (
        ("/none", "localhost", 404), ("/study/x", "evil.example", 421), ("/study/x", "localhost", 200)
    ):  # fmt: skip
        assert asked.get(path, headers={"host": host}).status_code == status
    assert slept == [guard.SLOWED] * 2
    monkeypatch.setattr(guard, "MOST_SLOWED", 0)
    assert asked.get("/none").status_code == 404 and len(slept) == 2, "no more wait than so many"


def test_a_prefix_is_there_whether_the_proxy_cut_it_or_not() -> None:
    there = client(Reach(root_path="/livo"))
    for path in ("/study/x", "/livo/study/x"):
        assert there.get(path).json()["url"] == "http://127.0.0.1/livo/study/x"
    assert there.get("/livoness/study/x").status_code == 404
    assert there.get("/livo", follow_redirects=False).headers["location"] == "livo/"


def test_every_answer_says_who_may_frame_it_and_that_its_type_is_meant() -> None:
    there = client(Reach(framed_by=("https://huggingface.co",)))
    for reply in (
        there.get("/study/x"),
        there.get("/nowhere"),
        there.get("/study/x", headers={"host": "evil.example"}),
    ):
        assert "frame-ancestors 'self' https://huggingface.co" in reply.headers["content-security-policy"]
        assert reply.headers["x-content-type-options"] == "nosniff"
    assert "frame-ancestors 'self'" in client(LAN).get("/study/x").headers["content-security-policy"]


def test_errors_are_words_and_nothing_of_the_inside() -> None:
    def fails(request: Request) -> Response:
        raise InputError("this file is no picture: give a PNG")

    app = Starlette(routes=[Route("/", guarded(fails))])
    reply = TestClient(app).get("/")
    assert (reply.status_code, reply.json()["message"]) == (422, "this file is no picture: give a PNG")


# --- names from a command line ---------------------------------------------------------------------------------------


def test_names_come_from_the_command_line_and_the_space() -> None:
    nothing: dict[str, str] = {}
    own = reach_of("127.0.0.1", environment=nothing)
    assert own.knows("localhost:7860") and not own.knows("192.168.1.7") and not own.literals
    public = reach_of("127.0.0.1", base_url="https://example.org/livo/", environment=nothing)
    assert (public.base, public.root_path) == ("https://example.org/livo", "/livo") and public.knows("example.org")
    assert reach_of("127.0.0.1", base_url="https://example.org", root_path="/livo", environment=nothing).base.endswith(
        "/livo"
    )
    everywhere = reach_of("0.0.0.0", environment=nothing)
    assert everywhere.knows("10.1.2.3") and not everywhere.knows("evil.example")
    space = reach_of("0.0.0.0", environment={"SPACE_ID": "a/b", "SPACE_HOST": "a-b.hf.space"})
    assert space.knows("x.hf.space") and not space.knows("hf.space.evil.example") and not space.knows("evilhf.space")
    assert space.knows("a-b.hf.space") and space.framed_by == ("https://huggingface.co",)


@pytest.mark.parametrize(("given", "says"), [
    ({"base_url": "example.org"}, "no address"), ({"base_url": "ftp://example.org"}, "no address"),
    ({"base_url": "https://example.org/?a=b"}, "no address"), ({"root_path": "livo"}, "no path"),
    ({"root_path": "//evil.example"}, "no path"), ({"base_url": "https://e.org/a", "root_path": "/b"}, "one of them"),
])  # fmt: skip
def test_what_is_no_address_is_said_so(given: dict[str, str], says: str) -> None:
    with pytest.raises(InputError, match=says):
        reach_of("127.0.0.1", environment={}, **given)


# --- how often -------------------------------------------------------------------------------------------------------


def test_a_bucket_fills_again_and_forgets_the_longest_unused(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1_000.0]
    monkeypatch.setattr(guard.time, "monotonic", lambda: clock[0])
    bucket = Buckets(2, 0.5, most=3)
    assert [bucket.take("a") for _ in range(3)] == [True, True, False]
    clock[0] += 2
    assert [bucket.take("a") for _ in range(2)] == [True, False]
    for name in "bcde":
        bucket.take(name)
    assert len(bucket._left) == 3


def test_one_household_is_one_asker() -> None:
    def of(host: str) -> str:
        return asker(Request({"type": "http", "client": (host, 1), "headers": []}))

    assert of("10.0.0.5") == "10.0.0.5" and of("10.0.0.5") != of("10.0.0.6")
    assert of("2001:db8::1") == of("2001:db8::ffff:2") != of("2001:db8:1::1")


def test_websockets_are_closed() -> None:
    app = Guard(PlainTextResponse("x"), LAN)
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    finish(app({"type": "websocket"}, None, send))
    assert sent == [{"type": "websocket.close", "code": 1008}]
