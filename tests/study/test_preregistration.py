"""What is promised before the first answer stays, or is said not to have stayed."""

from __future__ import annotations

import hashlib
import re

import pytest
from raters import METHODS, make_folder
from starlette.testclient import TestClient

from livo.study.preregistration import FILE, note_corrections, preregister, preregistration, promises
from livo.study.session import is_paused
from livo.study.study_file import CORRECTIONS, load_study
from livo.study.web.server import StudySite, build_site
from livo.types import InputError
from livo.web.events import ORGANISER, Draft, Store, default_url


@pytest.fixture
def study(tmp_path):
    folder = make_folder(tmp_path / "study", prompts=2, raters=3, ratings_per_rater=6, exclude=("checks", "speed"))
    store = Store(default_url(folder.path), folder.digest, folder.secret)
    yield folder, store
    store.close()


def begin(folder, store) -> None:
    consent = {"adult": True, "version": folder.digest, "language": "en"}
    store.append(Draft(0, "consent-000000001", "consent", consent))


def test_a_digest_of_all_that_is_promised_is_stored_before_the_first_answer(study):
    folder, store = study
    assert promises(folder, store) == ["Not preregistered."]
    digest = preregister(folder, store)
    text = (folder.path / FILE).read_text()
    assert hashlib.sha256(text.encode()).hexdigest() == digest == preregister(folder, store)
    for promised in (
        folder.digest,
        "checks: fewer than",
        "speed: a median",
        "consistency_5",
        "Krippendorff",
        "D1 and D2",
    ):
        assert promised in text
    assert "straight: " not in text
    names = "|".join((*METHODS, *METHODS.values()))
    assert not re.search(rf"(?<!\w)({names})(?!\w)", text), "raters may read it"
    begin(folder, store)
    (line,) = promises(folder, store)
    assert digest in line and "before the first rater came" in line
    (folder.path / FILE).write_text(text.replace("speed", "nothing"))
    assert "is NOT the file" in promises(folder, store)[0]


def test_nothing_is_promised_afterwards(study):
    folder, store = study
    begin(folder, store)
    with pytest.raises(InputError, match="begun already"):
        preregister(folder, store)


def test_a_preregistration_freezes_the_files(study):
    folder, store = study
    preregister(folder, store)
    (folder.path / "study.yaml").write_text((folder.path / "study.yaml").read_text() + "# other\n")
    other = load_study(folder.path)
    assert preregistration(other) != preregistration(folder)
    with pytest.raises(InputError, match="study.yaml or items.json has changed"):
        Store(default_url(folder.path), other.digest, other.secret).check_frozen()


def test_corrections_are_versions(study):
    folder, store = study
    note_corrections(folder, store)
    assert store.events(ORGANISER) == []
    for text in ("contact: a@example.org\n", "contact: b@example.org\n"):
        (folder.path / CORRECTIONS).write_text(text)
        note_corrections(load_study(folder.path), store)
        note_corrections(load_study(folder.path), store)
    assert [event.body["text"] for event in store.events(ORGANISER)] == [
        "contact: a@example.org\n", "contact: b@example.org\n"
    ]  # fmt: skip
    assert "2 versions" in promises(folder, store)[-1]


def test_other_acts_of_the_organiser_do_not_resume_a_paused_study(study):
    folder, store = study
    store.append(Draft(ORGANISER, "control-000000001", "pause"))
    preregister(folder, store)
    assert is_paused(store.events(ORGANISER))


def test_the_organiser_sees_quality_with_the_rules_and_which_were_chosen(study):
    folder, store = study
    site = StudySite(folder, store)
    head = {"authorization": f"Bearer {folder.organiser_key}"}
    begin(folder, store)
    trial = next(trial for trial in site.sessions.plan(0).trials if trial.kind == "rating")
    draft = Draft(0, "answer-0000000001", "answer", {"trial": trial.token, "question": "consistency_5", "value": 4.0})
    store.append(draft)
    told = TestClient(build_site([site])).get(f"/{folder.name}/api/organise/status", headers=head).json()
    assert [row["id"] for row in told["rules"] if row["chosen"]] == ["checks", "speed"] and len(told["rules"]) == 4
    (row,) = told["quality"]
    assert row["rater"] == 0 and row["answers"] == 1 and row["rules"] == []
