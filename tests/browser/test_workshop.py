"""The workshop in a real browser, against a real server: a student's phone, a desk, kills, axe; keys alone."""

from __future__ import annotations

import json
import os
import random
import re
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect
from slides import states
from students import ROOT, Facilitator, Server, ask, free_port, value_for

from livo.measures.bootstrap import corrected_shares
from livo.measures.metrics import discrepancy_l2, discrepancy_range, wilson_interval
from livo.workshop.lesson import WIDGETS, load_lessons
from livo.workshop.pack import load_pack
from livo.workshop.printing import paper_html
from livo.workshop.translations import load_translations

pytestmark = pytest.mark.browser
PATIENCE = 90_000
"""Milliseconds: CI machines are slow, and may be training beside."""
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
LESSONS = {lesson.id: lesson.for_room(True) for lesson in load_lessons()}


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("workshop") / "rooms", free_port())
    try:
        server.wait()
        yield server
    finally:
        server.kill()


def visit(browser: Browser, address: str, **context) -> Page:
    page = browser.new_context(reduced_motion="reduce", **context).new_page()  # axe must not meet a colour on its way
    page.set_default_timeout(PATIENCE)
    page.errors, page.asked = [], []
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.on("console", lambda message: page.errors.append(message.text) if "Content Security" in message.text else None)
    page.on("request", lambda request: page.asked.append(request.url))
    page.goto(address)
    return page


def tab_to(page: Page, wanted, most: int = 80) -> None:
    """Moves the focus by the tab key alone."""
    for _ in range(most):
        if wanted.evaluate("node => node === document.activeElement"):
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"the tab key does not reach {wanted}")


def answer_by_keys(page: Page) -> None:
    """Answers whatever is asked; no pointer."""
    groups = page.locator(".ask .segments, .ask .options")
    if page.locator(".ask .try").count():
        tab_to(page, page.locator(".ask .try input"), 60)
        page.keyboard.type("a photo of a doctor")
        page.keyboard.press("Enter")
        expect(page.locator(".ask .fallen li")).to_have_count(7)
        return
    if page.locator(".ask input[type=range]").count():
        tab_to(page, page.locator(".ask input[type=range]"))
        page.keyboard.press("ArrowRight")
        return
    for i in range(groups.count()):
        tab_to(page, groups.nth(i).locator("input").first, 60)
        page.keyboard.press("Space")
        if i % 2:
            page.keyboard.press("ArrowDown")


def serious(page: Page) -> list[str]:
    found = Axe().run(page).response["violations"]
    return [
        f"{v['id']}: {[n['html'][:160] for n in v['nodes'][:3]]}"
        for v in found
        if v["impact"] in ("serious", "critical")
    ]


def classmates(base: str, code: str, n: int) -> list[str]:
    """Answers of others to what is open."""
    words = [secrets.token_hex(16) for _ in range(n)]
    state, rng = ask(base, f"rooms/{code}"), random.Random(0)
    for word in words:
        ask(
            base,
            f"rooms/{code}/answers",
            {"key": secrets.token_hex(8), "place": state["place"], "value": value_for(state["step"]["ask"], rng)},
            word,
        )
    return words


# --- whole lessons ---------------------------------------------------------------------------------------------------


