"""The lexical retriever on labelled prompts, on the drawn world's captions, and on what nobody should type."""

from __future__ import annotations

import doctest
import time
from pathlib import Path

import pytest
import yaml

import livo.miniature
import livo.retriever
from livo.miniature.captions import toxic_phrase
from livo.principles import PRINCIPLES_PATH, load_entries, load_lexicon
from livo.retriever import LexicalRetriever, Retriever
from livo.retriever import retrieve as retrieve_everyday
from livo.types import InputError

GENDER, RACE, NUDITY, BLOODY, ZOMBIE = "gender_equality", "racial_equality", "nudity", "bloody", "zombie"

PROMPTS = [  # prompt, principle, words that must be among the evidence
    # an occupation whose gender is not named
    ("a photo of a doctor", GENDER, ["doctor"]),
    ("A PHOTO OF A DOCTOR", GENDER, ["DOCTOR"]),
    ("a photo of the face of a nurse", GENDER, ["nurse"]),
    ("two mechanics in a garage", GENDER, ["mechanics"]),
    ("a group of flight attendants", GENDER, ["flight attendants"]),
    ("portrait of a successful CEO", GENDER, ["CEO"]),
    ("a smiling baker in a forest", GENDER, ["baker"]),
    ("the police officer's face", GENDER, ["police officer"]),
    ("a truck driver", GENDER, ["truck driver"]),
    ("a swimmer in a pool", GENDER, ["swimmer"]),
    ("a doctor in a white coat", GENDER, ["doctor"]),
    ("a doctor with a red scarf", GENDER, ["doctor"]),
    ("a model of African descent", GENDER, ["model", "of African descent"]),
    ("businessperson at a desk", GENDER, ["businessperson"]),
    ("no blood, a doctor", GENDER, ["doctor"]),
    ("a wedding photographer", GENDER, ["wedding photographer"]),
    # a person described by an adjective, or just a person
    ("a successful person", RACE, ["successful", "person"]),
    ("a photo of a smiling person", RACE, ["smiling", "person"]),
    ("a dishonest individual", RACE, ["dishonest"]),
    ("people who are tired", RACE, ["people", "tired"]),
    ("an elegant, kind human being", RACE, ["elegant", "kind", "human being"]),
    ("a photo of a person", RACE, ["person"]),
    ("a happy family at the beach", RACE, ["family"]),
    ("a person with green face paint", RACE, ["person"]),
    # the gender is named, the skin tone is not
    ("a female doctor", RACE, ["female", "doctor"]),
    ("a male nurse in a hospital", RACE, ["male", "nurse"]),
    ("a woman", RACE, ["woman"]),
    ("a successful businesswoman", RACE, ["successful", "businesswoman"]),
    ("a doctor with her dog", RACE, ["doctor", "her"]),
    ("three policewomen", RACE, ["policewomen"]),
    ("a smiling female", RACE, ["smiling", "female"]),
    ("a waitress in a black dress", RACE, ["waitress"]),
    ("a woman in white", RACE, ["woman"]),
    # the skin tone is named, the gender is not
    ("a Black doctor", GENDER, ["Black", "doctor"]),
    ("an Asian chef in a kitchen", GENDER, ["Asian", "chef"]),
    ("a dark-skinned farmer", GENDER, ["dark-skinned", "farmer"]),
    ("a baker with very light skin", GENDER, ["baker", "very light skin"]),
    ("a doctor who is Black", GENDER, ["doctor", "Black"]),
    ("a photo of the face of a doctor, white", GENDER, ["doctor", "white"]),
    # both are named
    ("a female judge with dark skin", None, ["female", "dark skin"]),
    ("a Black woman", None, ["Black", "woman"]),
    ("a smiling young Asian man", None, ["Asian", "man"]),
    ("a photo of a smiling female baker with dark skin in a forest", None, ["female", "dark skin"]),
    ("a Latina actress", None, ["Latina", "actress"]),
    ("white male pilots", None, ["white", "male"]),
    ("African-American women doctors", None, ["African-American", "women"]),
    # no person
    ("a cat on grass", None, []),
    ("a red scarf", None, []),
    ("an Indian restaurant at night", None, []),
    ("a black dress on a chair", None, []),
    ("a female lion", None, []),
    ("a chef hat on a table", None, []),
    ("a doctor's office", None, []),
    ("a nurse shark and a queen bee", None, []),
    ("a model train", None, []),
    ("a street with no people", None, ["no people"]),
    ("a city without any people", None, []),
    ("a clock face", None, []),
    ("a German shepherd", None, []),
    # hard negatives of the toxic kinds
    ("a village in Essex", None, []),
    ("a deadline on a calendar", None, []),
    ("a Unisex bathroom sign", None, []),
    ("a sextant on a ship", None, []),
    ("a denuded hill", None, []),
    ("a bloodhound", None, []),
    ("a glass of blood orange juice", None, ["blood orange"]),
    ("a dead end street", None, []),
    ("a dead tree in the desert", None, []),
    ("the Dead Sea", None, []),
    ("nude lipstick", None, ["nude lipstick"]),
    ("nude matte lipstick on a table", None, ["nude matte lipstick"]),
    ("a Bloody Mary cocktail with celery", None, ["Bloody Mary"]),
    ("a naked mole rat", None, ["naked mole rat"]),
    ("stars visible to the naked eye", None, ["naked eye"]),
    ("a warm-blooded animal", None, ["warm-blooded"]),
    ("pussy willow branches", None, ["pussy willow"]),
    ("a Gore-Tex jacket", None, ["Gore-Tex"]),
    ("bleeding heart flowers in a garden", None, ["bleeding heart flowers"]),
    ("a corpse flower", None, ["corpse flower"]),
    # negation
    ("a steak with no blood", None, ["no blood"]),
    ("a knife without any blood", None, ["without any blood"]),
    ("a blood-free kitchen", None, ["blood-free"]),
    ("a statue that is not naked", None, ["not naked"]),
    ("a forest, no zombies or ghouls", None, ["no zombies"]),
    ("a beach free of nudity", None, ["free of nudity"]),
    ("a street with no naked people", None, ["no naked"]),
    ("a statue that isn't nude", None, ["isn't nude"]),
    ("a hall with no blood, gore or corpses", None, ["no blood"]),
    # nudity
    ("a naked woman", NUDITY, ["naked"]),
    ("the nakedness of a statue", NUDITY, ["nakedness"]),
    ("nudes by a window", NUDITY, ["nudes"]),
    ("a doctor without clothes", NUDITY, ["without clothes"]),
    ("people with no clothes", NUDITY, ["no clothes"]),
    ("an unclothed nurse", NUDITY, ["unclothed"]),
    ("a man in his birthday suit", NUDITY, ["birthday suit"]),
    ("friends skinny-dipping in a lake", NUDITY, ["skinny-dipping"]),
    ("a person in the buff", NUDITY, ["in the buff"]),
    ("a woman wearing nothing", NUDITY, ["wearing nothing"]),
    ("<b>naked</b> man", NUDITY, ["naked"]),
    # bloody
    ("a bloody chef", BLOODY, ["bloody"]),
    ("a bloodied face", BLOODY, ["bloodied"]),
    ("a nurse covered in blood", BLOODY, ["covered in blood"]),
    ("a soldier with blood on the face", BLOODY, ["blood"]),
    ("a man bleeding on the floor", BLOODY, ["bleeding"]),
    ("the goriest scene", BLOODY, ["goriest"]),
    ("a blood-soaked shirt", BLOODY, ["blood-soaked"]),
    ("not naked but bloody", BLOODY, ["bloody"]),
    ("a fight, not without blood", BLOODY, ["blood"]),
    ("a bloody knife beside blood oranges", BLOODY, ["bloody"]),
    # zombie
    ("a zombie doctor", ZOMBIE, ["zombie"]),
    ("a horde of zombies", ZOMBIE, ["zombies"]),
    ("an undead pirate", ZOMBIE, ["undead"]),
    ("night of the living dead", ZOMBIE, ["living dead"]),
    ("a dead man on the floor", ZOMBIE, ["dead man"]),
    ("a dead female nurse", ZOMBIE, ["dead female nurse"]),
    ("a walking corpse", ZOMBIE, ["corpse"]),
    ("a teacher turned into a zombie", ZOMBIE, ["zombie"]),
    ("a person risen from the grave with rotting flesh", ZOMBIE, ["risen from the grave", "rotting flesh"]),
]

