from __future__ import annotations

import sys

from PIL import Image

from livo.miniature.second import __main__ as command
from livo.miniature.second.world import load_world


def test_the_contact_sheet_shows_every_concept_and_pairs(tmp_path, monkeypatch, capsys):
    out = tmp_path / "deep" / "world.png"
    monkeypatch.setattr(sys, "argv", ["x", "--out", str(out)])
    command.main()
    world = load_world()
    tables = (world.occupations, world.adjectives, world.places, world.toxic, world.lookalikes)
    cells = sum(len(table) for table in tables) + 15
    image = Image.open(out).convert("RGB")
    assert image.size == (12 * 128, -(-cells // 12) * 128) and out.stat().st_size < 1_000_000
    assert str(out) in capsys.readouterr().out
    corner = image.crop((0, 0, 128, 128)).getcolors(20_000)
    assert corner and len(corner) > 12, "a person, not a blank"
