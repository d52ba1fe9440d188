"""The link to a view on the page: offered beside every comparison, and followed when somebody opens it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import gradio as gr

from livo.types import InputError
from livo.ui.cards import message
from livo.ui.recipe import PARAMETER, Recipe, address, decode
from livo.ui.workbench import Workbench

CLICK_JS = """
watch("value", () => { if (props.value) setTimeout(() => trigger("click"), 300); });
"""
"""A State's change does not reach the browser from an event that waits in no queue; the form is to be filled by
then."""


class Asked(Protocol):
    """The form's fields that a link holds."""

    @property
    def prompt(self) -> str | None: ...
    @property
    def choice(self) -> str | None: ...
    @property
    def methods(self) -> str | None: ...
    @property
    def seed(self) -> float | None: ...
    @property
    def images(self) -> float | None: ...
    @property
    def steps(self) -> float: ...
    @property
    def guidance(self) -> float: ...
    @property
    def width(self) -> float | None: ...
    @property
    def height(self) -> float | None: ...


def link_to(bench: Workbench, form: Asked, request: gr.Request | None) -> str:
    """The link to what the form asks for; empty where it holds nothing that could be asked again."""
    if request is None or bench.engine is None or form.seed is None or form.images is None:
        return ""
    ids = tuple(id for id in (form.methods or "").split(",") if id)
    prompt, choice, model = (form.prompt or "").strip(), form.choice or "auto", bench.engine.backbone.name
    numbers = int(form.seed), int(form.images), int(form.steps), float(form.guidance)
    size = [None if side is None else int(side) for side in (form.width, form.height)]
    try:
        recipe = Recipe(prompt, choice, ids, *numbers, model, *size)
        decode(recipe.encode(), list(bench.entries), 1_000)
    except (InputError, TypeError, ValueError):
        return ""
    return address(recipe, _own_address(request))


def _own_address(request: gr.Request) -> str:
    """This server's, as the visitor's browser reached it."""
    headers, scope = request.headers, request.request.scope if request.request else {}
    scheme = headers.get("x-forwarded-proto", request.url.scheme).split(",")[0]
    return f"{scheme}://{headers.get('host', 'localhost')}{scope.get('root_path', '')}"


def open_link(
    bench: Workbench,
    most_images: int,
    form: Sequence[gr.components.Component],
    card: gr.HTML,
    fill: Callable[[Recipe], list[Any]],
) -> gr.HTML:
    """Fills the form from a link when the page opens; what is returned is clicked, by itself, where there is
    something to run.

    Args:
        form: the components of `with_link`'s `given`, in that order.
        card: told what is wrong with a link.
        fill: values or updates of the form's components.
    """
    opened = gr.HTML("", html_template="<i hidden></i>", js_on_load=CLICK_JS, elem_id="opened", apply_default_css=False)

    def follow(request: gr.Request) -> list[Any]:
        stay = [gr.skip()] * len(form)
        text = request.query_params.get(PARAMETER, "")
        if not text:
            return [*stay, gr.skip(), gr.skip()]
        try:
            recipe = decode(text, list(bench.entries), most_images)
        except InputError as error:
            return [*stay, message(str(error)), gr.skip()]
        name = bench.engine.backbone.name if bench.engine else ""
        warning = (
            ""
            if recipe.backbone == name
            else message(f"this link was made with another model ({recipe.backbone}); this page has {name}", "note")
        )
        return [*fill(recipe), warning or gr.skip(), text]

    gr.context.Context.root_block.load(
        follow, None, [*form, card, opened], show_progress="hidden", queue=False, api_visibility="private"
    )
    return opened
