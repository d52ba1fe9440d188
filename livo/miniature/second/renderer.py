"""Draws a scene of the second edition: a canvas of 256 units at 512 pixels in flat shapes, then reduced to 128.

Deterministic by the scene. What has no label (hair, brows, beard, background, place of the head) comes of its jitter.
"""

from __future__ import annotations

import functools
import random
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from livo.inputs import load_yaml
from livo.miniature.pen import COLOURS, Pen, shade
from livo.miniature.second.world import Scene, World

CANVAS, SIZE = 256, 128
SUPERSAMPLING = 4  # pixels drawn for one shown, along each side
DRAWINGS = Path(__file__).parent / "drawings.yaml"
HAIR = ("#1c1512", "#2c1c14", "#4a2c18", "#7a4a24", "#a8562c", "#c89848", "#e0c078")
GREY = "#d8d8dc"
STUDIO = ("#f3ead8", "#dfe9f2", "#e9e0f0", "#e2efdf", "#f4e0dc", "#e8e8e8")
TEES = ("#7fa8c8", "#c8a07f", "#9fb890", "#b8a0c0")
IRIS = ("#3a2416", "#5a3818", "#2c5a7c", "#3c6a48")
BLOOD, BRIGHT_BLOOD = "#a80814", "#d81c28"
ZOMBIE = "#86b060"
CHEEKS = {"shy": "#f08090", "romantic": "#f08090", "sick": "#98c060", "angry": "#e84030"}
COSINES = (1.0, 0.866, 0.5, 0.0, -0.5, -0.866, -1.0, -0.866, -0.5, 0.0, 0.5, 0.866)  # of 0, 30, ... 330 degrees


@dataclass(frozen=True)
class Expression:
    """A face's expression.

    Attributes:
        brow: how many units the inner end of a brow falls (angry, > 0) or rises (sad, < 0).
        lift: how many units both brows stand higher.
        eyes: `open`, `wide`, `half`, `shut`, `wink` or `hearts`.
        gaze: how many units the irises look to the side and down.
        mouth: a row of `mouths`.
    """

    brow: float = 0
    lift: float = 0
    eyes: str = "open"
    gaze: tuple[float, float] = (0, 0)
    mouth: str = "calm"


@dataclass(frozen=True)
class Drawings:
    """The tables of `drawings.yaml`: texts of shapes by name, and by occupation the names of what is worn and held.

    A place's text begins with its background's colour.
    """

    wardrobe: Mapping[str, Mapping[str, str]]
    props: Mapping[str, str]
    hats: Mapping[str, str]
    outfits: Mapping[str, str]
    places: Mapping[str, str]
    signs: Mapping[str, str]
    lookalikes: Mapping[str, str]
    looks: Mapping[str, Mapping[str, Any]]
    mouths: Mapping[str, str]
    tears: Mapping[str, str]
    long_hair: tuple[Mapping[str, str], ...]
    short_hair: tuple[str, ...]
    beards: tuple[str, ...]
    parts: Mapping[str, str]


@functools.cache
def load_drawings() -> Drawings:
    """Read the drawings."""
    return Drawings(**load_yaml(DRAWINGS))


def render(world: World, scene: Scene, size: int = SIZE) -> Image.Image:
    """The picture of a scene, RGB, `size` x `size` pixels."""
    rng = random.Random(scene.jitter)
    pixels = SIZE * SUPERSAMPLING
    background, place = rng.choice(STUDIO), ""
    if scene.place:
        background, _, place = load_drawings().places[scene.place].partition(";")
    image = Image.new("RGB", (pixels, pixels), background)
    paper = Pen(image, pixels / CANVAS)
    paper.draw(place)
    dx, dy = rng.randint(-7, 7), rng.randint(-5, 5)
    if scene.count == 2:
        draw_person(paper.at(62 + dx, 136 + dy, 0.72), world, scene, rng)
        draw_person(paper.at(174 + dx, 144 + dy, 0.72), world, scene, rng)
    else:
        draw_person(paper.at(118 + dx, 100 + dy), world, scene, rng)
    if scene.toxic == "bloody":  # a curtain of drops, so that no picture of blood is taken for a red pattern
        for x in range(8, 256, 30):
            length = rng.randint(8, 26)
            paper.shape("l", (13, x, -6, x, length), BLOOD)
            paper.shape("b", (x, length - 6, x - 9, length + 8, x, length + 15, x + 9, length + 8), BLOOD)
    return image.resize((size, size), Image.Resampling.BOX) if size != pixels else image


