"""Careless raters of each kind are found, careful ones are not; nobody is left out unless the study said so before."""

from __future__ import annotations

import random

import pytest
from raters import make_folder

from livo.study.answers import read_answers
from livo.study.design import TRAINING
from livo.study.quality import RULES, excluded, quality_of
from livo.study.report import report_files
from livo.study.session import Sessions
from livo.study.study_file import EXCLUSIONS
from livo.web.events import Draft, Store, default_url

CARELESS = {4: "speed", 5: "straight", 6: "agreement", 7: "checks"}


def studied(tmp_path, **fields):
    """Four careful raters, and one for each rule."""
    folder = make_folder(
        tmp_path / "s", prompts=5, seeds=6, raters=8, ratings_per_rater=75, gold_every=8, questions=("consistency_5",),
        **fields,
    )  # fmt: skip
    store, sessions = Store(default_url(folder.path), folder.digest, folder.secret), Sessions(folder)
    true = {item.id: 1 + (int(item.id, 16) % 5) for item in folder.items.values()}
    for rater in range(8):
        rng, how = random.Random(rater), CARELESS.get(rater)
        body = {"adult": True, "version": folder.digest, "language": "en"}
        store.append(Draft(rater, f"consent-{rater:012d}", "consent", body), sessions.check)
        for number, trial in enumerate(sessions.plan(rater).trials):
            item = folder.items[trial.items[0]]
            expected = item.expected.get("consistency_5", ())
            value = float(expected[0] if expected else true[item.id])
            if trial.kind != TRAINING:
                if how == "straight":
                    value = 3.0
                elif how == "agreement" and not expected:
                    value = float(1 + (true[item.id] + 1) % 5)
                elif how == "checks" and expected:
                    value = 6.0 - value
            ms = 300 if how == "speed" else rng.randint(3_000, 6_000)
            body = {"value": value, "ms": ms, "trial": trial.token, "question": "consistency_5"}
            store.append(Draft(rater, f"answer-{rater:03d}-{number:08d}", "answer", body), sessions.check)
    return folder, store


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder, store = studied(tmp_path_factory.mktemp("quality"))
    yield folder, store
    store.close()


def test_each_kind_of_carelessness_is_found(study):
    found = quality_of(read_answers(*study))
    assert tuple(RULES) == EXCLUSIONS == ("checks", "speed", "straight", "agreement")
    assert all(found[rater].rules == () for rater in range(4)), {r: found[r] for r in range(4)}
    for rater, rule in CARELESS.items():
        assert rule in found[rater].rules, found[rater]
    assert found[4].median_ms == 300 and found[5].same == 1.0 and found[0].right == found[0].checks >= 3


def test_nobody_is_left_out_unless_the_study_says_so(study):
    assert excluded(read_answers(*study)) == {}
    report = report_files(*study)["report.md"]
    assert "Quality of raters" in report and "(here: none)" in report and "Left out of every figure" not in report
    assert all(meaning in report.replace("\\", "") for meaning in RULES.values())


def test_the_chosen_rules_leave_their_raters_out_of_every_figure(tmp_path):
    folder, store = studied(tmp_path, exclude=("speed", "checks"))
    left_out = excluded(read_answers(folder, store))
    assert {rater: rules for rater, rules in left_out.items() if rater in (4, 7)} == {4: ("speed",), 7: ("checks",)}
    assert 6 not in left_out and not set(left_out) & set(range(4))
    files = report_files(folder, store)
    assert "r005 (speed)" in files["report.md"] and "(here: speed, checks)" in files["report.md"]
    assert "r005" in files["report.md"].split("Quality of raters")[1], "they stand in the table all the same"
    store.close()
