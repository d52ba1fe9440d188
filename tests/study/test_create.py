"""A new study from the organiser's page."""

from __future__ import annotations

import sys
import time

import pytest
from starlette.testclient import TestClient

from livo.study.web import create
from livo.study.web.create import create_command
from livo.study.web.serve import build_sites
from livo.types import InputError


@pytest.mark.parametrize(("change", "says"), [
    ({"prompts": ""}, "0 prompts"), ({"prompts": "a\n" * 101}, "101 prompts"), ({"prompts": "--images=/"},
    "begins with a dash"),
    ({"raters": 5}, "no text"), ({"backbone": "x"}, "no text"), ({"title": "a\0b"}, "no text"),
])  # fmt: skip
def test_a_new_study_is_refused_where_a_field_is_wrong(tmp_path, change, says):
    with pytest.raises(InputError, match=says):
        create_command(tmp_path, {"act": "create", "prompts": "a photo of a cat"} | change)


def test_what_an_organiser_typed_stays_one_argument(tmp_path):
    command = create_command(
        tmp_path, {"act": "create", "prompts": "a cat; rm -rf x\n\n $(b)", "title": "x --raters 9"}
    )
    assert "--title=x --raters 9" in command and command[-2:] == ["a cat; rm -rf x", "$(b)"]


def test_an_organiser_makes_and_opens_a_study_on_the_page(site, tmp_path, monkeypatch):
    def instead(path, form):
        return [
            sys.executable,
            "-c",
            f"from raters import *; make_folder(Path({str(path)!r}))"
            if "cat" in form["prompts"]
            else "raise SystemExit('livo: no method x')",
        ]

    monkeypatch.setattr(create, "create_command", instead)
    monkeypatch.setenv("PYTHONPATH", f"{create.ROOT}:{create.ROOT / 'tests'}")
    client = TestClient(build_sites([site]), raise_server_exceptions=False)
    head = {"authorization": f"Bearer {site.folder.organiser_key}"}

    def make(prompts: str) -> dict:
        assert (
            client.post(
                f"/{site.folder.name}/api/organise/act", json={"act": "create", "prompts": prompts}, headers=head
            ).status_code
            == 200
        )
        for _ in range(600):
            progress = client.get(f"/{site.folder.name}/api/organise/status", headers=head).json()["making"]
            if progress["state"] != "running":
                return progress
            time.sleep(0.05)
        raise AssertionError("it was never made")

    assert make("x") == {"state": "failed", "message": "no method x"}
    made = make("a cat")
    assert made["state"] == "done"
    page, key = made["page"].removeprefix("..").split("#")
    status = client.get(page.replace("organise", "api/organise/status"), headers={"authorization": f"Bearer {key}"})
    assert status.status_code == 200 and status.json()["title"] == "Rating pictures"
    assert client.get(page.replace("organise", "api/organise/status"), headers=head).status_code == 401, (
        "each study has its own key"
    )
