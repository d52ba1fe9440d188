"""The line of prompts that wait for the generator: each drawn once, one at a time, none that nobody asks for."""

from __future__ import annotations

import threading

import pytest

from livo.types import InputError
from livo.web.events import Refused
from livo.workshop.traps import Tried, read_prompt
from livo.workshop.tries import Tries, Waiting

PATIENCE = 60


def reading(text):
    return read_prompt(text, school=True)


class Generator:
    """Draws when it is let, and remembers what it was asked."""

    def __init__(self):
        self.asked, self.let, self.begun = [], threading.Semaphore(0), threading.Semaphore(0)

    def __call__(self, one):
        self.asked.append(one.key)
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
    assert isinstance(tries.ask(second, "three"), Waiting), "asking again keeps the place"
    draw.let.release(2)
    assert until_drawn(tries, first).trick == "loaded" and until_drawn(tries, second).counts["livo"] == 6
    assert draw.asked == ["shy diver", "brave miner"]
    assert isinstance(tries.ask(reading("diver shy"), "four"), Waiting), "other words are another prompt"
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
            assert isinstance(tries.ask(reading("a sad clown"), "two"), Waiting)
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
