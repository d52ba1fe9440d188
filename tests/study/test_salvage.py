"""Whole copies, damaged stores, and pictures that are not those of the study."""

from __future__ import annotations

import json

import pytest
from raters import Visitor, make_folder
from starlette.testclient import TestClient

from livo.__main__ import main
from livo.study.salvage import check_pictures
from livo.study.study_file import IMAGES, load_study
from livo.study.web.server import StudySite, build_site
from livo.web.events import Store, default_url


@pytest.fixture
def study(tmp_path):
    """A study with some 300 events."""
    folder = make_folder(tmp_path / "study", raters=3, ratings_per_rater=30, gold_every=0)
    site = StudySite(folder, Store(default_url(folder.path), folder.digest, folder.secret))
    client = TestClient(build_site([site]))
    for rater in range(3):
        visitor = Visitor(client, site, folder.code(rater)).consent()
        for trial in visitor.trials():
            for i in range(len(trial["questions"])):
                visitor.answer(trial, i)
    site.store.close()
    return folder


def test_an_overwritten_picture_is_found(study, capsys):
    assert list(check_pictures(study)) == []
    first, second = list(study.items)[:2]
    (study.path / IMAGES / f"{first}.png").write_bytes((study.path / IMAGES / f"{second}.png").read_bytes())
    (study.path / IMAGES / f"{second}.veil.png").write_bytes(b"another veil")
    found = "\n".join(check_pictures(study))
    assert found.count("was changed") == 2 and f"{first}.png" in found and f"{second}.veil.png" in found
    assert main(["study", "verify", str(study.path)]) == 2
    assert "is not the picture that the study froze" in capsys.readouterr().err


def test_a_backup_can_be_served_and_verified(study, tmp_path, capsys):
    assert main(["study", "backup", str(study.path), "--out", str(tmp_path / "copy")]) == 0
    copy = load_study(tmp_path / "copy")
    assert copy.digest == study.digest and copy.code(0) == study.code(0)
    stores = [Store(default_url(folder.path), folder.digest, folder.secret) for folder in (study, copy)]
    assert stores[0].events() == stores[1].events() and stores[1].verify() == []
    for store in stores:
        store.close()
    assert main(["study", "backup", str(study.path), "--out", str(tmp_path / "copy")]) == 2
    assert "is there already" in capsys.readouterr().err


def test_random_bytes_in_the_store_give_a_report_and_the_rest(study, capsys):
    store = Store(default_url(study.path), study.digest, study.secret)
    all_events = len(store.events())
    store.close()
    path = study.path / "answers.sqlite"
    data = bytearray(path.read_bytes())
    page = 4096
    for start in range(len(data) // 2 // page * page, len(data) * 4 // 5, page):
        data[start : start + page] = bytes(range(256)) * (page // 256)
    path.write_bytes(data)
    for command in ("verify", "report", "export"):
        code = main(["study", command, str(study.path)])
        said = capsys.readouterr().err
        assert "Traceback" not in said and (code == 2 or command != "verify"), command
    out = study.path / "saved"
    assert main(["study", "export", str(study.path), "--salvage", "--out", str(out)]) == 0
    rows = [json.loads(line) for line in (out / "events.jsonl").read_text(encoding="utf-8").splitlines()]
    assert 0 < len(rows) < all_events and "rows were not" in (out / "salvage.txt").read_text(encoding="utf-8")
    assert (out / "ratings.csv").read_text(encoding="utf-8").count("\n") > 10


def test_codes_are_listed_and_checked(study, capsys):
    assert main(["study", "codes", str(study.path)]) == 0
    lines = capsys.readouterr().out.strip().splitlines()
    assert len(lines) == 3 and all("completed" in line for line in lines)
    receipt = lines[1].split()[2]
    assert main(["study", "codes", str(study.path), "--check", receipt, "ABCDEFGH"]) == 0
    assert capsys.readouterr().out.splitlines() == [f"{receipt}  r002, completed: is due", "ABCDEFGH  was never given"]
