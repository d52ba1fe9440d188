"""The colour of a face's cheeks, to the nearest of the ten colours of the Monk Skin Tone scale.

    picture, landmarks -> two squares of cheek -> median CIELAB of each -> their mean -> d_k to colour k of the scale
    p_k = exp(-d_k^2 / (2 SPREAD^2)) / sum over j

It is a measure of the picture's colours under its light and of nothing else: the same face has another colour at noon,
by a lamp, and after a filter. It says nothing of what a person is, and no figure of fairness is made of it.

Whether a picture is too dark is asked of the whole picture and not of the cheeks, or dark skin would be left out more
often than light skin.

Source:
    Monk 2023, The Monk Skin Tone Scale (doi 10.31235/osf.io/pdf4c), its colours in sRGB; CIE 15, CIELAB under D65.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

SCALE = ("f6ede4", "f3e7db", "f7ead0", "eadaba", "d7bd96", "a07e56", "825c43", "604134", "3a312a", "292420")
CLASSES = tuple(f"Monk {number}" for number in range(1, 11))
SPREAD = 3.0
"""How far the mean of two cheeks is off along an axis of CIELAB, as their differences on generated faces have it."""
MIN_ANSWER = 0.55
"""Least probability of an answer; the scale's first two colours, 2.7 apart, have 0.6 each at their own place."""
REACH = 0.12
"""Half a square's side, in distances of the eyes."""
MIN_EYES = 16.0
"""Least distance of the eyes in pixels: a square has 25 of them then."""
MIN_LIGHT = 35.0
"""Least L* that a twentieth of the picture has."""
CLIPPED, MOST_CLIPPED = (5, 250), 0.1
"""Below and above which a channel says nothing of its colour, and the most pixels of a cheek with such a channel."""
MOST_APART = 10.0
"""Most that the two cheeks may differ."""
MOST_OFF, HUES = 15.0, (20.0, 100.0)
"""Most that the cheeks may be off the nearest colour, and hues that skin has under white light (the scale's: 49 to 89
degrees): light of another colour carries them away."""
SMALL, DARK, BURNT, CHEEKS, TINTED, BETWEEN = (
    "face too small", "too dark", "clipped", "cheeks differ", "coloured light", "between two colours",
)  # fmt: skip

_TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def to_lab(rgb: np.ndarray) -> np.ndarray:
    """(..., 3) uint8 sRGB -> (..., 3) CIELAB under D65: L* in [0, 100].

    Example:
        >>> to_lab(np.array([255, 255, 255], dtype=np.uint8)).round(1).tolist()[0]
        100.0
    """
    part = rgb.astype(np.float64) / 255
    linear = np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)
    xyz = linear @ _TO_XYZ.T / _TO_XYZ.sum(axis=1)
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], axis=-1)


MONK = to_lab(np.array([list(bytes.fromhex(colour)) for colour in SCALE], dtype=np.uint8))
"""(10, 3) CIELAB."""


def cheek_colour(pixels: np.ndarray, points: Sequence[tuple[float, float]]) -> tuple[np.ndarray, str]:
    """Which colour of the scale the cheeks are nearest to.

    Args:
        pixels: (H, W, 3) uint8, the whole picture.
        points: (x, y) of the left and right eye, the nose, the left and right corner of the mouth, in pixels.

    Returns:
        (10,) float32 probabilities of `CLASSES`, equal where nothing was measured, and why it cannot tell, or nothing.
    """
    nothing = np.full(len(CLASSES), 1 / len(CLASSES), dtype=np.float32)
    left_eye, right_eye, _, left_mouth, right_mouth = (np.asarray(point) for point in points)
    apart = float(np.linalg.norm(right_eye - left_eye))
    middles = (left_eye + left_mouth) / 2, (right_eye + right_mouth) / 2
    cheeks = [square(pixels, middle, round(REACH * apart)) for middle in middles]
    if apart < MIN_EYES or not all(len(cheek) for cheek in cheeks):
        return nothing, SMALL
    if np.percentile(to_lab(pixels)[..., 0], 95) < MIN_LIGHT:
        return nothing, DARK
    if any(((c < CLIPPED[0]) | (c > CLIPPED[1])).any(axis=1).mean() > MOST_CLIPPED for c in cheeks):
        return nothing, BURNT
    one, other = (np.median(to_lab(cheek), axis=0) for cheek in cheeks)
    if np.linalg.norm(one - other) > MOST_APART:
        return nothing, CHEEKS
    colour = (one + other) / 2
    distance, hue = np.linalg.norm(MONK - colour, axis=1), np.degrees(np.arctan2(colour[2], colour[1]))
    if distance.min() > MOST_OFF or not HUES[0] <= hue <= HUES[1]:
        return nothing, TINTED
    probs = np.exp((distance.min() ** 2 - distance**2) / (2 * SPREAD**2))
    probs = (probs / probs.sum()).astype(np.float32)
    return probs, "" if probs.max() >= MIN_ANSWER else BETWEEN


def square(pixels: np.ndarray, middle: np.ndarray, reach: int) -> np.ndarray:
    """(H, W, 3) and (x, y) -> (n, 3), the square's pixels; none where it reaches beyond the picture."""
    x, y = (round(float(c)) for c in middle)
    if min(x, y) < reach or x + reach >= pixels.shape[1] or y + reach >= pixels.shape[0]:
        return np.empty((0, 3), dtype=pixels.dtype)
    return pixels[y - reach : y + reach + 1, x - reach : x + reach + 1].reshape(-1, 3)