def test_a_whole_lesson_with_a_class_by_keys_alone_on_a_phone_and_at_the_desk(browser, server):
    desk = visit(browser, f"{server.base}/")
    tab_to(desk, desk.get_by_role("button", name="Open a room: The classifier is a model too"))
    desk.keyboard.press("Enter")
    tab_to(desk, desk.get_by_role("button", name="Open the room"))
    desk.keyboard.press("Enter")
    expect(desk.locator("#next")).to_be_focused()
    code = desk.url.split("/room/")[1].split("/")[0]

    phone = visit(browser, f"{server.base}/room/{code.lower()}", **PHONE)
    screen = visit(browser, f"{server.base}/room/{code}/screen", viewport={"width": 1600, "height": 900})
    expect(phone.get_by_role("heading", name=f"Room {code}")).to_be_visible()
    expect(screen.locator(".big-code")).to_have_text(f"{code[:3]} {code[3:]}")
    expect(desk.locator(".answered")).to_have_text("1 device here")

    steps = LESSONS["the-classifier-is-a-model-too"].steps
    desk.keyboard.press("n")
    for number, step in enumerate(steps, 1):
        for page in (phone, desk):
            expect(page.locator(".step .eyebrow")).to_contain_text(f"step {number} of {len(steps)}")
        expect(screen.locator(".slide .eyebrow")).to_contain_text(f"{number} / {len(steps)}")
        assert phone.evaluate("document.documentElement.scrollWidth <= innerWidth"), (
            f"{step.title} is wider than a phone"
        )
        if step.ask:
            assert not phone.locator(".tally, .because").count() and not desk.locator(".tally, .because").count()
            answer_by_keys(phone)
            tab_to(phone, phone.get_by_role("button", name="Send"))
            phone.keyboard.press("Enter")
            expect(phone.locator("#receipt")).to_contain_text("Saved")
            if number < 4:
                classmates(server.base, code, 4)
                expect(desk.locator(".answered")).to_have_text("5 of 5 answered")
            desk.keyboard.press("n")
            for page in (phone, screen, desk):
                expect(page.locator(".tally" if number < 4 else ".note").first).to_be_visible()
            if number >= 4:
                expect(phone.get_by_text("Fewer than 5 people answered")).to_be_visible()
        elif number == 2:
            expect(phone.get_by_text("You and the classifier both placed")).to_be_visible()
            assert (
                "class" in phone.locator(".verdict-card").first.inner_text()
                and not screen.get_by_text("You and the classifier").count()
            )
        if number < len(steps):
            desk.keyboard.press("n")
    desk.keyboard.press("n")  # the end wants its own button
    expect(desk.locator("#next")).to_contain_text("End the room")
    with desk.expect_download() as got:
        tab_to(desk, desk.locator("#download"))
        desk.keyboard.press("Enter")
    summary = got.value.path().read_text()
    assert "picture 10" in summary and "fewer than 5 answers" in summary and "perceived female" in summary
    tab_to(desk, desk.locator("#end"))
    desk.keyboard.press("Enter")
    expect(phone.get_by_role("heading", name="This room has ended")).to_be_visible()
    assert "#" not in desk.url, "the key leaves the address bar"
    secret = desk.evaluate("JSON.parse(Object.entries(localStorage).find(([name]) => name.startsWith('host '))[1])")
    for page in (phone, screen, desk):
        assert not page.errors and not [url for url in page.asked if secret in url.split("#")[0]]
        assert not [url for url in page.asked if not url.startswith(("http://127.0.0.1", "data:", "blob:"))]


@pytest.mark.parametrize("lesson", LESSONS, ids=list(LESSONS))
def test_every_lesson_can_be_done_alone_by_keys_on_a_phone(browser, server, lesson):
    page = visit(browser, f"{server.base}/lesson/{lesson}", **PHONE)
    tab_to(page, page.get_by_role("button", name="Start"))
    page.keyboard.press("Enter")
    for number, step in enumerate(LESSONS[lesson].steps, 1):
        expect(page.locator(".step .eyebrow")).to_contain_text(f"step {number} of")
        if step.ask:
            answer_by_keys(page)
            tab_to(page, page.get_by_role("button", name="Lock my answer"))
            page.keyboard.press("Enter")
            expect(page.get_by_role("button", name="Answer again")).to_be_visible()
        else:
            assert page.locator(".widget").count() or step.kind == "change"
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), step.title
        if number < len(LESSONS[lesson].steps):
            tab_to(page, page.get_by_role("button", name="Next"))
            page.keyboard.press("Enter")
    page.reload()
    expect(page.locator(".step .eyebrow")).to_contain_text(f"step {number} of")
    assert not page.errors


