from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from livo.miniature.pen import COLOURS, Pen, parse, shade, smooth


def inked(drawing: str, **options) -> np.ndarray:
    """Which pixels of a 64 x 64 sheet, 4 pixels a unit, a drawing changes."""
    image = Image.new("RGB", (64, 64), "white")
    Pen(image, 4).draw(drawing, **options)
    return (np.asarray(image) != 255).any(2)


def test_shapes_are_read_as_written():
    assert parse("e 0 1 2 3 red;\n  l 4 0 0 -8 2.5 #102030 ;") == (
        ("e", (0, 1, 2, 3), "red"), ("l", (4, 0, 0, -8, 2.5), "#102030"),
    )  # fmt: skip
    assert parse("") == ()


@pytest.mark.parametrize(
    "wrong", ["x 1 2 3 4 red", "e 1 2 3 red", "p 0 0 1 1 2 red", "l 2 0 0 red", "r 0 0 1 1 1 1 red"]
)
def test_a_shape_that_is_none_is_quoted(wrong):
    with pytest.raises(ValueError, match=f"'{wrong}' is no shape"):
        parse(f"e 0 0 1 1 red; {wrong}")


def test_a_missing_colour_is_named():
    with pytest.raises(ValueError, match="numbers and then one colour"):
        parse("e 0 0 red 1 1")


@pytest.mark.parametrize("shape", [
    "e 4 4 12 12 red", "r 4 4 12 12 2 red", "p 4 4 12 4 8 12 red", "b 4 4 12 4 12 12 4 12 red", "l 2 4 4 12 12 red",
    "c 2 4 4 8 12 12 4 red", "a 4 4 12 12 0 360 2 red",
])  # fmt: skip
def test_every_shape_draws_where_it_says_and_a_contour_goes_around_it(shape):
    plain, outlined = inked(shape), inked(shape, contour=1)
    ys, xs = np.nonzero(plain)
    assert xs.min() >= 8 and xs.max() <= 56 and ys.min() >= 8 and ys.max() <= 56 and plain.sum() > 60
    assert (outlined & ~plain).sum() > 40 and not (plain & ~outlined).any()


def test_moving_and_scaling_the_pen():
    image = Image.new("RGB", (64, 64), "white")
    Pen(image, 4).at(8, 8, 0.5).draw("r 0 0 8 8 0 red")
    ys, xs = np.nonzero((np.asarray(image) != 255).any(2))
    assert (xs.min(), ys.min(), xs.max(), ys.max()) == (32, 32, 48, 48)


def test_a_curve_goes_through_its_points():
    points = [(0.0, 0.0), (4.0, 8.0), (9.0, 1.0)]
    for closed in (False, True):
        curve = smooth(points, closed=closed)
        assert all(min(abs(x - a) + abs(y - b) for a, b in curve) < 1e-9 for x, y in points)
    assert smooth(points, closed=False)[-1] == (9.0, 1.0)


def test_colours_come_from_the_caller_first():
    image = Image.new("RGB", (16, 16), "white")
    Pen(image, 1).draw("r 0 0 16 16 main; r 0 0 4 4 gold", {"main": "#102030"})
    assert image.getpixel((12, 12)) == (16, 32, 48)
    assert "#{:02x}{:02x}{:02x}".format(*image.getpixel((1, 1))) == COLOURS["gold"]


def test_shade():
    assert shade("#804020", 0.5) == "#402010" and shade("#804020", 1) == "#804020"
    assert shade("#000000", 1.5) == "#808080" and shade("#ffffff", 1.1) == "#ffffff"
