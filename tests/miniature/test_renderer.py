from __future__ import annotations

import hashlib
import itertools
import shlex
from dataclasses import replace

import numpy as np
import pytest

from livo.miniature.captions import clean_counterpart
from livo.miniature.outfits import draw_outfit
from livo.miniature.renderer import CANVAS, SIZE, render
from livo.miniature.shapes import HATS, PLACES, PROPS, draw_shapes
from livo.miniature.world import GENDERS, Scene, load_world

WORLD = load_world()
WOMAN = Scene("tailor", None, None, None, "female", "medium", jitter=5)
MAN = Scene("diver", None, None, None, "male", "very light", jitter=11)


def pixels(scene: Scene, size: int = SIZE) -> np.ndarray:
    return np.asarray(render(WORLD, scene, size)).astype(float)


def distance(a: Scene, b: Scene) -> float:
    """Mean absolute difference of two pictures, in grey levels of 255."""
    return float(np.abs(pixels(a) - pixels(b)).mean())


def test_pictures_are_rgb_of_the_size_asked_for():
    image = render(WORLD, WOMAN)
    assert image.mode == "RGB" and image.size == (SIZE, SIZE) == (64, 64)
    assert render(WORLD, WOMAN, CANVAS).size == (256, 256)


def test_the_small_picture_is_the_large_one_reduced():
    large = pixels(WOMAN, CANVAS).reshape(SIZE, 4, SIZE, 4, 3).mean((1, 3))
    assert np.abs(large - pixels(WOMAN)).max() <= 1


def test_the_same_scene_is_the_same_picture_and_another_jitter_is_not():
    assert render(WORLD, WOMAN).tobytes() == render(WORLD, replace(WOMAN)).tobytes()
    assert len({render(WORLD, replace(WOMAN, jitter=j)).tobytes() for j in range(20)}) == 20


def test_golden_pictures():
    """The weights under assets/ were trained on exactly these pictures: who changes the drawing trains again."""
    scenes = [
        WOMAN,
        MAN,
        Scene("judge", "smiling", "in a forest", "old", "male", "dark", jitter=1),
        Scene(None, "messy", "in the snow", "young", "female", "light", jitter=2),
        Scene("chef", None, None, None, "female", "very dark", toxic="bloody", jitter=3),
        Scene("clown", None, "at the beach", None, "male", "medium", toxic="zombie", jitter=4),
        Scene("nurse", "shy", None, None, "female", "medium", lookalike="ketchup apron", jitter=6),
    ]
    digest = hashlib.sha256(b"".join(render(WORLD, scene, CANVAS).tobytes() for scene in scenes)).hexdigest()
    assert digest == "2b36884d5682a6b4fdb35c81730dcddfd82a40b1e4ba0ac6ecf3aa9cb724b58b"


@pytest.mark.parametrize("person", [WOMAN, MAN], ids=["woman", "man"])
def test_every_two_occupations_differ_visibly(person):
    pictures = {o: pixels(replace(person, occupation=o)) for o in (None, *WORLD.occupations)}
    closest = min(
        (float(np.abs(a - b).mean()), m, n) for (m, a), (n, b) in itertools.combinations(pictures.items(), 2) if m
    )
    assert closest[0] > 4, closest
    for occupation, picture in pictures.items():  # and some part of the picture differs a lot
        gaps = [np.abs(picture - other).max() for name, other in pictures.items() if name != occupation]
        assert min(gaps) > 80, occupation


@pytest.mark.parametrize("part", ["adjective", "place", "toxic", "lookalike"])
@pytest.mark.parametrize("person", [WOMAN, MAN], ids=["woman", "man"])
def test_every_adjective_place_stand_in_and_lookalike_shows_and_differs(part, person):
    values = {
        "adjective": WORLD.adjectives,
        "place": WORLD.places,
        "toxic": WORLD.toxic,
        "lookalike": WORLD.lookalikes,
    }[part]
    pictures = {value: pixels(replace(person, **{part: value})) for value in (None, *values)}
    for (a, picture), (b, other) in itertools.combinations(pictures.items(), 2):
        assert np.abs(picture - other).max() > 40, f"{a} and {b} look alike"
        changed = (np.abs(picture - other).max(axis=2) > 12).sum()
        assert changed >= 6, f"{a} and {b} differ in {changed} pixels"


def test_gender_and_tone_show_on_everyone():
    for occupation in WORLD.occupations:
        woman = replace(WOMAN, occupation=occupation)
        assert distance(woman, replace(woman, gender="male")) > 1.5, occupation
        pictures = [replace(woman, tone=tone) for tone in WORLD.tones]
        assert min(distance(a, b) for a, b in itertools.combinations(pictures, 2)) > 0.8, occupation


def test_age_shows():
    assert distance(WOMAN, replace(WOMAN, age="old")) > 1
    young = np.abs(pixels(WOMAN) - pixels(replace(WOMAN, age="young")))
    assert young.max() > 8, "freckles"


@pytest.mark.parametrize("kind", WORLD.toxic)
def test_the_clean_counterpart_is_the_same_person_in_the_same_place(kind):
    """Same background, pose and prop: the pair differs by the stand-in alone."""
    for seed in range(5):
        toxic = replace(WOMAN, occupation="chef", place="in a city", toxic=kind, jitter=seed)
        clean = clean_counterpart(toxic)
        assert render(WORLD, clean).tobytes() == render(WORLD, replace(toxic, toxic=None)).tobytes()
        same = (pixels(toxic) == pixels(clean)).all(axis=2)
        assert same[:, :8].all() and same[:6].all(), "the background moved"
        assert 0.5 < same.mean() < 0.995


def test_blood_is_red_and_a_zombie_is_green():
    def dominant(kind: str, channel: int) -> int:
        before, after = pixels(WOMAN), pixels(replace(WOMAN, toxic=kind))
        changed = np.abs(after - before).max(axis=2) > 30
        others = [c for c in range(3) if c != channel]
        return int((changed & (after[..., channel] > after[..., others].max(axis=2) + 5)).sum())

    assert dominant("bloody", 0) > 60 and dominant("zombie", 1) > 100
    assert dominant("bloody", 1) < 5


def test_a_lookalike_is_no_stand_in():
    for lookalike, kind in itertools.product(WORLD.lookalikes, WORLD.toxic):
        assert distance(replace(WOMAN, lookalike=lookalike), replace(WOMAN, toxic=kind)) > 3


def test_every_row_of_the_world_can_be_drawn_and_nothing_drawable_is_unused():
    rows = WORLD.occupations.values()
    assert {row["prop"] for row in rows} == set(PROPS)
    assert {shlex.split(row["hat"])[0] for row in rows} == set(HATS)
    assert set(WORLD.places) == set(PLACES)
    assert len({row["outfit"] for row in rows}) == len(rows), "two occupations wear the same"


def test_unknown_shapes_and_outfits_are_named():
    with pytest.raises(ValueError, match="unknown shape 'x'"):
        draw_shapes(None, [("x", 1)], 0, 0, 10)
    from PIL import Image, ImageDraw

    with pytest.raises(ValueError, match="unknown outfit 'toga'"):
        draw_outfit(ImageDraw.Draw(Image.new("RGB", (9, 9))), "toga red blue", 4, 4)
    with pytest.raises(KeyError):
        render(WORLD, replace(WOMAN, place="on Mars"))


def test_genders_are_two_and_drawn_differently_without_an_occupation():
    a, b = (Scene(None, None, None, None, gender, "medium", jitter=1) for gender in GENDERS)
    assert distance(a, b) > 4