def test_two_rooms_and_two_visitors_never_mix(browser, server):
    one, other = (Facilitator(server.base, "guess-the-set") for _ in range(2))
    for room in (one, other):
        room.act("start")
    first, second = (visit(browser, f"{server.base}/room/{one.code}") for _ in range(2))
    stranger = visit(browser, f"{server.base}/room/{other.code}")
    for page, presses in ((first, 1), (second, 3), (stranger, 5)):
        slider = page.locator(".ask input[type=range]")
        slider.focus()
        for _ in range(presses):
            page.keyboard.press("ArrowRight")
        page.get_by_role("button", name="Send").click()
        expect(page.locator("#receipt")).to_contain_text("Saved")
    assert one.state["answered"] == 2 and other.state["answered"] == 1
    one.act("close")
    for page, guess in ((first, 26), (second, 28)):
        page.reload()
        expect(page.get_by_text("Fewer than 5 people")).to_be_visible()
        own = page.evaluate(
            """async (code) => {
          const word = JSON.parse(localStorage.getItem(`room ${code}`));
          return (await (await fetch(`/workshop/api/rooms/${code}`, {
            headers: { authorization: `Bearer ${word}` } })).json()).mine;
        }""",
            one.code,
        )
        assert own == guess
    expect(stranger.locator(".ask")).to_be_visible()


# --- what goes wrong -------------------------------------------------------------------------------------------------


def test_a_kill_in_the_middle_of_a_lesson_loses_no_answer(browser, server):
    room = Facilitator(server.base, "guess-the-set")
    room.act("start")
    desk = visit(browser, f"{server.base}/room/{room.code}/host#{room.secret}")
    phone = visit(browser, f"{server.base}/room/{room.code}", **PHONE)
    words = classmates(server.base, room.code, 5)
    phone.locator(".ask input[type=range]").focus()
    phone.keyboard.press("ArrowRight")
    server.kill()
    phone.get_by_role("button", name="Send").click()
    expect(phone.locator("#banner")).to_contain_text("waits in this browser")
    server.start()
    server.wait()
    expect(phone.locator("#receipt")).to_contain_text("saved", ignore_case=True)
    expect(desk.locator(".answered")).to_contain_text("6 of")
    desk.keyboard.press("n")
    expect(phone.locator(".tally")).to_contain_text("6 answers")
    for word in words:
        assert ask(server.base, f"rooms/{room.code}", word=word)["mine"] is not None
    phone.reload()
    expect(phone.locator(".tally")).to_contain_text("Your guess: 26")


def test_panic_covers_every_picture_everywhere_and_hiding_hides(browser, server):
    room = Facilitator(server.base, "guess-the-set")
    for act in ("start", "close", "next"):
        room.act(act)
    desk = visit(browser, f"{server.base}/room/{room.code}/host#{room.secret}")
    others = [visit(browser, f"{server.base}/room/{room.code}{path}") for path in ("", "/screen")]
    for page in (desk, *others):
        expect(page.locator(".tile").first).to_be_visible()
        assert "doctor.webp" in page.locator(".tile").first.evaluate("node => getComputedStyle(node).backgroundImage")
    others[0].get_by_role("button", name="Cover").click()
    expect(others[0].locator("body.covered")).to_have_count(1)  # for this student alone
    expect(others[1].locator("body.covered")).to_have_count(0)
    desk.keyboard.press("b")
    desk.keyboard.press("h")
    for page in (desk, *others):
        expect(page.locator("body.covered")).to_have_count(1)
        if page.locator(".tile").count():
            assert not page.evaluate(
                "[...document.querySelectorAll('.tile')]"
                ".some(tile => getComputedStyle(tile).backgroundImage.includes('webp'))"
            )
    for page in others:
        expect(page.locator(".tile")).to_have_count(0)


def test_an_unknown_code_and_a_forged_link_are_met_with_words(browser, server):
    page = visit(browser, f"{server.base}/")
    page.get_by_label("Join a room").fill("CCC CCC")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("no room has this code")
    page.goto(f"{server.base}/room/<b>x")
    expect(page.get_by_role("heading", name="No such room")).to_be_visible()
    room = Facilitator(server.base, "two-rulers")
    page.goto(f"{server.base}/room/{room.code}/host#forged")
    expect(
        page.get_by_text("not the facilitator’s link").or_(page.get_by_text("not the facilitator's link"))
    ).to_be_visible()
    page.goto(f"{server.base}/lesson/none")
    expect(page.get_by_role("heading", name="There is no such lesson")).to_be_visible()


