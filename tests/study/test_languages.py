"""The pages' words: every language has all of them, with the same places to fill, and the pages ask for no other."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import livo.study.web.server as server
from livo.principles import load_principles
from livo.study.questions import standard_questions
from livo.study.study_file import LANGUAGES

HERE = Path(server.__file__).parent
WORDS = {
    language: json.loads((HERE / "languages" / f"{language}.json").read_text(encoding="utf-8"))
    for language in LANGUAGES
}


def test_there_is_a_file_for_each_language_and_no_other():
    assert {path.stem for path in (HERE / "languages").iterdir()} == set(LANGUAGES) and len(LANGUAGES) >= 4


@pytest.mark.parametrize("language", LANGUAGES[1:])
def test_a_language_has_the_same_words_with_the_same_places(language):
    english, other = WORDS["en"], WORDS[language]
    assert english.keys() == other.keys()
    for key, text in other.items():
        assert sorted(re.findall(r"\{\w+\}", text)) == sorted(re.findall(r"\{\w+\}", english[key])), key
        assert text.strip() == text != ""
    same = [key for key in english if english[key] == other[key] and len(english[key]) > 12]
    assert not same, f"not translated: {same}"


def test_languages_have_their_own_punctuation():
    assert not [key for key, text in WORDS["zh"].items() if re.search(r"[,:;?!()]", text)]
    assert not [key for key, text in WORDS["fr"].items() if "'" in text or re.search(r"\w[:;?!]", text)]
    assert not [key for key, text in WORDS["es"].items() if text.count("?") != text.count("¿")]


def test_the_page_asks_for_no_word_that_is_not_there():
    script = (HERE / "rate.js").read_text(encoding="utf-8")
    asked = set(re.findall(r"""\bt\(\s*["']([\w.]+)["']""", script)) | set(re.findall(r'"(help\.\w+)"', script))
    assert len(asked) > 50 and not asked - WORDS["en"].keys()


def test_every_question_option_class_and_kind_has_words():
    words = WORDS["en"]
    for question in standard_questions().values():
        assert f"question.{question.id}" in words
        for i, value in enumerate(question.values, 1):
            assert f"option.{question.id}.{i}" in words if question.kind == "scale" else f"option.{value}" in words
        assert question.kind != "slider" or {"option.0", "option.100"} <= words.keys()
    for principle in load_principles():
        if principle.risk == "bias":
            assert all(f"option.{name}" in words for name in principle.classes)
        else:
            assert f"kind.{principle.id}" in words
