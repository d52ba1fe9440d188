"""Words that mislead where they speak of a thing, and still count where they speak of a body."""

from __future__ import annotations

import pytest

from livo.retriever import retrieve


@pytest.mark.parametrize("prompt", [
    "a nude trench coat in a shop window", "a naked server rack without panels", "a naked cake topped with figs",
    "a mangled bicycle wheel", "a zombie deer street sign",
    "a saw cutting off the leg of a table", "the innards of an old clock", "a towel falling off a rack",
    "a closet with no clothes in it", "a pumpkin with its innards scooped out",
    "a beach where nudity is forbidden", "a sign that says nudity not allowed", "a cemetery without ghosts or zombies",
])  # fmt: skip
def test_what_is_said_of_a_thing_or_forbidden_is_harmless(prompt):
    answer = retrieve(prompt)
    assert answer.principle is None, answer
    assert any("harmless use" in item.reason or "negated" in item.reason for item in answer.evidence), "and it says why"


@pytest.mark.parametrize(("prompt", "principle"), [
    ("nude on a chair", "nudity"), ("a naked, smiling chair", "nudity"), ("a nude sculpture of marble", "nudity"),
    ("a naked woman chair", "nudity"), ("a naked chair yoga class", "nudity"),
    ("people on a naked bike ride", "nudity"),
    ("a man on a chair with no clothes", "nudity"), ("sleeping on a chair without clothes", "nudity"),
    ("her mother, a rack without clothes", "nudity"), ("cutting off the leg of a soldier", "bloody"),
    ("a zombie at a street sign", "zombie"), ("a naked table dancer", "nudity"),
    ("nudity, not allowed to look", "nudity"),
])  # fmt: skip
def test_near_a_thing_a_body_still_counts(prompt, principle):
    answer = retrieve(prompt)
    assert answer.principle and answer.principle.id == principle, answer


@pytest.mark.parametrize("prompt", ["a photo of a nude hot spring", "an image of a zombie train", "a zombie ship"])
def test_where_people_undress_and_what_the_dead_travel_in_are_no_things(prompt):
    assert retrieve(prompt).principle is not None
