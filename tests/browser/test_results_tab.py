"""The results tab in a real browser, on synthetic results with pictures of noise."""

from __future__ import annotations

from collections.abc import Iterator

import gradio as gr
import pytest
from axe_playwright_python.sync_playwright import Axe
from evaluated import MAIN, save, synthetic, with_pictures
from playwright.sync_api import Browser, Page, expect

from livo.ui.results_tab import build_results_tab
from livo.ui.theme import CSS, build_theme, head

pytestmark = pytest.mark.browser
PATIENCE = 90_000
RULES = {
    "runOnly": [
        "color-contrast",
        "aria-allowed-attr",
        "aria-required-children",
        "button-name",
        "nested-interactive",
        "scrollable-region-focusable",
        "svg-img-alt",
    ]
}
"""What axe checks: rules that the tab itself can break; Gradio's own frame is tested with the page."""


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Iterator[str]:
    """A page with nothing but the tab, and beside it one whose results are missing."""
    root = tmp_path_factory.mktemp("results")
    save(with_pictures(synthetic(MAIN), root / "main"), root / "main")
    with gr.Blocks(analytics_enabled=False, fill_width=True) as page:
        with gr.Tab("First"):
            gr.HTML("nothing")
        with gr.Tab("Results") as tab:
            build_results_tab(tab, root)
    with gr.Blocks(analytics_enabled=False, fill_width=True) as empty:
        with gr.Tab("First"):
            gr.HTML("nothing")
        with gr.Tab("Results") as tab:
            build_results_tab(tab, root / "none")
    options = {
        "prevent_thread_lock": True,
        "quiet": True,
        "theme": build_theme(),
        "css_paths": CSS,
        "head": head(),
        "ssr_mode": False,
        "run_history": False,
    }
    addresses = [blocks.launch(server_port=None, **options)[1] for blocks in (page, empty)]
    yield addresses
    for blocks in (page, empty):
        blocks.close()


def open_results(browser: Browser, address: str, **context) -> Page:
    page = browser.new_context(**context).new_page()
    page.set_default_timeout(PATIENCE)
    page.errors = []
    page.asked = []
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.on("request", lambda request: page.asked.append(request.url))
    page.goto(address)
    page.get_by_role("tab", name="Results").click()
    expect(page.locator("#results").locator(".chart-box, .message").first).to_be_visible()
    return page


def test_a_point_opens_its_pictures_by_mouse_and_by_keyboard(browser, site):
    page = open_results(browser, site[0], viewport={"width": 1280, "height": 900})
    page.locator('#results .chart.wide .point[data-method="uce"]').first.click()
    expect(page.locator("#pictures h2")).to_have_text("UCE")
    point = page.locator('#results .chart.wide .point[data-method="livo"]').first
    point.focus()
    page.keyboard.press("Enter")
    expect(page.locator("#pictures h2")).to_have_text("LiVO")
    frame = page.locator("#pictures .covered .frame").first
    covered = frame.locator(".picture img").get_attribute("src")
    assert frame.locator(".picture img").evaluate("image => image.naturalWidth") < 10
    frame.locator("button.reveal").click()
    expect(frame).to_have_class("frame shown")
    assert frame.locator(".picture img").get_attribute("src") != covered
    assert page.errors == []
    assert not [url for url in page.asked if not url.startswith((site[0], "data:", "blob:"))]
    page.context.close()


def test_a_phone_scrolls_down_only_and_has_charts_it_can_read(browser, site):
    page = open_results(browser, site[0], viewport={"width": 390, "height": 844}, has_touch=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    expect(page.locator("#results .chart.narrow").first).to_be_visible()
    expect(page.locator("#results .chart.wide").first).to_be_hidden()
    size = page.locator("#results .chart.narrow text").first.evaluate("text => text.getBoundingClientRect().height")
    assert size > 9
    page.locator('#results .chart.narrow .point[data-method="livo"]').first.tap()
    expect(page.locator("#pictures h2")).to_have_text("LiVO")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_light_and_dark(browser, site, scheme):
    page = open_results(browser, site[0], viewport={"width": 1280, "height": 900}, color_scheme=scheme, bypass_csp=True)
    page.locator('#results .chart.wide .point[data-method="livo"]').first.click()
    expect(page.locator("#pictures h2")).to_have_text("LiVO")
    page.locator("details.control summary").first.click()
    response = Axe().run(page, context="#results, #pictures, #results-more", options=RULES).response
    assert "color-contrast" in {rule["id"] for rule in response["passes"]}
    assert not response["violations"], [
        (v["id"], [n["html"][:120] for n in v["nodes"]][:3]) for v in response["violations"]
    ]
    page.context.close()


def test_missing_results_are_a_message_with_the_command(browser, site):
    page = open_results(browser, site[1])
    expect(page.locator("#results")).to_contain_text("python -m livo evaluate")
    page.context.close()
