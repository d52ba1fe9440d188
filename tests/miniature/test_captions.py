from __future__ import annotations

import hashlib
import random
import re
from dataclasses import replace

import pytest

from livo.miniature.captions import article, caption, clean_counterpart, random_scene, vocabulary
from livo.miniature.world import GENDERS, TOXIC_KINDS, Scene, load_world

WORLD = load_world()
NURSE = Scene("nurse", None, None, None, "female", "dark")
DRAWN = [random_scene(WORLD, random.Random(seed)) for seed in range(3000)]


def named_gender(text: str) -> bool:
    return bool(re.search(r"\b(male|female|man|woman)\b", text))


def named_tone(text: str) -> bool:
    return " skin" in text


def test_the_grammar_by_example():
    def say(scene, opening="a photo of", **options):
        return caption(WORLD, scene, opening, **options)

    assert say(NURSE) == "a photo of a nurse"
    assert say(NURSE, name_gender=True) == "a photo of a female nurse"
    assert say(NURSE, name_tone=True) == "a photo of a nurse with dark skin"
    everything = Scene("baker", "smiling", "in a forest", "old", "female", "dark")
    assert say(everything, name_gender=True, name_tone=True) == (
        "a photo of a smiling old female baker with dark skin in a forest"
    )
    alone = replace(NURSE, occupation=None)
    assert say(alone) == "a photo of a person"
    assert say(alone, name_gender=True) == "a photo of a woman"
    assert say(replace(alone, gender="male"), name_gender=True) == "a photo of a man"
    assert say(replace(NURSE, lookalike="red scarf"), "an image of") == "an image of a nurse wearing a red scarf"


@pytest.mark.parametrize(("phrase", "wanted"), [
    ("accountant", "an"), ("elegant nurse", "an"), ("old baker", "an"), ("angry ceo", "an"),
    ("nurse", "a"), ("young engineer", "a"),
])  # fmt: skip
def test_article(phrase, wanted):
    assert article(phrase) == wanted


def test_every_caption_has_the_right_articles_and_only_known_words():
    words = set(vocabulary(WORLD))
    for _, text in DRAWN:
        assert not re.search(r"\ba [aeiou]", text) and not re.search(r"\ban [^aeiou]", text), text
        assert set(text.split()) <= words, text
        assert "  " not in text and "{" not in text and text == text.strip()
    assert re.search(r"\ba [aeiou]", "a elegant nurse"), "the check above can fail"


@pytest.mark.parametrize("kind", TOXIC_KINDS)
def test_toxic_wordings_differ_and_say_so(kind):
    words = {"nudity": "naked|nude|clothes|unclothed", "bloody": "blood", "zombie": "zombie|undead"}[kind]
    texts = [caption(WORLD, replace(NURSE, toxic=kind), "a photo of", wording=k) for k in range(4)]
    assert len(set(texts)) == 4
    for text in texts:
        assert re.search(words, text) and "nurse" in text
        assert not re.search(words, caption(WORLD, NURSE, "a photo of"))
    assert caption(WORLD, replace(NURSE, toxic=kind), "a photo of", wording=4) == texts[0]


def test_toxic_wording_keeps_the_subject_whole():
    scene = Scene("engineer", "angry", "in a city", None, "male", "dark", toxic="bloody")
    text = caption(WORLD, scene, "a photo of", name_gender=True, name_tone=True, wording=1)
    assert text == "a photo of an angry male engineer with dark skin covered in blood in a city"


def test_scenes_depend_on_the_seed_alone():
    for seed in range(50):
        assert random_scene(WORLD, random.Random(seed)) == random_scene(WORLD, random.Random(seed)) == DRAWN[seed]
    assert len({text for _, text in DRAWN}) > 1500


def test_golden_scenes():
    """The weights under assets/ were trained on this stream of scenes and captions: who changes it trains again."""
    rng = random.Random(0)
    stream = repr([random_scene(WORLD, rng) for _ in range(500)]).replace(", count=1", "")  # all are of one person
    assert (
        hashlib.sha256(stream.encode()).hexdigest()
        == "a2b985ef8a36b853de80b2e16546e7bd6119bb68072afbf32e4904f1d9230d50"
    )


def test_attributes_are_named_in_most_captions_and_then_evenly():
    genders = [scene.gender for scene, text in DRAWN if named_gender(text)]
    tones = [scene.tone for scene, text in DRAWN if named_tone(text)]
    assert 0.31 < len(genders) / len(DRAWN) < 0.41 and 0.35 < len(tones) / len(DRAWN) < 0.45
    assert abs(genders.count("female") / len(genders) - 0.5) < 0.07
    assert all(abs(tones.count(tone) / len(tones) - 0.2) < 0.06 for tone in WORLD.tones)
    unnamed = sum(not named_gender(text) and not named_tone(text) for _, text in DRAWN)
    assert 0.33 < unnamed / len(DRAWN) < 0.44


def test_what_a_caption_names_is_what_was_drawn():
    for scene, text in DRAWN:
        if found := re.search(r"\b(male|female|man|woman)\b", text):
            assert {"man": "male", "woman": "female"}.get(found[0], found[0]) == scene.gender
        if named_tone(text):
            assert f"with {scene.tone} skin" in text
        for part in (scene.occupation, scene.adjective, scene.place, scene.age):
            assert part is None or part in text


def test_about_one_in_four_is_toxic_and_never_a_lookalike_too():
    toxic = [scene for scene, _ in DRAWN if scene.toxic]
    assert abs(len(toxic) / len(DRAWN) - 0.24) < 0.03
    assert all(scene.lookalike is None for scene in toxic)
    assert {scene.toxic for scene in toxic} == set(TOXIC_KINDS)
    assert {scene.lookalike for scene, _ in DRAWN} == {None, *WORLD.lookalikes}


def test_clean_counterpart_changes_nothing_else():
    scene = Scene("nurse", "sad", "in a city", "old", "male", "dark", toxic="zombie", jitter=3)
    assert clean_counterpart(scene) == replace(scene, toxic=None)
    assert clean_counterpart(NURSE) == NURSE


def test_unspecified_captions_leak_no_attribute():
    for gender in GENDERS:
        for tone in WORLD.tones:
            for occupation in WORLD.occupations:
                text = caption(WORLD, Scene(occupation, None, None, None, gender, tone), "a photo of")
                assert text == f"a photo of {article(occupation)} {occupation}"
