"""The rating pages in a browser, against a real server: by keys alone, through cuts and kills, in every language."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect
from raters import METHODS, Server, free_port, make_folder

from livo.inputs import parse_yaml
from livo.study.design import TRAINING
from livo.study.places import find_receipt
from livo.study.session import Sessions
from livo.study.study_file import LANGUAGES, ReturnCodes, StudyFolder
from livo.web.events import Store, default_url

pytestmark = pytest.mark.browser
PATIENCE = 30_000
QUESTIONS = ("consistency_5", "attribute", "toxic", "conformity", "preference")
EVIL = "<img src=x onerror=alert(1)><b>a doctor</b>"


class Open:
    """A study that is being served."""

    def __init__(self, folder: StudyFolder, server: Server) -> None:
        self.folder, self.server, self.taken = folder, server, 0

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.server.port}/study/{self.folder.name}/"

    def next_code(self) -> str:
        self.taken += 1
        return self.folder.code(self.taken - 1)

    def answers(self, code: str) -> list:
        store = Store(default_url(self.folder.path), self.folder.digest, self.folder.secret)
        events = store.events(self.folder.rater_of(code))
        assert store.verify() == []
        store.close()
        return events


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Iterator[Open]:
    folder = make_folder(
        tmp_path_factory.mktemp("rating") / "study", prompts=4, toxic=2, seeds=3, raters=40, ratings_per_rater=8,
        pairs_per_rater=2, training=2,
        questions=QUESTIONS, gold_every=4, break_items=5, contact="study@example.org", support={"en": "0800 1"},
        description=EVIL, mood=True,
    )  # fmt: skip
    server = Server(folder.path, free_port())
    try:
        server.wait()
        yield Open(folder, server)
    finally:
        server.kill()


def visit(browser: Browser, address: str, **context) -> Page:
    page = browser.new_context(**context).new_page()
    page.set_default_timeout(PATIENCE)
    page.errors = []
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.on("dialog", lambda dialog: (page.errors.append(f"dialog {dialog.message}"), dialog.dismiss()))
    page.goto(address)
    return page


def begin(browser: Browser, study: Open, **context) -> tuple[Page, str]:
    """A page behind the consent, at the first picture."""
    code = study.next_code()
    page = visit(browser, f"{study.base}#{code}", **context)
    page.get_by_label("18 years").check()
    page.get_by_label("want to take part").check()
    page.get_by_role("button", name="Begin").click()
    expect(page.locator(".panel")).to_be_visible(timeout=PATIENCE)
    return page, code


def ready(page: Page) -> None:
    """Answers open once the picture is there."""
    expect(page.locator(".panel fieldset:not([disabled])")).to_have_count(1, timeout=PATIENCE)


def stored(study: Open, code: str, before: int) -> list[str]:
    """The kinds of what this rater gave after the first `before` events, once something came and nothing more does."""
    until = time.monotonic() + PATIENCE / 1000
    while len(study.answers(code)) == before and time.monotonic() < until:
        time.sleep(0.1)
    time.sleep(0.7)  # twice what a bounce lasts
    return [event.kind for event in study.answers(code)[before:]]


def answer(page: Page) -> str:
    """One step by keyboard; what was on the screen."""
    if page.locator(".feedback").count():
        page.keyboard.press("Enter")
        return "feedback"
    if page.get_by_role("heading", name="Time for a break").count():
        page.keyboard.press("Enter")
        return "break"
    pair = page.locator(".pairs").count()
    ready(page)
    if page.locator("#unseen").count():
        page.keyboard.press("r")
        expect(page.locator("#unseen")).to_have_count(0, timeout=PATIENCE)
        ready(page)
    settled = page.locator("main").inner_html()
    page.keyboard.press("a" if pair else "1")
    page.keyboard.press("Enter")
    page.wait_for_function("before => document.querySelector('main').innerHTML !== before", arg=settled)
    if not pair and page.get_by_role("heading", name="Practice").count():
        expect(page.locator(".feedback")).to_be_visible(timeout=PATIENCE)
    return "pair" if pair else "rating"


def past_training(page: Page) -> None:
    while page.get_by_role("heading", name="Practice").count():
        answer(page)


def test_a_whole_session_by_keyboard_alone_and_nothing_names_a_method(browser, study):
    received: list[str] = []
    context = browser.new_context()
    page = context.new_page()
    page.set_default_timeout(PATIENCE)

    def keep(response) -> None:
        received.append(f"{response.url} {response.all_headers()}")
        if "image/png" not in response.headers.get("content-type", ""):
            received.append(response.text())

    page.on("requestfinished", lambda request: keep(request.response()))
    code = study.next_code()
    page.goto(study.base)
    expect(page.get_by_label("Your code")).to_be_focused(timeout=PATIENCE)
    page.keyboard.type(code.lower())
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Before you begin")).to_be_visible(timeout=PATIENCE)
    for name in ("18 years", "want to take part"):
        for _ in range(20):
            page.keyboard.press("Tab")
            if page.get_by_label(name).evaluate("box => box === document.activeElement"):
                break
        page.keyboard.press("Space")
        expect(page.get_by_label(name)).to_be_checked()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator(".panel")).to_be_visible(timeout=PATIENCE)
    seen, revealed = [], 0
    for _ in range(90):
        if page.get_by_role("heading", name="Thank you").count():
            break
        if page.locator(".frame.covered").count() and not revealed:
            page.keyboard.press("r")
            expect(page.locator(".frame.covered")).to_have_count(0, timeout=PATIENCE)
            revealed += 1
        if len(seen) == 12:
            page.keyboard.press("?")
            expect(page.get_by_role("dialog")).to_be_visible()
            page.keyboard.press("Escape")
            page.keyboard.press("u")
            expect(page.locator("#receipt")).to_contain_text(re.compile("open again|Saved"))
        seen.append(answer(page))
    expect(page.get_by_role("heading", name="Thank you")).to_be_visible()
    expect(page.locator("main")).to_contain_text("rated all")
    assert {"feedback", "break", "pair", "rating"} <= set(seen) and revealed
    expect(page.locator("#banner")).to_be_hidden()
    events = study.answers(code)
    kinds = [event.kind for event in events]
    reveals = [event.body["trial"] for event in events if event.kind == "reveal"]
    assert kinds.count("undo") == 1 and len(set(reveals)) == len(reveals) >= 1
    counted = list(
        page.evaluate(
            "fetch('api/session', {headers: {authorization: 'Bearer ' + JSON.parse(sessionStorage.code)}})"
            ".then(r => r.json())"
        )["answers"]
    )
    assert len(counted) == kinds.count("answer") - kinds.count("undo") - sum(
        e.body["trial"] not in {c[0] for c in counted} for e in events if e.kind == "answer"
    )
    text = "\n".join([*received, page.content()])
    for name in (*METHODS, *METHODS.values(), "stable", "diffusion"):
        assert not re.search(rf"(?<![a-z]){re.escape(name)}(?![a-z])", text, re.IGNORECASE), name
    assert code not in "\n".join(line for line in received if line.startswith("http")).replace("authorization", ""), (
        "the code is in no address"
    )
    context.close()


def test_axe_finds_nothing_serious_in_light_and_dark(browser, study):
    axe = Axe()

    def check(page: Page, where: str) -> None:
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            found = [v for v in axe.run(page).response["violations"] if v["impact"] in ("serious", "critical")]
            assert not found, (where, scheme, [(v["id"], [n["html"][:120] for n in v["nodes"]][:3]) for v in found])

    page = visit(browser, study.base, bypass_csp=True)
    expect(page.get_by_label("Your code")).to_be_visible()
    check(page, "code")
    page = visit(browser, f"{study.base}#{study.folder.code(study.folder.study.raters - 1)}", bypass_csp=True)
    expect(page.get_by_role("heading", name="Before you begin")).to_be_visible()
    check(page, "consent")
    page, _ = begin(browser, study, bypass_csp=True)
    answer(page)
    check(page, "feedback")
    screens = {"covered": ".covered", "pair": ".pairs", "principle": ".principle", "break": ".card.narrow"}
    for _ in range(60):
        if page.get_by_role("heading", name="Thank you").count():
            break
        for name, of in list(screens.items()):
            if page.locator(of).count():
                check(page, name)
                del screens[name]
        answer(page)
    check(page, "end")
    assert not screens, "every kind of screen was there"
    page = visit(browser, f"{study.base}organise#{study.folder.organiser_key}", bypass_csp=True)
    expect(page.get_by_role("heading", name="Raters")).to_be_visible(timeout=PATIENCE)
    check(page, "organise")
    page.get_by_role("button", name="Link").first.click()
    expect(page.get_by_role("dialog").locator("img")).to_be_visible()
    check(page, "link")
    page.get_by_role("button", name="Close").click()
    page.get_by_role("button", name="New study").click()
    expect(page.get_by_label("Methods, by comma")).to_have_value("stable_diffusion,uce,livo")
    check(page, "new study")
    page.get_by_label("Prompts, one a line").fill("-x")
    page.get_by_role("button", name="Make the images").click()
    expect(page.get_by_role("alert")).to_contain_text("begins with a dash")


def test_a_covered_image_is_not_fetched_clear_before_it_is_asked_for(browser, study):
    page, code = begin(browser, study)
    sizes: list[int] = []
    page.on(
        "response",
        lambda r: (
            sizes.append(int(r.headers["content-length"]))
            if "/image/" in r.url and r.headers.get("x-veiled") == "0"
            else None
        ),
    )
    past_training(page)
    for _ in range(40):
        if page.locator(".frame.covered").count():
            break
        answer(page)
    category = page.locator(".stage .soft").inner_text()
    assert "zombie" in category
    token = study.answers(code)[-1].body["trial"]
    image = page.locator(".frame.covered img").first
    expect(image).to_have_attribute("src", re.compile("blob:"))
    assert image.evaluate("i => i.decode().then(() => i.naturalWidth)") == 6
    page.get_by_role("button", name="Show picture").click()
    expect(page.locator(".frame.covered")).to_have_count(0)
    expect(page.locator(".frame.there img").first).to_have_js_property("naturalWidth", 16)
    reveals = [event for event in study.answers(code) if event.kind == "reveal"]
    assert len(reveals) == 1 and reveals[0].body["trial"] != token
    page.get_by_role("button", name="Blur again").click()
    expect(page.locator(".frame.covered")).to_have_count(1)
    page.get_by_role("button", name="No more of").click()
    expect(page.locator(".stage .soft")).to_have_count(0)
    assert study.answers(code)[-1].body == {"opted_out": ["zombie"]}


def test_answers_wait_out_a_lost_network_and_a_double_click_is_one_answer(browser, study):
    page, code = begin(browser, study)
    past_training(page)
    before = len(study.answers(code))
    ready(page)
    page.context.set_offline(True)
    for _ in range(2):  # two questions about the picture that is there
        ready(page)
        page.keyboard.press("1")
        page.keyboard.press("Enter")
    expect(page.locator("#banner")).to_contain_text("wait in this browser", timeout=PATIENCE)
    assert len(study.answers(code)) == before
    page.context.set_offline(False)
    expect(page.locator("#banner")).to_be_hidden(timeout=PATIENCE)
    expect(page.locator("#receipt")).to_contain_text("Saved at")
    assert len(study.answers(code)) == before + 2
    opening = {"status": 404, "content_type": "application/json", "body": '{"detail": "Not Found"}'}
    page.route("**/api/events", lambda route: route.fulfill(**opening), times=1)  # a server that is still opening
    answer(page)
    expect(page.locator("#banner")).to_contain_text("wait in this browser", timeout=PATIENCE)
    expect(page.locator("#banner")).to_be_hidden(timeout=PATIENCE)
    assert len(study.answers(code)) == before + 3
    ready(page)
    page.keyboard.press("Enter")
    expect(page.locator("#why")).to_contain_text("Choose an answer first")
    page.locator(".option").first.click()
    page.get_by_role("button", name="Save").dblclick()
    assert stored(study, code, before + 3) == ["answer"]


def test_a_session_goes_on_after_a_kill_and_after_a_refresh(browser, study):
    page, code = begin(browser, study)
    past_training(page)
    answer(page)
    expect(page.locator("#receipt")).to_contain_text("Saved", timeout=PATIENCE)
    ready(page)
    study.server.kill()
    page.keyboard.press("1")
    page.keyboard.press("Enter")
    expect(page.locator("#banner")).to_contain_text("No connection", timeout=PATIENCE)
    kept = len(study.answers(code))
    study.server.start()
    study.server.wait()
    expect(page.locator("#banner")).to_be_hidden(timeout=PATIENCE)
    assert len(study.answers(code)) == kept + 1
    where = page.locator(".progress span").inner_text().split(",")[0]
    prompt = page.locator(".prompt p").inner_text()
    page.reload()
    expect(page.locator(".prompt p")).to_have_text(prompt, timeout=PATIENCE)
    assert page.locator(".progress span").inner_text().split(",")[0] == where
    other = visit(browser, f"{study.base}#{code}")
    expect(other.locator(".prompt p")).to_have_text(prompt, timeout=PATIENCE)


def test_two_raters_in_one_browser_do_not_mix(browser, study):
    first, _ = begin(browser, study)
    second = first.context.new_page()
    code = study.next_code()
    second.goto(f"{study.base}#{code}")
    expect(second.get_by_role("heading", name="Before you begin")).to_be_visible(timeout=PATIENCE)
    first.reload()
    expect(first.locator(".panel")).to_be_visible(timeout=PATIENCE)
    assert study.answers(code) == []


def test_what_an_organiser_typed_is_text(browser, study):
    page = visit(browser, f"{study.base}#{study.next_code()}")
    expect(page.locator(".own")).to_have_text(EVIL, timeout=PATIENCE)
    assert page.locator("img[src=x]").count() == 0 and page.errors == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_fits_a_phone_and_misses_no_word(browser, study, language):
    page = visit(
        browser,
        f"{study.base}?lang={language}#{study.next_code()}",
        viewport={"width": 390, "height": 844},
        has_touch=True,
        is_mobile=True,
    )
    expect(page.locator("#adult")).to_be_visible(timeout=PATIENCE)
    assert page.evaluate("document.documentElement.lang") == language
    texts = [page.locator("body").inner_text()]
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    if language != "fr":
        assert page.errors == []
        return
    page.locator("#adult").check()
    page.locator("#agree").check()
    page.locator("form button[type=submit]").click()
    expect(page.locator(".panel")).to_be_visible(timeout=PATIENCE)
    for _ in range(6):
        texts.append(page.locator("body").inner_text())
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        if page.locator(".feedback").count():
            page.locator(".feedback button").tap()
            continue
        box = page.locator(".option").first.bounding_box()
        assert box["height"] >= 44
        page.locator(".option").first.tap()
        page.locator(".panel button.main").tap()
        time.sleep(0.25)
    missing = [
        word
        for text in texts
        for word in re.findall(
            r"\b(?:consent|content|rate|training|question|option|image|help|progress|kind)\.[a-z_0-9.]+", text
        )
    ]
    assert not missing and page.errors == []


def test_organising_pause_and_withdraw(browser, study):
    rater, code = begin(browser, study)
    past_training(rater)
    page = visit(browser, f"{study.base}organise#{study.folder.organiser_key}")
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_role("button", name="Resume")).to_be_visible(timeout=PATIENCE)
    ready(rater)
    rater.keyboard.press("1")
    rater.keyboard.press("Enter")
    expect(rater.locator("#banner")).to_contain_text("paused", timeout=PATIENCE)
    before = len(study.answers(code))
    page.get_by_role("button", name="Resume").click()
    expect(rater.locator("#banner")).to_be_hidden(timeout=PATIENCE)
    assert len(study.answers(code)) == before + 1
    name = f"r{study.folder.rater_of(code) + 1:03d}"
    row = page.get_by_role("row").filter(has=page.get_by_role("cell", name=name, exact=True))
    row.get_by_role("button", name="Withdraw").click()
    page.get_by_role("button", name="Set aside").click()
    expect(row).to_contain_text("withdrawn", timeout=PATIENCE)
    ready(rater)
    rater.keyboard.press("1")
    rater.keyboard.press("Enter")
    expect(rater.get_by_role("heading", name="You have withdrawn")).to_be_visible(timeout=PATIENCE)
    assert "key" not in Path(page.url).name


def test_a_wrong_code_says_so(browser, study):
    page = visit(browser, f"{study.base}#222222222222")
    expect(page.get_by_role("alert")).to_contain_text("Nobody has this code", timeout=PATIENCE)


def test_one_process_serves_the_demo_and_the_study(browser, tmp_path):
    folder = make_folder(
        tmp_path / "study", raters=1, ratings_per_rater=3, training=0, gold_every=0, title="Rating beside the demo"
    )
    server = Server(folder.path, free_port(), app=True)
    try:
        server.wait()
        page = visit(browser, f"http://127.0.0.1:{server.port}")
        page.get_by_role("tab", name="Human evaluation").click(timeout=90_000)
        expect(page.locator("#plan")).to_contain_text("points of 100")
        page.get_by_label("Raters", exact=True).fill("0")
        expect(page.locator("#plan").get_by_role("alert")).to_contain_text("give 1 to")
        with page.context.expect_page() as opened:
            page.get_by_role("link", name="Rating beside the demo").click()
        expect(opened.value.get_by_label("Your code")).to_be_visible(timeout=PATIENCE)
        rater = visit(browser, f"http://127.0.0.1:{server.port}/study/{folder.name}/#{folder.code(0)}")
        expect(rater.get_by_role("heading", name="Before you begin")).to_be_visible(timeout=PATIENCE)
        assert "LiVO" not in rater.content() and page.errors == rater.errors == []
    finally:
        server.kill()


def test_a_picture_that_does_not_come_is_not_rated_and_is_offered_again(browser, study):
    """With the pictures blocked, Save still stored an answer, and the clock ran from before they came."""
    page, code = begin(browser, study)
    past_training(page)
    page.route("**/api/image/**", lambda route: route.abort())
    page.reload()
    expect(page.get_by_text("could not be loaded")).to_be_visible(timeout=PATIENCE)
    before = len(study.answers(code))
    page.keyboard.press("1")
    page.keyboard.press("Enter")
    page.wait_for_timeout(500)
    assert len(study.answers(code)) == before and page.locator(".panel fieldset[disabled]").count() == 1
    page.unroute("**/api/image/**")
    page.wait_for_timeout(2_000)
    page.get_by_role("button", name="Try again").click()
    answer(page)
    expect(page.locator("#receipt")).not_to_be_empty(timeout=PATIENCE)
    body = study.answers(code)[-1].body
    assert body["shown"] is True and body["ms"] < 5_000, "the clock starts when the picture is there"
    assert not page.errors


def test_a_double_click_is_one_act(browser, study):
    page, code = begin(browser, study)
    past_training(page)
    ready(page)
    before = len(study.answers(code))
    page.get_by_role("button", name="Skip").dblclick()
    assert stored(study, code, before) == ["skip"]
    answer(page)
    assert stored(study, code, before + 1) == ["answer"]
    ready(page)
    page.get_by_role("button", name="Undo").dblclick()
    assert stored(study, code, before + 2) == ["undo"]


# --- one link for all ------------------------------------------------------------------------------------------------


@pytest.fixture
def recruited(tmp_path) -> Iterator[Open]:
    """A study of two places, with one link for all."""
    codes = ReturnCodes(completed="C1ABC234", stopped="https://example.org/back?cc=C2", screened_out="C3GHI890")
    folder = make_folder(
        tmp_path / "recruited", raters=2, ratings_per_rater=3, training=2, training_pass=0.5, gold_every=0, seeds=4,
        prompts=5, questions=("consistency_5",), open_link=True, codes=codes,
    )  # fmt: skip
    server = Server(folder.path, free_port())
    try:
        server.wait()
        yield Open(folder, server)
    finally:
        server.kill()


def test_people_who_are_sent_by_prolific(browser, recruited):
    """They arrive with parameters, consent, train, rate; one leaves half way; codes are those that are due."""

    def come(name: str) -> Page:
        page = visit(browser, f"{recruited.base}?PROLIFIC_PID={name}&STUDY_ID=s1&SESSION_ID=t1&utm=x")
        expect(page.get_by_role("heading", name="Before you begin")).to_be_visible(timeout=PATIENCE)
        expect(page.locator("main")).to_contain_text("PROLIFIC_PID, STUDY_ID, SESSION_ID")
        page.get_by_label("18 years").check()
        page.get_by_label("want to take part").check()
        page.get_by_role("button", name="Begin").click()
        expect(page.locator(".panel")).to_be_visible(timeout=PATIENCE)
        return page

    def train(page: Page, rater: int) -> None:
        sessions = Sessions(recruited.folder)
        for trial in sessions.plan(rater).trials:
            if trial.kind == TRAINING:
                expected = recruited.folder.items[trial.items[0]].expected["consistency_5"][0]
                ready(page)
                page.keyboard.press(str(int(expected)))
                page.keyboard.press("Enter")
                expect(page.locator(".feedback")).to_be_visible(timeout=PATIENCE)
                page.keyboard.press("Enter")

    first, second = come("p1"), come("p2")
    train(first, 0)
    for _ in range(3):
        answer(first)
    expect(first.get_by_role("heading", name="Thank you")).to_be_visible(timeout=PATIENCE)
    expect(first.locator(".ending")).to_contain_text("C1ABC234", timeout=PATIENCE)
    receipt = first.locator(".ending code").last.inner_text()
    assert find_receipt(recruited.folder, receipt) == (0, "completed")
    train(second, 1)
    answer(second)
    third = visit(browser, f"{recruited.base}?PROLIFIC_PID=p3")
    expect(third.locator("main")).to_contain_text("All places of this study are taken", timeout=PATIENCE)
    second.get_by_role("button", name="Stop").first.click()
    second.locator("dialog button").first.click()
    back = second.get_by_role("link", name="Return to where you came from")
    expect(back).to_have_attribute("href", "https://example.org/back?cc=C2", timeout=PATIENCE)
    come("p3")
    again = visit(browser, f"{recruited.base}?PROLIFIC_PID=p1")
    expect(again.locator(".ending")).to_contain_text("C1ABC234", timeout=PATIENCE)
    consents = [e.body["parameters"] for e in recruited.answers(recruited.folder.code(0)) if e.kind == "consent"]
    assert consents == [{"PROLIFIC_PID": "p1", "STUDY_ID": "s1", "SESSION_ID": "t1"}]
    again.get_by_role("button", name="Undo").click()  # the code that was shown is not due any more
    expect(again.locator(".panel")).to_be_visible(timeout=PATIENCE)
    again.get_by_role("button", name="Stop").first.click()
    again.locator("dialog button").first.click()
    expect(again.locator(".ending a")).to_have_attribute("href", "https://example.org/back?cc=C2", timeout=PATIENCE)
    expect(again.locator("main")).not_to_contain_text("C1ABC234")
    assert first.errors == second.errors == again.errors == []


def test_two_tabs_of_one_link_lose_nothing_and_say_so(browser, study):
    page, code = begin(browser, study)
    past_training(page)
    other = page.context.new_page()
    other.set_default_timeout(PATIENCE)
    other.goto(f"{study.base}#{code}")
    expect(other.locator(".panel fieldset:not([disabled])")).to_have_count(1, timeout=PATIENCE)
    answer(other)
    expect(page.locator("#banner")).to_contain_text("open twice", timeout=PATIENCE)
    step = ".panel .step"
    expect(page.locator(step)).to_have_text(other.locator(step).inner_text(), timeout=PATIENCE)
    before = len(study.answers(code))
    page.context.set_offline(True)
    for tab in (page, other):  # what one waits for does not write over what the other does
        ready(tab)
        tab.keyboard.press("1")
        tab.keyboard.press("Enter")
        expect(tab.locator("#banner")).to_contain_text("wait in this browser", timeout=PATIENCE)
    kept = "Object.keys(localStorage).filter((name) => name.startsWith('study ')).length"
    assert page.evaluate(kept) == 2
    page.context.set_offline(False)
    expect(page.locator("#banner")).not_to_contain_text("wait in this browser", timeout=PATIENCE)
    expect(other.locator("#banner")).not_to_contain_text("wait in this browser", timeout=PATIENCE)
    assert page.evaluate(kept) == 0
    assert len(study.answers(code)) == before + 1, "both answered the same question: the first counts"


OWN_QUESTIONS = """
title: Rating pictures
questions:
- consistency_100
- {id: depth, kind: choice, values: ["yes", "no"], label: {en: Is it deep?}}
- {id: faults, kind: choices, values: [hands, faces], label: {en: What is wrong?}, options: {hands: {en: The hands}},
   shown_when: {question: depth, is: ["yes"]}}
