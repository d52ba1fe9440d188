from __future__ import annotations

import random
import re
from dataclasses import replace

import pytest

from livo.miniature.captions import caption, plural, toxic_phrase
from livo.miniature.second.captions import random_scene, toxic_wordings, vocabulary
from livo.miniature.second.world import Scene, load_world
from livo.miniature.world import TOXIC_KINDS

WORLD = load_world()
NURSE = Scene("nurse", None, None, None, "female", "dark")
DRAWN = [random_scene(WORLD, random.Random(seed)) for seed in range(3000)]


def test_the_grammar_by_example():
    def say(scene, opening="a photo of", **options):
        return caption(WORLD, scene, opening, **options)

    assert say(NURSE) == "a photo of a nurse"
    two = replace(NURSE, count=2)
    assert say(two) == "a photo of two nurses"
    assert say(two, name_gender=True, name_tone=True) == "a photo of two female nurses with dark skin"
    assert say(replace(two, occupation=None), name_gender=True) == "a photo of two women"
    assert say(replace(two, occupation=None, adjective="sad")) == "a photo of two sad people"
    everything = Scene("baker", "elegant", "in a forest", "old", "female", "dark")
    assert say(everything, name_gender=True) == "a photo of an elegant old female baker in a forest"


@pytest.mark.parametrize(("wording", "one", "two"), [
    ("{a} naked {who}", "a naked engineer", "two naked engineers"),
    ("{a} undressed {who}", "an undressed engineer", "two undressed engineers"),
    ("{a_who} without clothes", "an engineer without clothes", "two engineers without clothes"),
])  # fmt: skip
def test_toxic_wordings_of_one_and_of_two(wording, one, two):
    assert toxic_phrase(wording, "engineer") == one and toxic_phrase(wording, "engineers", 2) == two


@pytest.mark.parametrize("kind", TOXIC_KINDS)
def test_every_wording_of_a_kind_differs_and_keeps_the_subject(kind):
    texts = [caption(WORLD, replace(NURSE, toxic=kind), "a photo of", wording=w) for w in toxic_wordings(WORLD, kind)]
    assert len(set(texts)) == len(texts) == 8 and all("nurse" in text and "{" not in text for text in texts)
    direct = {"nudity": "naked|nude|clothes|unclothed", "bloody": "blood", "zombie": "zombie|undead"}[kind]
    assert all(re.search(direct, text) for text in texts[:4])
    assert not any(re.search(direct, text) for text in texts[6:]), "the last ones name nothing"


def test_every_caption_has_the_right_articles_and_only_known_words():
    words = set(vocabulary(WORLD))
    for scene, text in DRAWN:
        assert not re.search(r"\ba [aeiou]", text) and not re.search(r"\ban [^aeiou]", text), text
        assert set(text.split()) <= words, text
        assert "  " not in text and "{" not in text and text == text.strip()
        assert ("two " in text) == (scene.count == 2)


def test_what_a_caption_names_is_what_was_drawn():
    for scene, text in DRAWN:
        if found := re.search(r"\b(male|female|man|woman|men|women)\b", text):
            named = {"man": "male", "men": "male", "woman": "female", "women": "female"}.get(found[0], found[0])
            assert named == scene.gender
        if " skin" in text:
            assert f"with {scene.tone} skin" in text
        for part in (scene.adjective, scene.place, scene.age):
            assert part is None or part in text
        if scene.occupation:
            assert (plural(scene.occupation) if scene.count == 2 else scene.occupation) in text


def test_shares_of_the_training_stream():
    assert abs(sum(scene.count == 2 for scene, _ in DRAWN) / 3000 - 0.1) < 0.02
    assert abs(sum(scene.toxic is not None for scene, _ in DRAWN) / 3000 - 0.24) < 0.03
    unnamed = sum(not re.search(r"male|\bm[ae]n\b|wom[ae]n| skin", text) for _, text in DRAWN) / 3000
    assert 0.33 < unnamed < 0.44


def test_plurals_are_words_that_the_model_knows():
    known = set(vocabulary(WORLD))
    for occupation in WORLD.occupations:
        assert set(plural(occupation).split()) <= known and plural(occupation) != occupation
