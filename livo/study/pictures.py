"""Pictures of any origin as raters see them: upright, 8 bits, over white, whole, on one canvas, without metadata.

files -> `canvas_of` -> `fitted` -> (H, W, 3) of one size, and what was done to each
"""

from __future__ import annotations

import math
import statistics
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from livo.inputs import PICTURE_FORMATS
from livo.types import InputError

SIDE_MOST = 768
"""Pixels along the longer side; larger images are reduced."""
MOST_PIXELS = 64_000_000
"""Of a file; a small file can claim to be huge."""
LEAST_SHARE = 0.25
"""Of the canvas's longer side that a picture must have: a smaller one, enlarged, would be known by its blur."""
ALIKE = 0.01
"""Relative difference of two aspect ratios that counts as none."""
PAPER = (255, 255, 255)
"""What lies behind transparent pictures and beside those of another shape."""


def open_picture(path: Path) -> Image.Image:
    """A picture whose pixels are not read yet.

    Raises:
        InputError: the file is none, or claims more than `MOST_PIXELS`.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(path, formats=PICTURE_FORMATS)
    except Image.DecompressionBombError as error:
        raise InputError(f"{path} has more than {MOST_PIXELS:,} pixels: make it smaller") from error
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError) as error:
        raise InputError(f"{path} is no image that can be read: give PNG, JPEG or WebP") from error
    if math.prod(image.size) > MOST_PIXELS:
        width, height = image.size
        image.close()
        raise InputError(f"{path} has {width:,} x {height:,} pixels; the most is {MOST_PIXELS:,}: make it smaller")
    return image


def upright_size(path: Path) -> tuple[int, int]:
    """Width and height as the picture is meant to be seen; raises as `open_picture`."""
    with open_picture(path) as image:
        width, height = image.size
        turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
    return (height, width) if turned else (width, height)


def canvas_of(paths: Sequence[Path]) -> tuple[int, int]:
    """Width and height of the canvas that all pictures are put on.

    Its longer side is the median of theirs, at most `SIDE_MOST`; it has their shape where they all have one, and is
    square otherwise.

    Raises:
        InputError: a file is no picture, or so small beside the others that it would be recognised.
    """
    sizes = [upright_size(path) for path in paths]
    side = min(SIDE_MOST, round(statistics.median(max(size) for size in sizes)))
    for path, (width, height) in zip(paths, sizes, strict=True):
        if max(width, height) < LEAST_SHARE * side:
            raise InputError(
                f"{path} has {width} x {height} pixels, and the others about {side}: enlarged, it would be known by "
                "its blur; give a larger one, or leave it out"
            )
    ratios = [width / height for width, height in sizes]
    if max(ratios) / min(ratios) > 1 + ALIKE:
        return side, side
    ratio = statistics.median(ratios)
    return (side, max(1, round(side / ratio))) if ratio >= 1 else (max(1, round(side * ratio)), side)


def fitted(path: Path, canvas: tuple[int, int]) -> tuple[Image.Image, list[str]]:
    """The whole picture on the canvas, without the file's metadata, and what was done to it, in words.

    Raises:
        InputError: the file is broken, or holds what is no picture for people (floating point).
    """
    done: list[str] = []
    with open_picture(path) as image:
        try:
            if getattr(image, "n_frames", 1) > 1:
                done.append("the first of several frames was taken")
            if image.getexif().get(0x0112, 1) != 1:
                image = ImageOps.exif_transpose(image)
                done.append("turned upright")
            image = _in_colours(image, path, done)
        except (OSError, SyntaxError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{path} is a broken image: make it again") from error
    scale = min(canvas[0] / image.width, canvas[1] / image.height)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    if size != image.size:
        done.append(f"scaled from {image.width} x {image.height} to {size[0]} x {size[1]}")
        image = image.resize(size, Image.Resampling.LANCZOS)
    if size != canvas:
        done.append(f"put on {canvas[0]} x {canvas[1]} with bars")
        whole = Image.new("RGB", canvas, PAPER)
        whole.paste(image, ((canvas[0] - size[0]) // 2, (canvas[1] - size[1]) // 2))
        image = whole
    return Image.frombytes("RGB", image.size, image.tobytes()), done


def _in_colours(image: Image.Image, path: Path, done: list[str]) -> Image.Image:
    if image.mode == "F":
        raise InputError(f"{path} holds floating-point numbers: save it with 8 or 16 bits")
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65_535:
            raise InputError(f"{path} holds numbers beyond 16 bits: save it with 8 or 16 bits")
        done.append("16 bits scaled to 8")
        return Image.fromarray(((values + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        if np.asarray(image.getchannel("A")).min() < 255:
            done.append("transparent parts put over white")
        return Image.alpha_composite(Image.new("RGBA", image.size, (*PAPER, 255)), image).convert("RGB")
    if image.mode != "RGB":
        done.append(f"converted from {image.mode}")
    return image.convert("RGB")
