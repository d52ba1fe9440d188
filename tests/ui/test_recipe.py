"""Links to views: what comes out is what went in, and what strangers send is refused with a message."""

from __future__ import annotations

import base64
import json
import random
import re
import zlib
from dataclasses import asdict, replace

import pytest

from livo.types import InputError
from livo.ui.recipe import MOST_CHARACTERS, Recipe, address, decode, link_html

METHODS = ("stable_diffusion", "uce", "livo")
RECIPE = Recipe("a photo of a doctor", "auto", ("stable_diffusion", "livo"), 0, 8, 12, 2.0, "miniature")


def packed(payload: object) -> str:
    return base64.urlsafe_b64encode(zlib.compress(json.dumps(payload).encode())).decode().rstrip("=")


def test_what_goes_in_comes_out():
    rng = random.Random(0)
    for _ in range(200):
        recipe = Recipe(
            "".join(rng.choice("abc Ünï東京‏\"<&>'🎨") for _ in range(rng.randint(1, 300))).strip() or "x",
            rng.choice(["auto", "none", "gender_equality", "zombie"]), tuple(rng.sample(METHODS, rng.randint(1, 3))),
            rng.randrange(2**32 - 50), rng.randint(1, 50), rng.randint(1, 200), rng.choice([0.0, 2.0, 7.5]),
            "owner/name",
        )  # fmt: skip
        text = recipe.encode()
        assert re.fullmatch(r"[A-Za-z0-9_-]+", text) and decode(text, METHODS, 50) == recipe


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"methods": ("livo", "nonsense")}, "nonsense"),
        ({"methods": ()}, "no method"),
        ({"images": 51}, "51 images"),
        ({"images": 0}, "0 images"),
        ({"images": 10**9}, "images"),
        ({"seed": -1}, "out of range"),
        ({"seed": 2**32}, "out of range"),
        ({"seed": "0"}, "seed"),
        ({"seed": True}, "seed"),
        ({"steps": 0}, "steps"),
        ({"guidance": 99}, "guidance"),
        ({"guidance": None}, "guidance"),
        ({"prompt": " "}, "empty"),
        ({"prompt": "x" * 1001}, "shorten"),
        ({"prompt": "a\x00b"}, "control character"),
        ({"prompt": 7}, "prompt"),
        ({"principle": "kindness"}, "no principle"),
        ({"principle": []}, "principle"),
        ({"backbone": 1}, "backbone"),
        ({"methods": 5}, "broken"),
        ({"methods": [[1]]}, "does not have"),
    ],
)
def test_what_cannot_be_asked_is_refused(change, says):
    with pytest.raises(InputError, match=says):
        decode(packed(asdict(RECIPE) | change), METHODS, 50)


@pytest.mark.parametrize(
    "text",
    ["", "!!", "abc", "a" * (MOST_CHARACTERS + 1), RECIPE.encode()[:-4], packed([]), packed({}),
    packed(asdict(RECIPE) | {"more": 1}), packed("x"),
     base64.urlsafe_b64encode(b"{}").decode(), base64.urlsafe_b64encode(zlib.compress(b"[" * 3_000_000)).decode()],
)  # fmt: skip
def test_broken_links_are_one_message(text):
    with pytest.raises(InputError, match="broken or cut off"):
        decode(text, METHODS, 50)


def test_the_link_leads_to_the_space_or_to_this_server():
    text = RECIPE.encode()
    assert (
        address(RECIPE, "http://10.0.0.1:7860", {"SPACE_ID": "owner/livo"})
        == f"https://huggingface.co/spaces/owner/livo?r={text}"
    )
    assert address(RECIPE, "http://10.0.0.1:7860/?r=old", {}) == f"http://10.0.0.1:7860/?r={text}"
    assert len(address(replace(RECIPE, prompt="long words " * 90), "http://x", {})) < 2_000, (
        "browsers and chats cut longer ones"
    )


def test_the_field_is_escaped():
    html = link_html('http://x/"><script>')
    assert "<script>" not in html and "&#34;&gt;&lt;script&gt;" in html and link_html("") == ""


def test_a_size_goes_along_and_older_links_have_none():
    sized = replace(RECIPE, width=768, height=512)
    assert decode(sized.encode(), METHODS, 50) == sized
    old = {key: value for key, value in asdict(RECIPE).items() if key not in ("width", "height")}
    assert decode(packed(old), METHODS, 50) == RECIPE
    for width in ("768", True, 5000):
        with pytest.raises(InputError, match="width"):
            decode(packed(asdict(RECIPE) | {"width": width}), METHODS, 50)