def draw_person(pen: Pen, world: World, scene: Scene, rng: random.Random) -> None:
    """A person whose head is centred at the pen's origin, with what they wear and hold."""
    drawings, parts = load_drawings(), load_drawings().parts
    female = scene.gender == "female"
    skin = ZOMBIE if scene.toxic == "zombie" else world.tones[scene.tone]
    hair = rng.choice(HAIR[:3] if scene.tone in ("dark", "very dark") else HAIR)
    if scene.age == "old":
        hair = GREY
    strand = shade(hair, 1.18 if hair < "#4" else 0.78)
    names = {"skin": skin, "skindark": shade(skin, 0.8), "hair": hair, "dark": strand}
    long, short, beard = rng.choice(drawings.long_hair), rng.choice(drawings.short_hair), rng.choice(drawings.beards)
    row = drawings.wardrobe[scene.occupation] if scene.occupation else None
    if female:
        pen.draw(long["behind"], names)
    pen.draw(parts["neck"], names)
    sleeve = draw_clothes(pen, scene, row["outfit"] if row else f"tee {rng.choice(TEES)} white", skin)
    pen.draw(parts["ears"], names)
    pen.draw(parts["female face" if female else "male face"], names)
    if not female:
        pen.draw(short, names)
        pen.draw(beard, names)
    draw_face(pen, scene, names, rng)
    if female:
        pen.draw(long["before"], names)
        pen.draw(parts["earrings"], names)
    if row:
        hat, colour = [*shlex.split(row["hat"]), "#888888"][:2]
        colour = COLOURS.get(colour, colour)
        dyed = {"main": colour, "dark": shade(colour, 0.72), "light": shade(colour, 1.3)}
        pen.at(-72, -82, 1.44).draw(drawings.hats[hat], {**names, **dyed})
    pen.draw(drawings.signs.get(scene.adjective or "", ""), names)
    pen.draw(drawings.lookalikes.get(scene.lookalike or "", ""), names)
    if row:
        pen.draw(parts["sleeve"], {"sleeve": sleeve})
        pen.at(44, 50, 0.82).draw(drawings.props[row["prop"]], contour=2.6)
        pen.draw(parts["hand"], {"skin": skin, "line": shade(skin, 0.66 if skin > "#5" else 1.3)})
    if scene.toxic == "bloody":
        draw_blood(pen, rng)


def draw_clothes(pen: Pen, scene: Scene, outfit: str, skin: str) -> str:
    """The torso and what covers it: `kind colour accent`, or nothing. Returns the colour of the sleeves."""
    parts = load_drawings().parts
    kind, *colours = shlex.split(outfit)
    main, accent = (COLOURS.get(colour, colour) for colour in colours)
    names = {"main": main, "accent": accent, "dark": shade(main, 0.74), "light": shade(main, 1.28), "skin": skin}
    names["seam"] = shade(skin, 0.68 if skin > "#5" else 1.35)
    if scene.toxic == "nudity" or scene.lookalike == "swimwear":
        bare = {**names, "main": skin, "dark": names["seam"]}
        pen.draw(parts["torso"], bare)
        pen.draw(parts["swimsuit" if scene.lookalike == "swimwear" else "paper doll"], bare)
        return skin
    pen.draw(parts["torso"], names)
    pen.draw(load_drawings().outfits[kind], names)
    if scene.toxic == "zombie":
        pen.draw(parts["rags"], names)
    return shade(main, 0.86)


