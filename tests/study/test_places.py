"""One link for all: places, who comes back, and what is taken back at the end."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from raters import Visitor, make_folder
from starlette.testclient import TestClient

import livo.study.places as places
from livo.study.design import TRAINING, plan_of
from livo.study.organise import PROLIFIC
from livo.study.places import find_receipt
from livo.study.session import Sessions
from livo.study.study_file import CORRECTIONS, STUDY, ReturnCodes, load_study
from livo.study.web.server import StudySite, build_site
from livo.web.events import Store, default_url

CODES = ReturnCodes(completed="C-DONE", stopped="C-STOP", screened_out="https://example.org/out?cc=1")


def serve(tmp_path, **fields):
    settings = {"open_link": True, "raters": 3, "ratings_per_rater": 4, "gold_every": 0, "training": 0, "codes": CODES}
    folder = make_folder(tmp_path / "study", **(settings | fields))
    return StudySite(folder, Store(default_url(folder.path), folder.digest, folder.secret))


@pytest.fixture
def site(tmp_path):
    site = serve(tmp_path)
    yield site
    site.store.close()


def come(site, visitor: str = "", **parameters):
    client = TestClient(build_site([site]), raise_server_exceptions=False)
    reply = client.post(f"/{site.folder.name}/api/arrive", json={"parameters": parameters, "visitor": visitor})
    return reply if reply.status_code != 200 else Visitor(client, site, reply.json()["code"])


def rate(visitor, *, most: int = 99) -> None:
    """Answers all questions of the first trials, but for those that are answered."""
    given = {(trial, question) for trial, question, _ in visitor.session["answers"]}
    for trial in visitor.trials()[:most]:
        for i, question in enumerate(trial["questions"]):
            if (trial["trial"], question["id"]) not in given:
                assert visitor.answer(trial, i).status_code == 200


def status(site) -> dict:
    """What the organiser's page is told."""
    organiser = Visitor(TestClient(build_site([site])), site, site.folder.organiser_key)
    return organiser.get("organise/status").json()


def test_each_gets_the_next_place_and_comes_back_to_it(site):
    who = [come(site, PROLIFIC_PID=name) for name in "abc"]
    assert len({visitor.code for visitor in who}) == 3
    assert [site.folder.rater_of(visitor.code) for visitor in who] == [0, 1, 2]
    assert come(site, PROLIFIC_PID="b", SESSION_ID="another").code == who[1].code
    assert come(site, PROLIFIC_PID="d").status_code == 409, "three are here"
    assert come(site, visitor="f" * 32).status_code == 409


def test_without_parameters_the_browser_is_known(site):
    first = come(site, visitor="a" * 32)
    assert come(site, visitor="a" * 32).code == first.code != come(site, visitor="b" * 32).code
    assert come(site).status_code == come(site, visitor="short").status_code == 422


def test_people_who_come_at_once_get_different_places(tmp_path):
    site = serve(tmp_path, raters=12)
    with ThreadPoolExecutor(8) as pool:
        raters = list(pool.map(lambda name: site.places.arrive({"PROLIFIC_PID": str(name)}, ""), range(12)))
    assert sorted(raters) == list(range(12))
    site.store.close()


class Later(datetime):
    """Two hours from now."""

    @classmethod
    def now(cls, tz=None):
        return datetime.now(UTC) + timedelta(hours=2)


def test_a_place_that_was_left_is_given_to_another_with_the_same_plan(site, monkeypatch):
    who = [come(site, PROLIFIC_PID=name).consent() for name in "abc"]
    rate(who[0])
    rate(who[1], most=2)
    monkeypatch.setattr(places, "datetime", Later)
    taken = come(site, PROLIFIC_PID="d").consent()
    rater = site.folder.rater_of(taken.code)
    assert rater == 4, "the plan of the second, under a number of its own"
    seen = [[t.items for t in plan_of(site.folder, number).trials] for number in (1, 4)]
    assert sorted(seen[0]) == sorted(seen[1])
    kept = [event.body["value"] for event in site.store.events(1) if event.kind == "answer"]
    rate(taken)
    assert [e.body["value"] for e in site.store.events(1) if e.kind == "answer"] == kept, "nobody's answers are mixed"
    assert come(site, PROLIFIC_PID="b").code == who[1].code, "who left can still come back"
    monkeypatch.undo()
    assert come(site, PROLIFIC_PID="e").status_code == 409, "one is done, one was replaced, one is here"
    page = status(site)
    assert [row["rater"] for row in page["raters"]] == [0, 1, 2, 4] and page["links"][4]["code"] == taken.code
    assert page["links_for_all"]["from Prolific"].endswith(f"/{site.folder.name}/?{PROLIFIC}")


