"""One reader for all bodies: what is no JSON of the stated form is refused in words, never with a 500."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from livo.web.bodies import Body, read_body
from livo.web.guard import guarded


class Sent(Body):
    key: str
    at: int = 0
    value: Any = None


async def take(request: Request) -> Response:
    return JSONResponse((await read_body(request, Sent, 8_192)).model_dump())


CLIENT = TestClient(Starlette(routes=[Route("/", guarded(take), methods=["POST"])]), raise_server_exceptions=False)


def send(raw: bytes, kind: str = "application/json") -> tuple[int, str]:
    reply = CLIENT.post("/", content=raw, headers={"content-type": kind})
    return reply.status_code, reply.json().get("message", "")


def test_what_has_the_form_is_read() -> None:
    assert send(b'{"key": "k", "value": [1, {"a": null}]}') == (200, "")
    assert send(b'{"key": "k"}', "application/json; charset=utf-8")[0] == 200


@pytest.mark.parametrize(("raw", "says"), [
    (b"", "JSON"), (b"{", "JSON"), (b"[]", "body"), (b"\xff\xfe", "JSON"), (b"[" * 2_000, "JSON"), (b"{}", "key"),
    (b'{"key": "k", "value": ' + b"[" * 2_000 + b"]" * 2_000 + b"}", "recursion"), (b'{"key": 5}', "key"),
    (b'{"key": "k", "at": "1"}', "at"), (b'{"key": "k", "at": true}', "at"), (b'{"key": "k", "more": 1}', "more"),
    (b'{"key": "k", "at": ' + b"9" * 400 + b"}", "at"), (b'{"key": "k", "value": ' + b"9" * 400 + b"}", "value"),
    (b'{"key": "\\ud800"}', "JSON"), (b'{"key": "a\\u0000"}', "key"),
    (b'{"key": "k", "value": {"\\u0000": 1}}', "value"),
    (b'{"key": "k", "value": NaN}', ""), (b'{"key": "k", "value": 1e999}', ""),
    (b'{"key": "k", "value": -Infinity}', ""),
    (b'{"key": "k", "value": [[[[[[[[1]]]]]]]]}', "value"),
])  # fmt: skip
def test_what_has_not_is_refused_with_the_fields_name(raw: bytes, says: str) -> None:
    status, message = send(raw)
    assert status == 422 and says in message, (status, message)
    assert "Traceback" not in message and "pydantic" not in message


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_what_other_sites_forms_can_send_is_refused(kind: str) -> None:
    assert send(b'{"key": "k"}', kind)[0] == 415


def test_what_is_too_large_is_refused() -> None:
    assert send(b'{"key": "' + b"k" * 9_000 + b'"}')[0] == 413
