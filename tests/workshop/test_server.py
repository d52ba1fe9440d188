"""The workshop over HTTP: receipts, refusals in words, rooms that never mix, nothing but lessons and the pack."""

from __future__ import annotations

import json
import re
import secrets

import pytest
from pupils import HttpRoom as Room
from starlette.testclient import TestClient

from livo.web.bodies import LARGEST_BODY
from livo.workshop.room import FEWEST
from livo.workshop.rooms import ANSWERS, MOST_ROOMS, Rooms
from livo.workshop.web.server import STATIC, Workshop, build_site


@pytest.fixture
def room(client):
    return Room(client)


@pytest.fixture
def words():
    return [secrets.token_hex(16) for _ in range(FEWEST + 1)]


def test_a_receipt_is_in_the_store_and_survives_a_new_server(room, words, tmp_path, workshop, lessons, pack):
    room.act("start")
    receipts = [room.answer(word, i).json() for i, word in enumerate(words)]
    room.act("close")
    before = room.host().json()
    again = Rooms(tmp_path / "rooms", lessons, pack)  # as after a kill: nothing was closed
    assert {e.key for e in again.store.events()} >= {r["key"] for r in receipts} and again.store.verify() == []
    other = Room.__new__(Room)
    other.__dict__ |= room.__dict__ | {"client": TestClient(build_site(Workshop(lessons, pack, again)))}
    after = other.host().json()
    assert after["tally"] == before["tally"] and after["place"] == before["place"] and after["tally"]["n"] == len(words)
    assert other.state(words[2]).json()["mine"] == 2
    again.close()


def test_the_same_key_twice_is_one_answer(room, words):
    room.act("start")
    first, second = (room.answer(words[0], 7, key="k" * 12).json() for _ in range(2))
    assert first == second and room.host().json()["answered"] == 1
    assert room.answer(words[0], 8, key="k" * 12).status_code == 409, "another answer under a used key"


def test_rooms_and_visitors_never_mix(client, words):
    one, other = Room(client), Room(client, "two-rulers")
    one.act("start"), other.act("start")
    one.answer(words[0], 11)
    assert one.state(words[0]).json()["mine"] == 11 and one.state(words[1]).json()["mine"] is None
    assert other.state(words[0]).json()["mine"] is None and other.host().json()["answered"] == 0
    assert client.get(f"{other.path}/host", headers={"authorization": f"Bearer {one.secret}"}).status_code == 401
    forged = {"key": "k" * 9, "act": "end", "at": 2}
    assert (
        client.post(f"{other.path}/acts", json=forged, headers={"authorization": f"Bearer {one.secret}"}).status_code
        == 401
    )
    assert words[0] not in json.dumps(one.host().json())


def test_what_is_stored_of_a_visitor_is_no_word_of_theirs(room, words, workshop):
    room.act("start")
    room.answer(words[0], 1)
    events = workshop.rooms.store.events()
    assert words[0] not in repr(events) and room.secret not in repr(events)
    assert {key for event in events for key in event.body} <= {
        "lesson",
        "school",
        "secret",
        "language",
        "act",
        "at",
        "place",
        "value",
    }


# --- limits ----------------------------------------------------------------------------------------------------------


def test_guessing_codes_stops_and_locks_no_class_out(client, room, words, workshop):
    assert room.state(words[0]).status_code == 200
    replies = [client.get(f"/api/rooms/{'CDFGHJ'[n % 6] * 6}").status_code for n in range(60)]
    assert replies.count(404) <= 32 and replies[-10:] == [429] * 10
    assert room.state(words[1]).status_code == 200, (
        "a class behind the same address goes on, and newcomers of its room too"
    )
    other = Room(TestClient(build_site(workshop), client=("10.0.0.9", 1)))
    assert client.get(f"/api/rooms/{other.code}").status_code == 429, "a right guess tells nothing either"


def test_one_device_does_not_fill_a_room_with_invented_people(room, words):
    room.act("start")
    statuses = [room.answer(secrets.token_hex(16), 1).status_code for _ in range(100)]
    # A place comes free every second or so, and a slow machine takes longer for the hundred.
    assert statuses[:60] == [200] * 60 and statuses[-20:].count(429) >= 10
    assert len(room.host().json()["steps"]) and room.host().json()["answered"] < 90


def test_a_class_behind_one_address_is_in_at_once_also_after_a_flood(room):
    room.act("start")
    pupils = [secrets.token_hex(16) for _ in range(30)]
    assert {room.answer(word, 1).status_code for word in pupils} == {200}
    flood = [room.answer(secrets.token_hex(16), 1).status_code for _ in range(60)]
    assert 429 in flood, "who invents people is held back, though the class was let in"
    room.act("lock")
    assert room.answer(secrets.token_hex(16), 1).json()["code"] == "locked"
    assert room.answer(pupils[0], 2).status_code == 200, "those who were in go on"
    room.act("remove")  # all came with this question
    assert room.host().json()["answered"] == 0
    room.act("unlock")
    others = [secrets.token_hex(16) for _ in range(30)]
    assert {room.answer(word, 1).status_code for word in others} == {200}, "the class comes in again, as fast as before"