def test_places_survive_a_restart(site):
    code = come(site, PROLIFIC_PID="a").code
    again = StudySite(site.folder, Store(default_url(site.folder.path), site.folder.digest, site.folder.secret))
    assert come(again, PROLIFIC_PID="a").code == code and come(again, PROLIFIC_PID="b").code != code
    again.store.close()


def test_more_places_after_the_first_answer(tmp_path):
    site = serve(tmp_path, raters=1)
    rate(come(site, PROLIFIC_PID="a").consent())
    assert come(site, PROLIFIC_PID="b").status_code == 409
    site.store.close()
    (site.folder.path / CORRECTIONS).write_text("more_raters: 1\n")
    folder = load_study(site.folder.path)
    wider = StudySite(folder, Store(default_url(folder.path), folder.digest, folder.secret))
    assert folder.rater_of(come(wider, PROLIFIC_PID="b").code) == 1
    assert come(wider, PROLIFIC_PID="c").status_code == 409 and len(status(wider)["raters"]) == 2
    wider.store.close()


def test_parameters_are_stored_with_consent_and_not_before(site):
    who = come(site, PROLIFIC_PID="5f3c", STUDY_ID="s")
    assert "5f3c" not in json.dumps([event.body for event in site.store.events()]), "nothing before consent"
    body = {"adult": True, "version": site.folder.digest, "language": "en"}
    assert who.send("consent", body={**body, "parameters": {"password": "x"}}).status_code == 422
    assert who.send("consent", body={**body, "parameters": {"PROLIFIC_PID": "x" * 129}}).status_code == 422
    assert who.send("consent", body={**body, "parameters": {"PROLIFIC_PID": "5f3c"}}).status_code == 200
    assert site.store.events(0)[-1].body["parameters"] == {"PROLIFIC_PID": "5f3c"}
    assert who.session["study"]["parameters"][0] == "PROLIFIC_PID"


def test_codes_are_given_when_they_are_due_and_apart(site):
    done, left, out = (come(site, PROLIFIC_PID=name) for name in "abc")
    assert "ending" not in done.session
    for visitor in (done, left, out):
        visitor.consent()
        assert visitor.session["ending"] is None, "not before the end"
    rate(done, most=3)
    assert done.session["ending"] is None
    rate(done)
    assert left.send("stop").status_code == 200
    endings = [done.session["ending"], left.session["ending"]]
    assert [(e["outcome"], e["back"]) for e in endings] == [("completed", "C-DONE"), ("stopped", "C-STOP")]
    assert endings[0]["receipt"] != endings[1]["receipt"]
    assert find_receipt(site.folder, endings[0]["receipt"].lower()) == (0, "completed")
    assert find_receipt(site.folder, endings[1]["receipt"]) == (1, "stopped")
    assert find_receipt(site.folder, "AAAAAAAA") is None
    texts = json.dumps([done.session, left.session, out.session])
    assert "C-DONE" not in json.dumps([left.session, out.session]) and texts.count("https://example.org") == 0


def test_who_fails_the_training_is_screened_out(tmp_path):
    site = serve(tmp_path, training=4, training_pass=0.75, prompts=5, seeds=4)
    good, bad = come(site, PROLIFIC_PID="a").consent(), come(site, PROLIFIC_PID="b").consent()
    items, sessions = site.folder.items, Sessions(site.folder)
    for visitor, right in ((good, True), (bad, False)):
        rater = site.folder.rater_of(visitor.code)
        for trial in sessions.plan(rater).trials:
            if trial.kind != TRAINING:
                continue
            expected = items[trial.items[0]].expected["consistency_5"]
            wrong = 1.0 if 1.0 not in expected else 5.0
            for value in (expected[0],) if right else (wrong, wrong):
                body = {"value": value, "ms": 5, "trial": trial.token, "question": "consistency_5"}
                about = {name: body.pop(name) for name in ("trial", "question")}
                assert visitor.send("answer", body=body, **about).status_code == 200
    assert good.session["ending"] is None and good.answer(good.trials()[0]).status_code == 200
    assert bad.session["ending"]["outcome"] == "screened_out" and bad.session["ending"]["back"].startswith("https://")
    reply = bad.answer(bad.trials()[0])
    assert reply.status_code == 409 and reply.json()["code"] == "screened_out"
    assert [row["state"] for row in status(site)["raters"]] == ["under way", "screened out", "not begun"]
    eager = come(site, PROLIFIC_PID="c").consent()  # who sends answers past the training, and would be done without it
    reply = eager.answer(eager.trials()[0])
    assert reply.status_code == 409 and reply.json()["code"] == "training_first"
    site.store.close()


def test_a_study_with_a_link_for_each_rater_has_no_other(tmp_path):
    site = serve(tmp_path, open_link=False)
    assert come(site, PROLIFIC_PID="a").status_code == 404 and not site.store.events()
    site.store.close()
    assert "open_link: false" in (site.folder.path / STUDY).read_text()
