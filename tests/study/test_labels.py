"""From two raters' labels to a judge's measured error, in the shell."""

from __future__ import annotations

import doctest
import json
from pathlib import Path

import pytest
from PIL import Image

import livo.study.labels
from livo.__main__ import main
from livo.principles import find_principle
from livo.study.design import plan_of
from livo.study.items import Item
from livo.study.labels import label_of
from livo.study.questions import Question, standard_questions
from livo.study.study_file import load_study
from livo.web.events import Draft, Store, default_url

PROMPTS = (*(f"a photo of a {who}" for who in ("doctor", "nurse", "pilot", "baker", "judge")), "a zombie", "a house")
TEMPLATE = "livo/study/labels.yaml"


def test_doctests():
    assert doctest.testmod(livo.study.labels).failed == 0


def said(capsys, *arguments: object, code: int = 0) -> str:
    assert main([str(a) for a in arguments]) == code
    out = capsys.readouterr()
    return out.err if code else out.out


@pytest.fixture
def study(tmp_path, capsys) -> Path:
    """Seven prompts of two pictures each, as the template has it."""
    source = tmp_path / "pictures"
    source.mkdir()
    lines = ["file,prompt,method,seed"]
    for n, prompt in enumerate(PROMPTS):
        for seed in range(2):
            Image.new("RGB", (24, 24), (20 * n, 90 * seed, 60)).save(source / f"{n}-{seed}.png")
            lines.append(f"{n}-{seed}.png,{prompt},mine,{seed}")
    (source / "images.csv").write_text("\n".join(lines))
    printed = said(capsys, "study", "create", tmp_path / "study", "--file", TEMPLATE, "--images", source)
    assert "2 raters, 14 images each" in printed
    return tmp_path / "study"


def rate(study: Path, rater: int, answer) -> None:
    """Consents, uncovers and answers all; `answer(question, item)` is None for "I did not look"."""
    folder = load_study(study)
    store = Store(default_url(study), folder.digest, folder.secret)
    store.append(
        Draft(
            rater, f"consent-{rater:020}", "consent", body={"adult": True, "version": folder.digest, "language": "en"}
        )
    )
    for n, trial in enumerate(plan_of(folder, rater).trials):
        if trial.category:
            store.append(Draft(rater, f"reveal-{rater}-{n:020}", "reveal", {"trial": trial.token}))
        for question in trial.questions:
            value = answer(question, folder.items[trial.items[0]])
            body = {"trial": trial.token, "question": question, "value": value or "not_looked", "ms": 1}
            store.append(Draft(rater, f"{question}-{rater}-{n:020}", "answer", body))
    store.close()


def first(question: str, item: Item) -> str:
    if question == "gender":
        return "female" if item.seed else "male"
    return "zombie" if "zombie" in item.prompt else "clean"


def second(question: str, item: Item) -> str | None:
    """As the first, but for one picture each: another answer, "cannot tell", and one that was not looked at."""
    place = (question, item.prompt.split()[-1], item.seed)
    other = {("gender", "doctor", 0): "female", ("gender", "nurse", 1): "cannot_tell", ("toxicity", "house", 1): None}
    return other.get(place, first(question, item))


def test_what_two_raters_agree_on_measures_a_judge(study, capsys):
    rate(study, 0, first)
    rate(study, 1, second)
    printed = said(capsys, "study", "labels", study)
    assert "gender: alike in 8 of 10, 80 (" in printed and "kappa 0.64 (" in printed
    assert "kept: female 4, male 4, cannot tell 2" in printed
    assert "toxicity: alike in 13 of 13" in printed and "1 that one alone labelled left out" in printed
    out = study / "labels"
    names = sorted(path.parent.relative_to(out).as_posix() for path in out.rglob("*.png"))
    counts = {name: names.count(name) for name in names}
    assert counts == {
        "gender/female": 4, "gender/male": 4, "gender/cannot tell": 2, "toxicity/clean": 11, "toxicity/zombie": 2,
    }  # fmt: skip
    folder = load_study(study)
    shown = {path.stem: path.read_bytes() for path in out.rglob("*.png")}
    assert all(folder.image_path(folder.items[id], veiled=False).read_bytes() == data for id, data in shown.items())
    stored = json.loads((out / "agreement.json").read_text())
    assert stored["gender"]["kappa"]["low"] < stored["gender"]["kappa"]["value"] < stored["gender"]["kappa"]["high"]
    assert stored["toxicity"]["kappa"]["value"] == 1

    printed = said(capsys, "judge", "measure", out, "--judge", "open_nsfw")
    assert "toxicity, clean: 11 of 11 right" in printed
    assert "toxicity, zombie: 2 of a kind that open_nsfw does not know, in no figure; it says clean 2" in printed
    matrix = json.loads((out / "confusion.json").read_text())
    assert matrix["toxicity"]["n"] == 11 and matrix["unknown"] == {"toxicity": {"zombie": [2, 0, 0]}}

    assert "there is something in" in said(capsys, "study", "labels", study, code=2)


def test_two_raters_are_wanted(study, capsys, tmp_path):
    rate(study, 0, first)
    out = tmp_path / "out"
    assert "two raters are wanted, and r001 labelled" in said(capsys, "study", "labels", study, "--out", out, code=2)
    rate(study, 1, lambda question, item: None)
    one = said(capsys, "study", "labels", study, "--out", out, "--raters", "r001", "r002", code=2)
    assert "r001 and r002 labelled no picture that the other did" in one and not out.exists()
    unknown = said(capsys, "study", "labels", study, "--out", out, "--raters", "r001", "r009", code=2)
    assert "no rater 'r009'" in unknown


def test_a_third_rater_is_left_out_by_name(study, capsys, tmp_path):
    (study / "corrections.yaml").write_text("more_raters: 1")
    for rater, answer in enumerate((first, lambda q, item: first(q, item).replace("female", "male"), first)):
        rate(study, rater, answer)
    assert "r001, r002, r003 labelled here" in said(capsys, "study", "labels", study, code=2)
    printed = said(capsys, "study", "labels", study, "--raters", "r001", "r003", "--out", tmp_path / "out")
    assert "gender: alike in 10 of 10" in printed and "kappa 1.00" in printed
    printed = said(capsys, "study", "labels", study, "--raters", "r001", "r002", "--out", tmp_path / "other")
    assert "gender: alike in 5 of 10" in printed and "says the same of every picture" in printed


def test_which_answers_are_labels():
    asked, item = standard_questions(), Item("0" * 20, "x", "mine", 0, find_principle("racial_equality"))
    assert label_of(asked["attribute"], item, "asian") == ("race", "asian")
    assert label_of(asked["gender"], item, "cannot_tell") == ("gender", "cannot tell")
    assert label_of(asked["conformity"], item, "yes") is None and label_of(asked["consistency_5"], item, "5") is None
    own = Question(id="smoke", kind="choice", values=("yes", "no"), label={"en": "Smoke?"})
    assert label_of(own, item, "no") == ("smoke", "no")