def test_a_facilitators_secret_is_not_guessed(client, room):
    replies = [client.get(f"{room.path}/host", headers={"authorization": f"Bearer {n}"}).status_code for n in range(60)]
    assert replies[0] == 401 and room.host().status_code == 200
    assert client.get("/api/rooms/CCCCCC").status_code == 429, "wrong secrets count as wrong codes"


# --- news ------------------------------------------------------------------------------------------------------------


def test_news_are_asked_for_cheaply(room, words):
    mark = room.state(words[0]).headers["etag"]
    assert room.state(words[0], mark).status_code == 304 and room.state(words[0], mark).content == b""
    room.act("start")
    response = room.state(words[0], mark)
    assert response.status_code == 200 and response.headers["etag"] != mark
    mark = response.headers["etag"]
    room.answer(words[1], 3)
    assert room.state(words[0], mark).status_code == 304, "others' answers are no news for a student"
    room.answer(words[0], 3)
    assert room.state(words[0], mark).status_code == 200
    host = room.host().headers["etag"]
    assert room.host(**{"if-none-match": host}).status_code == 304
    room.answer(words[2], 3)
    assert room.host(**{"if-none-match": host}).json()["answered"] == 3


def test_who_is_here_is_counted_and_not_stored(room, words, workshop):
    for word in words:
        room.state(word)
        room.state(word)
    assert room.host().json()["here"] == len(words) and len(workshop.rooms.store.events()) == 1


# --- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", ["CCCCCC", "XXXXXX", "ABCDEF", "12345", "x" * 3000, "%00%00", "..%2f..", "<b>"])
def test_an_unknown_code_says_what_to_do(client, code):
    reply = client.get(f"/api/rooms/{code}")
    assert reply.status_code == 404 and ("check" in reply.text or reply.text == "Not Found")
    assert "<b>" not in reply.text


@pytest.mark.parametrize("word", ["", "short", "g" * 32, "A" * 32, "0" * 31, "0" * 33, "é" * 32])
def test_a_visitor_without_a_random_word_cannot_answer(room, word):
    room.act("start")
    body = {"key": "k" * 9, "place": [1, 0, 0], "value": 1}
    reply = room.client.post(f"{room.path}/answers", json=body, headers={"authorization": f"Bearer {word}".encode()})
    assert reply.status_code == 401 and "open the room" in reply.json()["message"]


@pytest.mark.parametrize("body", [
    b"", b"[]", b"null", b"{", b"[" * 1500, b'{"key": "kkkkkkkkk"}',
    b'{"key": "kkkkkkkkk", "place": [1, 0], "value": 1}',
    b'{"key": "kkkkkkkkk", "place": [1, 0, -1], "value": 1}',
    b'{"key": "kkkkkkkkk", "place": [1, 0, true], "value": 1}',
    b'{"key": "k", "place": [1, 0, 0], "value": 1}',
    b'{"key": "kkkkkkkkk", "place": [1, 0, 0], "value": 1, "name": "Ada"}',
    b'{"key": "kkkkkkkkk", "place": [1, 0, 0], "value": "<script>"}',
    b'{"key": "kkkkkkkkk", "place": [1, 0, 0], "value": 1e999}',
    b'{"key": {"a": 1}, "place": [1, 0, 0], "value": 1}', b'{"key": "kkkk\\u0000kkkk", "place": [1, 0, 0], "value": 1}',
])  # fmt: skip
def test_malformed_and_forged_answers_are_refused_and_stored_nowhere(room, words, workshop, body):
    room.act("start")
    before = len(workshop.rooms.store.events())
    headers = {"authorization": f"Bearer {words[0]}", "content-type": "application/json"}
    reply = room.client.post(f"{room.path}/answers", content=body, headers=headers)
    assert reply.status_code == 422 and reply.json()["message"] and len(workshop.rooms.store.events()) == before


def test_oversized_bodies_and_forms_of_other_sites_are_refused(room, words):
    room.act("start")
    headers = {"authorization": f"Bearer {words[0]}", "content-type": "application/json"}
    assert (
        room.client.post(f"{room.path}/answers", content=b"x" * (LARGEST_BODY + 1), headers=headers).status_code == 413
    )
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        assert room.client.post("/api/rooms", content=b"{}", headers={"content-type": kind}).status_code == 415


def test_a_closed_question_and_an_ended_room_say_so(room, words):
    room.act("start"), room.act("close")
    assert room.answer(words[0], 1).json()["code"] == "closed"
    room.act("end")
    reply = room.answer(words[0], 1)
    assert reply.status_code == 410 and "over" in reply.json()["message"]
    assert room.state(words[0]).json()["phase"] == "ended" and room.act("start").status_code == 410


