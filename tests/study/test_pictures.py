"""Pictures as people have them, as raters see them."""

from __future__ import annotations

import csv
import io
import json
import struct
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image

from livo.inputs import read_table
from livo.study.build import MADE, make_study
from livo.study.design import plan_of
from livo.study.pictures import canvas_of, fitted
from livo.study.sources import COLUMNS, SourcePicture, pictures_of_folder, stored_comparison
from livo.study.study_file import IMAGES, Study, load_study
from livo.types import InputError

RED, BLUE, GREEN, WHITE = (200, 40, 40), (40, 40, 200), (40, 200, 40), (255, 255, 255)


def picture(width: int, height: int) -> Image.Image:
    """Red above blue, with a green stripe at the left."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[: height // 2], pixels[height // 2 :], pixels[:, : width // 4] = RED, BLUE, GREEN
    return Image.fromarray(pixels)


def close(pixel, wanted) -> bool:
    return bool(np.abs(np.array(pixel, int) - wanted).max() < 30)


def test_a_turned_photograph_is_upright(tmp_path):
    image = picture(160, 96)
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "a.jpg", exif=exif, quality=95)
    assert canvas_of([tmp_path / "a.jpg"]) == (96, 160)
    made, done = fitted(tmp_path / "a.jpg", (96, 160))
    assert done == ["turned upright"] and not made.getexif() and made.info == {}
    assert close(made.getpixel((48, 10)), GREEN) and close(made.getpixel((90, 150)), RED)


def test_sixteen_bits_are_scaled_and_not_cut(tmp_path):
    ramp = np.linspace(0, 65_535, 128 * 128).reshape(128, 128).astype(np.uint16)
    Image.fromarray(ramp).save(tmp_path / "a.png")
    made, done = fitted(tmp_path / "a.png", (128, 128))
    values = np.asarray(made)[..., 0]
    assert done == ["16 bits scaled to 8"] and values[0, 0] == 0 and values[-1, -1] == 255
    assert np.abs(values.astype(float) - ramp / 257).max() <= 1 and len(np.unique(values)) == 256


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_lies_over_white(tmp_path, mode):
    image = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    image.paste((200, 200, 200, 255), (16, 16, 48, 48))
    image.convert(mode).save(tmp_path / "a.png")
    made, done = fitted(tmp_path / "a.png", (64, 64))
    assert made.getpixel((0, 0)) == WHITE and close(made.getpixel((32, 32)), (200, 200, 200))
    assert "transparent parts put over white" in done


def test_another_shape_is_letterboxed_and_nothing_is_cut(tmp_path):
    for name, size in (("a.png", (128, 128)), ("b.png", (128, 128)), ("wide.png", (192, 96))):
        picture(*size).save(tmp_path / name)
    paths = [tmp_path / name for name in ("a.png", "b.png", "wide.png")]
    assert canvas_of(paths) == (128, 128)
    made, done = fitted(paths[2], (128, 128))
    assert done == ["scaled from 192 x 96 to 128 x 64", "put on 128 x 128 with bars"]
    assert made.getpixel((64, 10)) == made.getpixel((64, 117)) == WHITE
    assert close(made.getpixel((4, 64)), GREEN) and close(made.getpixel((120, 40)), RED), "both ends are there"
    assert canvas_of([paths[2]] * 2) == (192, 96), "all of one shape need no bars"


def test_pictures_of_one_size_stay_as_they_are(tmp_path):
    picture(64, 64).save(tmp_path / "a.png")
    made, done = fitted(tmp_path / "a.png", canvas_of([tmp_path / "a.png"]))
    assert done == [] and np.array_equal(np.asarray(made), np.asarray(picture(64, 64)))


def declared(width: int, height: int) -> bytes:
    """A small PNG that claims to be huge."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    rows = zlib.compress(b"\0" * 10_000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("huge.png", declared(20_000, 20_000), "pixels"), ("large.png", declared(9_000, 9_000), "the most is"),
        ("tiny.png", None, "8 x 8"), ("a.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "PNG, JPEG or WebP"),
        ("cut.png", declared(64, 64)[:40], "image"), ("page.html", b"<html>", "PNG, JPEG or WebP"),
        ("script.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\n", "PNG, JPEG or WebP"),
        ("none.png", b"", "PNG"),
    ],
)  # fmt: skip
def test_what_cannot_be_shown_is_one_line_and_makes_no_study(tmp_path, name, data, says):
    picture(128, 128).save(tmp_path / "a.png")
    if data is None:
        picture(8, 8).save(tmp_path / name)
    else:
        (tmp_path / name).write_bytes(data)
    pictures = [SourcePicture(tmp_path / n, "a cat", "m", i, None) for i, n in enumerate(("a.png", "a.png", name))]
    with pytest.raises(InputError, match=says) as caught:
        make_study(tmp_path / "s", Study(title="x"), pictures, {})
    assert name in str(caught.value) and "\n" not in str(caught.value)