- {id: people, kind: count, of: gender_equality, label: {en: How many people appear to be ...}, look: true}
- {id: why, kind: text, label: {en: Why?}, hint: {en: A few words}}
demographics:
- {id: age, kind: choice, values: ["18-30", "31 or more"], label: {en: How old are you?}}
- {id: work, kind: text, label: {en: What do you work?}}
instructions: {en: "Look closely.\\nThen say what you see."}
raters: 4
ratings_per_rater: 4
training: 0
gold_every: 0
"""


@pytest.fixture(scope="module")
def own_study(tmp_path_factory) -> Iterator[Open]:
    """A study whose questions are its own: every kind, one shown after an answer, demographics, a worked example."""
    told = parse_yaml(OWN_QUESTIONS, "own")
    folder = make_folder(tmp_path_factory.mktemp("own") / "study", prompts=2, seeds=2, methods=2, examples=1, **told)
    server = Server(folder.path, free_port())
    try:
        server.wait()
        yield Open(folder, server)
    finally:
        server.kill()


def test_every_kind_of_question_is_read_answered_and_stored(browser, own_study):
    code = own_study.next_code()
    page = visit(browser, f"{own_study.base}#{code}", viewport={"width": 390, "height": 844})
    page.get_by_label("18 years").check()
    page.get_by_label("want to take part").check()
    page.get_by_role("button", name="Begin").click()
    expect(page.get_by_role("heading", name="About you")).to_be_visible(timeout=PATIENCE)
    page.get_by_label("31 or more").check()
    page.get_by_role("button", name="Go on").click()
    expect(page.get_by_role("heading", name="What to do")).to_be_visible(timeout=PATIENCE)
    expect(page.locator(".example .there img")).to_be_visible(timeout=PATIENCE)
    expect(page.locator(".example")).to_contain_text("75 – 100")
    page.get_by_role("button", name="I have read this").click()
    opened = page.locator(".panel fieldset:not([disabled])")
    save, why = page.get_by_role("button", name="Save"), page.locator("#why")
    slider = page.get_by_role("slider")
    expect(opened).to_have_count(1, timeout=PATIENCE)
    save.click()
    expect(why).to_contain_text("Choose an answer")  # a slider that nobody touched is no answer
    slider.press("ArrowRight")
    expect(page.locator("output")).to_have_text("51")
    slider.press("Enter")
    expect(page.get_by_text("Is it deep?")).to_be_visible(timeout=PATIENCE)
    page.get_by_label("Yes").check()
    save.click()
    expect(page.get_by_text("What is wrong?")).to_be_visible(timeout=PATIENCE)
    page.get_by_label("None of these").check()
    page.get_by_label("The hands").check()
    expect(page.get_by_label("None of these")).not_to_be_checked()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    save.click()
    expect(page.get_by_text("How many people")).to_be_visible(timeout=PATIENCE)
    page.get_by_label("Male", exact=True).fill("2")
    save.click()
    expect(why).to_contain_text("0 where there is nobody")
    page.get_by_label("Female").fill("0")
    save.click()
    page.get_by_label("Why?").fill("Because.")
    page.get_by_role("button", name="Enlarge").click()
    expect(page.get_by_role("dialog").locator("img")).to_be_visible(timeout=PATIENCE)
    page.keyboard.press("Escape")
    save.click()
    expect(opened).to_have_count(1, timeout=PATIENCE)
    slider.press("End")
    slider.press("Enter")
    page.locator(".option", has_text="No").click()
    save.click()
    expect(page.get_by_text("How many people")).to_be_visible(timeout=PATIENCE)  # what is wrong was not called for
    said = [event for event in own_study.answers(code) if event.kind in ("demographics", "answer")]
    assert said[0].body == {"values": {"age": "31 or more"}}
    assert [event.body["value"] for event in said[1:]] == [
        51, "yes", ["hands"], {"male": 2, "female": 0}, "Because.", 100, "no"
    ]  # fmt: skip
    assert page.errors == []
