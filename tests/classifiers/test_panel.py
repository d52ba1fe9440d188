"""Figures of judges: corrected where the judge's errors are known, two judges held beside each other."""

from __future__ import annotations

import doctest

import pytest
import torch
import yaml

import livo.measures.agreement
from livo.classifiers.panel import Panel, Verdicts, agree, ask, measure, question_of, unanswered, without_errors
from livo.classifiers.zero_shot import photo_questions
from livo.compare.comparison import MethodEntry, compare, make_request
from livo.methods.livo import LiVO
from livo.methods.value_encoder import ValueEncoder
from livo.miniature.world import load_world
from livo.principles import PRINCIPLES_PATH, find_principle, load_entries, load_principles
from livo.retriever import Retriever
from livo.types import Classification, Principle
from livo.ui.cards import principle_card

SMOKING = Principle("smoking", "smoking considered inappropriate", "toxicity", ("clean", "smoking"))


class Told:
    """Answers what it was told."""

    def __init__(self, name, answers, confusion=None):
        self.name, self.answers, self.questions, self._confusion = name, answers, tuple(answers), confusion or {}

    def __call__(self, images, question, prompt=""):
        return self.answers[question]

    def classes(self, question):
        return self.answers[question].classes

    def confusion(self, question):
        return self._confusion.get(question)


def labelled(classes, labels, sure=0.9, threshold=0.0) -> Classification:
    probs = torch.full((len(labels), len(classes)), (1 - sure) / (len(classes) - 1))
    for i, label in enumerate(labels):
        probs[i, classes.index(label)] = sure
    return Classification(tuple(classes), probs, threshold)


GENDER = labelled(["male", "female"], ["male"] * 6 + ["female"] * 4)
KNOWN = {"classes": ["male", "female"], "matrix": [[90, 10, 7], [20, 80, 3]], "n": 210, "accuracy": 0.81}
IMAGES = torch.zeros(10, 3, 4, 4, dtype=torch.uint8)


def test_doctests():
    assert doctest.testmod(livo.measures.agreement).failed == 0


# --- corrected -------------------------------------------------------------------------------------------------------


def test_a_figure_is_corrected_by_rogan_and_gladen():
    found = measure({"gender": GENDER}, {"gender": KNOWN})["gender"].to_json()["corrected"]
    male = (0.6 + 0.8 - 1) / (0.9 + 0.8 - 1)
    assert found["shares"] == pytest.approx({"male": male, "female": 1 - male})
    assert found["discrepancy_range"] == pytest.approx(2 * male - 1)
    assert found["judge_accuracy"] == 0.81 and found["judge_n"] == 210


def test_toxicity_is_corrected_too():
    toxicity = labelled(["clean", "nudity", "zombie"], ["clean"] * 5 + ["nudity"] * 3 + ["zombie"] * 2)
    matrix = [[80, 20, 0, 0], [0, 100, 0, 0], [0, 0, 100, 0]]
    known = {"classes": ["clean", "nudity", "zombie"], "matrix": matrix, "n": 300, "accuracy": 0.93}
    figures = measure({"toxicity": toxicity}, {"toxicity": known})["toxicity"].to_json()
    assert figures["toxicity_ratio"] == 0.5 and figures["corrected"]["toxicity_ratio"] == pytest.approx(1 - 0.5 / 0.8)


def test_toxic_images_of_which_no_kind_is_told_are_not_lost():
    """Of toxic pictures the judge cannot name the kind of half: leaving those out would halve the share."""
    toxicity = labelled(["clean", "nudity"], ["clean"] * 6 + ["nudity"] * 2)
    unsure = Classification(toxicity.classes, torch.cat([toxicity.probs, torch.full((2, 2), 0.5)]), 0.7)
    known = {"classes": ["clean", "nudity"], "matrix": [[100, 0, 0], [0, 50, 50]], "n": 200, "accuracy": 0.75}
    assert measure({"toxicity": unsure}, {"toxicity": known})["toxicity"].corrected.toxicity_ratio == pytest.approx(0.4)
    assert without_errors(unsure, known) == pytest.approx({"clean": 0.75, "nudity": 0.25})


def test_a_perfect_judge_changes_nothing():
    perfect = KNOWN | {"matrix": [[50, 0, 0], [0, 50, 0]]}
    assert measure({"gender": GENDER}, {"gender": perfect})["gender"].corrected.shares == pytest.approx(
        {"male": 0.6, "female": 0.4}
    )


@pytest.mark.parametrize("known", [
    None, KNOWN | {"classes": ["female", "male"]}, KNOWN | {"matrix": [[1, 1, 0], [1, 1, 0]]},
    KNOWN | {"matrix": [[0, 0, 9], [1, 1, 0]]},
])  # fmt: skip
def test_what_was_not_measured_or_cannot_be_used_is_none(known):
    assert without_errors(GENDER, known) is None
    assert measure({"gender": GENDER}, {"gender": known} if known else None)["gender"].corrected is None


def test_no_placed_image_has_no_share():
    assert without_errors(Classification(("male", "female"), torch.full((3, 2), 0.5), 0.7), KNOWN) is None


# --- which judge answers ---------------------------------------------------------------------------------------------


def test_the_first_judge_with_the_question_answers_and_the_next_is_held_beside():
    toxicity = labelled(["clean", "zombie"], ["clean"] * 10)
    first = Told("one", {"toxicity": toxicity})
    second = Told(
        "two", {"gender": GENDER, "toxicity": labelled(["clean", "nudity"], ["nudity"] * 10)}, {"gender": KNOWN}
    )
    third = Told(
        "three", {"gender": labelled(["male", "female"], ["male"] * 10), "toxicity": toxicity, "place": GENDER}
    )
    found = ask(Panel((first, second, third)), IMAGES, "a photo of a doctor")
    assert found.judge == {"toxicity": "one", "gender": "two"}
    assert found.second["toxicity"][0] == "two" and found.second["gender"][0] == "three"
    assert found.confusion == {"gender": KNOWN} and "place" not in found.classification
    assert ask(second, IMAGES, "x").second == {}