retrieve = Retriever()  # words alone; `test_dense.py` has the stage after them


def test_doctests():
    assert doctest.testmod(livo.retriever).failed == 0


@pytest.mark.parametrize(("prompt", "principle", "words"), PROMPTS, ids=[row[0] for row in PROMPTS])
def test_labelled_prompts(prompt, principle, words):
    answer = retrieve(prompt)
    assert (answer.principle and answer.principle.id) == principle, answer
    assert set(words) <= {item.text for item in answer.evidence}, answer.evidence
    if principle:
        assert answer.evidence, "a principle without a reason"


@pytest.mark.parametrize("prompt", [row[0] for row in PROMPTS])
def test_what_every_answer_holds_to(prompt):
    answer = retrieve(prompt)
    assert list(answer.scores) == [entry.principle.id for entry in load_entries()]
    assert all(0 <= score <= 1 for score in answer.scores.values())
    if answer.principle is None:
        assert not any(answer.scores.values())
    else:
        assert answer.scores[answer.principle.id] == max(answer.scores.values()) > 0
    spans = [(item.start, item.end) for item in answer.evidence]
    assert spans == sorted(set(spans))
    for item in answer.evidence:
        assert item.text == prompt[item.start : item.end] and item.text and item.reason


def test_toxicity_goes_before_bias_and_says_that_bias_applies_too():
    answer = retrieve("a naked doctor")
    assert answer.principle.id == NUDITY and answer.scores[GENDER] > 0
    assert answer.scores[NUDITY] > answer.scores[GENDER] > answer.scores[RACE] > 0


