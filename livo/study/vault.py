"""Encrypted copies of a running study elsewhere, on a schedule, and back again by one command.

For a Space whose disk a restart empties: a copy is a backup and never the receipt. An answer is receipted when the
store has it; what came after the last copy is lost with the disk.

    LIVO_BACKUP_TO       hf://datasets/OWNER/NAME (private, one a study), or a folder on another disk
    LIVO_BACKUP_KEY      what `python -m livo study backup-key` prints; without it nobody can read a copy, nor can you
    LIVO_BACKUP_MINUTES  between two copies, 15 where it is not given; none is made where nothing came

Source of the encryption: Fernet (AES-128-CBC with HMAC-SHA256) of the `cryptography` package.
"""

from __future__ import annotations

import io
import os
import re
import tarfile
import tempfile
import threading
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from cryptography.fernet import Fernet, InvalidToken

from livo.study.salvage import backup
from livo.study.study_file import StudyFolder, load_study
from livo.types import InputError
from livo.web.events import Store, default_url

MARK = b"livo study backup 1\n"
SUFFIX = ".livostudy"
DATASET = "hf://datasets/"
MINUTES = 15.0
KEPT = 8
"""Copies; older ones are deleted, for each holds all pictures."""


def new_key() -> str:
    """A key for copies, as `LIVO_BACKUP_KEY` wants it."""
    return Fernet.generate_key().decode()


def _cipher(key: str) -> Fernet:
    try:
        return Fernet(key.strip())
    except ValueError as error:
        raise InputError(
            "LIVO_BACKUP_KEY is no key: give the one that `python -m livo study backup-key` printed"
        ) from error


def sealed(folder: StudyFolder, store: Store, key: str) -> bytes:
    """The whole study as one encrypted file, taken while it is served.

    Raises:
        InputError: the key is none; or the answers are PostgreSQL's, which keeps copies of its own.
    """
    if store.engine.dialect.name != "sqlite":
        raise InputError("the answers are in PostgreSQL: copy them with pg_dump, and leave LIVO_BACKUP_TO out")
    cipher, packed = _cipher(key), io.BytesIO()
    with tempfile.TemporaryDirectory() as scratch:
        backup(folder, store, Path(scratch) / "study")
        with tarfile.open(fileobj=packed, mode="w:gz") as archive:
            archive.add(Path(scratch) / "study", "study")
    return MARK + cipher.encrypt(packed.getvalue())


class UnreadableCopy(InputError):
    """A copy that was cut or changed, or whose key is another."""


def unsealed(data: bytes, key: str, out: Path) -> StudyFolder:
    """The study of an encrypted file, in a new folder, verified.

    Raises:
        UnreadableCopy: the file is no copy or was changed, or the key is another.
        InputError: there is something in the folder, or the key is none.
    """
    if out.exists():
        raise InputError(f"{out} is there already: give a new folder with --out")
    if not data.startswith(MARK):
        raise UnreadableCopy(f"this is no encrypted copy of a study: give a file whose name ends in {SUFFIX}")
    try:
        packed = _cipher(key).decrypt(data.removeprefix(MARK))
    except InvalidToken as error:
        raise UnreadableCopy("the key is another, or the copy was changed: give the key it was made with") from error
    with tempfile.TemporaryDirectory(dir=out.resolve().parent) as scratch:
        with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
            archive.extractall(scratch, filter="data")
        (Path(scratch) / "study").rename(out)
    folder = load_study(out)
    store = Store(default_url(out), folder.digest, folder.secret)
    problems = store.verify()
    store.close()
    if problems:
        raise InputError(f"the copy in {out} is not whole: {problems[0]}")
    return folder


def restored(place: BackupPlace, key: str, out: Path) -> tuple[StudyFolder, list[str]]:
    """The study of the newest copy that is whole, and a line on what its owner should know.

    Raises:
        InputError: there is no copy, none can be read with the key, or there is something in the folder.
    """
    names = place.names()
    notes: list[str] = []
    for name in names:
        try:
            folder = unsealed(place.read(name), key, out)
        except UnreadableCopy as error:
            notes.append(f"{name}: {error}")
            continue
        most = max(names, key=_events_of)
        if _events_of(most) > _events_of(name):
            notes.append(f"{most} holds {_events_of(most)} events, and the newest, which was taken, {_events_of(name)}")
        return folder, notes
    raise InputError(notes[0] if len(names) == 1 else f"none of {len(names)} copies can be read; {notes[0]}")


# --- where copies are ------------------------------------------------------------------------------------------------


class BackupPlace(Protocol):
    """Where copies are kept: the last `KEPT` of them."""

    def put(self, name: str, data: bytes) -> None:
        """Keeps a copy. Raises OSError where it cannot."""

    def names(self) -> list[str]:
        """Of copies, the newest first. Raises InputError where there is none."""

    def read(self, name: str) -> bytes:
        """A copy."""


