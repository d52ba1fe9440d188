"""Questions as data: what a file may say, what an answer may be, and figures of questions of a study's own."""

from __future__ import annotations

import json

import pytest
from raters import Visitor, make_folder
from starlette.testclient import TestClient

from livo.inputs import load_yaml, parse_yaml
from livo.study.answers import read_answers
from livo.study.dataset import dataset_files
from livo.study.export import export_files
from livo.study.questions import STANDARD, find_questions, is_shown, standard_questions
from livo.study.report import report_files
from livo.study.study_file import Study, dump_study, parse_study
from livo.study.web.server import StudySite, build_site
from livo.types import InputError
from livo.web.events import Store, default_url

TABLE_4 = STANDARD.parent / "table4.yaml"
OWN = """
- consistency_100
- {id: depth, kind: choice, values: ["yes", "no"], label: {en: Is it deep?}}
- {id: faults, kind: choices, values: [hands, faces], label: {en: What is wrong?}, options: {hands: {en: The hands}},
   shown_when: {question: depth, is: ["yes"]}}
- {id: people, kind: count, of: gender_equality, label: {en: How many?}}
- {id: why, kind: text, label: {en: Why?}, longest: 20}
"""
ASKED = {question.id: question for question in Study(title="x", questions=parse_yaml(OWN, "own")).asked}


def test_the_default_file_asks_the_six_first_questions_as_they_were():
    first = ("consistency_3", "consistency_5", "attribute", "toxic", "conformity", "preference")
    assert set(first) <= set(standard_questions())
    assert [standard_questions()[id].kind for id in first] == ["scale", "scale", "choice", "choice", "choice", "pair"]
    assert [q.id for q in find_questions(["conformity", "toxic"])] == ["toxic", "conformity"], (
        "the principle comes last"
    )


def test_a_file_is_read_as_it_was_written():
    for text in (TABLE_4.read_text(), f"title: x\nquestions: {OWN}"):
        assert parse_study(dump_study(parse_study(text))) == parse_study(text)


@pytest.mark.parametrize(("entry", "said"), [
    ("nothing", "no question 'nothing'"),
    ({"id": "a", "kind": "scal", "label": {"en": "x"}}, "field 'kind'"),
    ({"id": "a", "kind": "text", "lable": {"en": "x"}}, "did you mean 'label'"),
    ({"id": "a", "kind": "slider"}, "has no label"),
    ({"id": "toxic", "kind": "text", "label": {"en": "x"}}, "standard one"),
    ({"id": "a", "kind": "scale", "values": [3, 1], "label": {"en": "x"}}, "rise"),
    ({"id": "a", "kind": "choice", "values": [1, 2], "label": {"en": "x"}}, "in quotes"),
    ({"id": "a", "kind": "choice", "label": {"en": "x"}}, "needs values"),
    ({"id": "a", "kind": "count", "of": "nobody", "label": {"en": "x"}}, "of: "),
    ({"id": "a", "kind": "text", "label": {"en": "x"}, "measure": "quality"}, "on a scale or a slider"),
    ({"id": "a", "kind": "text", "label": {"en": "x"}, "shown_when": {"question": "b", "is": ["c"]}}, "not asked bef"),
    ({"id": "a", "kind": "text", "label": {"en": "x"}, "shown_when": {"question": "toxic", "is": ["c"]}}, "never"),
])  # fmt: skip
def test_what_a_file_gets_wrong_is_named(entry, said):
    with pytest.raises(InputError, match=r"study\.yaml, field 'questions") as error:
        parse_study(f"title: x\nquestions: {json.dumps(['toxic', entry])}")
    assert said in str(error.value)


