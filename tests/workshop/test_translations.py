"""Lessons and pages in other languages: one that is whole, and what falls back where a string is missing."""

from __future__ import annotations

import json

import pytest

from livo.types import InputError
from livo.workshop.commands import SCRIPTS
from livo.workshop.pack import check_lesson, texts_of
from livo.workshop.translations import LessonWords, StepWords, load_translations, missing_words, translate


def test_a_whole_lesson_is_german_and_says_the_same_numbers(lessons, pack):
    translations, missing = load_translations(lessons)
    german = translations["de"]["guess-the-set"]
    english = next(lesson for lesson in lessons if lesson.id == german.id)
    check_lesson(german, pack)
    assert not missing and not missing_words(SCRIPTS)
    for one, other in zip(english.steps, german.steps, strict=True):
        assert one.show == other.show and one.minutes == other.minutes and one.title != other.title
        assert not set(filter(None, texts_of(one))) & set(filter(None, texts_of(other)))


def test_a_missing_string_falls_back_and_is_named(lessons):
    lesson = lessons[0]
    translated, missing = translate(lesson, LessonWords(title="Titel", steps=(StepWords(options=("nur eine",)),)))
    assert translated.title == "Titel" and translated.steps[2].ask.options == lesson.steps[2].ask.options
    assert translated.steps[0].title == lesson.steps[0].title
    assert {"goal", "steps.1.title", "steps.3.options"} <= set(missing) and "title" not in missing


def test_a_file_of_no_lesson_and_missing_page_words_are_named(lessons, tmp_path):
    (tmp_path / "nothing.de.yaml").write_text("title: Nichts")
    with pytest.raises(InputError, match=r"nothing\.de\.yaml"):
        load_translations(lessons, tmp_path)
    (tmp_path / "a.js").write_text('el("p", {}, say("Send"), say("Next"), say("{n} steps", { n: 3 }))')
    (tmp_path / "words.fr.json").write_text(json.dumps({"Send": "Envoyer"}))
    assert missing_words(tmp_path) == [f"words.fr.json: {text!r} is not translated" for text in ("Next", "{n} steps")]


def test_a_page_asks_for_its_language(workshop, client, lessons):
    workshop.translations, _ = load_translations(lessons)
    asked = [client.get(f"/api/lessons/guess-the-set{lang}").json()["title"] for lang in ("", "?lang=de", "?lang=xx")]
    assert asked == ["Guess the set", "Rate die Bildmenge", "Guess the set"]
    opened = client.post("/api/rooms", json={"lesson": "guess-the-set"}).json()
    replies = [client.get(f"/api/rooms/{opened['code']}{lang}") for lang in ("", "?lang=de")]
    assert [one.json()["lesson"]["title"] for one in replies] == asked[:2]
    assert replies[0].headers["etag"] != replies[1].headers["etag"]


def test_the_facilitators_page_and_the_classs_link_are_in_the_language_too(workshop, client, lessons):
    workshop.translations, _ = load_translations(lessons)
    opened = client.post("/api/rooms", json={"lesson": "guess-the-set"}).json()
    headers = {"authorization": f"Bearer {opened['secret']}"}
    german = client.get(f"/api/rooms/{opened['code']}/host?lang=de", headers=headers).json()
    assert german["lesson"]["title"] == "Rate die Bildmenge" and "Alle raten" in german["notes"]
    assert german["steps"][1]["title"] == "Was das Modell gemacht hat" and german["join"].endswith("?lang=de")
    strange = client.get(f"/api/rooms/{opened['code']}/host?lang=<b>", headers=headers).json()
    assert strange["join"].endswith(opened["code"]) and strange["lesson"]["title"] == "Guess the set"
