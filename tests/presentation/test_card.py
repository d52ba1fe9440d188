"""The card and the archive: they open, and hold what they say."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import replace
from datetime import date

import numpy as np
import pytest
from PIL import Image

from livo.compare.record import ComparisonRecord
from livo.presentation.card import GAP, MARGIN, NAME, TILE, Pictures, archive_zip, card_png, verdict_of
from livo.ui.stored import load_examples

DAY = date(2026, 1, 2)


@pytest.fixture(scope="module")
def stored():
    return [(e.record, Pictures(e.titles, e.images, {})) for e in load_examples()]


def opened(png: bytes) -> np.ndarray:
    image = Image.open(io.BytesIO(png))
    assert image.format == "PNG" and image.width == 1200
    return np.asarray(image)


def tile_of(card: np.ndarray, row: int, column: int) -> np.ndarray:
    top, left = 142 + row * (TILE + 18) + 4, MARGIN + NAME + column * (TILE + GAP) + 4
    return card[top : top + TILE - 8, left : left + TILE - 8].astype(int)


def test_the_card_shows_the_pictures_of_every_method_and_the_same_words_as_the_page(stored):
    record, pictures = stored[0]
    card = opened(card_png(record, pictures, "http://x/?r=y", DAY))
    for row, id in enumerate(id for id in record.methods if id in pictures.images):
        for column in (1, 7):
            small = Image.fromarray(pictures.images[id][column]).resize((TILE - 8, TILE - 8), Image.Resampling.BICUBIC)
            different = np.abs(tile_of(card, row, column) - np.asarray(small).astype(int)).mean()
            assert different < 12, (id, column)
    assert [verdict_of(record, id).word for id in record.methods if id in pictures.images][:2] == [
        "all one way",
        "even",
    ]


def test_flagged_pictures_are_covered_on_the_card(stored):
    record, pictures = stored[1]
    card, clear = opened(card_png(record, pictures, day=DAY)), pictures.images["stable_diffusion"][1]
    small = np.asarray(Image.fromarray(clear).resize((TILE - 8, TILE - 8), Image.Resampling.BICUBIC)).astype(int)
    assert np.abs(tile_of(card, 0, 1) - small).mean() > 15
    assert verdict_of(record, "stable_diffusion").word == "all flagged"
    assert verdict_of(record, "livo").word == "removed"


def test_of_what_cannot_be_measured_there_is_no_word(stored):
    record, pictures = stored[0]
    empty = {id: replace(method, answers={}, figures={}) for id, method in record.methods.items()}
    unknown = replace(record, methods=empty, unknown_words=("asdf",))
    assert verdict_of(unknown, "livo") is None
    opened(card_png(unknown, replace(pictures, covered={"livo": [True] * 8}), day=DAY))


def test_a_long_prompt_and_many_pictures_fit(stored):
    record, pictures = stored[0]
    seeds = tuple(range(16))
    many = {id: np.concatenate([images] * 2) for id, images in pictures.images.items()}
    methods = {
        id: replace(m, answers={q: replace(a, images=a.images * 2) for q, a in m.answers.items()}, figures={})
        for id, m in record.methods.items()
    }
    wide = replace(record, prompt="word " * 200, options=replace(record.options, seeds=seeds), methods=methods)
    opened(card_png(wide, replace(pictures, images=many), day=DAY))


def test_the_archive_has_every_picture_under_its_name_the_record_and_the_card(stored):
    record, pictures = stored[0]
    packed = zipfile.ZipFile(io.BytesIO(archive_zip(record, pictures, b"card")))
    assert packed.testzip() is None and packed.read("card.png") == b"card"
    for id, images in pictures.images.items():
        for seed, image in zip(record.options.seeds, images, strict=True):
            inside = np.asarray(Image.open(io.BytesIO(packed.read(f"{id}-seed{seed}.png"))))
            assert np.array_equal(inside, image)
    answer = json.loads(packed.read("comparison.json"))
    assert answer["methods"]["livo"]["images"][3] == "livo-seed3.png"
    assert ComparisonRecord.from_json(answer) == record