def draw_face(pen: Pen, scene: Scene, names: Mapping[str, str], rng: random.Random) -> None:
    """Brows, eyes, nose, mouth, and what age, adjective and stand-in make of them."""
    drawings, parts = load_drawings(), load_drawings().parts
    skin, look = names["skin"], Expression(**drawings.looks.get(scene.adjective or "", {}))
    female, zombie = scene.gender == "female", scene.toxic == "zombie"
    dim = scene.tone == "very dark" and not zombie
    line = "#9a8272" if dim else "#2a1a14"
    iris = rng.choice(IRIS[:2] if scene.tone in ("dark", "very dark") else IRIS)
    lips = ("#d05870" if dim else "#c8304c") if female else ("#b07868" if dim else "#9a5044")
    crease, cheek = shade(skin, 1.3 if dim else 0.72), CHEEKS.get(scene.adjective or "")
    names = {**names, "line": line, "lips": lips, "crease": crease, "cheek": cheek or skin}
    masked = scene.adjective == "dishonest"
    pen.draw(parts.get(scene.age or "", ""), names)
    if cheek:
        pen.draw(parts["cheeks"], names)
    if zombie:
        pen.draw(parts["zombie eyes"], names)
    if masked:
        pen.draw(parts["mask"], names)
    for side in (-1, 1):
        draw_eye(pen.at(side * 21, -2), scene, look, side, iris, names)
        if not masked:
            y = -22 - look.lift
            ends = (side * 10, y + look.brow, side * 22, y - 3, side * 34, y + 2 - look.brow / 2)
            colour = line if dim or names["hair"] == GREY else shade(names["hair"], 0.85)
            pen.shape("c", (5 if female else 8, *ends), colour)
    pen.draw(parts["nose"], names)
    pen.draw(parts["zombie mouth"] if zombie else drawings.mouths[look.mouth], names)
    pen.draw(drawings.tears.get(scene.adjective or "", ""), names)


def draw_eye(pen: Pen, scene: Scene, look: Expression, side: int, iris: str, names: Mapping[str, str]) -> None:
    """One eye around the pen's origin; lashes on a perceived female's."""
    parts, dark = load_drawings().parts, "#140e0c"
    if scene.toxic == "zombie":
        pen.draw(parts["zombie eye" if side < 0 else "small zombie eye"])
        return
    eyes = look.eyes if look.eyes != "wink" else ("shut" if side > 0 else "open")
    if eyes == "hearts":
        pen.draw(parts["heart"])
        return
    if eyes == "shut":
        pen.draw(parts["shut eye"], names)
    else:
        height = {"wide": 14, "half": 9}.get(eyes, 10)
        pen.shape("e", (-13, -height, 13, height), "#ffffff")
        gx, gy = look.gaze
        pen.shape("e", (gx - 8, gy - 8, gx + 8, gy + 8), iris)
        pen.shape("e", (gx - 4, gy - 4, gx + 4, gy + 4), dark)
        pen.shape("e", (gx - 5, gy - 6, gx - 1, gy - 2), "#ffffff")
        if eyes == "half":
            pen.shape("p", (-15, -13, 15, -13, 15, -1, -15, -1), names["skin"])
            pen.shape("l", (4, -13, -1, 13, -1), names["line"])
        else:
            pen.shape("c", (4, -13, 2 - height / 2, 0, -height - 1, 13, 2 - height / 2), dark)
    if scene.gender == "female":
        top = 0 if eyes in ("half", "shut") else -5
        pen.shape("l", (4, side * 11, top, side * 19, top - 6), dark)
        pen.shape("l", (3, side * 9, top - 4, side * 15, top - 11), dark)


def draw_blood(pen: Pen, rng: random.Random) -> None:
    """The stand-in for gore: a cartoon's red splashes with runs and drops, on face and chest."""
    for x, y, r in ((-24, -26, 16), (27, 14, 13), (-12, 104, 23), (-52, 132, 14), (34, 92, 13)):
        x, y = x + rng.randint(-5, 5), y + rng.randint(-5, 5)
        points: list[float] = []
        for k in range(12):
            far = r * (1.25 if k % 2 else 0.72) * rng.uniform(0.85, 1.15)
            points += [x + far * COSINES[k], y + far * COSINES[k - 3]]
        pen.shape("b", points, BLOOD)
        run = rng.randint(8, 20)
        pen.shape("l", (max(5, r / 2.6), x - r / 4, y, x - r / 4, y + r + run), BLOOD)
        pen.shape("e", (x + r * 1.1, y - r * 0.9, x + r * 1.1 + 7, y - r * 0.9 + 7), BLOOD)
        pen.shape("e", (x - r / 2, y - r / 2, x - r / 6, y - r / 6), BRIGHT_BLOOD)
