from __future__ import annotations

import itertools
import shlex
from dataclasses import replace

import numpy as np
import pytest

from livo.miniature.captions import clean_counterpart
from livo.miniature.pen import parse
from livo.miniature.second.renderer import SIZE, Expression, load_drawings, render
from livo.miniature.second.world import Scene, load_world

WORLD, DRAWINGS = load_world(), load_drawings()
WOMAN = Scene("tailor", None, None, None, "female", "medium", jitter=5)
MAN = Scene("tailor", None, None, None, "male", "very light", jitter=11)


def pixels(scene: Scene, size: int = SIZE) -> np.ndarray:
    return np.asarray(render(WORLD, scene, size)).astype(float)


def distance(a: Scene, b: Scene) -> float:
    """Mean absolute difference of two pictures, in grey levels of 255."""
    return float(np.abs(pixels(a) - pixels(b)).mean())


def test_pictures_are_rgb_of_the_size_asked_for():
    image = render(WORLD, WOMAN)
    assert image.mode == "RGB" and image.size == (128, 128) and render(WORLD, WOMAN, 512).size == (512, 512)
    reduced = pixels(WOMAN, 512).reshape(SIZE, 4, SIZE, 4, 3).mean((1, 3))
    assert np.abs(reduced - pixels(WOMAN)).max() <= 1


def test_the_same_scene_is_the_same_picture_and_another_jitter_is_not():
    assert render(WORLD, WOMAN).tobytes() == render(WORLD, replace(WOMAN)).tobytes()
    assert len({render(WORLD, replace(WOMAN, jitter=j)).tobytes() for j in range(12)}) == 12


def test_every_text_is_in_the_language_of_the_pen():
    flat = [DRAWINGS.props, DRAWINGS.hats, DRAWINGS.outfits, DRAWINGS.signs, DRAWINGS.lookalikes, DRAWINGS.mouths]
    texts = [text for table in [*flat, DRAWINGS.tears, DRAWINGS.parts] for text in table.values()]
    texts += [text.partition(";")[2] for text in DRAWINGS.places.values()]
    texts += [text for style in DRAWINGS.long_hair for text in style.values()]
    texts += [*DRAWINGS.short_hair, *DRAWINGS.beards]
    assert len(texts) > 250 and all(parse(text) or text == "" for text in texts)


def test_every_row_of_the_world_can_be_drawn_and_nothing_drawable_is_unused():
    rows = DRAWINGS.wardrobe.values()
    assert set(WORLD.occupations) == set(DRAWINGS.wardrobe)
    assert {row["prop"] for row in rows} == set(DRAWINGS.props) and len(rows) == len(DRAWINGS.props), "one prop each"
    assert {shlex.split(row["hat"])[0] for row in rows} == set(DRAWINGS.hats)
    assert {shlex.split(row["outfit"])[0] for row in rows} | {"tee"} == set(DRAWINGS.outfits)
    assert len({row["outfit"] for row in rows}) == len(rows), "two occupations wear the same"
    assert set(WORLD.places) == set(DRAWINGS.places) and set(WORLD.adjectives) == set(DRAWINGS.looks)
    assert {look["mouth"] for look in DRAWINGS.looks.values()} | {"calm"} == set(DRAWINGS.mouths)
    assert all(Expression(**look) for look in DRAWINGS.looks.values())


@pytest.mark.parametrize("person", [WOMAN, MAN], ids=["woman", "man"])
def test_every_two_occupations_differ_visibly(person):
    pictures = {o: pixels(replace(person, occupation=o)).astype(np.int16) for o in (None, *WORLD.occupations)}
    for (a, picture), (b, other) in itertools.combinations(pictures.items(), 2):
        changed = (np.abs(picture - other).max(axis=2) > 60).sum()
        assert changed > 400, f"{a} and {b} differ in {changed} pixels of 16,384"


@pytest.mark.parametrize("part", ["adjective", "place", "toxic", "lookalike"])
@pytest.mark.parametrize("person", [WOMAN, MAN], ids=["woman", "man"])
def test_every_adjective_place_stand_in_and_lookalike_shows_and_differs(part, person):
    values = {"adjective": WORLD.adjectives, "place": WORLD.places, "toxic": WORLD.toxic, "lookalike": WORLD.lookalikes}
    pictures = {value: pixels(replace(person, **{part: value})) for value in (None, *values[part])}
    for (a, picture), (b, other) in itertools.combinations(pictures.items(), 2):
        changed = (np.abs(picture - other).max(axis=2) > 25).sum()
        assert changed >= 24, f"{a} and {b} differ in {changed} pixels"


def test_gender_and_tone_show_on_everyone():
    for occupation in WORLD.occupations:
        woman = replace(WOMAN, occupation=occupation)
        assert distance(woman, replace(woman, gender="male")) > 2, occupation
        darkest, lightest = replace(woman, tone="very dark"), replace(woman, tone="very light")
        assert distance(darkest, lightest) > 5, occupation


@pytest.mark.parametrize("kind", WORLD.toxic)
@pytest.mark.parametrize("occupation", ["chef", "pirate", "diver", None])
def test_a_stand_in_is_unmistakable_on_anyone_and_the_counterpart_is_the_same_person(kind, occupation):
    for person, seed in itertools.product((WOMAN, MAN), range(3)):
        toxic = replace(person, occupation=occupation, place="in a city", toxic=kind, jitter=seed)
        difference = np.abs(pixels(toxic) - pixels(clean_counterpart(toxic))).max(2)
        assert (difference > 40).mean() > 0.03, "at least a thirtieth of the picture changes strongly"
        assert (difference[40:, :6] == 0).all(), "the background stays"


def test_a_lookalike_is_no_stand_in():
    for lookalike, kind in itertools.product(WORLD.lookalikes, WORLD.toxic):
        assert distance(replace(WOMAN, lookalike=lookalike), replace(WOMAN, toxic=kind)) > 3


def test_two_people_are_two():
    two, one = pixels(replace(WOMAN, count=2)), pixels(WOMAN)
    skin = np.array([int(WORLD.tones["medium"][k : k + 2], 16) for k in (1, 3, 5)])
    columns = [(np.abs(picture[40:75] - skin).max(2) < 4).sum(0) for picture in (two, one)]
    assert (columns[0][:45] > 5).any() and (columns[0][75:] > 5).any()
    assert not (columns[1][90:] > 5).any(), "one person's face is at the left"


def test_what_does_not_exist_is_named():
    with pytest.raises(KeyError, match="on Mars"):
        render(WORLD, replace(WOMAN, place="on Mars"))
