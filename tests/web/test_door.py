"""The door before the demo: where the bare address leads, and who may go in."""

from __future__ import annotations

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from livo.web.door import Door

KEY = "k" * 24


def visit(host: str = "192.168.1.30", key: str = KEY, **more) -> TestClient:
    app = Starlette(routes=[Route("/{rest:path}", lambda request: PlainTextResponse("in"))])
    return TestClient(
        Door(app, ("/workshop/",), "/workshop/join", key), client=(host, 5), follow_redirects=False, **more
    )


def test_the_bare_address_leads_a_pupil_to_join_and_nowhere_else():
    pupil = visit()
    assert pupil.get("/").headers["location"] == "/workshop/join"
    assert pupil.get("/workshop/room/CCCCCC").text == "in"
    for path in ("/config", "/gradio_api/call/x", "/workshopx", "/?host=wrong"):
        assert pupil.get(path).status_code in (403, 307), path
    assert pupil.get("/config").status_code == 403


def test_the_hosts_link_opens_the_demo_and_stays_open():
    host = visit()
    assert host.get(f"/?host={KEY}").headers["location"] == "/"
    assert host.get("/").text == "in" and host.get("/config").text == "in"


@pytest.mark.parametrize("link", ["/?host=", f"/?host={KEY}"])
def test_without_a_key_nobody_of_the_network_comes_in(link):
    pupil = visit(key="")
    assert pupil.get(link).headers["location"] == "/workshop/join"
    assert pupil.get("/", headers={"cookie": "livo-host="}).status_code == 307


def test_this_machine_goes_anywhere_and_a_proxy_on_it_does_not():
    assert visit("127.0.0.1").get("/config").text == "in"
    assert visit("127.0.0.1").get("/config", headers={"x-forwarded-for": "10.0.0.9"}).status_code == 403


def test_behind_a_prefix_its_cookie_is_for_the_prefix_alone():
    host = visit(root_path="/livo")
    answer = host.get(f"/livo/?host={KEY}")
    cookie = answer.headers["set-cookie"].lower()
    assert answer.headers["location"] == "/livo/"
    assert "path=/livo/;" in cookie and "httponly" in cookie and "samesite=lax" in cookie
    assert visit(root_path="/livo").get("/livo/").headers["location"] == "/livo/workshop/join"
