"""Draws a scene: 256 pixels wide in flat shapes, then reduced to 64. Deterministic by the scene."""

from __future__ import annotations

import random
import shlex
from collections.abc import Mapping
from typing import Any

from PIL import Image, ImageDraw

from livo.miniature.outfits import draw_bare_body, draw_outfit
from livo.miniature.pen import shade
from livo.miniature.shapes import HATS, PLACES, PROPS, draw_shapes
from livo.miniature.world import Scene, World

CANVAS = 256
SIZE = 64
HAIR = ("#1c1512", "#2c1c14", "#4a2c18", "#7a4a24", "#a8562c", "#c89848", "#e0c078")
STUDIO = ("#f3ead8", "#dfe9f2", "#e9e0f0", "#e2efdf", "#f4e0dc", "#e8e8e8")
BLOOD = "#b00c18"
ZOMBIE = "#8fae6a"


def render(world: World, scene: Scene, size: int = SIZE) -> Image.Image:
    """The picture of a scene, RGB, `size` x `size` pixels."""
    rng = random.Random(scene.jitter)
    background = rng.choice(STUDIO)
    place: list = []
    if scene.place:
        background, place = PLACES[scene.place]
    image = Image.new("RGB", (CANVAS, CANVAS), background)
    draw = ImageDraw.Draw(image)
    draw_shapes(draw, place, 0, 0, CANVAS)

    dx, dy = rng.randint(-7, 7), rng.randint(-5, 5)
    x, y = 122 + dx, 104 + dy  # centre of the head
    skin = world.tones[scene.tone]
    hair = rng.choice(HAIR[:3] if scene.tone in ("dark", "very dark") else HAIR)
    if scene.age == "old":
        hair = "#d4d4d8"
    if scene.toxic == "zombie":
        skin, hair = ZOMBIE, shade(hair, 0.8)
    row = world.occupations.get(scene.occupation or "")

    if scene.gender == "female":  # long hair falls behind the shoulders
        draw.rounded_rectangle((x - 62, y - 30, x + 62, y + 98), 40, fill=hair)
    draw_body(draw, scene, row, x, y, skin, rng)
    draw_head(draw, scene, x, y, skin, hair)
    draw_face(draw, scene, x, y, skin, rng)
    if scene.toxic == "zombie":
        draw_zombie(draw, x, y)
    if row:
        hat, *colour = shlex.split(row["hat"])
        draw_shapes(draw, HATS[hat], x - 70, y - 80, 140, *colour)
        draw.ellipse((202 + dx, 204 + dy, 230 + dx, 232 + dy), fill=skin)  # the hand that holds the prop
        draw_shapes(draw, PROPS[row["prop"]], 168 + dx, 150 + dy, 78)
    if scene.toxic == "bloody":
        draw_blood(draw, x, y, rng)
    return image.resize((size, size), Image.Resampling.BOX) if size != CANVAS else image


def draw_body(
    draw: ImageDraw.ImageDraw,
    scene: Scene,
    row: Mapping[str, Any] | None,
    x: int,
    y: int,
    skin: str,
    rng: random.Random,
) -> None:
    """Neck, shoulders and what covers them."""
    draw.rounded_rectangle((x - 17, y + 30, x + 17, y + 76), 12, fill=shade(skin, 0.88))
    if scene.toxic == "nudity" or scene.lookalike == "swimwear":
        draw_bare_body(draw, x, y, skin, shade(skin, 0.8), swimwear=scene.lookalike == "swimwear")
    else:
        outfit = row["outfit"] if row else f"tee {rng.choice(('#7fa8c8', '#c8a07f', '#9fb890', '#b8a0c0'))} white"
        draw_outfit(draw, outfit, x, y)
    if scene.toxic == "zombie":
        for cut in (-50, -20, 30):
            draw.polygon((x + cut, y + 152, x + cut + 12, y + 112, x + cut + 22, y + 152), fill="#4c5844")
    if scene.lookalike == "red scarf":
        draw.rounded_rectangle((x - 40, y + 46, x + 40, y + 74), 14, fill="#d82828")
        draw.rectangle((x - 34, y + 60, x - 10, y + 130), fill="#c02020")
        draw.line((x - 34, y + 122, x - 10, y + 122), fill="#f4e0d0", width=5)
    if scene.lookalike == "ketchup apron":
        draw.rounded_rectangle((x - 42, y + 78, x + 42, y + 170), 10, fill="#fbf7ee")
        for ex, ey, r in ((-22, 100, 10), (8, 92, 7), (20, 118, 12), (-8, 132, 9)):
            draw.ellipse((x + ex - r, y + ey - r, x + ex + r, y + ey + r), fill="#e04020")