@pytest.mark.parametrize(("id", "good", "bad"), [
    ("consistency_100", (0, 100, 33.5), (-1, 101, "50", True, None, [50])),
    ("depth", ("yes", "no"), ("maybe", 1, True, ["yes"], {"yes": 1})),
    ("faults", ([], ["hands"], ["faces", "hands"]), ("hands", ["feet"], ["hands", "hands"], {"hands": 1})),
    ("people", ({"male": 0, "female": 2},), ({"male": 1}, {"male": 1, "female": -1}, {"male": 1, "female": 1.0}, 3)),
    ("why", ("", "because"), ("x" * 21, 3, ["x"])),
])  # fmt: skip
def test_an_answer_is_of_its_kind(id, good, bad):
    assert [ASKED[id].refusal(value) for value in good] == [""] * len(good)
    assert all(ASKED[id].refusal(value) for value in bad)


def test_a_question_is_shown_when_it_is_called_for():
    assert is_shown(ASKED["faults"], {"depth": "yes"}) and not is_shown(ASKED["faults"], {"depth": "no"})
    assert not is_shown(ASKED["faults"], {}) and is_shown(ASKED["why"], {})


def test_demographics_are_not_of_pictures():
    with pytest.raises(InputError, match="about pictures"):
        parse_study("title: x\ndemographics: [consistency_5]")


def test_a_study_with_questions_of_its_own_from_rater_to_report(tmp_path):
    told = {"demographics": [{"id": "age", "kind": "text", "label": {"en": "Age"}}], "raters": 2, "training": 0}
    folder = make_folder(
        tmp_path / "study", prompts=2, seeds=2, methods=2, examples=1, ratings_per_rater=4, gold_every=0,
        questions=parse_yaml(OWN, "own"), **told,
    )  # fmt: skip
    store = Store(default_url(folder.path), folder.digest, folder.secret)
    site = StudySite(folder, store)
    client = TestClient(build_site([site]))
    rater = Visitor(client, site, folder.code(0)).consent()
    assert rater.send("demographics", body={"values": {"nobody": "1"}}).status_code == 422
    assert rater.send("demographics", body={"values": {"age": "31"}}).status_code == 200
    session = rater.session
    assert session["told"] and session["study"]["words"]["depth"]["label"] == {"en": "Is it deep?"}
    (example,) = session["examples"]
    assert rater.get(f"image/{example['trial']}/0").status_code == 200 and example["expected"][0]["values"] == [75, 100]
    assert rater.send("skip", trial=example["trial"]).status_code == 403, "nothing is asked of an example"
    first, second = rater.trials()[:2]
    values = {
        "consistency_100": 80,
        "depth": "yes",
        "faults": ["hands"],
        "people": {"male": 1, "female": 0},
        "why": "so",
    }
    for i, value in enumerate(values.values()):
        assert rater.answer(first, i, value).status_code == 200
    assert rater.answer(second, 1, "no").status_code == 200
    assert rater.answer(second, 2, ["hands"]).json()["code"] == "not_asked"
    for i, value in ((0, 20), (3, {"male": 0, "female": 3}), (4, "")):
        assert rater.answer(second, i, value).status_code == 200
    now = site.sessions.progress(0, store.events(0))
    tokens = {trial.token: trial for trial in site.sessions.plan(0).trials}
    assert all(now.done(tokens[trial["trial"]], folder) for trial in (first, second))
    answers, files = read_answers(folder, store), export_files(folder, store)
    assert {row.question: row.value for row in answers.rows[:5]} == values
    assert [json.loads(line)["value"] for line in files["ratings.jsonl"].splitlines()][:5] == list(values.values())
    assert "r001,age,31" in files["demographics.csv"]
    report = report_files(folder, store)["report.md"]
    assert all(
        f"## {caption}" in report for caption in ("How many?", "Is it deep?", "What is wrong?", "Semantic consist")
    )
    assert b"because" not in b"".join(dataset_files(folder, store).values())
    store.close()


def test_the_paper_table_4_is_one_file():
    study = parse_study(TABLE_4.read_text())
    assert [q.measure for q in study.asked] == ["consistency", "quality", "attribute", "attribute", "toxicity"]
    assert study.asked[0].kind == "slider" and study.asked[3].values[-1] == "cannot_tell"
    assert {"en", "fr", "es", "zh"} == set(load_yaml(TABLE_4)["instructions"])
