"""Encrypted copies of a running study: whole, unreadable without the key, and back by one command."""

from __future__ import annotations

import pytest
from raters import make_folder

from livo.__main__ import main
from livo.study.study_file import load_study
from livo.study.vault import SUFFIX, BackupFolder, Vault, new_key, place_of, sealed, unsealed, vault_of
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
    with pytest.raises(InputError, match=f"no encrypted copy .*{SUFFIX}"):
        place_of(str(tmp_path)).newest()
