"""Two visitors train in a real browser against a real server; and the drawn world's tab."""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

pytestmark = pytest.mark.browser

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 240_000
"""Milliseconds: CI machines are slow, and may be training beside."""
RULES = {"runOnly": [
    "color-contrast", "aria-allowed-attr", "aria-required-children", "button-name", "nested-interactive",
                     "svg-img-alt", "image-alt", "label", "select-name"]}  # fmt: skip


@pytest.fixture
def address(drawn_address: str) -> str:
    return drawn_address


def open_tab(browser: Browser, address: str, name: str, **context) -> Page:
    page = browser.new_context(**context).new_page()
    page.set_default_timeout(PATIENCE)
    page.errors = []
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.goto(address)
    expect(page.locator("#grid .comparison")).to_be_visible(timeout=PATIENCE)
    page.get_by_role("tab", name=name).click()
    return page


def train(page: Page, steps: int) -> None:
    page.get_by_label("Training steps").fill(str(steps))
    page.get_by_role("button", name="Train", exact=True).click()


def weights() -> dict[str, str]:
    """Digest by file of everything that is shipped with the model."""
    files = sorted(path for path in (ROOT / "assets" / "miniature").rglob("*") if path.is_file())
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_one_trains_the_other_waits_and_starts_when_the_first_leaves(browser, address):
    shipped = weights()
    first, second = (
        open_tab(browser, address, "Train your own", viewport={"width": 1280, "height": 900}) for _ in range(2)
    )
    train(first, 600)
    expect(first.locator("#live-status")).to_contain_text("Getting ready", timeout=PATIENCE)
    train(second, 10)
    status = second.locator("#live-status")
    expect(status).to_contain_text(re.compile(r"Waiting: 1 training before yours, about \d+ (s|min)"), timeout=PATIENCE)
    expect(first.locator("#live-strip img").first).to_be_visible(timeout=PATIENCE)
    expect(second.locator("#live-strip img")).to_have_count(0)
    assert first.errors == []
    first.context.close()
    expect(status).to_contain_text(re.compile("Getting ready|Step"), timeout=PATIENCE)
    expect(status).to_contain_text("Trained in", timeout=PATIENCE)
    expect(second.locator("#live-strip")).to_contain_text("after 10 steps")
    expect(second.locator("#live-strip")).to_contain_text("95 % interval")
    assert second.locator("#live-strip img").count() == 32 and second.locator("#live-charts svg").count() == 3
    with second.expect_download() as download:
        second.get_by_role("button", name="Download").click()
    archive = zipfile.ZipFile(io.BytesIO(Path(download.value.path()).read_bytes()))
    assert archive.testzip() is None and any(name.endswith("model.safetensors") for name in archive.namelist())
    second.get_by_label("Images of each").fill("1")
    second.get_by_role("button", name="Compare with the shipped one").click()
    expect(second.locator("#live-compared")).to_contain_text("Done in", timeout=PATIENCE)
    assert second.locator("#live-grid h3").all_text_contents() == [
        "Stable Diffusion",
        "Yours, 10 steps",
        "LiVO as shipped",
    ]
    found = Axe().run(second, options=RULES)
    assert found.violations_count == 0, found.generate_report()
    late = open_tab(browser, address, "Train your own")
    expect(late.locator("#live-status")).to_contain_text("Ready")
    late.get_by_role("button", name="Download").click()
    expect(late.get_by_role("alert").filter(has_text="Nothing is trained yet")).to_be_visible()
    assert second.errors == late.errors == []
    for page in (second, late):
        page.context.close()
    assert weights() == shipped


def test_stop_stops_and_bad_input_is_said_by_keyboard_alone(browser, address):
    page = open_tab(browser, address, "Train your own")
    train(page, 600)
    status = page.locator("#live-status")
    expect(status).to_contain_text("Getting ready", timeout=PATIENCE)
    page.get_by_role("button", name="Stop", exact=True).and_(page.locator("#live-stop")).click()
    expect(status).to_contain_text("Stopped")
    ticked = page.locator("#live-concepts input:checked")
    for _ in range(ticked.count()):
        ticked.first.focus()
        page.keyboard.press("Space")
    expect(ticked).to_have_count(0)
    page.locator("#live-go").focus()
    for _ in range(30):  # the page takes no second training before the stopped one is gone
        page.keyboard.press("Enter")
        page.wait_for_timeout(1000)
        if status.get_by_role("alert").count():
            break
    expect(status.get_by_role("alert")).to_contain_text("No concept is chosen")
    page.locator("#live-concepts input").first.focus()
    page.keyboard.press("Space")
    page.get_by_label("Gamma 1").fill("-1")
    page.locator("#live-go").click()
    expect(status.get_by_role("alert")).to_contain_text("give 0 to 20")
    assert page.errors == []
    page.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_planted_table_is_shown_and_edited(browser, address, scheme):
    page = open_tab(browser, address, "The drawn world", viewport={"width": 1280, "height": 900}, color_scheme=scheme)
    expect(page.locator("#world-measured h3").first).to_have_text("Planted")
    page.get_by_label("Occupation or adjective").select_option("nurse")
    planted = page.locator("#world-measured .method").first
    expect(planted).to_contain_text("97 %")
    expect(page.locator("#world-shown .method").nth(1)).to_contain_text("Your table")
    expect(page.locator("#world-shown .method").nth(1)).not_to_contain_text(
        re.compile("(?<!1)0 of these 16")
    )  # no longer the doctor
    before = page.locator("#world-shown .method").nth(1).locator("img").evaluate_all("all => all.map((i) => i.src)")
    page.get_by_role("spinbutton", name=re.compile("perceived female")).fill("50")
    page.keyboard.press("Enter")
    expect(page.locator("#world-shown .method").nth(1)).to_contain_text("50 %")
    after = page.locator("#world-shown .method").nth(1).locator("img").evaluate_all("all => all.map((i) => i.src)")
    assert 0 < sum(a == b for a, b in zip(before, after, strict=True)) < len(before), (
        "some pictures change, the others stay"
    )
    expect(page.get_by_role("note").filter(has_text="not retrained")).to_be_visible()
    found = Axe().run(page, options=RULES)
    assert found.violations_count == 0, found.generate_report()
    assert page.errors == []
    page.context.close()


@pytest.mark.parametrize("name", ["Train your own", "The drawn world"])
def test_a_phone_scrolls_down_only(browser, address, name):
    page = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True).new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(address)
    expect(page.locator("#grid .comparison")).to_be_visible(timeout=PATIENCE)
    tab = page.get_by_role("tab", name=name)
    if tab.is_visible():
        tab.click()
    else:
        page.get_by_role("button", name="More tabs").click()
        page.get_by_role("button", name=name).click()
    expect(page.locator("#live-go" if name == "Train your own" else "#world-shown img").first).to_be_visible(
        timeout=PATIENCE
    )
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.context.close()
