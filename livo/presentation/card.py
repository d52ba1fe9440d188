"""A comparison as one picture to share, and as an archive to keep: pictures by method and seed, the record, the card.

    card_png(record, shown) -> bytes
    archive_zip(record, shown, card) -> bytes      <method>-seed<n>.png, comparison.json, card.png

Flagged pictures are covered on the card. Nothing here knows the page or the shell.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from livo.classifiers.answers import BiasFigures, ToxicityFigures
from livo.classifiers.panel import TOXICITY
from livo.compare.record import ComparisonRecord, MethodRecord
from livo.presentation.marks import Mark, lead_of, mark_of
from livo.presentation.verdict import Verdict, bias_verdict, toxicity_verdict

WIDTH, MARGIN, NAME, END = 1200, 36, 190, 220
TILE, GAP, MOST = 84, 6, 8
"""Pixels of a picture with its frame, between two, and pictures a method that fit."""
INK, SOFT, PAPER, LINE = "#18212c", "#4a5868", "#ffffff", "#d8dee6"
FRAMES = ("#00788a", "#954e71", "#8c5f0e", "#735a9c", "#357a47", "#9c4f44", "#3c6aa4")
"""By class; as on the page, of equal lightness."""
BAD, KINDS = "#a11d2b", {"bad": "#a11d2b", "good": "#0f6e64", "open": "#8a3b12"}
BASE = "stable_diffusion"


@dataclass(frozen=True)
class Pictures:
    """What a record does not hold: titles and (N, H, W, 3) uint8 pictures by method.

    Attributes:
        covered: per picture, whether it is covered though nothing is said of it.
    """

    titles: Mapping[str, str]
    images: Mapping[str, np.ndarray]
    covered: Mapping[str, Sequence[bool]]


def verdict_of(record: ComparisonRecord, id: str) -> Verdict | None:
    """The word for a method's pictures; None where nothing was measured."""
    lead, method, base = lead_of(record), record.methods[id], record.methods.get(BASE) if id != BASE else None
    figures = method.figures.get(lead or "")
    if isinstance(figures, ToxicityFigures):
        before = base.figures.get(TOXICITY) if base else None
        return toxicity_verdict(figures, before if isinstance(before, ToxicityFigures) else None)
    if isinstance(figures, BiasFigures) and lead:
        return bias_verdict(method.answers[lead], figures, base.answers.get(lead) if base else None)
    return None


def card_png(record: ComparisonRecord, pictures: Pictures, link: str = "", day: date | None = None) -> bytes:
    """The card: prompt, principle, a row a method with its word, model, date and link.

    Args:
        link: to the same view; left out where there is none.
        day: today without one.
    """
    shown = [id for id in record.methods if id in pictures.images]
    row = TILE + 18
    height = 150 + row * max(1, len(shown)) + 64
    image = Image.new("RGB", (WIDTH, height), PAPER)
    draw = ImageDraw.Draw(image)
    _text(draw, (MARGIN, 26), f"“{record.prompt}”", 30, INK, WIDTH - 2 * MARGIN)
    name = " and ".join(principle.text for principle in record.principles) or "no principle"
    _text(draw, (MARGIN, 72), f"Principle: {name}", 22, SOFT, WIDTH - 2 * MARGIN)
    if record.unknown_words:
        words = f"Not measurable: the model never saw {', '.join(record.unknown_words)}"
        _text(draw, (MARGIN, 104), words, 18, BAD, WIDTH - 2 * MARGIN)
    for i, id in enumerate(shown):
        top = 142 + i * row
        draw.line((MARGIN, top - 9, WIDTH - MARGIN, top - 9), LINE)
        _text(draw, (MARGIN, top + 24), pictures.titles[id], 21, INK, NAME - 12)
        _strip(image, draw, record, id, pictures, top)
        _end(draw, record, id, top)
    seeds = record.options.seeds
    made = f"{record.backbone}, seeds {seeds[0]} to {seeds[-1]}, {(day or date.today()).isoformat()}"
    note = "labels are how a classifier perceives pictures, never what anybody is"
    _text(draw, (MARGIN, height - 56), f"LiVO · {made} · {note}", 15, SOFT, WIDTH - 2 * MARGIN)
    if link:
        _text(draw, (MARGIN, height - 33), link, 13, SOFT, WIDTH - 2 * MARGIN)
    out = io.BytesIO()
    image.save(out, "png", optimize=True)
    return out.getvalue()


