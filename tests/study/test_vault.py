"""Encrypted copies of a running study: whole, unreadable without the key, and back by one command."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from hub import hub
from raters import PATIENCE, ROOT, make_folder

from livo.__main__ import main
from livo.study import vault as vaults
from livo.study.study_file import load_study
from livo.study.vault import BackupDataset, BackupFolder, Vault, new_key, place_of, restored, sealed, unsealed, vault_of
from livo.types import InputError
from livo.web.events import Draft, Store, default_url

KEY = new_key()


@pytest.fixture
def study(tmp_path):
    folder = make_folder(tmp_path / "study", prompts=2, raters=2, ratings_per_rater=4)
    store = Store(default_url(folder.path), folder.digest, folder.secret)
    answer(store, folder, 1)
    yield folder, store
    store.close()


def answer(store, folder, number: int) -> None:
    body = {"adult": True, "version": folder.digest, "language": "en"}
    store.append(Draft(number % 2, f"consent-{number:09d}", "consent", body))


def test_a_copy_comes_back_whole_by_one_command(study, tmp_path, monkeypatch, capsys):
    folder, store = study
    vault = Vault(folder, store, BackupFolder(tmp_path / "elsewhere"), KEY)
    assert vault.copy() and not vault.copy(), "nothing came since"
    answer(store, folder, 2)
    vault.close()
    assert len(list((tmp_path / "elsewhere").iterdir())) == 2
    monkeypatch.setenv("LIVO_BACKUP_KEY", KEY)
    assert main(["study", "restore", str(tmp_path / "elsewhere"), "--out", str(tmp_path / "back")]) == 0
    assert "whole" in capsys.readouterr().out
    copy = load_study(tmp_path / "back")
    again = Store(default_url(copy.path), copy.digest, copy.secret)
    assert again.events() == store.events() and copy.code(1) == folder.code(1)
    again.close()


def test_nobody_reads_or_changes_a_copy_without_the_key(study, tmp_path):
    folder, store = study
    data = sealed(folder, store, KEY)
    assert not any(secret in data for secret in (folder.secret, b"study.yaml", folder.code(0).encode(), b"consent"))
    for spoilt, key in ((data, new_key()), (data[:-9] + b"A" + data[-8:], KEY), (data[:-40], KEY), (b"zip", KEY)):
        with pytest.raises(InputError, match="key is another|no encrypted copy"):
            unsealed(spoilt, key, tmp_path / "back")
    assert not (tmp_path / "back").exists()
    with pytest.raises(InputError, match="there already"):
        unsealed(data, KEY, folder.path)


def test_a_backup_that_fails_is_said_and_ends_nothing(study, tmp_path):
    folder, store = study
    (tmp_path / "file").write_text("in the way")
    vault = Vault(folder, store, BackupFolder(tmp_path / "file"), KEY)
    assert not vault.copy() and "could not be made" in vault.problem
    answer(store, folder, 3)
    vault.place = BackupFolder(tmp_path / "good")
    assert vault.copy() and vault.problem == ""


@pytest.mark.parametrize(("environment", "said"), [
    ({"LIVO_BACKUP_KEY": "x"}, "no key"),
    ({}, "no key"),
    ({"LIVO_BACKUP_KEY": KEY, "LIVO_BACKUP_MINUTES": "0"}, "at least 1"),
    ({"LIVO_BACKUP_KEY": KEY, "LIVO_BACKUP_TO": "hf://datasets/nobody"}, "OWNER/NAME"),
])  # fmt: skip
def test_what_the_environment_asks_for_is_checked_at_the_start(study, tmp_path, environment, said):
    with pytest.raises(InputError, match=said):
        vault_of(*study, {"LIVO_BACKUP_TO": str(tmp_path / "x"), **environment})


def test_an_environment_that_asks_for_nothing_gets_nothing(study, tmp_path):
    assert vault_of(*study, {}) is None
    vault = vault_of(*study, {"LIVO_BACKUP_TO": str(tmp_path), "LIVO_BACKUP_KEY": KEY, "LIVO_BACKUP_MINUTES": "5"})
    assert vault is not None and vault.minutes == 5
    with pytest.raises(InputError, match=f"no encrypted copy .*{vaults.SUFFIX}"):
        place_of(str(tmp_path)).names()


def test_old_copies_make_room_and_none_with_more_answers_does(study, tmp_path):
    folder, store = study
    place = BackupFolder(tmp_path / "elsewhere")
    full = vaults.copy_name(folder, 400)
    place.put(full, b"all answers, before the disk was lost")
    names = [vaults.copy_name(folder, events) for events in range(1, vaults.KEPT + 4)]
    for name in names:
        place.put(name, sealed(folder, store, KEY))
    other = vaults.copy_name(make_folder(tmp_path / "s2" / "study", prompts=2, raters=2, ratings_per_rater=4), 1)
    place.put(other, b"of another study of this name")
    assert set(place.names()) == {other, *names[-vaults.KEPT :], full}
    back, notes = restored(place, KEY, tmp_path / "back")
    assert back.digest == folder.digest
    assert len(notes) == 2 and other in notes[0] and f"{full} holds 400 events" in notes[1]


# --- the hub's own client against a stand-in -------------------------------------------------------------------------

RUN = """
from pathlib import Path
from livo.study.study_file import load_study
from livo.study.vault import vault_of
from livo.web.events import Store, default_url

