"""A whole lesson with pupils and a facilitator, and the page of counts that the class takes home."""

from __future__ import annotations

import re
import secrets
import urllib.request

import pytest
from students import Facilitator, Server, ask, free_port

from livo.workshop.lesson import load_lessons
from livo.workshop.pack import load_pack

pytestmark = pytest.mark.browser
WRITTEN = ["a photo of a doctor", "nurse", "a portrait of a baker", "a picture of an elegant person",
    "a drawing of a male pilot", "an image of a violinist", "a tired person"]  # fmt: skip
"""One prompt a pupil: together they break every method of the stored results."""


@pytest.fixture(scope="module")
def lesson_and_recap(tmp_path_factory):
    """The facilitator after a whole *Try to break it*, the pupils' words, and the recap's file."""
    folder = tmp_path_factory.mktemp("recap")
    server = Server(folder / "rooms", free_port())
    try:
        server.wait()
        room = Facilitator(server.base, "try-to-break-it")
        words = [secrets.token_hex(16) for _ in WRITTEN]
        room.act("start")
        while True:
            state = room.state
            asked = state["step"]["ask"]
            if asked:
                for n, (word, text) in enumerate(zip(words, WRITTEN, strict=True)):
                    value = text if asked["kind"] == "prompt" else n % 3
                    body = {"key": secrets.token_hex(8), "place": state["place"], "value": value}
                    ask(server.base, f"rooms/{room.code}/answers", body, word)
                room.act("close")
            if state["index"] + 1 == len(state["steps"]):
                break
            room.act("next")
        address = f"{server.base}/api/rooms/{room.code}/recap.html"
        request = urllib.request.Request(address, headers={"authorization": f"Bearer {room.secret}"})
        path = folder / "recap.html"
        path.write_bytes(urllib.request.urlopen(request, timeout=30).read())
        yield room, words, path
    finally:
        server.kill()


def test_the_recap_of_a_real_lesson_opens_without_a_network(browser, lesson_and_recap):
    _, _, path = lesson_and_recap
    context = browser.new_context(offline=True)
    page, asked = context.new_page(), []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(path.as_uri())
    assert asked == [path.as_uri()], "one file that needs nothing else"
    lesson = next(one for one in load_lessons() if one.id == "try-to-break-it")
    questions = [step.ask.question for step in lesson.for_room(True).steps if step.ask]
    assert [one.inner_text() for one in page.locator("h2").all()] == questions
    assert page.locator("h1").inner_text().endswith(lesson.title)


def test_the_recap_counts_what_each_method_fell_to_and_holds_nothing_of_a_pupil(lesson_and_recap):
    room, words, path = lesson_and_recap
    html = path.read_text(encoding="utf-8")
    for secret in (*words, room.secret, room.code, *(text for text in WRITTEN if len(text) > 8)):
        assert secret not in html
    methods = [one["title"] for one in load_pack().trap["methods"]]
    rows = dict(re.findall(r'<tr><th scope="row">([^<]+)</th>(.*?)</tr>', html, re.DOTALL))
    assert list(rows) == methods
    for title, row in rows.items():
        counts = re.findall(r">(\d+) of (\d+)<", row)
        assert sum(int(fell) for fell, _ in counts) >= 1, f"{title} falls to a prompt in its reach"
        assert sum(int(of) for _, of in counts) == len(WRITTEN)
