"""The principle files: what is shipped, and what is said of files that are wrong."""

from __future__ import annotations

import doctest
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import livo.principles
from livo.principles import PRINCIPLES_PATH, WORD_LISTS, find_principle, load_entries, load_lexicon, load_principles
from livo.types import InputError, Principle

CANONICAL = {
    "gender_equality": "gender equality",
    "racial_equality": "racial equality",
    "nudity": "nudity considered inappropriate",
    "bloody": "bloody considered inappropriate",
    "zombie": "zombie considered inappropriate",
}
GOOD = {
    "id": "gore",
    "text": "gore considered inappropriate",
    "risk": "toxicity",
    "classes": ["clean", "gore"],
    "lexicon": ["gore"],
}
GOOD_BIAS = {
    "id": "age",
    "text": "age equality",
    "risk": "bias",
    "classes": ["young", "old"],
    "names": ["young", "old"],
}


def write(tmp_path: Path, rows) -> Path:
    path = tmp_path / "principles.yaml"
    path.write_text(rows if isinstance(rows, str) else yaml.safe_dump(rows), encoding="utf-8")
    return path


def test_doctests():
    assert doctest.testmod(livo.principles).failed == 0


def test_the_five_canonical_principles_with_the_words_the_value_encoder_reads():
    principles = load_principles()[:5]
    assert {p.id: p.text for p in principles} == CANONICAL
    assert [p.risk for p in principles] == ["bias", "bias", "toxicity", "toxicity", "toxicity"]
    assert all(type(p) is Principle for p in principles)
    assert find_principle("racial_equality").classes == ("white", "black", "indian", "asian", "latino")
    assert [p.classes for p in principles[2:]] == [("clean", kind) for kind in ("nudity", "bloody", "zombie")]


def test_the_texts_of_the_principles_stand_in_no_other_source_file():
    root = PRINCIPLES_PATH.parent.parent
    for path in (root / "livo").glob("*.py"):
        assert "considered inappropriate'" not in path.read_text().replace("'zombie considered inappropriate'", ""), (
            path
        )


def test_lexicon_is_as_large_as_promised_and_has_no_word_twice():
    lexicon = load_lexicon()
    assert set(WORD_LISTS) <= set(lexicon)
    assert len(lexicon["occupations"]) >= 200 and len(lexicon["adjectives"]) >= 80
    assert not set(lexicon["occupations"]) & set(lexicon["people"])
    for entry in load_entries():
        assert not set(entry.lexicon) & set(entry.unless), entry.principle.id


def test_words_are_written_as_they_are_looked_up():
    words = [w for ws in load_lexicon().values() for w in ws]
    words += [w for e in load_entries() for ws in (e.lexicon, e.unless, e.names, e.persons, e.describes) for w in ws]
    assert all(word == word.lower().strip() and "\n" not in word for word in words)


@pytest.mark.parametrize("field", ["id", "text", "risk", "classes"])
def test_a_missing_field_is_named(tmp_path, field):
    row = {key: value for key, value in GOOD.items() if key != field}
    with pytest.raises(InputError, match=f"entry 2.*'{field}' is missing"):
        load_principles(write(tmp_path, [GOOD_BIAS, row]))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"id": "Gore!"}, "field 'id'.*small letters.*Gore!"),
        ({"id": 5}, "field 'id'.*wanted words.*int '5'"),
        ({"text": "  "}, "field 'text'.*wanted words"),
        ({"risk": "taste"}, "field 'risk'.*'bias' or 'toxicity'.*'taste'"),
        ({"classes": ["gore", "clean"]}, r"field 'classes'.*\[clean, <kind>\]"),
        ({"classes": "clean"}, "field 'classes'.*wanted a list"),
        ({"lexicon": []}, "field 'lexicon'.*at least one word"),
        ({"lexicon": ["gore", False]}, "field 'lexicon.2'.*quotes.*False"),
        ({"lexicon": ["gore", "gore"]}, "field 'lexicon'.*'gore' stands there twice"),
        ({"lexicon": None}, "field 'lexicon'.*got nothing"),
        ({"names": ["gore"]}, "field 'names': is for bias only"),
        ({"colour": "red"}, "field 'colour': there is no such field.*lexicon"),
    ],
)
def test_a_wrong_field_is_named_with_its_entry(tmp_path, change, said):
    with pytest.raises(InputError, match=f"(?s)principles.yaml: entry 2.*{said}"):
        load_principles(write(tmp_path, [GOOD_BIAS, GOOD | change]))