def test_what_was_done_to_each_file_is_told(tmp_path):
    picture(128, 128).save(tmp_path / "a.png")
    picture(192, 96).convert("CMYK").save(tmp_path / "b.jpg")
    pictures = [SourcePicture(tmp_path / n, "a cat", "m", i, None) for i, n in enumerate(("a.png", "b.jpg"))]
    items = make_study(tmp_path / "s", Study(title="x"), pictures, {})
    rows = list(csv.DictReader((tmp_path / "s" / MADE).open(encoding="utf-8")))
    assert [(row["item"], row["file"]) for row in rows] == [(items[0].id, "a.png"), (items[1].id, "b.jpg")]
    assert "converted from CMYK" in rows[1]["done"] and "with bars" in rows[1]["done"]
    assert {Image.open(p).size for p in (tmp_path / "s" / IMAGES).glob("*[!l].png")} == {(160, 160)}


HEAD = "file,prompt,method,seed\n"
ROWS = "sub/a.png,a photo of a doctor,one,0\n"


@pytest.mark.parametrize(
    "data",
    [
        (HEAD + ROWS).encode(), (HEAD + ROWS).replace(",", ";").encode(), (HEAD + ROWS).replace(",", "\t").encode(),
        ("File, Prompt, Method, Seed\n" + ROWS.replace(",", ", ")).encode(), (HEAD + ROWS + ",,,\n\n").encode(),
        (HEAD + ROWS.replace("/", "\\")).encode(), (HEAD + ROWS).encode("utf-16"), (HEAD + ROWS).encode("utf-8-sig"),
        (HEAD + ROWS).replace("\n", "\r\n").encode(), (HEAD.strip() + ",\n" + ROWS.strip() + ",\n").encode(),
    ],
)  # fmt: skip
def test_tables_are_read_as_people_have_them(tmp_path, data):
    (tmp_path / "sub").mkdir()
    picture(16, 16).save(tmp_path / "sub" / "a.png")
    (tmp_path / "images.csv").write_bytes(data)
    (one,) = pictures_of_folder(tmp_path)
    assert (one.path, one.prompt, one.method, one.seed) == (
        (tmp_path / "sub" / "a.png").resolve(), "a photo of a doctor", "one", 0,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"name,text\na.png,x", "columns found: name, text; wanted: file, prompt, method, seed"), (b"", "found: none"),
        (b"\x80\x81", "UTF-8"), ((HEAD + "a.png,a doctor, smiling,one,0").encode(), "5 cells, and 4 columns"),
        (b"file,prompt,method,seed,seed\n", "each once"), ((HEAD + '"a.png').encode(), "no table"),
    ],
)  # fmt: skip
def test_other_tables_say_what_was_found(data, says):
    with pytest.raises(InputError, match=says):
        read_table(data, "images.csv", COLUMNS)


CHECKED = "file,prompt,method,seed,principle,use,expected,explanation\n"


def test_checks_of_ones_own(tmp_path):
    for i, name in enumerate("abc"):
        picture(64 + i, 64 + i).save(tmp_path / f"{name}.png")
    (tmp_path / "images.csv").write_text(
        CHECKED + "a.png,a photo of a cat,one,0,none,,,\n"
        "b.png,a photo of a dog,check,0,none,Gold,consistency_5: 4|5,\n"
        "c.png,a photo of a cow,check,0,none,training,consistency_5:1,There is no cow\n"
    )
    items = make_study(tmp_path / "s", Study(title="x"), pictures_of_folder(tmp_path), {})
    assert [(i.use, i.expected, i.explanation) for i in items] == [
        ("rated", {}, ""), ("gold", {"consistency_5": (4.0, 5.0)}, ""),
        ("training", {"consistency_5": (1.0,)}, "There is no cow"),
    ]  # fmt: skip
    folder = load_study(tmp_path / "s")
    assert folder.titles == {"one": "one"}, "a check is no method"
    trials = plan_of(folder, 0).trials
    assert [trial.kind for trial in trials].count("training") == 1 and {len(t.questions) for t in trials} == {1}


