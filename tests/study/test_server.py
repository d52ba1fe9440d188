"""The rating pages over HTTP: what is refused, who sees what, and that nothing tells what made an image."""

from __future__ import annotations

import io
import json
import zipfile

import pytest
from PIL import Image
from raters import Visitor, make_folder
from starlette.testclient import TestClient

from livo.study.answers import read_answers
from livo.study.session import is_right
from livo.study.web.server import StudySite, build_site
from livo.web.bodies import LARGEST_BODY
from livo.web.events import Draft, Store, default_url


def test_a_receipt_is_in_the_store(rater, site):
    receipt = rater.answer(rater.trials()[0], value=4).json()
    event = site.store.events(0)[-1]
    assert (event.key, event.number, event.digest[:12]) == (receipt["key"], receipt["number"], receipt["digest"])
    assert event.body["value"] == 4 and rater.session["answers"] == [[rater.trials()[0]["trial"], "consistency_5", 4]]


# --- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", ["", "WRONG", "222222222222", "22" + "A" * 10, "é" * 12, "x" * 5000])
def test_a_forged_code_opens_nothing(client, site, code):
    for path in ("session", f"image/{'0' * 20}/0"):
        assert (
            client.get(
                f"/{site.folder.name}/api/{path}", headers={"authorization": f"Bearer {code}".encode()}
            ).status_code
            == 401
        )
    assert (
        client.post(
            f"/{site.folder.name}/api/events",
            json={"kind": "stop"},
            headers={"authorization": f"Bearer {code}".encode()},
        ).status_code
        == 401
    )


def test_guessing_codes_stops_and_locks_nobody_out_who_has_one(client, site, rater):
    head = {"authorization": f"Bearer {site.folder.organiser_key}"}
    assert client.get(f"/{site.folder.name}/api/organise/status", headers=head).status_code == 200
    replies = [
        client.get(f"/{site.folder.name}/api/session", headers={"authorization": f"Bearer {n:012d}"}).status_code
        for n in range(60)
    ]
    assert replies.count(401) <= 32 and replies[-10:] == [429] * 10
    assert rater.get("session").status_code == 200, "who came in before from this address still comes in"
    assert client.get(f"/{site.folder.name}/api/organise/status", headers=head).status_code == 200
    assert Visitor(client, site, site.folder.code(3)).get("session").status_code == 429, "others wait"
    elsewhere = TestClient(build_site([site]), client=("10.0.0.9", 1))
    assert Visitor(elsewhere, site, site.folder.code(3)).get("session").status_code == 200


def test_a_code_of_another_number_is_forged(client, site):
    own, other = site.folder.code(0), site.folder.code(1)
    assert site.folder.rater_of(other[:2] + own[2:]) is None
    assert site.folder.rater_of(f"{own[:4].lower()}-{own[4:8]} {own[8:]}") == 0
    assert site.folder.rater_of(site.folder.code(site.folder.study.raters)) is None, "a rater beyond the study's number"


@pytest.mark.parametrize("value", [0, 6, 4.5, -1, "4", True, None, [], {}, "yes", 1e308])
def test_values_out_of_range_are_refused(rater, site, value):
    trial = rater.trials()[0]
    body = {"value": value, "ms": 5}
    assert rater.send("answer", trial=trial["trial"], question="consistency_5", body=body).status_code == 422
    assert [e.kind for e in site.store.events(0)] == ["consent"]


@pytest.mark.parametrize("body", [
    {}, {"value": 3, "ms": -1}, {"value": 3, "ms": "fast"}, {"value": 3, "ms": 1e99}, {"value": 3, "note": "x"},
    {"value": 3, "grey": 1.5},
])  # fmt: skip
def test_answers_hold_nothing_else(rater, body):
    assert (
        rater.send("answer", trial=rater.trials()[0]["trial"], question="consistency_5", body=body).status_code == 422
    )


def test_not_a_number_is_refused(rater):
    trial = rater.trials()[0]["trial"]
    for ms in ("NaN", "Infinity"):
        about = f'"key":"k{"0" * 20}","kind":"answer","trial":"{trial}","question":"consistency_5"'
        raw = f'{{{about},"body":{{"value":3,"ms":{ms}}}}}'
        assert rater.post(raw).status_code == 422