def test_a_judge_that_was_told_the_prompt_hears_it():
    heard = []

    class Listens(Told):
        def __call__(self, images, question, prompt=""):
            heard.append(prompt)
            return super().__call__(images, question, prompt)

    ask(Listens("one", {"gender": GENDER}), IMAGES, "a photo of a judge")
    assert heard == ["a photo of a judge"]


def test_a_principle_without_a_question_is_cannot_tell_and_named():
    judge = Told(
        "evaluator",
        {"gender": GENDER, "tone": GENDER, "toxicity": labelled(["clean", "nudity", "bloody", "zombie"], ["clean"])},
    )
    assert unanswered(judge, load_principles()[:5]) == (), "those that are shipped"
    assert question_of(judge, find_principle("racial_equality")) == "tone" and question_of(judge, SMOKING) is None
    (note,) = unanswered(judge, (find_principle("nudity"), SMOKING))
    assert "'smoking considered inappropriate': cannot tell" in note and "evaluator" in note
    age = Principle("age_equality", "age equality", "bias", ("young", "old"))
    assert question_of(judge, age) is None and question_of(Told("x", {"age_equality": GENDER}), age) == "age_equality"


def test_the_kind_must_be_known_to_the_judge_whose_figure_is_shown():
    nudity_only = Told("safety_checker", {"toxicity": labelled(["clean", "nudity"], ["clean"])})
    all_kinds = Told("llava", {"toxicity": labelled(["clean", "nudity", "zombie"], ["clean"])})
    zombie = (find_principle("zombie"),)
    assert unanswered(Panel((nudity_only, all_kinds)), zombie) and not unanswered(
        Panel((all_kinds, nudity_only)), zombie
    )


# --- a principle of one's own ----------------------------------------------------------------------------------------


def test_one_entry_of_yaml_is_a_principle_from_the_prompt_to_the_card(tmp_path, engine, options):
    """Found, applied by LiVO, asked of the judges that can be asked, "cannot tell" of the other, on the card."""
    entry = {
        "id": "smoking",
        "text": SMOKING.text,
        "risk": "toxicity",
        "classes": ["clean", "smoking"],
        "lexicon": ["smoke", "cigarette"],
    }
    path = tmp_path / "principles.yaml"
    path.write_text(PRINCIPLES_PATH.read_text(encoding="utf-8") + yaml.safe_dump([entry]), encoding="utf-8")
    entries = load_entries(path)
    prompt, retriever = "a photo of a doctor smoking a cigarette", Retriever(entries)
    found = retriever(prompt)
    assert found.principle == SMOKING
    methods = {"livo": MethodEntry("LiVO", ("bias", "toxicity"), LiVO(engine, ValueEncoder.untrained(engine.backbone)))}
    toxicity = labelled(["clean", "nudity", "bloody", "zombie"], ["clean"] * 2)
    judge = Told("evaluator", {"toxicity": toxicity})
    request = make_request(prompt, list(methods), options(), retriever=retriever)
    *_, result = compare(request, engine=engine, methods=methods, judge=judge)
    assert result.request.principle == SMOKING and result.methods["livo"].notes == ("value", "value")
    assert "'smoking considered inappropriate': cannot tell" in result.remarks[0]
    knows = {q.name: q for q in photo_questions(tuple(e.principle for e in entries), load_world())}["toxicity"]
    assert knows.classes[-1] == "smoking" and not unanswered(
        Told("open_clip", {"toxicity": labelled(knows.classes, ["clean"])}), [SMOKING]
    )
    principles = [e.principle for e in entries]
    card = principle_card(request, principles)
    assert "<h2>smoking considered inappropriate</h2>" in card and "<mark>cigarette</mark>" in card
    assert "smoking considered inappropriate 0.99" in card and 'data-principle="gender_equality"' in card
    other = make_request("a photo of a doctor", list(methods), options(), retriever=retriever)
    listed = principle_card(other, principles)
    assert 'data-principle="smoking"' in listed and "no word calls for it" in listed


# --- two judges ------------------------------------------------------------------------------------------------------


def test_judges_with_other_toxic_kinds_are_compared_on_toxic_or_clean():
    one = labelled(["clean", "nudity", "zombie"], ["clean", "nudity", "zombie", "clean"])
    two = labelled(["clean", "nudity"], ["clean", "nudity", "nudity", "nudity"])
    verdicts = Verdicts({"toxicity": one}, {"toxicity": "llava"}, {}, {"toxicity": ("safety_checker", two)})
    payload = agree(verdicts)["toxicity"].to_json()
    assert (
        payload["first"] == "llava"
        and payload["second"] == "safety_checker"
        and payload["alike"] == 0.75
        and payload["n"] == 4
    )
    assert payload["second_counts"] == {"clean": 1, "toxic": 3}


def test_an_abstention_counts_as_a_label_and_other_classes_are_not_compared():
    one = labelled(["male", "female"], ["male", "female", "male"], 0.9, 0.7)
    two = labelled(["male", "female"], ["male", "female", "male"], 0.6, 0.7)
    payload = agree(Verdicts({"gender": one}, {"gender": "a"}, {}, {"gender": ("b", two)}))["gender"].to_json()
    assert payload["alike"] == 0 and payload["second_counts"] == {"cannot tell": 3}
    race = labelled(["white", "black"], ["white"] * 3)
    assert agree(Verdicts({"race": one}, {"race": "a"}, {}, {"race": ("b", race)})) == {}
