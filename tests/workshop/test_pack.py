"""The pack: labels and figures are those of the stored results, pictures are what the judge says, and none is toxic."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch
from PIL import Image

from livo.types import InputError
from livo.workshop.build import SHEET_COLUMNS, build_pack, figures, load_wanted
from livo.workshop.lesson import FOLDER, Ask
from livo.workshop.pack import INDEX, WANTED, check_value, load_pack

TOXIC = ("naked", "nude", "unclothed", "without clothes", "blood", "gore", "zombie", "undead")
MEGABYTE = 1_000_000


def pictures(folder, sheet: str, count: int) -> np.ndarray:
    """(count, H, W, 3) of a sheet."""
    with Image.open(folder / sheet) as image:
        pixels = np.asarray(image.convert("RGB"))
    size = pixels.shape[1] // SHEET_COLUMNS
    tiles = (
        pixels.reshape(pixels.shape[0] // size, size, SHEET_COLUMNS, size, 3).swapaxes(1, 2).reshape(-1, size, size, 3)
    )
    return tiles[:count]


@pytest.fixture(scope="module")
def judge():
    from livo.classifiers.judge import load_judge
    from livo.diffusion.backbones import ASSETS

    return load_judge(ASSETS / "miniature" / "evaluator")


def holders(pack):
    sets = [(one["sheet"], len(one["labels"])) for one in pack.payload["sets"].values() if one["sheet"]]
    return sets + [(one["sheet"], len(one["pictures"])) for one in pack.payload["albums"].values()]


def test_no_picture_of_the_pack_is_a_toxic_stand_in_and_no_prompt_asks_for_one(pack, judge):
    """Not hidden: not there. Judged from the files that are served."""
    seen = set()
    for sheet, count in holders(pack):
        images = torch.from_numpy(pictures(pack.folder, sheet, count).copy()).permute(0, 3, 1, 2)
        assert judge(images, "toxicity").labels == [0] * count, sheet
        seen.add(sheet)
    stored = {path.name for path in FOLDER.iterdir() if path.suffix not in (".md", ".json", ".yaml")}
    assert stored == seen == set(pack.sheets), "no other picture lies beside them"
    prompts = [one["prompt"] for one in pack.payload["sets"].values()] + [
        row["prompt"] for row in pack.payload["prompts"]
    ]
    assert not [prompt for prompt in prompts if any(word in prompt for word in TOXIC)]


def test_a_toxic_stand_in_would_be_found(judge):
    from livo.miniature.renderer import render
    from livo.miniature.world import Scene, load_world

    for kind, place in (("bloody", 2), ("zombie", 3)):
        scene = Scene("doctor", None, None, None, "male", "light", toxic=kind, jitter=3)
        image = torch.from_numpy(np.asarray(render(load_world(), scene)).copy()).permute(2, 0, 1)[None]
        assert judge(image, "toxicity").labels == [place]


def test_pictures_are_read_as_their_labels_say(pack, judge):
    for name, one in pack.payload["sets"].items():
        if one["sheet"] is None:
            continue
        images = torch.from_numpy(pictures(pack.folder, one["sheet"], len(one["labels"])).copy()).permute(0, 3, 1, 2)
        read = [-1 if k is None else k for k in judge(images, one["question"]).labels]
        same = sum(a == b for a, b in zip(read, one["labels"], strict=True))
        assert same >= 0.95 * len(read), (name, same)  # a sheet is compressed with a little loss


def test_figures_are_those_of_the_stored_results(pack):
    """What `python -m livo workshop pack` would write now; run it where this fails."""
    now = figures(load_wanted())
    for key in ("judge", "charts", "prompts", "weights"):
        assert json.loads(json.dumps(now[key])) == pack.payload[key], f"{key}: run `python -m livo workshop pack`"
    for name, one in now["sets"].items():
        assert {k: v for k, v in one.items() if k != "sheet"} == {
            k: v for k, v in pack.payload["sets"][name].items() if k != "sheet"
        }, name


def test_the_doubtful_pictures_are_the_ones_the_judge_was_least_sure_of(pack):
    album = load_wanted().albums["ten"]
    sure = sorted(max(picture["scores"]) for picture in pack.payload["albums"]["ten"]["pictures"])
    assert len(sure) == album.doubtful + album.clear == 10
    assert sure[0] < 0.9 and sure[album.doubtful - 1] < 0.9995 < sure[album.doubtful]


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("arm: livo", "arm: 5", "sets.doctor-livo.arm"), ("doubtful: 6", "doubtful: many", "albums.ten.doubtful"),
        ("sets: [gardener,", "sets: [hat,", "no set 'hat'"), ("charts: [bias", "charts: [fairness", "charts.1"),
        ("pictures: true", "pictures: maybe", "sets.doctor.pictures"), ("\nalbums:", "\nalbum:", "albums"),
    ],
)  # fmt: skip
def test_a_planted_mistake_in_the_wishes_names_its_field(tmp_path, old, new, named):
    text = (FOLDER / WANTED).read_text(encoding="utf-8")
    assert old in text
    (tmp_path / WANTED).write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(InputError, match=re.escape(named)):
        load_wanted(tmp_path)


def test_it_is_small(pack):
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < MEGABYTE


def test_nothing_is_generated_again_where_nothing_changed(tmp_path, pack):
    for path in FOLDER.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())

    def load(ids, engine):
        raise AssertionError("pictures were generated")

    build_pack(load, tmp_path)
    assert json.loads((tmp_path / INDEX).read_text()) == pack.payload


@pytest.mark.parametrize("damage", [
    "{", "[]", '{"sets": {}, "albums": 3}',
    '{"sets": {"a": {"sheet": "../a.webp"}}, "albums": {}}', '{"sets": {"a": {"sheet": "gone.webp"}}, "albums": {}}',
])  # fmt: skip
def test_a_broken_pack_says_how_to_make_one(tmp_path, damage):
    (tmp_path / INDEX).write_text(damage)
    with pytest.raises(InputError, match="python -m livo workshop pack"):
        load_pack(tmp_path)


@pytest.mark.parametrize(("ask", "good", "bad"), [
    (
        Ask(id="a", kind="number", question="?", min=0, max=50),
        [0, 50, 7],
        [-1, 51, 7.5, True, "7", None, [7], float("nan")],
    ),
    (Ask(id="a", kind="choice", question="?", options=("x", "y")), [0, 1], [2, -1, True, "0", None, [0]]),
    (
        Ask(id="a", kind="labels", question="?", options=("x", "y"), items=("1", "2")),
        [[0, 1], [1, 1]],
        [[0], [0, 2], [0, 1, 1], "01", 0, [0, None], [True, False], {"0": 1}],
    ),
])  # fmt: skip
def test_only_answers_that_were_offered_are_answers(pack, ask, good, bad):
    assert all(check_value(ask, value, pack) for value in good)
    assert not [value for value in bad if check_value(ask, value, pack)]
