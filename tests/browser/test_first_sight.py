"""First sight, measured: what is seen without scrolling, how large, how many words; axe in every tab.

Stops of the keyboard.
"""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Browser, Page, expect

pytestmark = pytest.mark.browser
PATIENCE = 120_000
SCREENS = {"laptop": (1366, 768), "desktop": (1920, 1080), "phone": (390, 844)}
TABS = ("Compare", "Train your own", "Learn", "The drawn world", "Results", "Human evaluation")
MEASURE = """() => {
  const whole = (box) => box.top >= 0 && box.bottom <= innerHeight && box.height > 0;
  const rows = [...document.querySelectorAll("#grid .method:not(.off)")];
  const images = [...document.querySelectorAll("#grid .picture img")].map((image) => image.getBoundingClientRect());
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let words = 0;
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const parent = node.parentElement;
    if (!node.textContent.trim() || !parent.checkVisibility({ visibilityProperty: true })) continue;
    if (parent.closest("script, style, template, select")) continue;
    const range = document.createRange();
    range.selectNodeContents(node);
    const box = range.getBoundingClientRect();
    if (box.width && box.top < innerHeight && box.bottom > 0) words += node.textContent.trim().split(/\\s+/).length;
  }
  const whole_rows = rows.filter((row) => whole(row.getBoundingClientRect()));
  return {
    rows: whole_rows.length,
    verdicts: whole_rows.filter((row) => row.querySelector(".word")?.textContent.trim()).length,
    first: images[0].top,
    side: Math.min(...images.map((box) => Math.min(box.width, box.height))),
    aligned: new Set(rows.map((row) => [...row.querySelectorAll(".cell")].map((cell) =>
      Math.round(cell.getBoundingClientRect().left - row.getBoundingClientRect().left)).join())).size,
    wide: document.documentElement.scrollWidth,
    words,
  };
}"""


def open_page(browser: Browser, address: str, screen: str = "laptop", scheme: str = "light", **extra) -> Page:
    width, height = SCREENS[screen]
    page = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme, **extra).new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(address)
    expect(page.locator("#grid .comparison")).to_be_visible(timeout=PATIENCE)
    expect(page.locator("p.loading")).to_have_count(0, timeout=PATIENCE)  # Gradio's own, while a tab's parts come
    return page


def open_tab(page: Page, name: str) -> None:
    tab = page.get_by_role("tab", name=name, exact=True)
    if tab.is_visible():
        tab.click()
    else:
        page.get_by_role("button", name="More tabs").click()
        page.get_by_role("button", name=name, exact=True).click()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("screen", SCREENS)
def test_the_comparison_is_seen_at_first_sight(browser, drawn_address, screen, scheme):
    page = open_page(browser, drawn_address, screen, scheme)
    seen = page.evaluate(MEASURE)
    page.context.close()
    assert seen["wide"] <= SCREENS[screen][0] and seen["words"] <= 250 and seen["aligned"] == 1, seen
    assert seen["side"] >= (128 if screen == "desktop" else 96), seen
    assert seen["first"] <= (480 if screen == "phone" else 330), seen
    if screen != "phone":
        assert seen["rows"] == seen["verdicts"] >= 3, seen


@pytest.mark.parametrize(
    ("screen", "scheme"), [("laptop", "light"), ("laptop", "dark"), ("phone", "light"), ("phone", "dark")]
)
def test_axe_finds_nothing_in_any_tab(browser, drawn_address, screen, scheme):
    page = open_page(browser, drawn_address, screen, scheme, bypass_csp=True)
    found = {}
    for name in TABS:
        if name != "Compare":
            open_tab(page, name)
            page.wait_for_timeout(1500)
            expect(page.locator("p.loading")).to_have_count(0)
        violations = Axe().run(page).response["violations"]
        bad = [(v["id"], [n["html"][:110] for n in v["nodes"]][:3]) for v in violations]
        if bad:
            found[name] = bad
    page.context.close()
    assert not found, json.dumps(found, indent=1)


def test_the_first_picture_is_within_twelve_stops_and_skipped_to_in_two(browser, drawn_address):
    page = open_page(browser, drawn_address)
    page.wait_for_timeout(500)
    for stops in range(1, 20):  # noqa: B007
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement?.matches('#grid button.picture')"):
            break
    assert stops <= 12, stops
    page.reload()
    expect(page.locator("#grid .comparison")).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the pictures")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#grid button.picture").first).to_be_focused()
    page.context.close()


def test_a_card_and_a_zip_made_by_the_page_open_and_hold_what_they_say(browser, drawn_address):
    page = open_page(browser, drawn_address)
    with page.expect_download() as card:
        page.get_by_role("link", name="Card (PNG)").click()
    assert Image.open(Path(card.value.path())).width == 1200
    page.get_by_role("button", name="Settings", exact=True).click()
    page.get_by_label("Images a method").fill("2")
    page.get_by_label("Prompt", exact=True).fill("a photo of a nurse")
    page.get_by_role("button", name="Compare", exact=True).click()
    expect(page.locator("#status")).to_contain_text("Done in", timeout=PATIENCE)
    with page.expect_download() as packed:
        page.get_by_role("link", name="Pictures and figures (ZIP)").click()
    archive = zipfile.ZipFile(io.BytesIO(Path(packed.value.path()).read_bytes()))
    answer = json.loads(archive.read("comparison.json"))
    assert archive.testzip() is None and answer["prompt"] == "a photo of a nurse"
    assert {"livo-seed0.png", "livo-seed1.png", "card.png"} <= set(archive.namelist())
    page.context.close()
