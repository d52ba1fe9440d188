"""Study files and the making of studies: bad input, blindness of the files, what is found as checks."""

from __future__ import annotations

import csv
import itertools
import random
import re
import stat
from pathlib import Path

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from raters import METHODS, make_folder

from livo.study.build import find_checks, make_study
from livo.study.design import plan_of
from livo.study.organise import outlook, rater_links
from livo.study.sources import SourcePicture, pictures_of_comparison, pictures_of_folder
from livo.study.study_file import CORRECTIONS, IMAGES, ITEMS, SECRET, STUDY, Study, dump_study, load_study, parse_study
from livo.types import InputError


@pytest.mark.parametrize(("text", "says"), [
    ("", "must hold fields"),
    ("- a", "must hold fields"),
    ("title: [", "is not readable YAML"),
    ("raters: 5", "'title' is missing"),
    ("title: ''", "title is empty"),
    ("title: 5", "wanted words"),
    ("title: x\nrater: 5", "did you mean 'raters'"),
    ("title: x\nraters: 0", "wanted at least 1"),
    ("title: x\nraters: many", "whole number"),
    ("title: x\nraters: true", "whole number"),
    ("title: x\nmood: 1", "true or false"),
    ("title: x\nquestions: consistency_5", "list of words"),
    ("title: x\nquestions: []", "no question is listed"),
    ("title: x\nquestions: [beauty]", "there are: consistency_3"),
    ("title: x\nquestions: [toxic, toxic]", "listed twice"),
    ("title: x\nquestions: [consistency_3, consistency_5]", "choose one"),
    ("title: x\nlanguages: [xx]", "no language 'xx'"),
    ("title: x\nlanguages: []", "no language"),
    ("title: x\nsupport: {en: 5}", "'support.en': wanted words"),
    ("title: x\ncodes: {done: A}", "'codes.done': there is no such field; there are: completed"),
    ("title: x\ncodes: {completed: A, stopped: A}", "the same"),
    ("title: x\nraters: 5.5", "whole number"),
    ("title: x\nraters: 1000\nmore_raters: 100", "at most 1024"),
    ("title: x\nparameters: [a b]", "names of letters"),
    ("title: 2020-01-01", "wanted words"),
    ("title: x\nraters: " + "9" * 5000, "5,000 digits"),
    ("title: x\npairs_per_rater: 5", "add the question 'preference'"),
    ("title: x\nquestions: [preference]", "give pairs_per_rater"),
    ("title: x\nratings_per_rater: 0", "nobody would rate anything"),
])  # fmt: skip
def test_a_study_file_says_what_is_wrong_with_it(text, says):
    with pytest.raises(InputError, match=re.escape(says)):
        parse_study(text)


def test_what_is_dumped_is_read_again():
    study = Study(
        title="Über: #1 – 'x'",
        raters=3,
        questions=("consistency_3", "preference"),
        pairs_per_rater=2,
        support={"fr": "0800"},
    )
    assert parse_study(dump_study(study)) == study


@pytest.mark.parametrize("id", ["../../../secret", "a" * 19, "A" * 20, "/etc/passwd", ""])
def test_ids_of_items_are_hexadecimal_and_links_are_not_followed(tmp_path, id):
    folder = make_folder(tmp_path / "s")
    text = (folder.path / ITEMS).read_text()
    first = next(iter(folder.items))
    (folder.path / ITEMS).write_text(text.replace(first, id))
    with pytest.raises(InputError, match=r"items\.0\.id"):
        load_study(folder.path)
    (folder.path / ITEMS).write_text(text)
    image = folder.path / IMAGES / f"{first}.png"
    image.rename(tmp_path / "elsewhere.png")
    image.symlink_to(tmp_path / "elsewhere.png")
    with pytest.raises(InputError, match="is missing"):
        load_study(folder.path)


def test_corrections_change_neither_plan_nor_digest(tmp_path):
    folder = make_folder(tmp_path / "s", raters=3)
    (folder.path / CORRECTIONS).write_text("contact: ask@example.org\nmore_raters: 2\ncodes: {completed: C1}\n")
    now = load_study(folder.path)
    assert now.digest == folder.digest and now.study.contact == "ask@example.org" and now.study.codes.completed == "C1"
    assert [plan_of(now, rater) for rater in range(3)] == [plan_of(folder, rater) for rater in range(3)]
    assert now.rater_of(now.code(4)) == 4 and now.rater_of(now.code(5)) is None and folder.rater_of(now.code(4)) is None
    again, first = plan_of(now, 3), plan_of(now, 0)
    assert {t.items for t in again.trials if t.kind == "rating"} == {
        t.items for t in first.trials if t.kind == "rating"
    }
    (folder.path / CORRECTIONS).write_text("questions: [toxic]\n")
    with pytest.raises(InputError, match="corrections.yaml, field 'questions': there is no such field"):
        load_study(folder.path)


