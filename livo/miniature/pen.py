"""The shape language of the drawings: one line of text a shape, on a canvas of 256 units however many pixels it has.

A drawing is a text of shapes parted by `;`. A shape is a letter, its numbers and its colours, in this order:

    e x0 y0 x1 y1             ellipse in a box
    r x0 y0 x1 y1 [radius]    box, its corners rounded
    p x y x y ...             polygon
    b x y x y ...             blob: the smooth closed curve through the points
    l width x y x y ...       line with round ends and joints
    c width x y x y ...       the same, smooth
    a x0 y0 x1 y1 from to w   arc of an ellipse, degrees clockwise from three o'clock, width w inwards

A colour is `#rrggbb`, a name of `COLOURS` or a name that the caller gives (`main`, `accent`, `skin`).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

from PIL import Image, ImageColor, ImageDraw

COLOURS = {
    "ink": "#20222a", "steel": "#c4ccd4", "iron": "#6c7680", "wood": "#9a6434", "bark": "#5c3a20", "gold": "#f2c230",
    "red": "#d82c34", "white": "#ffffff", "paper": "#fbf6ea", "sky": "#58b4f0", "blue": "#2c64c8", "green": "#3c9c48",
    "leaf": "#2f7a3a", "orange": "#f08a24", "pink": "#f08cb4", "purple": "#7c4cb4", "glass": "#cdeefa",
}  # fmt: skip
COUNTS = {  # how many numbers a shape may have
    "e": range(4, 5), "a": range(7, 8), "r": range(4, 6), "p": range(6, 99, 2), "b": range(6, 99, 2),
    "l": range(5, 99, 2), "c": range(5, 99, 2),
}  # fmt: skip
Point = tuple[float, float]


def shade(colour: str, factor: float) -> str:
    """A darker (factor < 1) or lighter (> 1) colour."""
    rgb = ImageColor.getrgb(colour)
    if factor <= 1:
        return "#{:02x}{:02x}{:02x}".format(*(round(c * factor) for c in rgb))
    return "#{:02x}{:02x}{:02x}".format(*(round(c + (255 - c) * (factor - 1)) for c in rgb))


@functools.cache
def parse(drawing: str) -> tuple[tuple[str, tuple[float, ...], str], ...]:
    """(letter, numbers, colour) of every shape.

    Raises:
        ValueError: a shape that the language does not have, quoted.
    """
    shapes = []
    for text in filter(None, (part.strip() for part in drawing.split(";"))):
        letter, *words = text.split()
        *numbers, colour = words
        try:
            values = tuple(float(number) for number in numbers)
        except ValueError:
            raise ValueError(f"{text!r}: numbers and then one colour are wanted") from None
        if len(values) not in COUNTS.get(letter, ()):
            raise ValueError(f"{text!r} is no shape: wanted e, r, p, b, l, c or a with its numbers and a colour")
        shapes.append((letter, values, colour))
    return tuple(shapes)


def smooth(points: Sequence[Point], *, closed: bool, pieces: int = 8) -> list[Point]:
    """The Catmull-Rom curve through the points, as a polyline."""
    n = len(points)
    if not closed:
        points = [points[0], *points, points[-1]]
    out: list[Point] = []
    for i in range(n if closed else n - 1):
        a, b, c, d = (points[(i + k) % len(points)] for k in range(4))
        for j in range(pieces):
            t = j / pieces
            out.append(
                tuple(  # type: ignore[arg-type]
                    0.5 * (2 * q + (r - p) * t + (2 * p - 5 * q + 4 * r - s) * t * t + (3 * q - p - 3 * r + s) * t**3)
                    for p, q, r, s in zip(a, b, c, d, strict=True)
                )
            )
    return out if closed else [*out, points[-1]]


class Pen:
    """Draws shapes on an image; units are mapped to pixels by a scale and an offset."""

    def __init__(self, image: Image.Image, scale: float, offset: Point = (0, 0)) -> None:
        self.image, self.ink, self.scale, self.offset = image, ImageDraw.Draw(image), scale, offset

    def at(self, x: float, y: float, size: float = 1.0) -> Pen:
        """The same paper with its origin at (x, y) and units `size` times as long."""
        origin = (self.offset[0] + x * self.scale, self.offset[1] + y * self.scale)
        return Pen(self.image, self.scale * size, origin)

    def points(self, numbers: Sequence[float]) -> list[Point]:
        """Pixels of x, y, x, y, ..."""
        return [
            (x * self.scale + self.offset[0], y * self.scale + self.offset[1])
            for x, y in zip(numbers[::2], numbers[1::2], strict=True)
        ]

    def line(self, points: list[Point], width: float, colour: str) -> None:
        """A line in pixels, with round ends and joints."""
        self.ink.line(points, fill=colour, width=max(1, round(width)))
        r = width / 2
        if r >= 1:
            for x, y in points:
                self.ink.ellipse((x - r, y - r, x + r, y + r), fill=colour)

    def shape(self, letter: str, numbers: Sequence[float], colour: str, grow: float = 0) -> None:
        """One shape, `grow` units larger on every side."""
        pixels = grow * self.scale
        if letter in "er":
            (x0, y0), (x1, y1) = self.points(numbers[:4])
            box = (x0 - pixels, y0 - pixels, x1 + pixels, y1 + pixels)
            if letter == "e":
                self.ink.ellipse(box, fill=colour)
            else:
                radius = (numbers[4] if len(numbers) > 4 else 0.0) * self.scale + pixels
                self.ink.rounded_rectangle(box, radius, fill=colour)
        elif letter == "a":
            (x0, y0), (x1, y1) = self.points(numbers[:4])
            box = (x0 - pixels, y0 - pixels, x1 + pixels, y1 + pixels)
            thick = max(1, round(numbers[6] * self.scale + 2 * pixels))
            self.ink.arc(box, numbers[4], numbers[5], fill=colour, width=thick)
        elif letter in "pb":
            points = self.points(numbers)
            outline = smooth(points, closed=True) if letter == "b" else points
            self.ink.polygon(outline, fill=colour)
            if grow:
                self.line([*outline, outline[0]], 2 * pixels, colour)
        else:
            points = self.points(numbers[1:])
            width = numbers[0] * self.scale + 2 * pixels
            self.line(smooth(points, closed=False) if letter == "c" else points, width, colour)

    def draw(self, drawing: str, names: Mapping[str, str] | None = None, *, contour: float = 0) -> None:
        """All shapes of a drawing, over a dark contour of so many units where one is wanted."""
        names = names or {}
        shapes = parse(drawing)
        if contour:
            for letter, numbers, _ in shapes:
                self.shape(letter, numbers, COLOURS["ink"], contour)
        for letter, numbers, colour in shapes:
            self.shape(letter, numbers, names.get(colour) or COLOURS.get(colour, colour))