@pytest.mark.parametrize(
    ("cells", "says"),
    [
        ("silver,consistency_5: 4,", "there are: item, gold, training"), ("gold,,", "expected is missing"),
        ("gold,beauty: 5,", "no question 'beauty'"), ("gold,consistency_5: 9,", "the answers are 1, 2, 3, 4, 5"),
        ("gold,preference: left,", "no question 'preference' with a right answer"),
    ],
)  # fmt: skip
def test_checks_say_what_is_wrong_with_them(tmp_path, cells, says):
    picture(64, 64).save(tmp_path / "a.png")
    (tmp_path / "images.csv").write_text(CHECKED + f"a.png,a photo of a cat,one,0,none,{cells}\n")
    with pytest.raises(InputError, match=f"line 2: .*{says}"):
        pictures_of_folder(tmp_path)


def test_a_folder_a_method_with_a_file_of_prompts(tmp_path):
    for method in ("one", "other"):
        (tmp_path / method).mkdir()
        for number in (1, 2, 10, 11):
            picture(64, 64).save(tmp_path / method / f"{number}.png")
        (tmp_path / method / "._1.png").write_bytes(b"\0\5\x16\7")  # of a ZIP that a Mac made
    (tmp_path / "prompts.txt").write_text("a photo of a cat\n\na photo of a dog\n")
    found = [(p.path.name, p.prompt, p.method, p.seed) for p in pictures_of_folder(tmp_path)]
    assert found[:4] == [
        ("1.png", "a photo of a cat", "one", 0), ("2.png", "a photo of a cat", "one", 1),
        ("10.png", "a photo of a dog", "one", 0), ("11.png", "a photo of a dog", "one", 1),
    ]  # fmt: skip
    assert {row[2] for row in found} == {"one", "other"} and len(found) == 8
    (tmp_path / "one" / "12.png").write_bytes((tmp_path / "one" / "11.png").read_bytes())
    with pytest.raises(InputError, match="5 pictures and prompts.txt 2 prompts"):
        pictures_of_folder(tmp_path)


def test_a_comparison_may_be_the_zip_of_the_page(tmp_path):
    answer = {
        "prompt": "a photo of a doctor", "principle": None, "options": {"seeds": [0]},
        "methods": {"one": {"images": ["one-seed0.png"], "classification": {}}},
    }  # fmt: skip
    packed = io.BytesIO()
    picture(64, 64).save(packed, "png")
    (tmp_path / "scratch").mkdir()
    with zipfile.ZipFile(tmp_path / "c.zip", "w") as archive:
        archive.writestr("comparison.json", json.dumps(answer))
        archive.writestr("one-seed0.png", packed.getvalue())
        archive.writestr("../escaped.png", packed.getvalue())
    (one,) = stored_comparison(tmp_path / "c.zip", tmp_path / "scratch")
    assert one.path.read_bytes() == packed.getvalue() and not (tmp_path / "scratch" / "escaped.png").exists()
    (tmp_path / "d.zip").write_bytes(b"no zip")
    with pytest.raises(InputError, match="no comparison is in"):
        stored_comparison(tmp_path / "d.zip", tmp_path / "scratch")


@pytest.mark.parametrize(("comparison", "more"), [
    (b"[" * 100_000, 0), (b'{"prompt": 1}', 0), (b"[1]", 0), (b"9" * 10_000, 0), (b"\xff", 0), (b"{}", 6_000),
], ids=["nested", "numbers", "a list", "digits", "no text", "many files"])  # fmt: skip
def test_a_hostile_zip_is_no_comparison(tmp_path, comparison, more):
    (tmp_path / "scratch").mkdir()
    with zipfile.ZipFile(tmp_path / "c.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("comparison.json", comparison)
        for number in range(more):
            archive.writestr(f"{number}.png", b"")
    with pytest.raises(InputError, match="no comparison is in"):
        stored_comparison(tmp_path / "c.zip", tmp_path / "scratch")


def test_a_zip_that_swells_and_one_that_names_others_pictures(tmp_path):
    secret = tmp_path / "secret.png"
    picture(64, 64).save(secret)
    answer = {
        "prompt": "a photo of a doctor", "principle": None, "options": {"seeds": [0]},
        "methods": {"one": {"images": [str(secret)], "classification": {}}},
    }  # fmt: skip
    (tmp_path / "scratch").mkdir()
    for name, size, says in (("big.zip", 60_000_000, "unpacks to more than"), ("foreign.zip", 10, "is missing")):
        with zipfile.ZipFile(tmp_path / name, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("comparison.json", json.dumps(answer))
            for number in range(2):
                archive.writestr(f"{number}.png", bytes(size))
        with pytest.raises(InputError, match=says):
            stored_comparison(tmp_path / name, tmp_path / "scratch")
