"""Lessons and pages in other languages: one that is whole, and what falls back where a string is missing."""

from __future__ import annotations

import json
import re

import pytest

from livo.types import InputError
from livo.workshop.commands import spoken
from livo.workshop.pack import check_lesson, texts_of
from livo.workshop.printing import PAPERS, paper_html
from livo.workshop.translations import (
    LessonWords,
    StepWords,
    load_translations,
    missing_words,
    said_words,
    speaker,
    translate,
)


def test_a_whole_lesson_is_german_and_says_the_same_numbers(lessons, pack):
    translations, missing = load_translations(lessons)
    german = translations["de"]["guess-the-set"]
    english = next(lesson for lesson in lessons if lesson.id == german.id)
    check_lesson(german, pack)
    assert not missing and not missing_words(spoken())
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
    (tmp_path / "a.html").write_text('<p>{{ say("Print") }}</p>')
    (tmp_path / "a.py").write_text('raise Refused(429, "full", f"a room holds {MOST} " "people")')
    (tmp_path / "words.fr.json").write_text(json.dumps({"Send": "Envoyer"}))
    lacking = ("Next", "Print", "a room holds {1} people", "{n} steps")
    assert missing_words(said_words([tmp_path]), tmp_path) == [
        f"words.fr.json: {text!r} is not translated" for text in lacking
    ]
    assert speaker("fr", tmp_path)("Send") == "Envoyer" and speaker("fr", tmp_path)("{n} of 9", n=2) == "2 of 9"


@pytest.mark.parametrize("what", PAPERS)
def test_a_german_paper_says_nothing_in_english(lessons, pack, what):
    translations, _ = load_translations(lessons)
    html = paper_html(what, translations["de"]["guess-the-set"], pack, language="de")
    assert '<html lang="de"' in html
    english = {text for text in spoken() if len(text) > 8 and "{" not in text and speaker("de")(text) != text}
    text = re.sub(r"<style>.*?</style>|<[^>]*>|„Open a room“", " ", html, flags=re.DOTALL)  # the shell's own words
    assert not [one for one in english if re.search(rf"\b{re.escape(one)}\b", text)]


def test_a_page_asks_for_its_language(workshop, client, lessons):
    workshop.translations, _ = load_translations(lessons)
    asked = [client.get(f"/api/lessons/guess-the-set{lang}").json()["title"] for lang in ("", "?lang=de", "?lang=xx")]
    assert asked == ["Guess the set", "Rate die Bildmenge", "Guess the set"]
    opened = client.post("/api/rooms", json={"lesson": "guess-the-set"}).json()
    replies = [client.get(f"/api/rooms/{opened['code']}{lang}") for lang in ("", "?lang=de")]
    assert [one.json()["lesson"]["title"] for one in replies] == asked[:2]
    assert replies[0].headers["etag"] != replies[1].headers["etag"]


def test_a_room_keeps_its_language_for_those_who_type_its_code(workshop, client, lessons):
    workshop.translations, _ = load_translations(lessons)
    for asked, kept in (("de", "de"), ("", ""), ("<b>", "")):
        opened = client.post("/api/rooms", json={"lesson": "guess-the-set", "language": asked}).json()
        assert client.get(f"/api/rooms/{opened['code']}").json()["language"] == kept


def test_the_facilitators_page_and_the_classs_link_are_in_the_language_too(workshop, client, lessons):
    workshop.translations, _ = load_translations(lessons)
    opened = client.post("/api/rooms", json={"lesson": "guess-the-set"}).json()
    headers = {"authorization": f"Bearer {opened['secret']}"}
    german = client.get(f"/api/rooms/{opened['code']}/host?lang=de", headers=headers).json()
    assert german["lesson"]["title"] == "Rate die Bildmenge" and "Alle raten" in german["notes"]
    assert german["steps"][1]["title"] == "Was das Modell gemacht hat" and german["join"].endswith("?lang=de")
    strange = client.get(f"/api/rooms/{opened['code']}/host?lang=<b>", headers=headers).json()
    assert strange["join"].endswith(opened["code"]) and strange["lesson"]["title"] == "Guess the set"