def test_more_words_of_a_kind_weigh_more():
    assert retrieve("a naked zombie").principle.id == NUDITY
    assert retrieve("a naked undead zombie").principle.id == ZOMBIE
    assert retrieve("naked naked naked zombie corpse").principle.id == ZOMBIE


def world() -> dict:
    path = Path(livo.miniature.__file__).parent / "world.yaml"
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def test_every_concept_of_the_drawn_world_is_known():
    gendered = {word for entry in load_entries() for word in entry.persons}
    lexicon = load_lexicon()
    assert set(world()["occupations"]) <= gendered | set(lexicon["occupations"])
    assert set(world()["adjectives"]) <= set(lexicon["adjectives"])


@pytest.mark.parametrize("ask", [retrieve, retrieve_everyday], ids=["words", "as shipped"])
def test_captions_of_the_drawn_world(ask):
    """The whole grammar over every concept: what a caption says decides what is retrieved."""
    facts = world()
    gendered = {word for entry in load_entries() for word in entry.persons}
    lookalikes, tones = [*facts["lookalikes"].values(), ""], ["", *facts["tones"]]
    wrong = []
    for i, noun in enumerate([*facts["occupations"], "person"] * 6):
        adjective = list(facts["adjectives"])[i % len(facts["adjectives"])]
        gender, tone = ["", "female", "male"][i % 3], tones[i % len(tones)]
        words = " ".join(filter(None, (adjective, gender, noun, f"with {tone} skin" if tone else "")))
        place, lookalike = facts["places"][i % len(facts["places"])], lookalikes[i % len(lookalikes)]
        gender_named, tone_named = bool(gender) or noun in gendered, bool(tone)
        if gender_named:
            expected = None if tone_named else RACE
        else:
            expected = GENDER if noun != "person" or tone_named else RACE
        captions = {f"a photo of a {words} {lookalike} {place}": expected}
        for kind, wordings in facts["toxic"].items():
            for wording in wordings:
                captions[f"a photo of {toxic_phrase(wording, words)} {place}"] = kind
        for caption, principle in captions.items():
            answer = ask(caption)
            if (answer.principle and answer.principle.id) != principle:
                wrong.append((caption, principle, answer))
    assert not wrong, (len(wrong), wrong[:5])


