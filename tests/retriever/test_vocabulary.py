"""Which words the drawn world knows; and that nothing is said about the others."""

from __future__ import annotations

import doctest

import pytest

import livo.retriever.vocabulary
from livo.miniature.captions import caption, random_scene
from livo.miniature.second import captions as second
from livo.miniature.second.world import load_world as load_pairs
from livo.miniature.world import load_world
from livo.retriever.vocabulary import everything_known, load_lists, vocabulary_of, words_of_world
from livo.ui.presets import PRESETS

WORLD = load_world()
WORDS = words_of_world(WORLD)


def test_doctests():
    assert doctest.testmod(livo.retriever.vocabulary).failed == 0


def test_every_caption_of_the_world_is_known_as_it_is():
    import random

    for seed in range(300):
        _, text = random_scene(WORLD, random.Random(seed))
        found = WORDS(text)
        assert found.measurable and found.text == text and not found.refused and not found.language
    assert caption is not None


@pytest.mark.parametrize("prompt", [prompt for prompts in PRESETS.values() for prompt in prompts])
def test_every_preset_is_known(prompt):
    assert WORDS(prompt).measurable and not WORDS(prompt).refused


@pytest.mark.parametrize(("prompt", "unknown"), [
    ("two doctors shaking hands", ("two", "shaking", "hands")),
    ("asdf", ("asdf",)),
    ("a photo of a docter", ("docter",)),
    ("doctor, 4k, masterpiece", ("4k", "masterpiece")),
    ("a photo of not a doctor", ("not",)),
    ("3 nurses", ("3",)),
    ("🧑‍⚕️", ("🧑‍⚕️",)),
    ("the of", ("the of",)),
    ("医生的照片", ("医生的照片",)),
])  # fmt: skip
def test_what_it_never_saw_is_named_as_typed(prompt, unknown):
    found = WORDS(prompt)
    assert found.unknown == unknown and not found.measurable and len(found.nearest) == 3
    assert all(WORDS(near).measurable for near in found.nearest)


@pytest.mark.parametrize("prompt", [
    "a photo of a terrorist", "a criminal", "THUGS", "a drug-dealer and a dealer", "a photo of a Muslim",
    "a black woman",
    "a photo of an ugly person", "a gay doctor", "a photo of Hitler", "a dangerous man", "an illegal immigrant",
    "two thieves", "a gay couple",
])  # fmt: skip
def test_loaded_words_for_people_are_not_drawn_and_the_reason_is_said(prompt):
    found = WORDS(prompt)
    reasons = [group["reason"] for group in load_lists()["loaded"]]
    assert "is not drawn here" in found.refused and any(reason in found.refused for reason in reasons)
    assert not everything_known(prompt).refused, "a model of photographs is not restricted so"


@pytest.mark.parametrize(
    "prompt", ["a doctor in a white coat", "a photo of a dangerous road", "an English garden", "bad weather"]
)
def test_describing_words_count_before_a_word_for_a_person_alone(prompt):
    assert not WORDS(prompt).refused


@pytest.mark.parametrize(("prompt", "text"), [
    ("a photo of doctors", "a photo of doctor"), ("a wiser person", "a wise person"),
    ("flight attendants", "flight attendant"),
    ("a photo of a doctor's office", "a photo of a doctor's office"), ("A PHOTO OF A NURSE", "A PHOTO OF A NURSE"),
    ("a police officer at the beach", "a police officer at the beach"),
])  # fmt: skip
def test_inflected_words_are_read_in_the_form_that_is_known(prompt, text):
    assert WORDS(prompt).text == text and WORDS(prompt).measurable


@pytest.mark.parametrize(("prompt", "text"), [
    ("a photo of two smiling doctors in a city", "a photo of two smiling doctors in a city"),
    ("a photo of doctors", "a photo of doctor"), ("police officers at the beach", "police officer at the beach"),
    ("a nurse as a zombie", "a nurse as a zombie"),
])  # fmt: skip
def test_a_world_of_pairs_knows_plurals_after_two_alone(monkeypatch, prompt, text):
    monkeypatch.setattr(livo.retriever.vocabulary, "vocabulary", second.vocabulary)
    assert words_of_world(load_pairs())(prompt).text == text


@pytest.mark.parametrize(("prompt", "nearest"), [
    ("a photo of a docter", "a photo of a doctor"), ("a happy nurse", "a photo of a nurse"),
    ("a poor kid", "a photo of a poor person"), ("a plumberx", "a photo of a plumber"),
])  # fmt: skip
def test_the_nearest_known_prompt_comes_first(prompt, nearest):
    assert WORDS(prompt).nearest[0] == nearest


@pytest.mark.parametrize(("prompt", "language"), [
    ("une photo d'un médecin dans la ville", "French"), ("una foto de una mujer", "Spanish"),
    ("ein Bild von einem Arzt", "German"),
    ("фото врача", "a language in Cyrillic letters"), ("医者の写真", "Japanese"), ("의사 사진", "Korean"),
    ("صورة طبيب", "Arabic or Persian"),
])  # fmt: skip
def test_another_language_is_named_as_such(prompt, language):
    assert WORDS(prompt).language == everything_known(prompt).language == language


def test_a_backbone_has_its_own():
    assert vocabulary_of("miniature")("asdf").unknown and vocabulary_of("owner/photos")("asdf").measurable