folder = load_study(Path("{study}"))
vault_of(folder, Store(default_url(folder.path), folder.digest, folder.secret)).copy()
"""


@pytest.fixture
def dataset(monkeypatch, tmp_path):
    with hub() as here:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", here.url)
        address = here.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", address)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
        yield here


def test_a_dataset_of_the_hub_keeps_copies_and_gives_them_back(study, dataset, tmp_path, monkeypatch, capsys):
    folder, store = study
    vault = Vault(folder, store, BackupDataset("some/where"), KEY)
    for number in range(2, vaults.KEPT + 4):
        assert vault.copy(), vault.problem
        answer(store, folder, number)
    assert len(dataset.files) == vaults.KEPT and dataset.commits == vaults.KEPT + 2, "it adds and deletes"
    vault.close()
    newest = max(dataset.files)
    monkeypatch.setenv("LIVO_BACKUP_KEY", new_key())
    restore = ["study", "restore", "hf://datasets/some/where", "--out"]
    assert main([*restore, str(tmp_path / "back")]) == 2 and "the key is another" in capsys.readouterr().err
    monkeypatch.setenv("LIVO_BACKUP_KEY", KEY)
    assert main([*restore, str(tmp_path / "back")]) == 0 and "whole" in capsys.readouterr().out
    copy = load_study(tmp_path / "back")
    again = Store(default_url(copy.path), copy.digest, copy.secret)
    assert again.events() == store.events()
    again.close()
    dataset.files[newest] = dataset.files[newest][:-50]
    assert main([*restore, str(tmp_path / "older")]) == 0
    assert f"{newest}: the key is another, or the copy was changed" in capsys.readouterr().err
    restore[2] += f"/{newest}"
    assert main([*restore, str(tmp_path / "none")]) == 2, "of one that is named, no other is taken"


def test_a_process_killed_while_it_sends_a_copy_leaves_the_last_one(study, dataset, tmp_path):
    folder, store = study
    first = Vault(folder, store, BackupDataset("some/where"), KEY)
    assert first.copy(), first.problem
    answer(store, folder, 2)
    dataset.hold.set()
    backup = {"LIVO_BACKUP_TO": "hf://datasets/some/where", "LIVO_BACKUP_KEY": KEY}
    online = {"HF_ENDPOINT": dataset.url, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
    program = [sys.executable, "-c", RUN.format(study=folder.path)]
    process = subprocess.Popen(program, cwd=ROOT, env=os.environ | backup | online)
    assert dataset.arrived.wait(PATIENCE)
    process.kill()
    process.wait()
    dataset.hold.clear()
    assert len(dataset.files) == 1 and dataset.commits == 1
    restored(BackupDataset("some/where"), KEY, tmp_path / "back")
    assert first.copy() and len(dataset.files) == 2, "the next one is whole again"