def test_who_types_the_code_of_a_german_room_reads_german_and_so_are_refusals(browser, server):
    code = ask(server.base, "rooms", {"lesson": "guess-the-set", "language": "de"})["code"]
    page = visit(browser, f"{server.base}/join")
    page.get_by_label("Join a room").fill(code)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name=f"Raum {code}")).to_be_visible()
    assert page.url.endswith("?lang=de")
    heard = page.evaluate(
        """async (all) => { const { hear } = await import("/workshop/static/language.js"); return all.map(hear); }""",
        ["this room is over", "a room holds 300 people", "a room's code has 6 of the letters CDF; check it", "other"],
    )
    assert heard == ["dieser Raum ist zu Ende", "ein Raum fasst 300 Personen",
                     "ein Code hat 6 der Buchstaben CDF; sieh noch einmal nach", "other"]  # fmt: skip


# --- the projector ---------------------------------------------------------------------------------------------------

SIZES = ((1024, 768), (1280, 720), (1366, 768), (1920, 1080), (3840, 2160))
OVERFLOW = (Path(__file__).parent / "overflow.js").read_text()
WALK = """async ([slides, check]) => {
  const { draw } = await import("/workshop/static/screen.js");
  const wrong = {};
  for (const [name, state] of slides) {
    draw(state);
    const found = (0, eval)(check)();
    if (found.length) wrong[name] = found.slice(0, 4);
  }
  return wrong;
}"""


def test_no_slide_of_any_lesson_is_cut_off_or_too_small_at_any_size(browser, server):
    room = Facilitator(server.base, "guess-the-set")
    page = browser.new_context(reduced_motion="reduce", bypass_csp=True).new_page()
    page.goto(f"{server.base}/room/{room.code}/screen")
    expect(page.locator(".joining")).to_be_visible()
    slides = list(states({lesson.id: lesson for lesson in load_lessons()}, load_pack()))
    wrong = {}
    for width, height in SIZES:
        page.set_viewport_size({"width": width, "height": height})
        if found := page.evaluate(WALK, [slides, OVERFLOW]):
            wrong[f"{width} x {height}"] = found
        page.evaluate(
            "() => { const p = document.createElement('p'); p.id = 'planted'; p.textContent = 'far below';"
            "p.style.marginTop = '120vh'; document.querySelector('.slide-body').append(p); }"
        )
        assert "cut off: far below" in page.evaluate(OVERFLOW), "the check sees what is cut off"
    assert not wrong, json.dumps(wrong, indent=1)


# --- the rulers, and the figures of the page -------------------------------------------------------------------------