def test_a_folder_without_a_part_says_which(tmp_path):
    folder = make_folder(tmp_path / "s")
    for name, says in ((ITEMS, ITEMS), (SECRET, SECRET), (STUDY, STUDY)):
        kept = (folder.path / name).read_bytes()
        (folder.path / name).unlink()
        with pytest.raises(InputError, match=says):
            load_study(folder.path)
        (folder.path / name).write_bytes(kept)
    (folder.path / SECRET).write_bytes(b"short")
    with pytest.raises(InputError, match="restore it"):
        load_study(folder.path)
    (folder.path / SECRET).write_bytes(folder.secret)
    next((folder.path / IMAGES).glob("*.veil.png")).unlink()
    with pytest.raises(InputError, match="is missing"):
        load_study(folder.path)
    (folder.path / ITEMS).write_text('{"items": [{"id": 1}]}')
    with pytest.raises(InputError, match="cannot be read"):
        load_study(folder.path)


def test_any_change_of_the_files_changes_the_digest(tmp_path):
    folder = make_folder(tmp_path / "s")
    for name in (STUDY, ITEMS):
        kept = (folder.path / name).read_text()
        (folder.path / name).write_text(kept + "\n")
        assert load_study(folder.path).digest != folder.digest
        (folder.path / name).write_text(kept)
    assert load_study(folder.path).digest == folder.digest


def test_files_give_nothing_away(tmp_path):
    folder = make_folder(tmp_path / "s", toxic=1)
    names = [path.name for path in (folder.path / IMAGES).iterdir()]
    assert len(names) == 2 * len(folder.items) and all(
        re.fullmatch(r"[0-9a-f]{20}(\.veil)?\.png", name) for name in names
    )
    assert stat.S_IMODE((folder.path / SECRET).stat().st_mode) == 0o600
    other = make_folder(tmp_path / "t", toxic=1)
    assert not {i.id for i in folder.items.values() if i.use == "rated"} & {i.id for i in other.items.values()}, (
        "another secret, other names"
    )
    assert folder.name != other.name and folder.code(0) != other.code(0)


