"""One Chromium for all browser tests, and one server of the drawn world. Without a browser they fail; they are
never skipped."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from pages import page_server
from playwright.sync_api import Browser, expect, sync_playwright

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
PATIENCE = 90_000
"""Milliseconds that a page may take to show what is expected: CI machines are slow, and may be training beside."""
SYSTEM_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

expect.set_options(timeout=PATIENCE)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        own = playwright.chromium.executable_path
        path = own if Path(own).exists() else next(filter(None, map(shutil.which, SYSTEM_BROWSERS)), None)
        if path is None:
            pytest.fail("no browser: `python -m playwright install chromium`, or install the system's chromium")
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def drawn_address() -> Iterator[str]:
    """A server of the bundled miniature, shared by the tests that do not test its start."""
    with page_server() as (address, _):
        yield address
