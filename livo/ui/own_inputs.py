"""Inputs of our own in Gradio's page: native controls, drawn by a template, whose scripts hand their value over."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gradio as gr
from markupsafe import Markup

from livo.ui.templates import render

SELECT_JS = """
element.addEventListener("change", (event) => { props.value = event.target.value; });
"""
"""A native <select>: Gradio's own lists cannot be worked with a screen reader."""
TICKS_JS = """
element.addEventListener("change", () => {
  props.value = [...element.querySelectorAll("input:checked")].map((box) => box.value).join(",");
});
"""
SWITCH_JS = """
element.addEventListener("change", (event) => { props.value = event.target.checked ? "on" : ""; });
"""

QUICK_JS = """
const box = element.querySelector("input");
box.addEventListener("change", () => { props.value = box.checked ? "on" : ""; trigger("click"); });
watch("value", () => { box.checked = props.value === "on"; });
"""


def own_input(value: str, template: str, script: str, id: str) -> gr.HTML:
    """An input of our own, drawn by a template; its script sets the value."""
    return gr.HTML(value, html_template=template, js_on_load=script, elem_id=id, apply_default_css=False, padding=False)


def select_html(label: str, choices: Mapping[str, str], chosen: str = "") -> Markup:
    """A native <select> with its label; `choices` are texts by value."""
    return render("select.html", label=label, choices=choices, chosen=chosen)


def quick_look(usual: int, few: int, steps: gr.Number) -> None:
    """A tick that fills in few steps, or the usual ones; it is set where the steps are few, also by hand or a link."""
    box = own_input("", render("quick_switch.html", usual=usual, few=few), QUICK_JS, "quick")
    in_browser: dict[str, Any] = {"show_progress": "hidden", "queue": False, "api_visibility": "private"}
    box.click(None, box, steps, js=f"(on) => on ? {few} : {usual}", **in_browser)
    steps.change(None, steps, box, js=f'(n) => Number(n) === {few} ? "on" : ""', **in_browser)