def test_a_replay_is_the_same_receipt_and_a_second_answer_is_refused(rater, site):
    trial = rater.trials()[0]
    first = rater.answer(trial, key="k" * 20)
    assert rater.answer(trial, key="k" * 20).json() == first.json()
    assert rater.answer(trial, value=2, key="k" * 20).status_code == 409
    assert rater.answer(trial, value=2).status_code == 409
    assert len(site.store.events(0)) == 2


def test_another_raters_and_another_studys_trials_are_refused(client, site, rater, tmp_path):
    other = Visitor(client, site, site.folder.code(1)).consent()
    assert rater.answer(other.trials()[0]).status_code == 403
    assert rater.get(f"image/{other.trials()[0]['trial']}/0").status_code == 403
    elsewhere = make_folder(tmp_path / "elsewhere", raters=4, ratings_per_rater=20)
    second = StudySite(elsewhere, Store(default_url(elsewhere.path), elsewhere.digest, elsewhere.secret))
    both = TestClient(build_site([site, second]))
    stranger = Visitor(both, second, elsewhere.code(0)).consent()
    assert rater.answer(stranger.trials()[0]).status_code == 403
    assert Visitor(both, second, rater.code).get("session").status_code == 401
    second.store.close()


def test_nothing_is_stored_or_shown_before_consent(client, site):
    rater = Visitor(client, site, site.folder.code(2))
    assert "trials" not in rater.session
    token = site.sessions.plan(2).trials[0].token
    assert rater.send("answer", trial=token, question="consistency_5", body={"value": 3}).status_code == 403
    assert rater.get(f"image/{token}/0").status_code == 403
    for body in (
        {},
        {"adult": False, "version": site.folder.digest, "language": "en"},
        {"adult": True, "version": "x", "language": "en"},
    ):
        assert rater.send("consent", body=body).status_code == 422
    assert site.store.events() == []


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"{",
        b'"x"',
        b'{"kind": 5}',
        b'{"kind":"answer","body":[]}',
        b"\xff\xfe",
        b'{"kind":"paint","key":"0123456789abcdef"}',
    ],
)
def test_what_is_no_event_is_refused(rater, raw):
    assert rater.post(raw).status_code == 422


def test_other_sites_forms_cannot_send_an_event(rater):
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        assert rater.post(b'{"kind":"stop","key":"0123456789abcdef"}', kind).status_code == 415


@pytest.mark.parametrize("value", ['"\\ud800"', "9" * 400, "[" * 1000 + "]" * 1000, '"\\u0000"'])
def test_what_cannot_be_stored_is_refused_and_fails_nobody_elses_answer(rater, site, value):
    trial = rater.trials()[0]["trial"]
    about = f'"key":"k{"0" * 20}","kind":"answer","trial":"{trial}","question":"consistency_5"'
    raw = f'{{{about},"body":{{"value":{value}}}}}'
    assert rater.post(raw.encode()).status_code == 422
    assert [event.kind for event in site.store.events(0)] == ["consent"] and site.store.verify() == []


def test_a_null_character_and_a_huge_body_are_refused(rater):
    assert rater.send("skip", trial="\0").status_code == 422
    assert rater.post(json.dumps({"kind": "skip", "body": {"x": "y" * LARGEST_BODY}}).encode()).status_code == 413


def test_the_organisers_pages_want_the_organisers_key(client, site, rater):
    for path in ("status", "exports.zip", "report", "qr/0"):
        for code in ("", rater.code, "0" * 32):
            assert (
                client.get(
                    f"/{site.folder.name}/api/organise/{path}", headers={"authorization": f"Bearer {code}"}
                ).status_code
                == 401
            )
    assert (
        client.post(
            f"/{site.folder.name}/api/organise/act",
            json={"act": "pause"},
            headers={"authorization": f"Bearer {rater.code}"},
        ).status_code
        == 401
    )
    assert not site.paused


@pytest.mark.parametrize(
    "path",
    [
        "items.json",
        "secret.key",
        "study.yaml",
        "images/",
        "static/../items.json",
        "static/server.py",
        "languages/../../study_file.py",
        "languages/de.json",
        "answers.sqlite",
    ],
)
def test_no_file_of_the_study_is_served(client, site, path):
    assert client.get(f"/{site.folder.name}/{path}").status_code == 404


# --- the session -----------------------------------------------------------------------------------------------------