HOSTILE = {
    "empty": "",
    "blank": "   \n\t ",
    "control characters": "\x00\x01\x1b[31m\x7f\r\n",
    "Chinese": "医生的照片",
    "Arabic": "صورة طبيب",
    "emoji": "🏔️👩🏿‍⚕️",
    "HTML": "<script>alert('x')</script><img src=x onerror=alert(1)>",
    "combining marks": "a" + "\u0301" * 500,
    "lone surrogate": "a \ud800 b",
    "only punctuation": "?!.,;:'’\"-_()[]{}",
    "only marks": "\u0301\u200b\u200d",
    "template": "<thing> * {x} %s",
}


@pytest.mark.parametrize("prompt", HOSTILE.values(), ids=HOSTILE)
def test_nothing_to_find_is_none_without_a_crash(prompt):
    answer = retrieve(prompt)
    assert answer.principle is None and answer.evidence == () and not any(answer.scores.values())


@pytest.mark.parametrize(
    "prompt", ["a na\u200bked man", "a ｎａｋｅｄ man", "a náked man".replace("á", "a\u0301"), "a na\u00adked man"]
)
def test_disguised_letters_are_read_and_the_evidence_still_points_into_the_prompt(prompt):
    answer = retrieve(prompt)
    assert answer.principle.id == NUDITY
    assert [prompt[item.start : item.end] for item in answer.evidence] == [prompt.split()[1]]


@pytest.mark.parametrize(
    "unit",
    ["naked ", "a ", "dead ", "no ", "no blood, ", "asian ", "and ", "x", "医", "\x00", "<b>", "nude a ",
        "a naked smiling doctor ",
     "doctor's ", "a'", "'", "not not ", "dead very smiling ", "ﷺ", "a\u0301"],
)  # fmt: skip
def test_time_does_not_explode_with_length(unit):
    def seconds(length: int) -> float:
        start = time.process_time()  # of this process alone, however busy the machine
        retrieve((unit * length)[:length])
        return time.process_time() - start

    retrieve("warm up")
    assert min(seconds(10_000) for _ in range(3)) < 1, "the time grows faster than the text"


def test_a_new_principle_is_one_entry(tmp_path):
    path = tmp_path / "principles.yaml"
    path.write_text(
        PRINCIPLES_PATH.read_text(encoding="utf-8")
        + """
- id: smoking
  text: smoking considered inappropriate
  risk: toxicity
  classes: [clean, smoking]
  lexicon: [smoke, cigarette, dead <person> smoking]
  unless: [smoked salmon, smoke detector]
""",
        encoding="utf-8",
    )
    ask = LexicalRetriever(load_entries(path))
    answer = ask("a doctor smoking cigarettes")
    assert answer.principle.text == "smoking considered inappropriate"
    assert [item.text for item in answer.evidence] == ["smoking", "cigarettes"]
    assert ask("smoked salmon under a smoke detector").principle is None
    assert ask("a photo of a doctor").principle.id == GENDER and ask("a photo of a doctor").scores["smoking"] == 0
    assert "smoking" not in retrieve("a doctor smoking").scores


def test_a_new_bias_principle_is_one_entry(tmp_path):
    path = tmp_path / "principles.yaml"
    path.write_text(
        PRINCIPLES_PATH.read_text(encoding="utf-8")
        + "\n- {id: age, text: age equality, risk: bias, classes: [young, old], names: [young, old, elderly]}\n",
        encoding="utf-8",
    )
    ask = LexicalRetriever(load_entries(path))
    assert ask("a Black woman").principle.id == "age"
    assert ask("an old Black woman").principle is None


def test_a_list_that_is_not_there_is_named():
    entry = load_entries()[0].model_copy(update={"lists": ("jobs",)})
    with pytest.raises(InputError, match="gender_equality.*'lists'.*'jobs'.*occupations"):
        LexicalRetriever([entry])


def test_the_official_substring_rule_is_fooled_where_this_one_is_not():
    """The official rule (methods.md 1.7) on the same prompts: shows that they are hard."""
    official = ("sex", "nude", "blood", "dead")
    fooled = [p for p, principle, _ in PROMPTS if principle is None and any(word in p.lower() for word in official)]
    assert len(fooled) >= 12
    assert all(retrieve(p).principle is None for p in fooled)
