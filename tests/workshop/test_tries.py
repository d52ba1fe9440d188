"""The line of prompts that wait for the generator: each drawn once, one at a time, none that nobody asks for."""

from __future__ import annotations

import secrets
import threading

import pytest
from pupils import HttpRoom as Room

from livo.types import InputError
from livo.web.events import Refused
from livo.workshop.room import FEWEST
from livo.workshop.traps import Tried, read_prompt
from livo.workshop.tries import InLine, Tries

PATIENCE = 60


def reading(text):
    return read_prompt(text, school=True)


class Generator:
    """Draws when it is let, and remembers what it was asked."""

    def __init__(self):
        self.asked, self.let, self.begun = [], threading.Semaphore(0), threading.Semaphore(0)

    def __call__(self, one, done):
        self.asked.append(one.key)
        done(0.5)
        self.begun.release()
        assert self.let.acquire(timeout=PATIENCE)
        if one.key == "sad clown":
            raise InputError("this one is refused")
        return {"stable_diffusion": 12, "livo": 6}, 12


def until_drawn(tries, one):
    for _ in range(PATIENCE * 50):
        if found := tries.known(one):
            return found
        threading.Event().wait(0.02)
    raise AssertionError(one)


def test_known_prompts_are_answered_at_once_and_others_say_that_nothing_draws(pack):
    tries = Tries(pack.trap)
    assert isinstance(tries.ask(reading("a drawing of a doctor"), "me"), Tried)
    with pytest.raises(Refused, match="nothing draws new ones"):
        tries.ask(reading("a shy diver"), "me")


def test_each_new_prompt_is_drawn_once_for_all_and_in_order(pack):
    draw = Generator()
    tries = Tries(pack.trap, draw)
    first, second = reading("a shy diver"), reading("a brave miner")
    assert tries.ask(first, "one").before == 0
    assert draw.begun.acquire(timeout=PATIENCE)
    assert [tries.ask(first, "two").before, tries.ask(second, "three").before] == [0, 1]
    assert tries.ask(first, "two").done == 0.5 and tries.ask(first, "two").seconds < tries.ask(second, "three").seconds
    assert isinstance(tries.ask(second, "three"), InLine), "asking again keeps the place"
    draw.let.release(2)
    assert until_drawn(tries, first).trick == "loaded" and until_drawn(tries, second).counts["livo"] == 6
    assert draw.asked == ["shy diver", "brave miner"]
    assert isinstance(tries.ask(reading("diver shy"), "four"), InLine), "other words are another prompt"
    draw.let.release()


def test_another_prompt_gives_up_the_place_and_a_refusal_reaches_the_pupil(pack):
    draw = Generator()
    tries = Tries(pack.trap, draw)
    tries.ask(reading("a shy diver"), "one")
    assert draw.begun.acquire(timeout=PATIENCE)
    for text in ("a brave miner", "a sad clown"):
        assert tries.ask(reading(text), "two").before == 1, "one place each"
    draw.let.release(2)
    until_drawn(tries, reading("a shy diver"))
    for _ in range(PATIENCE * 50):
        try:
            assert isinstance(tries.ask(reading("a sad clown"), "two"), InLine)
        except Refused as refused:
            assert "this one is refused" in str(refused)
            break
        threading.Event().wait(0.02)
        draw.let.release()
    else:
        raise AssertionError("the refusal never came")
    assert "brave miner" not in draw.asked


def test_a_full_line_says_so(pack, monkeypatch):
    monkeypatch.setattr("livo.workshop.tries.MOST_WAITING", 1)
    draw = Generator()
    tries = Tries(pack.trap, draw)
    tries.ask(reading("a shy diver"), "one")
    with pytest.raises(Refused, match="waiting"):
        tries.ask(reading("a brave miner"), "two")
    draw.let.release()


# --- over HTTP -------------------------------------------------------------------------------------------------------


@pytest.fixture
def words():
    return [secrets.token_hex(16) for _ in range(FEWEST + 1)]


def at_the_game(client, **more):
    room = Room(client, "try-to-break-it", **more)
    for act in ("start", "close", "next", "next"):
        assert room.act(act).status_code == 200
    return room


def attempt(room, word, prompt):
    headers = {"authorization": f"Bearer {word}"}
    return room.client.post(f"{room.path}/tries", json={"prompt": prompt}, headers=headers)


def test_a_written_prompt_is_scored_and_counted_and_not_stored(client, words, workshop):
    room = at_the_game(client)
    found = attempt(room, words[0], "a portrait of a baker").json()
    assert found["prompt"] == "an image of a baker" and [s["title"] for s in found["scores"] if s["broken"]]
    for word in words:
        assert room.answer(word, "a portrait of a baker").status_code == 200
    assert room.answer(words[0], "a male doctor").status_code == 200
    tally = room.state().json()["tally"]
    assert tally["n"] == len(words) and tally["tried"][tally["tricks"].index("an even job")] == len(words)
    assert len(room.state(words[0]).json()["mine"]) == 2
    assert "portrait" not in repr(workshop.rooms.store.events())
    forged = {"trick": 0, "fell": [0, 1, 2, 3, 4, 5, 6]}
    assert room.answer(words[1], forged).status_code == 422, "what fell is the server's to say"


@pytest.mark.parametrize(("prompt", "status"), [
    ("my teacher Ms Miller", 422), ("a naked doctor", 422), ("a shy diver", 404), ("x" * 500, 422),
])  # fmt: skip
def test_what_cannot_be_tried_is_refused_in_words(client, words, prompt, status):
    room = at_the_game(client)
    replies = attempt(room, words[0], prompt), client.post("/api/tries", json={"prompt": prompt})
    assert [reply.status_code for reply in replies] == [status, status] and replies[0].json()["message"]
    assert room.answer(words[0], prompt).status_code in (409, 422)


def test_prompts_are_tried_only_where_they_are_asked_for_and_not_in_a_flood(client, words):
    room = Room(client)
    room.act("start")
    assert attempt(room, words[0], "doctor").json()["code"] == "closed"
    other = at_the_game(client)
    assert 429 in [attempt(other, words[1], "doctor").status_code for _ in range(60)]
    other.act("lock")
    assert attempt(other, words[2], "doctor").json()["code"] == "locked"
