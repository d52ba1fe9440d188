"""The page in a real browser, against a real server. Without a browser these fail; they are never skipped."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from livo.miniature.renderer import SIZE

pytestmark = pytest.mark.browser

PATIENCE = 90_000
"""Milliseconds: CI machines are slow, and may be training beside."""


@pytest.fixture
def address(drawn_address: str) -> str:
    return drawn_address


def open_page(browser: Browser, address: str, **context) -> Page:
    page = browser.new_context(**context).new_page()
    page.set_default_timeout(PATIENCE)
    page.errors = []
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.on("dialog", lambda dialog: (page.errors.append(f"dialog {dialog.message}"), dialog.dismiss()))
    page.goto(address)
    expect(page.locator("#grid .comparison")).to_be_visible()
    return page


@pytest.fixture
def page(browser, address) -> Iterator[Page]:
    page = open_page(browser, address, viewport={"width": 1280, "height": 900}, color_scheme="light")
    yield page
    errors = page.errors
    page.context.close()
    assert errors == []


def settings(page: Page) -> None:
    """Opens the drawer, once."""
    button = page.get_by_role("button", name="Settings", exact=True)
    if button.get_attribute("aria-expanded") == "false":
        button.click()


def ask(page: Page, prompt: str, images: int = 2, wait: bool = True) -> None:
    """Fills the form as a person would and presses Compare."""
    settings(page)
    page.get_by_label("Prompt", exact=True).fill(prompt)
    page.get_by_label("Images a method").fill(str(images))
    page.get_by_role("button", name="Compare", exact=True).click()
    if wait:
        expect(page.locator("#status")).to_contain_text("Done in")


# --- first paint -----------------------------------------------------------------------------------------------------


def test_a_finished_comparison_stands_there_without_a_click(page):
    expect(page.get_by_role("heading", level=1)).to_have_text("LiVO")
    titles = page.locator("#grid h3").all_text_contents()
    assert titles[:2] == ["Stable Diffusion", "LiVO"] and titles[-1] == "Concept Ablation", (
        "what does not apply stands last"
    )
    images = page.locator("#grid .method").first.locator(".frame img")
    assert images.count() == 8 and images.first.evaluate("image => image.naturalWidth") == SIZE
    expect(page.locator("#card mark")).to_have_text("doctor")
    expect(page.locator("#grid")).to_contain_text("fair sampler")
    expect(page.locator("#grid .method").first.locator(".word")).to_have_text("all one way")
    expect(page.locator("#status")).to_contain_text("stored comparison")
    expect(page.locator("#grid .method.off")).to_contain_text("does not apply")


def test_figures_open_a_row_at_a_time(page):
    rows = page.locator("#grid .method")
    expect(rows.first.locator(".details")).to_be_hidden()
    rows.first.get_by_role("button", name="Figures of Stable Diffusion").click()
    expect(rows.first.locator(".details")).to_be_visible()
    for text in ("D2", "without the judge's errors", "cannot tell", "U-Net rows a step", "Read most often as"):
        expect(rows.first.locator(".details")).to_contain_text(text)
    expect(rows.nth(1).locator(".details")).to_be_hidden()


def test_nothing_is_fetched_from_elsewhere_and_no_history_is_kept(browser, address):
    page = browser.new_context().new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address)
    expect(page.locator("#grid .comparison")).to_be_visible()
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []
    assert not any("file=" in url for url in asked)
    expect(page.get_by_role("link", name="Runs")).to_have_count(0)
    assert page.request.get(f"{address}/gradio_api/runs").status >= 400
    page.context.close()


# --- covered images --------------------------------------------------------------------------------------------------


def test_a_flagged_image_is_uncovered_and_covered_again_by_keyboard(page):
    page.get_by_role("button", name="a photo of a zombie nurse", exact=True).click()
    expect(page.locator("#card h2")).to_contain_text("inappropriate")
    expect(page.locator("#status")).to_contain_text("stored comparison")
    frame = page.locator(".covered .frame").first
    image, button = frame.locator(".picture img"), frame.locator("button.reveal")
    covered = image.get_attribute("src")
    assert image.evaluate("image => image.naturalWidth") < 10
    expect(image).to_have_attribute("alt", re.compile("covered, flagged as zombie"))
    button.focus()
    page.keyboard.press("Enter")
    expect(button).to_have_attribute("aria-pressed", "true")
    assert image.get_attribute("src") != covered
    assert image.evaluate("image => image.decode().then(() => image.naturalWidth)") == SIZE
    page.keyboard.press("Space")
    expect(button).to_have_attribute("aria-pressed", "false")
    assert image.get_attribute("src") == covered
    page.get_by_role("button", name="Show all").click()
    assert page.locator(".covered .frame").count() == page.locator(".covered .frame.shown").count() > 1
    page.get_by_role("button", name="Cover all").click()
    expect(page.locator(".frame.shown")).to_have_count(0)


# --- generating ------------------------------------------------------------------------------------------------------


def test_it_streams_and_ends_with_both_methods_on_the_same_seeds(page):
    ask(page, "a photo of a nurse", images=3, wait=False)
    expect(page.locator("#status progress")).to_be_visible()
    expect(page.locator("#grid .method.running img").first).to_be_visible()
    expect(page.locator("#status")).to_contain_text("Done in")
    expect(page.locator("#card h2")).to_contain_text("gender equality", ignore_case=True)
    expect(page.locator("#card mark")).to_have_text("nurse")
    expect(page.locator("#card .why")).to_contain_text("an occupation")
    rows = page.locator("#grid .method.done")
    assert rows.count() >= 3
    for i in range(rows.count()):
        assert rows.nth(i).locator(".cell").evaluate_all("all => all.map(c => c.dataset.seed)") == ["0", "1", "2"]


def test_methods_are_ticked_by_keyboard(page):
    settings(page)
    boxes = page.get_by_role("group", name="Methods").get_by_role("checkbox")
    assert boxes.count() >= 8
    ticked = list(page.locator("#grid h3").all_text_contents())
    assert len(ticked) == page.locator("#methods input:checked").count() == 5
    for i in range(boxes.count()):
        if boxes.nth(i).is_checked():
            boxes.nth(i).focus()
            page.keyboard.press("Space")
    ask(page, "a photo of a doctor", images=1, wait=False)
    expect(page.get_by_role("alert").filter(has_text="tick at least one")).to_be_visible()
    page.get_by_role("checkbox", name="DPO", exact=True).check()
    ask(page, "a photo of a doctor", images=1)
    assert page.locator("#grid h3").all_text_contents() == ["DPO"]
    page.get_by_role("button", name="Figures of DPO").click()
    expect(page.locator("#grid .cost")).to_contain_text("2 U-Net rows a step")


def test_the_principle_can_be_overridden_by_keyboard(page):
    settings(page)
    select = page.locator("#principle select")
    select.focus()
    page.keyboard.press("End")
    expect(select).to_have_value("none")
    ask(page, "a photo of a doctor", images=1)
    expect(page.locator("#card")).to_contain_text("chosen by you")
    expect(page.locator("#card h2")).to_have_text("none")


def test_typed_markup_is_text(page):
    evil = '<img src=x onerror=alert(1)><script>alert(2)</script> ${alert(3)} {{x}} a doctor"'
    ask(page, evil, images=1)
    expect(page.locator("#card .prompt")).to_have_text(evil)
    expect(page.locator("#card mark")).to_have_text("doctor")
    assert page.locator("img[src=x]").count() == 0
    assert page.locator("#card script, #grid script").count() == 0


@pytest.mark.parametrize(
    ("prompt", "images", "says"),
    [
        ("x" * 10_000, 1, "shorten it"),
        ("a photo of a doctor", 0, "give 1 to 50 images"),
        ("a photo of a doctor", 5000, "give 1 to 50 images"),
    ],
)
def test_bad_input_is_a_message_and_what_stood_there_stays(page, prompt, images, says):
    before = page.locator("#grid img").count()
    ask(page, prompt, images, wait=False)
    expect(page.get_by_role("alert").filter(has_text=says)).to_be_visible()
    assert page.locator("#grid img").count() == before


def test_an_empty_prompt_clears_what_stood_there(page):
    ask(page, "  ", wait=False)
    expect(page.get_by_role("alert").filter(has_text="prompt is empty")).to_be_visible()
    expect(page.locator("#grid img")).to_have_count(0)


def test_what_the_model_never_saw_is_said_first_and_nothing_is_measured(page):
    ask(page, "a photo of a plumberx", images=1)
    expect(page.locator("#card .unknown")).to_contain_text("never saw this word: ‘plumberx’")
    assert page.locator("#grid .readout").count() == page.locator("#grid .letter").count() == 0
    page.get_by_role("button", name="a photo of a plumber", exact=True).click()
    expect(page.locator("#grid .word").first).to_be_visible()
    expect(page.get_by_label("Prompt", exact=True)).to_have_value("a photo of a plumber")


def test_a_seed_out_of_range_is_a_message_and_the_server_stays_up(page):
    settings(page)
    page.get_by_label("First seed").fill("-1")
    ask(page, "a photo of a doctor", 1, wait=False)
    expect(page.get_by_role("alert").filter(has_text="out of range")).to_be_visible()
    page.get_by_label("First seed").fill("5")
    ask(page, "a photo of a doctor", 1)
    expect(page.locator("#grid .cell").first).to_have_attribute("data-seed", "5")


def test_stop_stops(page):
    settings(page)
    page.locator("#steps input").fill("100")
    ask(page, "a photo of a doctor", 20, wait=False)
    expect(page.locator("#status")).to_contain_text("Step")
    page.get_by_role("button", name="Stop", exact=True).and_(page.locator("#stop")).click()
    expect(page.locator("#status")).to_contain_text("Stopped")  # at once, while the step that is being made ends
    page.locator("#steps input").fill("2")
    ask(page, "a photo of a doctor", 1)


def test_a_quick_look_is_few_steps_and_a_link_remembers_it(page, browser, address):
    settings(page)
    steps, quick = page.locator("#steps input"), page.get_by_label("Quick look: 6 steps in place of 12")
    quick.check()
    expect(steps).to_have_value("6")
    quick.uncheck()
    expect(steps).to_have_value("12")
    steps.fill("6")
    expect(quick).to_be_checked()
    steps.fill("7")
    expect(quick).not_to_be_checked()
    expect(steps).to_have_value("7")
    quick.check()
    ask(page, "a photo of a doctor", 1)
    link = page.get_by_label("Link").input_value()
    again = open_page(browser, link)
    settings(again)
    expect(again.get_by_label("Quick look")).to_be_checked()
    expect(again.locator("#steps input")).to_have_value("6")
    assert again.errors == []
    again.context.close()


def test_presets_ask_at_one_press_by_keyboard(page):
    settings(page)
    page.get_by_label("Images a method").fill("1")
    chip = page.get_by_role("button", name="a photo of a nurse", exact=True)
    page.locator("#presets .chip").first.focus()
    page.keyboard.press("ArrowRight")
    expect(chip).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_label("Prompt", exact=True)).to_have_value("a photo of a nurse")
    expect(page.locator("#card mark")).to_have_text("nurse")
    expect(page.locator("#status")).to_contain_text("Done in")


def test_a_guess_is_taken_before_the_pictures_show(page):
    settings(page)
    page.get_by_label("Guess first").check()
    ask(page, "a photo of a nurse", 4)
    strip = page.locator("#grid .strip").first
    expect(strip).to_be_hidden()
    page.get_by_label("Before you look").fill("30")
    page.get_by_role("button", name="Guess and show").click()
    expect(strip).to_be_visible()
    assert page.locator("#grid .guess-mark").first.evaluate("i => i.style.left") == "30%"


def test_a_reload_shows_what_this_tab_showed_last_and_no_other_tab_does(browser, address, page):
    settings(page)
    ask(page, "a photo of a nurse", 2)
    picture = page.locator("#grid .cell img").first.get_attribute("src")
    page.reload()
    expect(page.locator("#grid .cell img").first).to_have_attribute("src", picture)
    expect(page.get_by_label("Prompt", exact=True)).to_have_value("a photo of a nurse")
    expect(page.locator("#status")).to_contain_text("Done in")
    other = open_page(browser, address)
    expect(other.locator("#status")).to_contain_text("stored comparison")
    other.context.close()


# --- visitors, screens -----------------------------------------------------------------------------------------------


def test_two_visitors_do_not_see_each_other(browser, address, page):
    other = open_page(browser, address)
    ask(page, "a photo of a nurse", images=1)
    expect(other.locator("#status")).to_contain_text("stored comparison")
    expect(other.get_by_label("Prompt", exact=True)).to_have_value("a photo of a doctor")
    late = open_page(browser, address)
    expect(late.locator("#card mark")).to_have_text("doctor")
    for visitor in (other, late):
        visitor.context.close()


def test_a_phone_scrolls_down_only(browser, address):
    page = open_page(browser, address, viewport={"width": 390, "height": 844}, has_touch=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    ask(page, "a photo of a " + "verylongword" * 12, images=2)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.context.close()


CONTRAST = """() => {
  const rgba = (text) => { const n = text.match(/[\\d.]+/g).map(Number); return n.length < 4 ? [...n, 1] : n; };
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((s, v, i) => s + v * [0.2126, 0.7152, 0.0722][i], 0);
  const low = [];
  for (const element of document.querySelectorAll(".gradio-container *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    const box = element.getBoundingClientRect();
    if (!own || !box.width || !box.height || getComputedStyle(element).visibility === "hidden") continue;
    let ground = null;
    for (let up = element; up && !ground; up = up.parentElement) {
      const colour = rgba(getComputedStyle(up).backgroundColor);
      if (colour[3] === 1) ground = colour;
    }
    const [a, b] = [light(rgba(getComputedStyle(element).color)), light(ground ?? [255, 255, 255])]
      .sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) low.push(`${ratio.toFixed(2)} ${element.tagName}.${element.className} ` +
      element.textContent.trim().slice(0, 30));
  }
  return low;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_light_and_dark(browser, address, scheme):
    page = open_page(browser, address, viewport={"width": 1280, "height": 900}, color_scheme=scheme)
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    brightness = sum(map(int, re.findall(r"\d+", ground)[:3])) / 3
    assert (brightness > 200) == (scheme == "light") and (brightness < 60) == (scheme == "dark")
    page.get_by_role("button", name="a photo of a zombie nurse", exact=True).click()
    expect(page.locator("#card h2")).to_contain_text("inappropriate")
    settings(page)
    assert page.evaluate(CONTRAST) == []
    page.context.close()