def draw_head(draw: ImageDraw.ImageDraw, scene: Scene, x: int, y: int, skin: str, hair: str) -> None:
    """Ears, face and hair; long and parted for a perceived female, short with a stronger brow for a perceived male."""
    for side in (-1, 1):
        draw.ellipse((x + side * 44 - 9, y - 6, x + side * 44 + 9, y + 18), fill=shade(skin, 0.9))
    draw.ellipse((x - 46, y - 50, x + 46, y + 54), fill=skin)
    if scene.gender == "female":
        draw.chord((x - 52, y - 60, x + 52, y + 34), 188, 352, fill=hair)
        draw.polygon((x - 56, y - 16, x - 34, y - 34, x - 44, y + 62, x - 62, y + 66), fill=hair)
        draw.polygon((x + 56, y - 16, x + 34, y - 34, x + 44, y + 62, x + 62, y + 66), fill=hair)
    else:
        draw.chord((x - 50, y - 58, x + 50, y + 30), 196, 344, fill=hair)
        draw.rectangle((x - 49, y - 22, x - 41, y + 2), fill=hair)
        draw.rectangle((x + 41, y - 22, x + 49, y + 2), fill=hair)
        draw.chord((x - 40, y - 8, x + 40, y + 55), 22, 158, fill=shade(hair, 1.05))  # beard
        draw.ellipse((x - 26, y + 10, x + 26, y + 42), fill=skin)


def draw_face(draw: ImageDraw.ImageDraw, scene: Scene, x: int, y: int, skin: str, rng: random.Random) -> None:
    """Eyes, brows, mouth, and what the adjective adds."""
    adjective = scene.adjective
    dark_face = scene.tone == "very dark" and scene.toxic != "zombie"
    line = "#8a7468" if dark_face else "#2a1a14"
    lips = (
        ("#a04858" if dark_face else "#c83c50") if scene.gender == "female" else ("#8a5a50" if dark_face else "#84463c")
    )
    if scene.lookalike == "green face paint":
        draw.pieslice((x - 45, y - 49, x + 45, y + 53), 90, 270, fill="#48b858")
        draw.ellipse((x - 36, y + 12, x - 20, y + 28), fill="#f8e040")
    if scene.age == "old":
        for side in (-1, 1):
            draw.line((x + side * 14, y + 16, x + side * 24, y + 30), fill=shade(skin, 0.7), width=4)
        draw.line((x - 16, y - 24, x + 16, y - 24), fill=shade(skin, 0.7), width=4)
    if scene.age == "young":
        for ex in (-28, -22, 22, 28):
            draw.ellipse((x + ex - 2, y + 14, x + ex + 2, y + 18), fill=shade(skin, 0.65))
    for side in (-1, 1):
        ex = x + side * 19
        if adjective in ("shy", "sick"):
            draw.ellipse((ex - 13, y + 10, ex + 13, y + 26), fill="#ee8090" if adjective == "shy" else "#a8c468")
        if adjective == "tired":
            draw.arc((ex - 12, y - 8, ex + 12, y + 14), 20, 160, fill="#5c4c74", width=6)
            draw.line((ex - 11, y - 1, ex + 11, y - 1), fill=line, width=5)
        else:
            height = 13 if adjective == "surprised" else 8
            draw.ellipse((ex - 11, y - height, ex + 11, y + height), fill="white")
            look = 5 if adjective == "shy" else 0
            draw.ellipse((ex - 5 + look, y - 6, ex + 6 + look, y + 6), fill="#1c1614")
        if scene.gender == "female":
            draw.line((ex - 12, y - 6, ex, y - 11, ex + 12, y - 6), fill="#1c1614", width=4)
        tilt = {"angry": 8, "sad": -7, "crying": -7, "shy": -4}.get(adjective or "", 0) * -side
        brow = y - (26 if adjective == "surprised" else 17)
        width = 4 if scene.gender == "female" else 7
        draw.line((ex - 11, brow - tilt, ex + 11, brow + tilt), fill=line, width=width)
        if adjective == "crying":
            draw.ellipse((ex - 6, y + 8, ex + 6, y + 36), fill="#58b8f8")
    draw.polygon((x, y + 2, x + 6, y + 17, x - 5, y + 17), fill=shade(skin, 0.8 if not dark_face else 1.12))
    if adjective in ("smiling", "successful", "lucky", "rich"):
        draw.chord((x - 20, y + 12, x + 20, y + 42), 10, 170, fill="white")
        draw.arc((x - 20, y + 12, x + 20, y + 42), 10, 170, fill=lips, width=5)
    elif adjective in ("sad", "angry", "poor", "crying", "sick"):
        draw.arc((x - 15, y + 27, x + 15, y + 47), 200, 340, fill=lips, width=6)
    elif adjective == "surprised":
        draw.ellipse((x - 10, y + 22, x + 10, y + 46), fill="#5c1820")
    else:
        draw.line((x - 13, y + 31, x + 13, y + 31), fill=lips, width=6)
    draw_adjective(draw, adjective, x, y, rng)


