"""A link that reproduces a view: what was asked, in the address, so that it works after a restart and on another
machine.

Gradio's own deep links keep a session's files on the server, which a restart empties; this one keeps nothing.
"""

from __future__ import annotations

import base64
import json
import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from types import NoneType
from typing import Any
from urllib.parse import urlencode

from markupsafe import Markup

from livo.compare.comparison import principle_of_choice
from livo.inputs import validate_prompt
from livo.types import InputError, SamplingOptions
from livo.ui.templates import render

PARAMETER = "r"
MOST_CHARACTERS = 4_000
SPACES = "https://huggingface.co/spaces/"


@dataclass(frozen=True)
class Recipe:
    """What a visitor asked for.

    Attributes:
        principle: "auto", "none", a principle's id, or whatever else the page's choice offers.
        methods: ids.
        backbone: the model's name, for the reader: a page shows recipes of other models with a remark.
        width, height: in pixels; None, also in links of before there was a choice, is the model's own.
    """

    prompt: str
    principle: str
    methods: tuple[str, ...]
    seed: int
    images: int
    steps: int
    guidance: float
    backbone: str
    width: int | None = None
    height: int | None = None

    def encode(self) -> str:
        """Letters, digits, "-" and "_" only."""
        data = json.dumps(asdict(self), ensure_ascii=False, separators=(",", ":")).encode()
        return base64.urlsafe_b64encode(zlib.compress(data, 9)).decode().rstrip("=")


def decode(text: str, known_methods: Sequence[str], most_images: int) -> Recipe:
    """The recipe of a link, every part checked as if a stranger had typed it.

    Raises:
        InputError: it is broken, or asks for something that there is not.
    """
    broken = InputError("this link is broken or cut off: ask for it again, or type the prompt")
    if len(text) > MOST_CHARACTERS:
        raise broken
    try:
        packed, reader = (
            base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True),
            zlib.decompressobj(),
        )
        payload = json.loads(reader.decompress(packed, 8 * MOST_CHARACTERS))  # no more, however much a stranger packed
        payload = {"width": None, "height": None} | payload
        if not reader.eof or payload.keys() != {field.name for field in fields(Recipe)}:
            raise broken
        recipe = Recipe(**{**payload, "methods": tuple(payload["methods"])})
    except (ValueError, TypeError, AttributeError, RecursionError, zlib.error) as error:
        raise broken from error
    _check(recipe, known_methods, most_images)
    return recipe


def _check(recipe: Recipe, known_methods: Sequence[str], most_images: int) -> None:
    wanted: dict[str, Any] = {
        "prompt": str, "principle": str, "seed": int, "images": int, "steps": int, "guidance": (int, float),
        "backbone": str, "width": (int, NoneType), "height": (int, NoneType),
    }  # fmt: skip
    for name, kind in wanted.items():
        if not isinstance(value := getattr(recipe, name), kind) or isinstance(value, bool):
            raise InputError(f"this link's {name} is no {name}: ask for it again")
    if unknown := [id for id in recipe.methods if id not in known_methods]:
        raise InputError(f"this link asks for the method {str(unknown[0])[:40]!r}, which this page does not have")
    if not recipe.methods:
        raise InputError("this link asks for no method: ask for it again")
    if not 1 <= recipe.images <= most_images:
        raise InputError(f"this link asks for {recipe.images} images; this page makes 1 to {most_images}")
    validate_prompt(recipe.prompt)
    principle_of_choice(recipe.principle)
    seeds, size = tuple(range(recipe.seed, recipe.seed + recipe.images)), (recipe.height or 8, recipe.width or 8)
    SamplingOptions(seeds, recipe.steps, float(recipe.guidance), *size)


def address(recipe: Recipe, base: str, environment: Mapping[str, str] = os.environ) -> str:
    """The link: to the Space's page on the hub, whose address bar a Space cannot write to; else to this server.

    Args:
        base: this server's address as the visitor reached it.
    """
    space = environment.get("SPACE_ID")
    page = f"{SPACES}{space}" if space else base.split("?")[0].rstrip("/") + "/"
    return f"{page}?{urlencode({PARAMETER: recipe.encode()})}"


def link_html(link: str, name: str = "") -> Markup:
    """A field to copy the link from, and what can be taken along; nothing without either.

    Args:
        name: of the comparison on the shelf.
    """
    return render("link.html", link=link, name=name) if link or name else Markup()