def _strip(
    image: Image.Image, draw: ImageDraw.ImageDraw, record: ComparisonRecord, id: str, pictures: Pictures, top: int
) -> None:
    lead, method = lead_of(record), record.methods[id]
    for k, tile in enumerate(pictures.images[id][:MOST]):
        left = MARGIN + NAME + k * (TILE + GAP)
        mark = mark_of(method.answers[lead], k) if lead and lead in method.answers else None
        flagged = TOXICITY in method.answers and method.answers[TOXICITY].images[k].toxic
        hidden = flagged or bool(pictures.covered.get(id) and pictures.covered[id][k])
        picture = Image.fromarray(tile)
        if hidden:
            picture = picture.resize((4, 4), Image.Resampling.BOX)
        frame = (
            BAD if flagged else FRAMES[mark.index % len(FRAMES)] if mark and mark.index >= 0 and mark.letter else LINE
        )
        draw.rectangle((left, top, left + TILE - 1, top + TILE - 1), frame)
        image.paste(picture.resize((TILE - 8, TILE - 8), Image.Resampling.BICUBIC), (left + 4, top + 4))
        _letter(draw, mark, frame, left, top)
    if (more := len(pictures.images[id]) - MOST) > 0:
        _text(draw, (MARGIN + NAME + MOST * (TILE + GAP), top + 30), f"+{more}", 16, SOFT, 60)


def _letter(draw: ImageDraw.ImageDraw, mark: Mark | None, frame: str, left: int, top: int) -> None:
    if mark is None or not mark.letter:
        return
    wide = 8 + 10 * len(mark.letter)
    draw.rectangle((left, top + TILE - 19, left + wide, top + TILE - 1), frame if mark.index >= 0 else SOFT)
    draw.text((left + 4, top + TILE - 18), mark.letter, "#ffffff", _font(14))


def _end(draw: ImageDraw.ImageDraw, record: ComparisonRecord, id: str, top: int) -> None:
    verdict, left = verdict_of(record, id), WIDTH - MARGIN - END
    if verdict is None:
        return
    _text(draw, (left, top + 14), verdict.word, 22, KINDS[verdict.kind], END)
    figures = record.methods[id].figures.get(lead_of(record) or "")
    _text(draw, (left, top + 46), _words(record.methods[id], figures), 15, SOFT, END)


def _words(method: MethodRecord, figures: object) -> str:
    if isinstance(figures, ToxicityFigures):
        return f"{figures.flagged} of {figures.n} flagged"
    if isinstance(figures, BiasFigures):
        floor = figures.floor.discrepancy_range
        return f"D1 {100 * figures.discrepancy_range:.0f}, fair sampler {100 * floor:.0f}, n = {figures.n}"
    return ""


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _text(draw: ImageDraw.ImageDraw, place: tuple[int, int], text: str, size: int, colour: str, width: int) -> None:
    """One line, cut with an ellipsis where it would be wider."""
    font = _font(size)
    while text and draw.textlength(text, font) > width:
        text = text[:-2].rstrip("…") + "…" if len(text) > 2 else ""
    draw.text(place, text, colour, font)


def archive_zip(record: ComparisonRecord, pictures: Pictures, card: bytes) -> bytes:
    """Pictures as `<method>-seed<n>.png`, `comparison.json` with their names, and `card.png`."""
    out = io.BytesIO()
    names: dict[str, list[str]] = {}
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for id, images in pictures.images.items():
            names[id] = []
            for seed, image in zip(record.options.seeds, images, strict=True):
                packed = io.BytesIO()
                Image.fromarray(image).save(packed, "png")
                names[id].append(f"{id}-seed{seed}.png")
                archive.writestr(names[id][-1], packed.getvalue())
        text = json.dumps(record.to_json(names), indent=2, ensure_ascii=False)
        archive.writestr("comparison.json", text + "\n")
        archive.writestr("card.png", card)
    return out.getvalue()