def test_a_double_press_is_one_act(room):
    payload = room.host().json()
    body, headers = {"act": "start", "at": payload["changes"]}, {"authorization": f"Bearer {room.secret}"}
    first, second = (
        room.client.post(f"{room.path}/acts", json={"key": f"key-{i}-aaaa", **body}, headers=headers) for i in (1, 2)
    )
    assert first.status_code == 200 and second.status_code == 409 and room.host().json()["index"] == 0


def test_one_person_cannot_flood_a_room(room, words):
    room.act("start")
    replies = [room.answer(words[0], i % 50).status_code for i in range(int(ANSWERS[0]) + 8)]
    assert 429 in replies and replies.count(200) >= ANSWERS[0]
    assert room.answer(words[1], 1).status_code == 200, "others are not held back"


def test_rooms_are_limited(client, workshop, monkeypatch):
    replies = [client.post("/api/rooms", json={"lesson": "two-rulers"}) for _ in range(14)]
    assert [r.status_code for r in replies].count(429) >= 3 and "wait" in replies[-1].json()["message"]
    monkeypatch.setattr("livo.workshop.rooms.MOST_ROOMS", 1)
    reply = client.post("/api/rooms", json={"lesson": "two-rulers"})
    assert reply.status_code == 503 and "as many rooms as it can hold" in reply.json()["message"] and MOST_ROOMS >= 100


@pytest.mark.parametrize("payload", [{}, {"lesson": "none"}, {"lesson": 3}, {"lesson": "two-rulers", "school": "no"}])
def test_a_room_for_nothing_is_refused(client, payload):
    assert client.post("/api/rooms", json=payload).status_code == 422


# --- what is served --------------------------------------------------------------------------------------------------


def test_school_mode_is_what_a_room_has_unless_it_is_switched_off(client):
    assert Room(client).host().json()["school"] is True and Room(client, school=False).host().json()["school"] is False


def test_nothing_but_pages_lessons_and_the_pack_is_served(client, pack):
    for name in (
        "pack.json",
        "pack.yaml",
        "two-rulers.md",
        "..%2fresults%2fmain%2ftoxicity-1.webp",
        "%2e%2e/examples/2.webp",
        "toxicity-1.webp",
    ):
        assert client.get(f"/pictures/{name}").status_code == 404, name
    for name in ("server.py", "..%2fserver.py", "none.js"):
        assert client.get(f"/static/{name}").status_code == 404, name
    for sheet in pack.sheets:
        assert client.get(f"/pictures/{sheet}").headers["content-type"] == "image/webp"
    for name in STATIC:
        assert client.get(f"/static/{name}").status_code == 200, name


def test_pages_have_one_strict_policy_and_hold_nothing_inline_nor_anything_from_afar(client, lessons):
    room = Room(client)
    pages = [
        "/",
        f"/lesson/{lessons[0].id}",
        f"/room/{room.code}",
        f"/room/{room.code}/screen",
        f"/room/{room.code}/host",
    ]
    pages += [f"/print/{lesson.id}/{what}" for lesson in lessons for what in ("guide", "worksheet", "key")]
    for path in [*pages, *(f"/static/{name}" for name in STATIC)]:
        reply = client.get(path)
        assert reply.status_code == 200 and "'unsafe" not in reply.headers["content-security-policy"], path
        assert (
            "default-src 'self'" in reply.headers["content-security-policy"]
            and reply.headers["referrer-policy"] == "no-referrer"
        )
        assert not re.search(
            r"""(?:src|href)=["'](?:https?:)?//|@import "(?!\w+\.css";)|url\(["']?http""", reply.text
        ), path
        if not path.startswith("/static"):
            assert not re.search(r"<script(?![^>]*src=)|<style|\son\w+=|\sstyle=", reply.text), path


def test_solo_lessons_are_in_school_mode(client, lessons):
    for lesson in lessons:
        payload = client.get(f"/api/lessons/{lesson.id}").json()
        assert len(payload["steps"]) == len(lesson.for_room(True).steps)
    assert client.get("/api/lessons/none").status_code == 404
    assert [one["id"] for one in client.get("/api/lessons").json()["lessons"]] == [lesson.id for lesson in lessons]


def test_the_summary_and_the_code_of_a_room(room, words):
    room.act("start")
    for i, word in enumerate(words):
        room.answer(word, i)
    room.act("close")
    reply = room.host("/summary.csv")
    assert reply.headers["content-type"].startswith("text/csv") and f"median,2.5,{len(words)}" in reply.text
    assert room.client.get(f"{room.path}/summary.csv").status_code == 401
    assert room.client.get(f"{room.path}/qr.svg").text.count("<svg") == 1
    assert room.state().json()["join"].endswith(f"/room/{room.code}")