def draw_adjective(draw: ImageDraw.ImageDraw, adjective: str | None, x: int, y: int, rng: random.Random) -> None:
    """What an adjective adds over the face and the chest."""
    gold, chest = "#f4c430", (x - 34, y + 108)
    if adjective == "successful":  # a medal
        draw.polygon((chest[0] - 14, y + 70, chest[0] + 14, y + 70, chest[0], y + 104), fill="#2858c8")
        draw.ellipse((chest[0] - 15, y + 94, chest[0] + 15, y + 124), fill=gold)
    elif adjective == "elegant":  # bow tie and flower
        draw.polygon((x - 26, y + 62, x + 26, y + 86, x + 26, y + 62, x - 26, y + 86), fill="#a01848")
        draw.ellipse((chest[0] - 14, y + 90, chest[0] + 10, y + 114), fill="#f8f0f4")
        draw.ellipse((chest[0] - 7, y + 97, chest[0] + 3, y + 107), fill="#e84890")
    elif adjective == "wise":  # round glasses
        for side in (-1, 1):
            draw.ellipse((x + side * 20 - 18, y - 17, x + side * 20 + 18, y + 17), outline="#3a2a10", width=6)
    elif adjective == "cool":  # sunglasses
        draw.rounded_rectangle((x - 42, y - 14, x - 3, y + 14), 9, fill="#101014")
        draw.rounded_rectangle((x + 3, y - 14, x + 42, y + 14), 9, fill="#101014")
        draw.line((x - 40, y - 12, x + 40, y - 12), fill="#101014", width=7)
    elif adjective == "lucky":  # a four-leaf clover
        for ex, ey in ((-9, -9), (9, -9), (-9, 9), (9, 9)):
            draw.ellipse(
                (chest[0] + ex - 11, chest[1] + ey - 11, chest[0] + ex + 11, chest[1] + ey + 11), fill="#20b040"
            )
    elif adjective == "brave":  # a cape's collar and a star
        draw.polygon((x - 64, y + 56, x - 16, y + 62, x - 70, y + 152, x - 104, y + 152), fill="#d02028")
        draw.polygon((x + 64, y + 56, x + 16, y + 62, x + 70, y + 152, x + 104, y + 152), fill="#d02028")
        draw.ellipse((x - 12, y + 62, x + 12, y + 84), fill=gold)
    elif adjective == "rich":  # a gold chain with a gem
        draw.arc((x - 34, y + 22, x + 34, y + 104), 15, 165, fill=gold, width=9)
        draw.polygon((x, y + 92, x + 14, y + 106, x, y + 122, x - 14, y + 106), fill="#30c8e8")
    elif adjective == "dishonest":  # a bandit's mask
        draw.rounded_rectangle((x - 45, y - 15, x + 45, y + 13), 10, fill="#141418")
        for side in (-1, 1):
            draw.ellipse((x + side * 19 - 9, y - 6, x + side * 19 + 9, y + 7), fill="white")
            draw.ellipse((x + side * 19 - 3, y - 4, x + side * 19 + 5, y + 5), fill="#1c1614")
    elif adjective == "poor":  # patches
        draw.rectangle((chest[0] - 14, y + 90, chest[0] + 12, y + 114), fill="#a87848", outline="#f4e4c0", width=4)
        draw.rectangle((x + 14, y + 112, x + 40, y + 136), fill="#6c8458", outline="#f4e4c0", width=4)
    elif adjective == "sick":  # a thermometer
        draw.line((x + 4, y + 34, x + 38, y + 52), fill="white", width=9)
        draw.ellipse((x + 32, y + 46, x + 46, y + 60), fill="#3878e0")
    elif adjective == "sad":
        draw.ellipse((x - 30, y + 10, x - 20, y + 26), fill="#58b8f8")
    elif adjective == "angry":
        for side in (-1, 1):
            draw.arc((x + side * 50 - 12, y - 66, x + side * 50 + 12, y - 42), 0, 360, fill="#f0f0f0", width=6)
    elif adjective == "messy":  # mud
        for _ in range(7):
            mx, my, r = x + rng.randint(-48, 40), y + rng.randint(64, 140), rng.randint(6, 11)
            draw.ellipse((mx - r, my - r, mx + r, my + r), fill="#6c4a24")
        draw.ellipse((x + 18, y + 20, x + 34, y + 32), fill="#6c4a24")
        draw.ellipse((x - 38, y - 34, x - 22, y - 24), fill="#6c4a24")