class BackupFolder:
    """A folder, such as one of another disk."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def put(self, name: str, data: bytes) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        part = self.path / f".{name}.part"
        part.write_bytes(data)
        part.rename(self.path / name)  # nobody finds half a copy
        for old in superseded(name, (path.name for path in self.path.iterdir())):
            (self.path / old).unlink()

    def names(self) -> list[str]:
        names = _newest_first(path.name for path in self.path.iterdir()) if self.path.is_dir() else []
        if not names:
            raise InputError(f"no encrypted copy (*{SUFFIX}) is in {self.path}")
        return names

    def read(self, name: str) -> bytes:
        return (self.path / name).read_bytes()


class BackupDataset:
    """A dataset on the Hugging Face hub, which should be private; the token is the environment's, as in HF_TOKEN.

    A copy is there once its commit is; the same commit takes old ones away, which the dataset's history still has.
    """

    def __init__(self, name: str) -> None:
        found = re.fullmatch(r"([\w.-]+/[\w.-]+)(?:/([^/]+))?", name)
        if not found:
            raise InputError(f"{DATASET}{name} names no dataset: wanted {DATASET}OWNER/NAME, and perhaps a file in it")
        self.name, self.only = found.groups()

    def put(self, name: str, data: bytes) -> None:
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

        old = [CommitOperationDelete(one) for one in superseded(name, self._all())]
        added = CommitOperationAdd(name, data)
        HfApi().create_commit(self.name, [added, *old], commit_message=f"Add {name}", repo_type="dataset")

    def names(self) -> list[str]:
        names = [name for name in self._all() if self.only in (None, name)]
        if not names:
            raise InputError(f"no encrypted copy (*{SUFFIX}) is in {DATASET}{self.name}")
        return names

    def read(self, name: str) -> bytes:
        from huggingface_hub import HfApi

        return Path(HfApi().hf_hub_download(self.name, name, repo_type="dataset")).read_bytes()

    def _all(self) -> list[str]:
        from huggingface_hub import HfApi

        return _newest_first(HfApi().list_repo_files(self.name, repo_type="dataset"))


class BackupFile:
    """One copy by its name; nothing is put there."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def put(self, name: str, data: bytes) -> None:
        raise OSError(f"{self.path} is a file: give a folder")

    def names(self) -> list[str]:
        return [self.path.name]

    def read(self, name: str) -> bytes:
        return self.path.read_bytes()


def copy_name(folder: StudyFolder, events: int) -> str:
    """Of a copy made now: its time, its study, which no other has with another `secret.key`, and its events."""
    study = f"{folder.name}-{folder.opaque('copies')[:8]}"
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{study}-{events}{SUFFIX}"


def _events_of(name: str) -> int:
    count = name.removesuffix(SUFFIX).rpartition("-")[2]
    return int(count) if count.isdecimal() else 0


def _study_of(name: str) -> str:
    return name.partition("-")[2].rpartition("-")[0]


def superseded(name: str, names: Iterable[str]) -> list[str]:
    """Copies that a new one makes needless: of the same study, with no more events, and not among the newest.

    A disk that a restart has emptied begins at no event: its copies take the place of none with answers in it.
    """
    alike = [n for n in names if _study_of(n) == _study_of(name) and _events_of(n) <= _events_of(name)]
    return _newest_first({*alike, name})[KEPT:]


def _newest_first(names: Iterable[str]) -> list[str]:
    """Those that are copies, whose names begin with their time."""
    return sorted((n for n in names if n.endswith(SUFFIX) and not n.startswith(".")), reverse=True)


def place_of(where: str) -> BackupPlace:
    """A dataset's, a folder's, or a file's."""
    if where.startswith(DATASET):
        return BackupDataset(where.removeprefix(DATASET).strip("/"))
    return BackupFile(Path(where)) if Path(where).is_file() else BackupFolder(Path(where))


class Vault:
    """Makes copies of one open study, at once and then every so many minutes, while it is not closed.

    Attributes:
        problem: why the last copy could not be made; "" where it could. The organiser's page shows it.
    """

    def __init__(
        self, folder: StudyFolder, store: Store, place: BackupPlace, key: str, minutes: float = MINUTES
    ) -> None:
        _cipher(key)
        self.folder, self.store, self.place, self.key, self.minutes = folder, store, place, key, minutes
        self.problem = ""
        self._copied = -1
        self._ended = threading.Event()

    def start(self) -> Vault:
        """Begins; returns at once."""
        threading.Thread(target=self._run, daemon=True).start()
        return self

    def close(self) -> None:
        """Makes a last copy and ends."""
        self._ended.set()
        self.copy()

    def copy(self) -> bool:
        """Makes a copy where something came since the last one; whether it did. Never raises: raters go on."""
        try:
            count = len(self.store.events())
            if count == self._copied:
                return False
            self.place.put(copy_name(self.folder, count), sealed(self.folder, self.store, self.key))
        except Exception as error:  # whatever the network has for us: a backup must not end a study
            self.problem = f"the last backup could not be made ({str(error)[:200]})"
            return False
        self.problem, self._copied = "", count
        return True

    def _run(self) -> None:
        while not self._ended.is_set():
            self.copy()
            self._ended.wait(60 * self.minutes)


def vault_of(folder: StudyFolder, store: Store, environment: Mapping[str, str] = os.environ) -> Vault | None:
    """The vault that the environment asks for; None where it asks for none.

    Raises:
        InputError: the key is missing or none, or the minutes are no number.
    """
    where = environment.get("LIVO_BACKUP_TO", "")
    if not where:
        return None
    said = environment.get("LIVO_BACKUP_MINUTES") or str(MINUTES)
    if not re.fullmatch(r"\d{1,4}(\.\d+)?", said) or float(said) < 1:
        raise InputError(f"LIVO_BACKUP_MINUTES is {said!r}: give a number of minutes, at least 1")
    if store.engine.dialect.name != "sqlite":
        raise InputError("the answers are in PostgreSQL: copy them with pg_dump, and leave LIVO_BACKUP_TO out")
    return Vault(folder, store, place_of(where), environment.get("LIVO_BACKUP_KEY", ""), float(said))
