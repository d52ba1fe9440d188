from __future__ import annotations

from datetime import date

import pytest
from pydantic import BaseModel

from livo.inputs import load_yaml, parse_seeds, parse_yaml, read_model, validate_prompt
from livo.types import MAX_IMAGES, MAX_SEED, InputError


def test_line_breaks_and_tabs_of_pasted_text_are_spaces():
    assert validate_prompt("a photo \r\n  of a\tdoctor,\u2028(smiling:1.3)\n") == "a photo of a doctor, (smiling:1.3)"


@pytest.mark.parametrize(
    "prompt", ["", "   ", "\t\n", "\u200b", "x" * 1_001, "x" * 10_000, "a\x00b", "a\x1b[31m", "\udcff"]
)
def test_prompts_that_cannot_be_used(prompt):
    with pytest.raises(InputError) as caught:
        validate_prompt(prompt)
    assert len(str(caught.value)) < 200 and any(word in str(caught.value) for word in ("describe", "shorten", "remove"))


@pytest.mark.parametrize(
    "prompt", ["医生的照片", "صورة طبيب", "<script>alert('x')</script>", "a 👩‍⚕️", "x" * 1_000, "${x} {{y}}"]
)
def test_any_script_and_markup_is_text(prompt):
    assert validate_prompt(prompt) == prompt


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "a", "-1", "1-", "3-1", "1,,2", "1;2", "1.5", "0x3", "١", f"{MAX_SEED + 1}", f"0-{MAX_IMAGES}",
        "0-4294967295", "2,1-3", "9" * 30,
    ],
)  # fmt: skip
def test_seeds_that_cannot_be_used(text):
    with pytest.raises(InputError):
        parse_seeds(text)


def test_seeds():
    assert parse_seeds("0-49") == tuple(range(50))
    assert parse_seeds(" 60 , 2 - 3 ") == (60, 2, 3)
    assert parse_seeds(str(MAX_SEED)) == (MAX_SEED,)


BOMB = "a: &a [x,x,x,x,x,x,x,x]\n" + "".join(
    f"{b}: &{b} [*{a},*{a},*{a},*{a},*{a},*{a},*{a},*{a}]\n" for a, b in zip("abcdefg", "bcdefgh", strict=True)
)


@pytest.mark.parametrize(
    "text, word",
    [
        (BOMB, "alias"),
        ("[" * 100_000 + "]" * 100_000, "deep"),
        ("{a: " * 2_000, "deep"),
        ("a: " + "9" * 5_000, "5,000 digits"),
        ("a: 0x" + "f" * 5_000, "digits"),
        ('a: "\\ud800"', "line 1"),
        ("a: 2020-13-45", "month"),
        ("title: one\nraters: 3\ntitle: two", "'title' stands there twice"),
        ("a: [1, 2", "line 1"),
        ("a: !!python/object/apply:os.system [ls]", "could not determine"),
        ("a: b\n---\nc: d", "document"),
        ("? {a: b}\n: c", "unhashable"),
        ("x" * 1_000_001, "most is"),
    ],
)
def test_hostile_yaml_is_one_short_line(text, word):
    with pytest.raises(InputError) as caught:
        parse_yaml(text, "study.yaml")
    said = str(caught.value)
    assert said.startswith("study.yaml") and word in said and len(said) < 400 and "\n" not in said
    said.encode()


def test_yaml_files_are_utf_8(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text("title: médecin", encoding="utf-16")
    with pytest.raises(InputError, match="UTF-8"):
        load_yaml(path)
    with pytest.raises(InputError, match="make one"):
        load_yaml(tmp_path / "none.yaml", "make one")
    path.write_text("", encoding="utf-8")
    assert load_yaml(path) is None


class Named(BaseModel):
    name: str = ""
    n: int = 0


@pytest.mark.parametrize(
    "data",
    [
        {"name": date(2020, 1, 2)}, {"name": 16**6_000}, {"n": "\ud800"}, {"name": ["x"] * 10_000_000},
        {"n": {"a": {"b": "x" * 10_000_000}}}, "x" * 10_000_000, None, {5: 1, "n": "a"},
    ],
)  # fmt: skip
def test_what_a_model_refuses_is_told_in_one_short_line(data):
    with pytest.raises(InputError) as caught:
        read_model(Named, data, "here")
    assert str(caught.value).startswith("here") and len(str(caught.value).encode()) < 300