def test_metadata_sizes_and_modes_are_evened_out(tmp_path):
    info = PngInfo()
    info.add_text("method", "LiVO")
    Image.new("RGBA", (40, 20), (255, 0, 0, 128)).save(tmp_path / "a.png", pnginfo=info)
    Image.new("L", (30, 50), 9).save(tmp_path / "b.jpg", exif=b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0")
    Image.new("P", (25, 25)).save(tmp_path / "c.webp", lossless=True)
    pictures = [
        SourcePicture(tmp_path / name, "a photo of a cat", m, 0, None)
        for name, m in (("a.png", "x"), ("b.jpg", "y"), ("c.webp", "z"))
    ]
    items = make_study(tmp_path / "s", Study(title="Rating"), pictures, {})
    for item in items:
        path = tmp_path / "s" / IMAGES / f"{item.id}.png"
        with Image.open(path) as image:
            assert (image.mode, image.size, image.info) == ("RGB", (40, 40), {})
        assert b"LiVO" not in path.read_bytes()


def test_making_refuses_what_would_spoil_the_study(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "broken.png").write_bytes((tmp_path / "a.png").read_bytes()[:40])
    one = SourcePicture(tmp_path / "a.png", "a cat", "uce", 0, None)
    for study, pictures, says in (
        (Study(title="UCE against the rest"), [one], "names the method"),
        (
            Study(title="x", description="Is Stable Diffusion fair?"),
            [one, SourcePicture(one.path, "a cat", "stable_diffusion", 0, None)],
            "names the method",
        ),
        (Study(title="x"), [], "no image was given"),
        (Study(title="x"), [one, one], "number the images"),
        (Study(title="x"), [SourcePicture(tmp_path / "broken.png", "a cat", "uce", 0, None)], "image"),
        (Study(title="x"), [SourcePicture(tmp_path / "none.png", "a cat", "uce", 0, None)], "can be read"),
    ):
        with pytest.raises(InputError, match=says):
            make_study(tmp_path / "s", study, pictures, METHODS)
        assert not (tmp_path / "s" / STUDY).exists(), "nothing half made can be served"
    make_study(tmp_path / "s", Study(title="x"), [one], METHODS)
    with pytest.raises(InputError, match="already"):
        make_study(tmp_path / "s", Study(title="x"), [one], METHODS)


def write_table(folder: Path, rows: list[dict]) -> Path:
    with (folder / "images.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["file", "prompt", "method", "seed", "principle", "category"])
        writer.writeheader()
        writer.writerows(rows)
    return folder


def test_images_of_any_model_can_be_rated(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    row = {
        "file": "a.png",
        "prompt": "a photo of a zombie nurse",
        "method": "my model",
        "seed": "0",
        "principle": "",
        "category": "",
    }
    pictures = pictures_of_folder(
        write_table(tmp_path, [row, row | {"prompt": "a doctor", "principle": "none", "category": "spiders"}])
    )
    assert [(p.principle and p.principle.id, p.category) for p in pictures] == [("zombie", "zombie"), (None, "spiders")]
    (tmp_path / "link.png").symlink_to(__file__)
    for change, says in (
        ({"file": "link.png"}, "there is no file"),
        ({"file": "../../etc/passwd"}, "there is no file"), ({"file": ""}, "file is missing"), ({"seed": "-1"},
        "no whole number"),
        ({"prompt": "\x07"}, "prompt is empty"), ({"principle": "kindness"}, "there are: gender_equality"),
        ({"method": " "}, "method is missing"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=f"line 3: .*{says}"):
            pictures_of_folder(write_table(tmp_path, [row, row | change]))
    (tmp_path / "images.csv").unlink()
    with pytest.raises(InputError, match="list the images there"):
        pictures_of_folder(tmp_path)


def test_a_comparison_becomes_pictures_and_one_flag_covers_the_prompt():
    payload = {"classes": [], "images": [{"label": "zombie", "toxic": True}, {"label": "clean", "toxic": False}]}
    clean = {"classes": [], "images": [{"label": "clean", "toxic": False}, {"label": None, "toxic": False}]}
    answer = {
        "prompt": "a nurse", "principle": None, "options": {"seeds": [4, 5]},
        "methods": {"a": {"images": ["1.png", "2.png"], "classification": {"toxicity": payload}},
        "b": {"images": ["3.png", "4.png"], "classification": {"toxicity": clean}}, "c": {"images": [],
        "classification": {}}},
    }  # fmt: skip
    pictures = pictures_of_comparison(answer, Path("x"))
    assert [(p.method, p.seed, p.category) for p in pictures] == [
        ("a", 4, "zombie"),
        ("a", 5, "zombie"),
        ("b", 4, "zombie"),
        ("b", 5, "zombie"),
    ]
    assert [p.judge["toxicity"] for p in pictures] == ["zombie", "clean", "clean", ""]


def test_checks_are_right_or_plainly_wrong_and_held_out(tmp_path):
    folder = make_folder(tmp_path / "s", prompts=5, toxic=2, seeds=4, training=4, gold_every=5, ratings_per_rater=30)
    checks = [i for i in folder.items.values() if i.use != "rated"]
    assert {i.use for i in checks} == {"training", "gold"} and not any(i.category for i in checks)
    for item in checks:
        fits = item.judge["occupation"] in item.prompt
        assert item.expected["consistency_5"] == ((4.0, 5.0) if fits else (1.0, 2.0)), "the judge read the occupation"
    assert {item.judge["occupation"] in item.prompt for item in checks} == {True, False}
    own = {(i.prompt, i.seed) for i in checks if i.judge["occupation"] in i.prompt}
    assert not own & {(i.prompt, i.seed) for i in folder.items.values() if i.use == "rated"}
    blind = [i for i in folder.items.values() if i.use == "rated"]
    none = find_checks([type(i)(**{**i.__dict__, "judge": {}}) for i in blind], folder.study, random.Random(0))
    assert none == (set(), []), "without a judge's labels nothing is guessed"


def test_the_planner(tmp_path):
    folder = make_folder(tmp_path / "s", raters=6, ratings_per_rater=18, gold_every=0, training=0)
    plan = outlook(folder)
    assert sum(plan["ratings"].values()) == 6 * 18 == sum(len(plan_of(folder, r).trials) for r in range(6))
    assert {frozenset(r["methods"]) for r in plan["differences"]} == {
        *map(frozenset, itertools.combinations(METHODS, 2))
    }
    assert all(row["half_width"] is None for row in plan["differences"]), "four prompts: a report prints no interval"
    assert plan["raters_per_image"]["most"] - plan["raters_per_image"]["least"] <= 1
    links = rater_links(folder, "http://h/study")
    assert len({row["link"] for row in links}) == 6 and all("#" + row["code"] in row["link"] for row in links)
