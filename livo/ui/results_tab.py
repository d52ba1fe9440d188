"""The results tab: what a stored evaluation found, and behind every point of a chart its pictures.

Nothing is read before the tab is opened for the first time, and then once for all visitors.
"""

from __future__ import annotations

import logging
from pathlib import Path

import gradio as gr

from livo.types import InputError
from livo.ui.cards import message
from livo.ui.results_page import FOLDER, page_of, read_results_of
from livo.ui.results_view import pictures_html

logger = logging.getLogger(__name__)

POINTS_JS = """
const ask = (event) => {
  const point = event.target.closest(".point");
  if (!point) return;
  element.querySelectorAll(".point.chosen").forEach((other) => other.classList.remove("chosen"));
  const all = `.point[data-method="${CSS.escape(point.dataset.method)}"]`;
  element.querySelectorAll(all).forEach((same) => same.classList.add("chosen"));
  trigger("click", { method: point.dataset.method });
};
element.addEventListener("click", ask);
element.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" && event.key !== " ") return;
  event.preventDefault();
  ask(event);
});
"""
"""A point is a button, by mouse and by keyboard."""


def open_tab(folder: Path) -> tuple[str, str]:
    """Above and below the pictures; or what is missing, and which command makes it."""
    try:
        return page_of(folder)
    except InputError as error:
        return message(str(error).replace("`", ""), "note"), ""
    except Exception as error:  # the server stays up, and says what happened
        logger.exception("the results cannot be shown")
        return message(f"the results cannot be shown ({type(error).__name__}: {error})"), ""


def show_point(folder: Path, method: str) -> str:
    """The pictures of a method, or why there are none."""
    try:
        return pictures_html(read_results_of(folder), method)
    except InputError as error:
        return message(str(error).replace("`", ""), "note")


def build_results_tab(tab: gr.Tab, folder: Path = FOLDER) -> None:
    """Lays the tab out inside the Blocks at hand; `tab` is the one it is in."""
    top = gr.HTML(
        '<p class="status">Reading the results</p>', js_on_load=POINTS_JS, elem_id="results", apply_default_css=False
    )
    pictures = gr.HTML("", elem_id="pictures", apply_default_css=False)
    below = gr.HTML("", elem_id="results-more", apply_default_css=False)
    tab.select(
        lambda: open_tab(folder), None, [top, below], show_progress="hidden", queue=False, api_visibility="private"
    )

    def on_point(event: gr.EventData) -> str:
        return show_point(folder, str(getattr(event, "method", "")))

    top.click(on_point, None, pictures, show_progress="hidden", queue=False, api_visibility="private").then(
        None, None, None, js="() => document.querySelector('#pictures').scrollIntoView({ block: 'nearest' })"
    )