def test_undo_is_an_event_and_opens_the_answer_again(rater, site):
    trial = rater.trials()[0]
    key = rater.answer(trial).json()["key"]
    assert rater.send("undo", body={"of": "k" * 20}).status_code == 409
    assert rater.send("undo", body={"of": key}).status_code == 200
    assert rater.session["answers"] == [] and rater.answer(trial, value=5).status_code == 200
    assert [e.kind for e in site.store.events(0)] == ["consent", "answer", "undo", "answer"]


def test_skips_need_no_reason_and_can_be_undone(rater):
    trial = rater.trials()[0]
    key = rater.send("skip", trial=trial["trial"]).json()["key"]
    assert rater.answer(trial).status_code == 409 and rater.session["skipped"] == [trial["trial"]]
    assert rater.send("undo", body={"of": key}).status_code == 200 and rater.answer(trial).status_code == 200


def test_training_explains_and_lets_one_try_again(rater, site):
    trial = rater.trials(training=True)[0]
    expected = site.folder.items[site.sessions.trials(0)[trial["trial"]].items[0]].expected["consistency_5"]
    wrong = next(v for v in (1, 5) if v not in expected)
    feedback = rater.answer(trial, value=wrong).json()["feedback"]
    assert not feedback["right"] and not feedback["settled"] and feedback["explanation"]
    feedback = rater.answer(trial, value=expected[0]).json()["feedback"]
    assert feedback["right"] and feedback["settled"] and rater.answer(trial).status_code == 409


def test_a_check_looks_like_any_other_trial(rater, site):
    plan = site.sessions.plan(0).trials
    gold = [t.token for t in plan if t.kind == "gold"]
    shown = {t["trial"]: t for t in rater.session["trials"]}
    assert gold and all(
        shown[token].keys() == rater.trials()[0].keys() and not shown[token]["training"] for token in gold
    )
    assert "feedback" not in rater.answer(shown[gold[0]]).json()
    trial = next(t for t in plan if t.kind == "gold")
    assert isinstance(is_right(trial, "consistency_5", 1.0, site.folder), bool)


def test_the_clear_image_is_not_sent_before_it_is_asked_for(rater, site):
    trial = next(t for t in rater.trials() if t["category"] and t["sides"] == 1)
    item = site.folder.items[site.sessions.trials(0)[trial["trial"]].items[0]]
    clear = site.folder.image_path(item, veiled=False).read_bytes()
    veiled = rater.get(f"image/{trial['trial']}/0")
    assert veiled.headers["x-veiled"] == "1" and Image.open(io.BytesIO(veiled.content)).size == (6, 6)
    assert rater.send("reveal", trial=trial["trial"]).status_code == 200
    assert rater.get(f"image/{trial['trial']}/0").content == clear
    harmless = next(t for t in rater.trials() if not t["category"])
    assert rater.send("reveal", trial=harmless["trial"]).status_code == 422


def test_opting_out_before_and_during(rater, client, site):
    before = len(rater.trials())
    assert rater.send("options", body={"opted_out": ["horses"]}).status_code == 422
    assert rater.send("options", body={"opted_out": ["zombie"]}).status_code == 200
    assert not any(t["category"] for t in rater.trials()) and len(rater.trials()) <= before
    later = Visitor(client, site, site.folder.code(1)).consent()
    later.answer(later.trials()[0])
    later.send("options", body={"opted_out": ["zombie"]})
    assert any(t["category"] for t in later.trials()) and later.session["opted_out"] == ["zombie"], (
        "the order of a begun session stays"
    )


def test_pause_and_resume_and_withdraw(rater, client, site):
    head = {"authorization": f"Bearer {site.folder.organiser_key}"}
    act = f"/{site.folder.name}/api/organise/act"
    assert client.post(act, json={"act": "pause"}, headers=head).status_code == 200
    trial = rater.trials()[0]
    assert rater.answer(trial).status_code == 423 and rater.session["paused"]
    assert client.post(act, json={"act": "resume"}, headers=head).status_code == 200
    assert rater.answer(trial).status_code == 200
    for bad in (
        {"act": "dance"},
        {"act": "withdraw"},
        {"act": "withdraw", "rater": 99},
        {"act": "erase", "rater": True and "0"},
    ):
        assert client.post(act, json=bad, headers=head).status_code == 422
    assert client.post(act, json={"act": "withdraw", "rater": 0}, headers=head).status_code == 200
    assert rater.answer(rater.session.get("trials", [trial])[0]).status_code == 410 and rater.session["withdrawn"]
    status = client.get(f"/{site.folder.name}/api/organise/status", headers=head).json()
    assert status["raters"][0]["state"] == "withdrawn" and status["problems"] == []
    assert client.get(f"/{site.folder.name}/api/organise/qr/3", headers=head).text.count("<svg") == 1


