"""The viewer, disagreeing with the judge, and choosing another principle, in a browser and by keyboard."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from livo.ui.tally import share_text

pytestmark = pytest.mark.browser

PATIENCE = 90_000
"""Milliseconds: CI machines are slow, and may be training beside."""


@pytest.fixture
def address(drawn_address: str) -> str:
    return drawn_address


def open_page(browser: Browser, address: str, **options) -> Page:
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}} | options)
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    page.goto(address)
    expect(page.locator("#grid button.picture").first).to_be_visible()
    return page


@pytest.fixture
def page(browser, address) -> Iterator[Page]:
    page = open_page(browser, address)
    yield page
    page.context.close()


def share(page: Page, question: str):
    return page.locator(f'.tally tr[data-question="{question}"] .share')


def placed(page: Page, question: str) -> int:
    cells = page.locator("#grid [data-answers]").evaluate_all("all => all.map(c => c.dataset.answers)")
    return sum(json.loads(answers)[question] is not None for answers in cells)


def disagree(page: Page, number: int, question: str, label: str) -> None:
    page.locator("#grid button.picture").nth(number).click()
    page.get_by_role("dialog").get_by_label(re.compile(f"^{question}")).select_option(label)
    page.get_by_role("button", name="Close").click()


def test_a_disagreement_is_counted_by_keyboard_alone(page):
    n = placed(page, "gender")
    expect(share(page, "gender")).to_have_text(share_text(0, n))
    button = page.locator("#grid button.picture").first
    button.focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name="Stable Diffusion, seed 0")
    select = dialog.get_by_label(re.compile("^Gender presentation"))
    select.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    expect(button).to_be_focused()
    expect(page.locator("#grid .cell").first).to_have_class(re.compile("said"))
    expect(share(page, "gender")).to_have_text(share_text(1, n))
    expect(share(page, "tone")).to_have_text(share_text(0, placed(page, "tone")))


def test_the_viewer_moves_between_seeds_and_methods_and_slides_to_the_base_model(page):
    page.locator("#grid .method").nth(1).locator("button.picture").nth(2).click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("heading")).to_have_text("LiVO, seed 2")
    page.keyboard.press("ArrowRight")
    expect(dialog.get_by_role("heading")).to_have_text("LiVO, seed 3")
    slider = dialog.get_by_role("slider", name="From LiVO to Stable Diffusion")
    top = dialog.locator("img.base")
    base = page.locator("#grid .method").first.locator(".cell").nth(3).locator("img").get_attribute("src")
    assert top.get_attribute("src") == base != dialog.locator("img").first.get_attribute("src")
    slider.fill("40")
    assert "60%" in top.evaluate("image => image.style.clipPath")
    dialog.get_by_role("button", name="Method above").click()
    expect(dialog.get_by_role("heading")).to_have_text("Stable Diffusion, seed 3")
    expect(dialog.get_by_role("slider")).to_have_count(0)
    expect(dialog.get_by_role("button", name="Method above")).to_be_disabled()
    page.keyboard.press("Escape")
    expect(page.locator("#grid .method").first.locator("button.picture").nth(3)).to_be_focused()


def test_arrows_move_within_the_rows(page):
    first = page.locator("#grid .method").first.locator("button.picture")
    first.first.focus()
    page.keyboard.press("ArrowRight")
    expect(first.nth(1)).to_be_focused()
    page.keyboard.press("ArrowDown")
    expect(page.locator("#grid .method").nth(1).locator("button.picture").nth(1)).to_be_focused()
    page.keyboard.press("End")
    expect(page.locator("#grid .method").nth(1).locator("button.picture").last).to_be_focused()
    stops = page.locator("#grid .method").first.locator('button.picture[tabindex="0"]')
    expect(stops).to_have_count(1)


def test_it_can_be_taken_back_one_by_one_and_at_once(page):
    page.get_by_text("You and the judge").click()
    n = placed(page, "toxicity")
    for number in (0, 1, 2):
        disagree(page, number, "Toxicity", "zombie")
    expect(share(page, "toxicity")).to_have_text(share_text(3, n))
    disagree(page, 1, "Toxicity", "")
    expect(share(page, "toxicity")).to_have_text(share_text(2, n))
    disagree(page, 2, "Toxicity", "cannot tell")
    expect(share(page, "toxicity")).to_have_text(share_text(2, n))
    page.get_by_role("button", name="Forget what I said").click()
    expect(share(page, "toxicity")).to_have_text(share_text(0, n))
    expect(page.get_by_role("button", name="Forget what I said")).to_be_hidden()


def test_it_is_there_again_after_looking_at_another_comparison_and_no_other_visitor_sees_it(browser, address, page):
    n = placed(page, "gender")
    disagree(page, 0, "Gender presentation", "cannot tell")
    page.get_by_role("button", name="a photo of a zombie nurse", exact=True).click()
    expect(page.locator("#card h2")).to_contain_text("considered inappropriate")
    expect(page.locator("#grid .cell.said")).to_have_count(0)
    page.get_by_role("button", name="a photo of a doctor", exact=True).click()
    expect(share(page, "gender")).to_have_text(share_text(1, n))
    expect(page.locator("#grid .cell.said")).to_have_count(1)
    page.reload()
    expect(share(page, "gender")).to_have_text(share_text(1, n))
    other = open_page(browser, address)
    expect(share(other, "gender")).to_have_text(share_text(0, n))
    other.context.close()


def test_a_covered_image_stays_covered_while_it_is_asked_about(page):
    page.get_by_role("button", name="a photo of a zombie nurse", exact=True).click()
    covered = page.locator("#grid .cell.covered").first
    expect(covered).to_be_visible()
    covered.locator("button.picture").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("It is covered")
    assert dialog.locator("img").get_attribute("src") == covered.locator(".picture img").get_attribute("src")
    assert "blur" in dialog.locator("img").evaluate("i => getComputedStyle(i).filter")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone(browser, address, scheme):
    page = open_page(browser, address, viewport={"width": 390, "height": 700}, color_scheme=scheme)
    page.locator("#grid button.picture").first.click()
    box = page.get_by_role("dialog").bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= 390 and box["height"] <= 700
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.context.close()


def test_another_principle_is_one_press_away_and_says_why_it_was_not_the_first(page):
    page.get_by_role("button", name="Settings", exact=True).click()
    page.get_by_label("Images a method").fill("1")
    page.get_by_text("why not another?").click()
    expect(page.locator("#card .reasons li").first).to_contain_text("racial equality applies too")
    page.get_by_role("button", name="Compare under: Racial equality, confidence 0.50").click()
    expect(page.locator("#status")).to_contain_text("Done in")
    expect(page.locator("#card h2")).to_contain_text("racial equality")
    expect(page.locator("#principle select")).to_have_value("racial_equality")
    page.get_by_text("why not another?").click()
    page.get_by_role("button", name="Compare under: All 2 that apply").click()
    expect(page.locator("#card h2")).to_contain_text("gender equality and racial equality")
    expect(page.locator("#card")).to_contain_text("2 principles at once: LiVO applies them all")


def test_what_is_pressed_during_a_comparison_comes_after_it_and_a_double_click_asks_once(page):
    page.get_by_role("button", name="Settings", exact=True).click()
    page.get_by_label("Images a method").fill("4")
    go = page.get_by_role("button", name="Compare", exact=True)
    go.dblclick()
    expect(page.locator("#status")).to_contain_text("seeds 0 to 3")
    page.get_by_label("First seed").fill("70")
    go.click()
    page.get_by_label("First seed").fill("80")
    go.click()
    expect(page.locator("#status")).to_contain_text("seeds 80 to 83")
    expect(page.locator("#status")).to_contain_text("Done in")


@pytest.mark.parametrize("wait", [0, 30, 100, 300])
def test_a_press_right_after_the_end_is_not_lost(page, wait):
    page.get_by_role("button", name="Settings", exact=True).click()
    page.get_by_label("Images a method").fill("1")
    for seed in range(40, 44):
        page.get_by_label("First seed").fill(str(seed))
        page.get_by_role("button", name="Compare", exact=True).click()
        expect(page.locator("#status")).to_contain_text(f"seed {seed}")
        expect(page.locator("#status")).to_contain_text("Done in")
        page.wait_for_timeout(wait)
