"""The trie of phrases is spelt out word by word as prompts meet it, and finds what the whole one would."""

from __future__ import annotations

import pytest

from livo.retriever.phrases import PERSON, Phrases, search
from livo.retriever.words import as_is, inflections, plurals, tokens
from livo.types import InputError


def found(phrases: Phrases, prompt: str, persons: dict[int, int] | None = None) -> list[tuple[int, int, str]]:
    return [item[:3] for item in search(phrases, tokens(prompt), persons or {}, frozenset({"very"}))]


def test_every_choice_is_found_in_every_form_of_the_last_word():
    phrases = Phrases()
    phrases.add("slit/cut throat/x-ray", "lexicon", 0, plurals)
    for text in ("slit throat", "cut throats", "cut x-rays", "slit X-ray"):
        assert found(phrases, f"a {text} here") == [(1, 1 + len(tokens(text)), "slit/cut throat/x-ray")]
    assert found(phrases, "throat slit, cut. throat") == [], "in this order, and not across punctuation"


def test_phrases_that_begin_alike_keep_the_order_in_which_they_came():
    phrases = Phrases()
    for owner, (phrase, forms) in enumerate([("bleed", inflections), ("bleeding heart", as_is), ("bleeding", as_is)]):
        phrases.add(phrase, "lexicon", owner, forms)
    assert found(phrases, "bleeding") == [(0, 1, "bleed"), (0, 1, "bleeding")]
    assert {term for *_, term in found(phrases, "a bleeding heart")} == {"bleed", "bleeding heart", "bleeding"}


def test_a_place_for_any_word_and_one_for_a_person():
    phrases = Phrases()
    phrases.add("eats * alive", "lexicon", 0, as_is)
    phrases.add(f"corpse of {PERSON}", "lexicon", 1, as_is)
    assert found(phrases, "it eats him alive") == [(1, 4, "eats * alive")]
    assert found(phrases, "corpse of very old man", {4: 5}) == [], "'old' stands between"
    assert found(phrases, "corpse of very man", {3: 4}) == [(0, 4, f"corpse of {PERSON}")]


def test_nothing_is_spelt_out_before_a_prompt_meets_it():
    phrases = Phrases()
    phrases.add("a/b/c d/e f/g", "lexicon", 0, plurals)
    assert not phrases._nodes
    assert not found(phrases, "x y z") and not phrases._nodes
    assert found(phrases, "b d gs") and list(phrases._nodes) == ["b"]


@pytest.mark.parametrize("phrase", ["", "...", "/ -"])
def test_a_phrase_without_a_word_is_refused(phrase):
    with pytest.raises(InputError, match="lexicon: .* holds no word"):
        Phrases().add(phrase, "lexicon", 0, as_is)