def test_the_organiser_gets_report_and_exports(rater, client, site):
    rater.answer(rater.trials()[0])
    head = {"authorization": f"Bearer {site.folder.organiser_key}"}
    files = zipfile.ZipFile(
        io.BytesIO(client.get(f"/{site.folder.name}/api/organise/exports.zip", headers=head).content)
    )
    assert {
        "ratings.csv",
        "ratings.jsonl",
        "wins.csv",
        "demographics.csv",
        "items.csv",
        "codebook.md",
        "consent.csv",
        "preferences.jsonl",
        "study.yaml",
        "report.md",
        "report.html",
        "tables.csv",
    } == set(files.namelist())
    text = "".join(files.read(name).decode() for name in files.namelist())
    assert site.folder.code(0) not in text and site.folder.secret.hex() not in text
    assert "<h1>Rating pictures: results" in client.get(f"/{site.folder.name}/api/organise/report", headers=head).text


# --- what was not seen is not rated ----------------------------------------------------------------------------------


def covered(rater, question: str) -> dict:
    """A trial of a covered picture that asks the question, not yet uncovered."""
    return next(
        t for t in rater.trials() if t["category"] and t["sides"] == 1 and question in {q["id"] for q in t["questions"]}
    )


def test_a_blur_is_not_rated_for_what_it_shows(rater, site):
    trial = covered(rater, "consistency_5")

    def say(value) -> int:
        payload = {"trial": trial["trial"], "question": "consistency_5", "body": {"value": value, "ms": 5}}
        return rater.send("answer", **payload).status_code

    assert {q["id"]: q["look"] for q in trial["questions"]}["consistency_5"] is True
    assert say(4) == 422 and say("not_looked") == 200
    assert rater.send("undo", body={"of": site.store.events(0)[-1].key}).status_code == 200
    assert rater.send("reveal", trial=trial["trial"]).status_code == 200
    assert say("not_looked") == 422 and say(4) == 200
    answers = read_answers(site.folder, site.store)
    assert [row.value for row in answers.of("consistency_5")] == [4]


def test_not_looked_is_counted_and_in_no_figure(rater, site):
    trial = covered(rater, "consistency_5")
    body = {"value": "not_looked", "ms": 5, "shown": True}
    assert rater.send("answer", trial=trial["trial"], question="consistency_5", body=body).status_code == 200
    answers = read_answers(site.folder, site.store)
    assert answers.of("consistency_5") == [] and sum(m.not_looked for m in answers.missing.values()) == 1


def test_not_looked_is_no_answer_about_an_open_picture_nor_what_was_not_shown_one_at_all(rater):
    trial = next(t for t in rater.trials() if not t["category"])
    for body in ({"value": "not_looked", "ms": 5}, {"value": 3, "ms": 5, "shown": False}):
        assert rater.send("answer", trial=trial["trial"], question="consistency_5", body=body).status_code == 422


def test_an_old_rating_of_a_blur_counts_nowhere(rater, site):
    """Stored before blurs could be refused: the reveal came after the answer."""
    trial = next(t for t in rater.trials() if t["category"] and t["sides"] == 1)
    body = {"value": 2.0, "ms": 5, "trial": trial["trial"], "question": "consistency_5"}
    site.store.append(Draft(0, "k" * 20, "answer", body))
    assert rater.send("reveal", trial=trial["trial"]).status_code == 200
    answers = read_answers(site.folder, site.store)
    assert [row.value for row in answers.unseen] == [2.0] and not answers.of("consistency_5")
    assert sum(m.not_looked for m in answers.missing.values()) == 1


@pytest.mark.parametrize(
    "body",
    [
        {"value": 4.0, "shown": False}, {"value": 4.0, "ms": -1}, {"value": 4.0, "ms": True}, {"value": True},
        {"value": 4.0, "uncovered": 1}, {"value": None}, {"value": [4.0]}, {"value": 4.0, "name": "Ada"}, {},
    ],
)  # fmt: skip
def test_answers_of_another_form_are_refused(rater, body):
    trial = rater.trials()[0]
    reply = rater.send("answer", trial=trial["trial"], question=trial["questions"][0]["id"], body=body)
    assert reply.status_code == 422 and rater.session["answers"] == []
