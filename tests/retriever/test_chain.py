"""The retriever's chain: several principles, misspelling, exemplars, choices in phrases, the official rule."""

from __future__ import annotations

import doctest
import subprocess
import sys
from pathlib import Path

import pytest

import livo.retriever.legacy
import livo.retriever.spelling
import livo.retriever.words
from livo.principles import PRINCIPLES_PATH, load_entries
from livo.retriever import LexicalRetriever, Retriever, retrieve, retrieve_legacy

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("module", [livo.retriever.legacy, livo.retriever.spelling, livo.retriever.words])
def test_doctests(module):
    result = doctest.testmod(module)
    assert result.attempted and not result.failed


def ids(prompt: str) -> list[str]:
    return [principle.id for principle in retrieve(prompt).principles]


@pytest.mark.parametrize(("prompt", "expected"), [
    ("a naked doctor covered in blood", ["nudity", "bloody", "gender_equality", "racial_equality"]),
    ("a photo of a doctor", ["gender_equality", "racial_equality"]),
    ("a female judge", ["racial_equality"]),
    ("a Black judge", ["gender_equality"]),
    ("a Black female judge", []),
    ("a cat on grass", []),
])  # fmt: skip
def test_all_that_apply_are_ranked_and_the_first_is_the_argmax(prompt, expected):
    answer = retrieve(prompt)
    assert ids(prompt) == expected
    assert answer.principle == (answer.principles[0] if expected else None)
    scores = [answer.scores[id] for id in expected]
    assert scores == sorted(scores, reverse=True) and all(0.5 <= score <= 1 for score in scores)


def test_a_named_attribute_is_the_evidence_that_its_principle_does_not_apply():
    answer = retrieve("a Black female judge")
    assert {item.text for item in answer.evidence} == {"Black", "female"}
    assert answer.scores["gender_equality"] == retrieve("a female judge").scores["gender_equality"] == 0


@pytest.mark.parametrize(("typed", "meant", "principle"), [
    ("nakid", "a nakid man", "nudity"), ("n4ked", "a n4ked man", "nudity"), ("bl00dy", "a bl00dy axe", "bloody"),
    ("bloddy", "a bloddy axe", "bloody"), ("zomby", "a zomby", "zombie"), ("corpes", "a rotting corpes", "zombie"),
    ("proffesor", "a proffesor", "gender_equality"),
])  # fmt: skip
def test_a_misspelt_word_counts_and_the_evidence_is_as_typed(typed, meant, principle):
    answer = retrieve(meant)
    assert answer.principle.id == principle and typed in " ".join(item.text for item in answer.evidence)


@pytest.mark.parametrize("prompt", [
    "a baked potato", "a flood in a valley", "a blond wig on a stand", "a bloom of peonies", "former glory of a ruin",
    "a zumba poster",
    "a corner of a room", "the peace corps logo", "the city of Naples", "a nuked microwave dinner",
    "a pointer on a map",
])  # fmt: skip
def test_ordinary_words_are_not_read_as_others(prompt):
    assert retrieve(prompt).principle is None, retrieve(prompt)


def test_what_no_word_says_an_exemplar_does_and_no_negation_passes():
    entries = [e for e in load_entries() if e.exemplars]
    assert len(entries) == 3 and all(len(e.exemplars) >= 10 for e in entries)
    for prompt, principle in (("the buried rise again and walk through a village", "zombie"),
                              ("leaves cover what clothes should cover on a woman", "nudity")):  # fmt: skip
        answer = retrieve(prompt)
        assert LexicalRetriever()(prompt).scores[principle] == 0, "found by a word: says nothing of exemplars"
        assert answer.principle.id == principle and len(answer.evidence) >= 3
        assert all("BM25" in item.reason and prompt[item.start : item.end] == item.text for item in answer.evidence)
        assert principle not in ids(prompt + ", not really")


def test_exemplars_of_a_new_principle_are_found(tmp_path):
    path = tmp_path / "principles.yaml"
    path.write_text(PRINCIPLES_PATH.read_text(encoding="utf-8") + """
- id: smoking
  text: smoking considered inappropriate
  risk: toxicity
  classes: [clean, smoking]
  lexicon: [smoke, cigarette, light/lights a cigar]
  unless: [smoked salmon, smoke detector, smoke rising from * chimney]
  exemplars: [grey clouds drift from his lips beside a full ashtray]
""", encoding="utf-8")  # fmt: skip
    ask = Retriever(load_entries(path))
    assert ask("a doctor smoking").principle.text == "smoking considered inappropriate"
    assert ask("a banker lights a cigar").principle.id == "smoking"
    assert ask("grey clouds drifting from the lips of a man, ashtray full").principle.id == "smoking"
    assert ask("smoke rising from a chimney").principle is None
    assert [p.id for p in ask("a doctor smoking").principles] == ["smoking", "gender_equality", "racial_equality"]
    assert "smoking" not in retrieve("a doctor smoking").scores


@pytest.mark.parametrize(("prompt", "principle"), [
    ("a village in Essex", "nudity"), ("a deadline", "zombie"), ("a bloodhound", "bloody"), ("a unisex sign", "nudity"),
    ("a denuded hill", "nudity"), ("naked and bloody", "nudity"), ("a bloody zombie", "bloody"), ("NO CLOTHES",
    "nudity"),
    ("a zombi", None), ("a photo of a doctor", None), ("undressed", None),
])  # fmt: skip
def test_the_official_rule_is_reproduced_with_its_false_hits(prompt, principle):
    answer = retrieve_legacy(prompt)
    assert (answer.principle and answer.principle.id) == principle
    assert bool(answer.note) == (principle is None)
    assert all(prompt[item.start : item.end] == item.text for item in answer.evidence)


def test_a_prompt_that_the_lexicon_decides_does_not_load_bm25():
    code = "import sys; from livo.retriever import retrieve; retrieve('a zombie'); print('bm25s' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
