"""Answers that are the same for everybody are made once, and nobody can put something else in their place."""

from __future__ import annotations

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from livo.web import kept
from livo.web.kept import KeptPages


@pytest.fixture
def made() -> list[str]:
    """What the application was asked for."""
    return []


@pytest.fixture
def client(made: list[str]) -> TestClient:
    async def tell(request: Request) -> Response:
        made.append(str(request.url))
        seen = {name: request.headers.get(name, "") for name in ("x-evil", "cookie", "range", "accept-encoding")}
        reply = PlainTextResponse(f"{request.url} {seen}", 404 if request.url.path == "/none" else 200)
        if request.url.path == "/own":
            reply.set_cookie("who", "you")
        return reply

    routes = [Route(path, tell, methods=["GET", "POST"]) for path in ("/", "/own", "/none", "/other")]
    return TestClient(KeptPages(Starlette(routes=routes), ("/", "/own", "/none")))


def test_an_answer_is_made_once_whatever_the_query(client: TestClient, made: list[str]) -> None:
    first = client.get("/", headers={"accept-encoding": "gzip, br"})
    assert [client.get(f"/?{n}", headers={"accept-encoding": "br"}).text for n in range(3)] == [first.text] * 3
    assert made == ["http://testserver/"] and "'accept-encoding': 'br'" in first.text
    client.get("/", headers={"host": "other"})
    client.get("/", headers={"accept-encoding": ""})
    assert len(made) == 3


def test_names_without_number_cost_no_answers_without_number(client: TestClient, made: list[str]) -> None:
    kept_page = client.get("/").text
    ports = [client.get("/", headers={"host": f"testserver:{port}"}).status_code for port in range(1, 101)]
    assert ports.count(200) == len(made) - 1 < 40 and set(ports) == {200, 429}
    assert client.get("/").text == kept_page


def test_what_one_visitor_sends_is_in_nobodys_answer(client: TestClient) -> None:
    client.get("/", headers={"x-evil": "1", "cookie": "mine", "range": "bytes=0-1"})
    assert "'x-evil': '', 'cookie': '', 'range': ''" in client.get("/").text


def test_other_answers_are_not_kept(client: TestClient, made: list[str]) -> None:
    for ask in (client.get, client.post):
        for path in ("/own", "/none", "/other") if ask == client.get else ("/",):
            before = len(made)
            ask(path)
            ask(path)
            assert len(made) == before + 2, path


def test_the_longest_unused_is_forgotten(client: TestClient, made: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "MOST", 2)
    for host in ("a", "b", "a", "c", "a"):
        client.get("/", headers={"host": host})
    assert len(made) == 3
    client.get("/", headers={"host": "b"})
    assert len(made) == 4
