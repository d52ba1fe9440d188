"""The README's front matter against the Hub's reference for Spaces, and a Space's other wants."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COLOURS = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
HARDWARE = re.compile(
    r"cpu-basic|cpu-upgrade|zero-a10g|t4-(small|medium)|l4x[14]|"
    r"l40sx[148]|a10g-(small|large|largex[24])|a100-large|h100|h100x8"
)
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
KEYS = {
    "title", "emoji", "colorFrom", "colorTo", "sdk", "sdk_version", "python_version", "app_file",
    "suggested_hardware", "models",
    "datasets", "tags", "thumbnail", "pinned", "license", "short_description", "preload_from_hub",
    "startup_duration_timeout",
    "fullWidth", "header", "hf_oauth", "disable_embedding",
}  # fmt: skip


def front_matter(text: str) -> dict[str, Any]:
    """The YAML block at the top; empty where there is none."""
    found = re.match(r"---\n(.*?)\n---\n", text, flags=re.DOTALL)
    return yaml.safe_load(found[1]) if found else {}


def faults(card: dict[str, Any]) -> list[str]:
    """What the Hub would refuse or misread, by the reference's rules."""
    wrong = [f"unknown key {key}" for key in card.keys() - KEYS]
    wrong += [
        f"{key} is missing"
        for key in ("title", "emoji", "sdk", "sdk_version", "python_version", "app_file", "license")
        if not card.get(key)
    ]
    wrong += [
        f"{key} is no text"
        for key in ("title", "sdk_version", "python_version", "short_description")
        if not isinstance(card.get(key), str)
    ]
    wrong += [f"{key}: no such colour" for key in ("colorFrom", "colorTo") if card.get(key) not in COLOURS]
    if not wrong and len(card["short_description"]) > 60:
        wrong.append("short_description has more than 60 characters")
    if not (emoji := str(card.get("emoji", ""))) or any(ord(c) < 0x2000 for c in emoji):
        wrong.append("emoji is none")
    if card.get("sdk") != "gradio" or not re.fullmatch(r"\d+\.\d+\.\d+", str(card.get("sdk_version"))):
        wrong.append("sdk is not a pinned gradio")
    if not re.fullmatch(r"3\.\d+(\.\d+)?", str(card.get("python_version"))):
        wrong.append("python_version is none")
    if not (ROOT / str(card.get("app_file"))).is_file():
        wrong.append("app_file is not there")
    if not re.fullmatch(r"https://\S+\.(png|jpg|jpeg|gif|webp)", str(card.get("thumbnail", ""))):
        wrong.append("thumbnail is no picture's address")
    if (hardware := card.get("suggested_hardware")) and not HARDWARE.fullmatch(hardware):
        wrong.append(f"no hardware {hardware}")
    for key in ("models", "datasets"):
        wrong += [f"{key}: {name} is no hub id" for name in card.get(key, []) if not HUB_ID.fullmatch(str(name))]
    if not isinstance(card.get("tags"), list) or not all(isinstance(tag, str) for tag in card["tags"]):
        wrong.append("tags is no list of words")
    for row in card.get("preload_from_hub", []):
        if not re.fullmatch(r"[\w.-]+/[\w.-]+( [^\s,]+(,[^\s,]+)*( [0-9a-f]{40})?)?", str(row)):
            wrong.append(f"preload_from_hub: {row!r} is not REPOSITORY [FILE,FILE [COMMIT]]")
    if (timeout := card.get("startup_duration_timeout")) and not re.fullmatch(r"\d+(s|m|h|d)", str(timeout)):
        wrong.append("startup_duration_timeout is no length of time")
    return wrong


def test_the_card_is_what_the_hub_wants():
    card = front_matter(README)
    assert card, "README.md has no front matter"
    assert faults(card) == []


def test_its_versions_are_the_requirements_own():
    card, wanted = front_matter(README), (ROOT / "requirements.txt").read_text(encoding="utf-8")
    assert re.search(rf"^gradio(\[\w+\])?=={re.escape(card['sdk_version'])}$", wanted, flags=re.MULTILINE)
    torch = re.search(r"^torch==(\d+)\.(\d+)", wanted, flags=re.MULTILINE)
    assert (2, 8) <= (int(torch[1]), int(torch[2])) <= (2, 11), "what ZeroGPU runs"
    assert card["python_version"] in ("3.12.12", "3.12"), "ZeroGPU has 3.12 and 3.10; the libraries want 3.11 and later"


def test_what_it_preloads_is_what_is_loaded():
    from livo.diffusion.backbones import PARTS
    from livo.diffusion.model_files import hub_files

    card = front_matter(README)
    assert {row.split()[0] for row in card["preload_from_hub"]} <= set(card["models"])
    row = next(row for row in card["preload_from_hub"] if row.startswith("stable-diffusion"))
    files = row.split()[1].split(",")
    assert hub_files(files, PARTS) == sorted(files)
    for part in (
        "unet/diffusion_pytorch_model.safetensors",
        "text_encoder/model.safetensors",
        "vae/config.json",
        "tokenizer/merges.txt",
    ):
        assert part in files


@pytest.mark.parametrize(
    "change",
    [
        {"sdk": "streamlit"}, {"sdk_version": 6.3}, {"short_description": "x" * 61}, {"colorTo": "teal"},
        {"app_file": "main.py"},
        {"models": ["gpt2 large"]}, {"preload_from_hub": ["owner/name a.bin, b.bin"]}, {"suggested_hardware": "gpu"},
        {"emoji": "LiVO"},
        {"python_version": 3.12}, {"thumbnail": "assets/page.png"}, {"nonsense": 1}, {"tags": "bias"},
        {"startup_duration_timeout": "soon"},
    ],
)  # fmt: skip
def test_a_planted_fault_is_found(change):
    card = {
        "title": "LiVO", "emoji": "🎨", "colorFrom": "green", "colorTo": "gray", "sdk": "gradio",
        "sdk_version": "6.31.0", "license": "mit",
        "python_version": "3.12.12", "app_file": "app.py", "short_description": "x", "tags": ["bias"],
        "models": ["a/b"],
        "preload_from_hub": ["a/b c.bin,d.bin"], "thumbnail": "https://x.org/y.png", "suggested_hardware": "zero-a10g",
    }  # fmt: skip
    assert faults(card) == [] and faults(card | change)
