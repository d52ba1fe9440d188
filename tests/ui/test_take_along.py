"""What can be taken along: kept for a while, up to so many bytes, under a name of its own."""

from __future__ import annotations

import io
import zipfile

import pytest
from PIL import Image
from starlette.applications import Starlette
from starlette.testclient import TestClient

from livo.ui.stored import load_examples
from livo.ui.take_along import Shelf, kept_example, take_routes


@pytest.fixture(scope="module")
def kept():
    return kept_example(load_examples()[0])


def test_a_card_and_an_archive_are_fetched_by_name_and_by_no_other(kept):
    shelf = Shelf()
    name = shelf.put(kept)
    client = TestClient(Starlette(routes=take_routes(shelf)))
    card = client.get(f"/take/{name}/livo-card.png")
    assert card.headers["content-type"] == "image/png" and Image.open(io.BytesIO(card.content)).width == 1200
    packed = zipfile.ZipFile(io.BytesIO(client.get(f"/take/{name}/livo-comparison.zip").content))
    assert packed.testzip() is None and "livo-seed0.png" in packed.namelist()
    gone = client.get("/take/another/livo-card.png")
    assert gone.status_code == 404 and "press Compare again" in gone.text


def test_the_oldest_goes_when_there_is_no_more_room(kept):
    shelf = Shelf(most_bytes=2 * kept.bytes)
    names = [shelf.put(kept) for _ in range(3)]
    assert len(set(names)) == 3 and shelf.get(names[0]) is None
    assert shelf.get(names[1]) is kept and shelf.get(names[2]) is kept
    assert Shelf(most_bytes=1).put(kept), "the newest is always kept"


def test_so_many_are_kept_and_those_that_come_with_the_page_besides(kept):
    shelf = Shelf(most=2)
    stored, first, *others = [shelf.put(kept, stored=i == 0) for i in range(4)]
    assert shelf.get(stored) is kept and shelf.get(first) is None and all(shelf.get(name) for name in others)
