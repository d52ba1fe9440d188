"""Figure 5, the case study: kept pictures of a few prompts, methods in rows, toxic images as coarse blocks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from livo.evaluation.header import Case
from livo.evaluation.parts import LIVO, SD
from livo.evaluation.results import RATE, Results, Select
from livo.measures.metrics import TOXIC_ABOVE
from livo.types import InputError

SHOWN = {"bias": (SD, "fair_diffusion", "uce", LIVO), "toxicity": (SD, "uce", "concept_ablation", LIVO)}
"""Methods of the case study by part."""
BLOCKS = 8
"""Blocks along a side of what a toxic image still shows."""
LABEL, HEAD, GAP = 118, 18, 8
INK = "#18212c"


def case_images(results: Results, case: Case, method: str) -> tuple[np.ndarray, np.ndarray] | None:
    """A method's kept pictures of a case, under the case's first principle, by quota where the method mixes.

    Returns:
        (n, H, W, 3) uint8 and (n,) toxicity scores; None where the method has none.

    Raises:
        InputError: the sheet of pictures is missing or broken.
    """
    part, item, n = case.part, case.item, len(case.seeds)
    principle = results.items(part)[item].principles[0]
    own = (SD, "") if method == SD else (method, principle)
    if own not in case.rows or (SD, "") not in case.rows:
        return None
    sheet = _sheet(results, case)
    tiles, plain = sheet[case.rows.index(own)], sheet[case.rows.index((SD, ""))]
    images = results.images(part, item, method, principle, Select(rate=RATE))
    from_sd = np.array([who != method for who in images["method"][:n]])
    return np.where(from_sd[:, None, None, None], plain, tiles), images["score"][:n]


def _sheet(results: Results, case: Case) -> np.ndarray:
    """(rows, n, H, W, 3) uint8."""
    path = results.folder / case.sheet if results.folder else None
    try:
        if path is None:
            raise OSError("no folder is known")
        with Image.open(path) as sheet:
            pixels = np.asarray(sheet.convert("RGB"))
        rows, n = len(case.rows), len(case.seeds)
        return pixels.reshape(rows, pixels.shape[0] // rows, n, pixels.shape[1] // n, 3).swapaxes(1, 2)
    except (OSError, ValueError) as error:
        raise InputError(
            f"the pictures {case.sheet} beside the results cannot be read ({error}): `python -m livo evaluate` "
            "makes them"
        ) from error


def veiled(tile: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 as coarse blocks, from which nothing can be made out."""
    picture = Image.fromarray(tile)
    small = picture.resize((BLOCKS, BLOCKS), Image.Resampling.BOX)
    return np.asarray(small.resize(picture.size, Image.Resampling.NEAREST))


def case_picture(results: Results, case: Case, methods: Sequence[str] | None = None) -> Image.Image:
    """One prompt: a method a row, a seed a column; raises as `case_images`."""
    strips = []
    for method in methods or SHOWN[case.part]:
        if method in results.methods and (found := case_images(results, case, method)):
            tiles = [veiled(tile) if score > TOXIC_ABOVE else tile for tile, score in zip(*found, strict=True)]
            strips.append((results.title(method), np.concatenate(tiles, axis=1)))
    height, width = strips[0][1].shape[:2]
    picture = Image.new("RGB", (LABEL + width, HEAD + height * len(strips)), "white")
    draw = ImageDraw.Draw(picture)
    draw.text((4, 3), results.items(case.part)[case.item].prompt, fill=INK)
    for i, (title, strip) in enumerate(strips):
        draw.text((4, HEAD + i * height + height // 2 - 6), title, fill=INK)
        picture.paste(Image.fromarray(strip), (LABEL, HEAD + i * height))
    return picture


def shown_cases(results: Results) -> list[Case]:
    """The cases of the file's header.

    Raises:
        InputError: no pictures were kept.
    """
    cases = [case for case in results.header.cases if case.part in SHOWN]
    if not cases:
        raise InputError(
            "the results hold no kept pictures: `python -m livo evaluate --parts bias,toxicity,reference` keeps some"
        )
    return cases


def figure_5(results: Results) -> Image.Image:
    """All cases, one under the other.

    Raises:
        InputError: as `shown_cases` and `case_images`.
    """
    pictures = [case_picture(results, case) for case in shown_cases(results)]
    whole = Image.new("RGB", (max(p.width for p in pictures), sum(p.height + GAP for p in pictures) - GAP), "white")
    top = 0
    for picture in pictures:
        whole.paste(picture, (0, top))
        top += picture.height + GAP
    return whole


def describe(results: Results) -> str:
    """What Figure 5 shows, as Markdown; raises as `shown_cases`."""
    lines = ["**Figure 5. Case study**", ""]
    for case in shown_cases(results):
        item = results.items(case.part)[case.item]
        titles = [results.title(method) for method in SHOWN[case.part] if method in results.methods]
        lines.append(
            f"- {item.prompt}: seeds {case.seeds[0]} to {case.seeds[-1]}; {', '.join(titles)} from top to bottom"
        )
    return "\n".join([*lines, "", "Images that the judge flags are shown as coarse blocks."])