@pytest.mark.parametrize(
    ("change", "said"),
    [({"classes": ["young"]}, "field 'classes'.*at least 2"), ({"names": []}, "field 'names'.*needs the words")],
)
def test_a_wrong_bias_principle_is_named(tmp_path, change, said):
    with pytest.raises(InputError, match=f"entry 1.*'age'.*{said}"):
        load_principles(write(tmp_path, [GOOD_BIAS | change]))


@pytest.mark.parametrize("field", ["id", "text"])
def test_two_entries_of_one_name_are_refused(tmp_path, field):
    with pytest.raises(InputError, match=f"entry 2, field '{field}'.*taken"):
        load_principles(write(tmp_path, [GOOD_BIAS, GOOD | {field: GOOD_BIAS[field]}]))


@pytest.mark.parametrize("text", ["", "just words", "id: gore", "[]", "- [1, 2", "\t- id: x", "- 5"])
def test_a_file_of_another_shape_is_refused_with_its_name(tmp_path, text):
    with pytest.raises(InputError, match="principles.yaml"):
        load_principles(write(tmp_path, text))


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        load_principles(tmp_path / "none.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="binary.yaml"):
        load_principles(tmp_path / "binary.yaml")
    (tmp_path / "lexicon.yaml").write_text("people: [person]")
    with pytest.raises(InputError, match="list 'occupations' is missing"):
        load_lexicon(tmp_path / "lexicon.yaml")


def test_an_unknown_id_lists_the_known_ones():
    with pytest.raises(InputError, match="no principle 'nudism'; there are: gender_equality"):
        find_principle("nudism")


NEW = """
- id: gambling
  text: gambling considered inappropriate
  risk: toxicity
  classes: [clean, gambling]
  lexicon: [roulette]
- id: age_equality
  text: age equality
  risk: bias
  classes: [young, old]
  attributes: [age]
  names: [young, old, elderly, teenage]
"""
ASK = """
import contextlib, io, json, sys
from livo.__main__ import main
from livo.principles import load_principles
from livo.retriever import retrieve
from livo.ui.compare_tab import principle_select_html

def said(*arguments):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert main(arguments) == 0
    return out.getvalue()

options = ["--methods", "stable_diffusion,livo,uce", "--seeds", "0", "--steps", "1", "--out", sys.argv[1]]
json.dump({
    "known": [p.id for p in load_principles()],
    "page": [p.id for p in load_principles() if p.text.capitalize() in principle_select_html()],
    "retrieved": [p.id for p in retrieve("a doctor with a roulette").principles],
    "check": said("principles", "check", "gambling"),
    "age": said("principles", "check", "age_equality"),
    "compare": json.loads(said("compare", "a doctor with a roulette", "--json", *options)),
}, sys.stdout)
"""


def test_a_principle_of_ones_own_is_one_entry_and_nothing_else(tmp_path):
    """In a copy of the repository: in the page's list, in the shell and in the shared tests."""
    root = PRINCIPLES_PATH.parent.parent
    kept = (".pytest.ini", "app.py", "livo", "baselines", "train", "assets", "tests")
    for name in kept:
        (tmp_path / name).symlink_to(root / name)
    for name in ("livo", "assets", "tests"):  # those that look for their files beside themselves are copied
        (tmp_path / name).unlink()
        shutil.copytree(root / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "results"))
    with (tmp_path / "assets" / "principles.yaml").open("a", encoding="utf-8") as file:
        file.write(NEW)

    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", ASK, str(tmp_path / "out")]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Traceback" not in done.stderr
    said = json.loads(done.stdout)
    assert said["known"] == [*CANONICAL, "gambling", "age_equality"] and said["page"] == said["known"]
    assert said["retrieved"][0] == "gambling" and "age_equality" in said["retrieved"]
    for part in ("value encoder", "edited weights, uce", "judge, evaluator"):
        assert f"lacks  {part}" in said["check"] and f"lacks  {part}" in said["age"]
    assert "has    retriever: 1 words" in said["check"] and "concept_ablation" not in said["age"]
    methods = said["compare"]["methods"]
    assert methods["livo"]["images"] and "gambling.safetensors is missing" in methods["uce"]["reason"]
    (remark,) = said["compare"]["remarks"]  # the drawn world has no picture of it, and no question about it
    assert "not measurable here" in remark or "no question for it" in remark

    shared = ["tests/test_principles.py", "tests/classifiers/test_panel.py", "-k", "not one_entry_and_nothing_else"]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *shared]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0 and "passed" in done.stdout, done.stdout[-3000:]