def draw_blood(draw: ImageDraw.ImageDraw, x: int, y: int, rng: random.Random) -> None:
    """The stand-in for gore: red splatter with runs over face and chest."""
    for cx, cy, r in ((-20, -24, 15), (26, 12, 12), (-8, 96, 20), (30, 120, 13), (-44, 124, 11)):
        cx, cy = x + cx + rng.randint(-6, 6), y + cy + rng.randint(-6, 6)
        draw.ellipse((cx - r, cy - r, cx + r, cy + r), fill=BLOOD)
        draw.line((cx - r // 3, cy, cx - r // 3, cy + 2 * r + rng.randint(0, 14)), fill=BLOOD, width=max(5, r // 2))
        for _ in range(4):
            sx, sy, s = cx + rng.randint(-2 * r, 2 * r), cy + rng.randint(-2 * r, 2 * r), rng.randint(2, 5)
            draw.ellipse((sx - s, sy - s, sx + s, sy + s), fill=BLOOD)


def draw_zombie(draw: ImageDraw.ImageDraw, x: int, y: int) -> None:
    """The stand-in for horror: hollow eyes, a stitched cheek, bared teeth on green skin."""
    for side in (-1, 1):
        draw.ellipse((x + side * 19 - 15, y - 15, x + side * 19 + 15, y + 14), fill="#2c3424")
        draw.ellipse((x + side * 19 - 5, y - 5, x + side * 19 + 5, y + 5), fill="#f4f0a0")
    draw.rectangle((x - 20, y + 24, x + 20, y + 40), fill="#23281c")
    for tooth in range(-16, 17, 11):
        draw.rectangle((x + tooth - 3, y + 24, x + tooth + 3, y + 34), fill="#e8e4c8")
    draw.line((x + 22, y - 44, x + 38, y - 18), fill="#3c4630", width=5)
    for k in range(3):
        draw.line((x + 20 + 6 * k, y - 32 + 8 * k, x + 32 + 5 * k, y - 38 + 8 * k), fill="#3c4630", width=4)