def test_the_rulers_by_keys_and_by_pointer(browser, server):
    page = visit(browser, f"{server.base}/lesson/two-rulers", viewport={"width": 1100, "height": 900})
    page.evaluate("localStorage.setItem('solo two-rulers', JSON.stringify({ at: 1, answers: { shapes: 0 } }))")
    page.reload()
    board, scores = page.locator(".board"), page.locator(".scores")
    expect(scores).to_contain_text("30.0")
    remember = page.get_by_role("button", name="Remember this set")
    remember.press("Enter")
    board.focus()
    for key in ("ArrowRight", "ArrowRight", "-", "-", "ArrowLeft", "+", "+"):  # two triangles become squares
        page.keyboard.press(key)
    expect(page.locator(".controls")).to_contain_text("6 squares")
    expect(scores).to_contain_text("33.2")
    remember.press("Enter")
    expect(page.locator(".found")).to_contain_text("same D1 (40.0), but D2 is 30.0 and 33.2")
    piece, box = page.locator(".piece").first.bounding_box(), page.locator(".rulers").bounding_box()
    page.mouse.move(piece["x"] + piece["width"] / 2, piece["y"] + piece["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.7 * box["width"], box["y"] + 0.5 * box["height"], steps=6)
    page.mouse.up()
    expect(page.locator(".controls")).to_contain_text("9 circles")
    expect(page.locator(".controls")).to_contain_text("3 stars")


def test_figures_in_the_page_are_those_of_the_library(browser, server):
    page, rng = visit(browser, f"{server.base}/"), random.Random(1)
    cases = [[rng.randint(0, 30) for _ in range(rng.choice((2, 4, 5)))] for _ in range(60)]
    cases = [counts for counts in cases if sum(counts)]
    computed = page.evaluate(
        """async (cases) => { const f = await import("/workshop/static/figures.js");
      return cases.map((c) => [f.d1(c), f.d2(c), ...f.wilson(c[0], c.reduce((a, b) => a + b))]); }""",
        cases,
    )
    for counts, got in zip(cases, computed, strict=True):
        assert got == pytest.approx(
            [discrepancy_range(counts), discrepancy_l2(counts), *wilson_interval(counts[0], sum(counts))], abs=1e-9
        )
    rates = [(rng.randint(1, 99), rng.uniform(0, 0.4), rng.uniform(0, 0.4)) for _ in range(60)]
    computed = page.evaluate(
        """async (rates) => { const f = await import("/workshop/static/figures.js");
      return rates.map(([count, missed, wrong]) => f.corrected(count / 100, missed, wrong)); }""",
        rates,
    )
    for (count, missed, wrong), got in zip(rates, computed, strict=True):
        assert got == pytest.approx(
            corrected_shares([count, 100 - count], [[1 - missed, missed], [wrong, 1 - wrong]])[0], abs=1e-9
        )
    assert page.evaluate(
        """async () => { const f = await import("/workshop/static/figures.js");
        return [f.corrected(.5, .5, .5), f.d1([0, 0])]; }"""
    ) == [None, None]


def test_the_verdict_changes_with_the_reference_and_not_the_pictures(browser, server):
    page = visit(browser, f"{server.base}/lesson/whose-fifty-percent")
    page.evaluate("localStorage.setItem('solo whose-fifty-percent', JSON.stringify({ at: 1, answers: { goal: 0 } }))")
    page.reload()
    verdict, bars = page.locator(".verdict b"), page.locator(".bar-number").first
    counted = bars.inner_text()
    expect(verdict).to_have_text("does not fit")
    page.get_by_role("radio", name="the planted table").check(force=True)
    expect(verdict).to_have_text("fits")
    page.get_by_role("radio", name="my own").check(force=True)
    page.get_by_label("My own reference").focus()
    for _ in range(45):
        page.keyboard.press("ArrowRight")
    expect(verdict).to_have_text("fits")  # 75 %
    assert bars.inner_text() == counted


# --- for everybody ---------------------------------------------------------------------------------------------------


SEEN_ONCE = {
    "guess-the-set": [0, 4], "two-rulers": [1], "whose-fifty-percent": [1], "the-classifier-is-a-model-too": [0, 1, 4],
    "what-did-we-pay": [1],
    "over-correction": [1], "train-your-own": [2], "louder-than-the-data": [1, 2], "try-to-break-it": [1, 2],
    "who-decides": [1],
}  # fmt: skip
"""Steps that show every widget and every kind of question once."""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(browser, server, scheme):
    shown = {
        widget.widget for id, places in SEEN_ONCE.items() for at in places for widget in LESSONS[id].steps[at].show
    }
    assert shown == set(WIDGETS)
    found: dict[str, list[str]] = {}
    room = Facilitator(server.base, "the-classifier-is-a-model-too")
    page = visit(browser, f"{server.base}/", color_scheme=scheme)
    page.get_by_role("button", name="Open a room").first.click()
    found["dialog"] = serious(page)
    for id, places in SEEN_ONCE.items():
        for at in places:
            page.evaluate(
                "([name, at]) => localStorage.setItem(`solo ${name}`, JSON.stringify({ at, answers: {} }))", [id, at]
            )
            page.goto(f"{server.base}/lesson/{id}")
            expect(page.locator(".step h1")).to_be_visible()
            found[f"{id} {at}"] = serious(page)
    room.act("start")
    classmates(server.base, room.code, 5)
    room.act("close")
    for name, path, size in (("phone", "", PHONE), ("desk", f"/host#{room.secret}", {}), ("screen", "/screen", {})):
        page = visit(browser, f"{server.base}/room/{room.code}{path}", color_scheme=scheme, **size)
        expect(page.locator(".tally")).to_be_visible()
        found[name] = serious(page)
    if scheme == "light":  # paper is
        for what in ("guide", "worksheet"):
            page.goto(f"{server.base}/print/the-classifier-is-a-model-too/{what}")
            found[what] = serious(page)
    assert not any(found.values()), json.dumps(
        {name: problems for name, problems in found.items() if problems}, indent=1
    )


def test_pages_ask_only_their_own_server_and_break_no_policy(browser, server):
    page = visit(browser, f"{server.base}/lesson/what-did-we-pay")
    page.evaluate("localStorage.setItem('solo what-did-we-pay', JSON.stringify({ at: 1, answers: { cost: 1 } }))")
    page.reload()
    point = page.get_by_role("button", name="LiVO:")
    point.focus()
    page.keyboard.press("Enter")
    expect(page.locator(".reading")).to_contain_text("LiVO: bias D2")
    assert not page.errors and all(url.startswith((server.base, "data:")) for url in page.asked)


def test_one_command_opens_the_demo_and_the_workshop_to_the_network(browser, tmp_path):
    command = [sys.executable, "app.py", "--lan", "--port", "0", "--rooms", str(tmp_path)]
    env = os.environ | {"PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        output = ""
        for line in process.stdout:
            output += line
            if line.startswith("LiVO is open at"):
                break
        workshop = re.search(r"Open a room: (http://([\d.]+):(\d+)/workshop/)", output)
        assert workshop and "█" in output
        pupil = visit(browser, workshop[1].removesuffix("workshop/"))
        expect(pupil.get_by_role("heading", name="Join")).to_be_visible()
        page = visit(browser, re.search(r"for the host alone: (\S+)", output)[1])
        page.get_by_role("tab", name="Learn").click()
        with page.expect_popup() as opened:
            page.get_by_role("link", name="All lessons, and the way into a room").click()
        lessons = opened.value
        expect(lessons.locator(".lesson")).to_have_count(len(LESSONS))
        lessons.get_by_role("button", name="Open a room: Two rulers").click()
        lessons.get_by_role("button", name="Open the room").click()
        expect(lessons.locator(".address")).to_contain_text(f"{workshop[1]}room/")
        assert (tmp_path / "rooms.sqlite").is_file()
    finally:
        process.kill()
        process.wait()


# --- paper -----------------------------------------------------------------------------------------------------------

PAGES = {"guide": 4, "worksheet": 2, "key": 1}
"""A4 pages that a paper may have: the worksheet is one sheet, printed on both sides."""
A4_CONTENT = (703, 1032)
"""Pixels of a page without its margins."""


def test_every_paper_fits_its_pages_and_leaves_none_nearly_empty(browser):
    pack = load_pack()
    page = browser.new_page(viewport=dict(zip(("width", "height"), A4_CONTENT, strict=True)))
    page.emulate_media(media="print")
    wrong = []
    lessons = load_lessons()
    papers = [("", lesson) for lesson in lessons]
    papers += [(language, lesson) for language, all in load_translations(lessons)[0].items() for lesson in all.values()]
    for language, lesson in papers:
        for what, most in PAGES.items():
            page.set_content(paper_html(what, lesson, pack, language=language))
            pages = len(re.findall(rb"/Type\s*/Page\b(?!s)", page.pdf(prefer_css_page_size=True)))
            filled = page.evaluate("document.body.scrollHeight") / A4_CONTENT[1]
            if pages > most or (what == "worksheet" and pages == 2 and filled < 1.3):
                wrong.append(f"{lesson.id} {language} {what}: {pages} pages, {filled:.2f} filled")
    assert not wrong, wrong
