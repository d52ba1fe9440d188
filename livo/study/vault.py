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
from collections.abc import Mapping
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


def unsealed(data: bytes, key: str, out: Path) -> StudyFolder:
    """The study of an encrypted file, in a new folder, verified.

    Raises:
        InputError: the file is no copy or was changed, the key is another, or there is something in the folder.
    """
    if out.exists():
        raise InputError(f"{out} is there already: give a new folder with --out")
    if not data.startswith(MARK):
        raise InputError(f"this is no encrypted copy of a study: give a file whose name ends in {SUFFIX}")
    try:
        packed = _cipher(key).decrypt(data.removeprefix(MARK))
    except InvalidToken as error:
        raise InputError("the key is another, or the copy was changed: give the key it was made with") from error
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


# --- where copies are ------------------------------------------------------------------------------------------------


class BackupPlace(Protocol):
    """Where copies are kept."""

    def put(self, name: str, data: bytes) -> None:
        """Keeps a copy. Raises OSError where it cannot."""

    def newest(self) -> bytes:
        """The last one. Raises InputError where there is none."""


class BackupFolder:
    """A folder, such as one of another disk."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def put(self, name: str, data: bytes) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        part = self.path / f".{name}.part"
        part.write_bytes(data)
        part.rename(self.path / name)  # nobody finds half a copy

    def newest(self) -> bytes:
        names = sorted(self.path.glob(f"*{SUFFIX}"))
        if not names:
            raise InputError(f"no encrypted copy (*{SUFFIX}) is in {self.path}")
        return names[-1].read_bytes()


class BackupDataset:
    """A dataset on the Hugging Face hub, which should be private; the token is the environment's, as in HF_TOKEN."""

    def __init__(self, name: str) -> None:
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
            raise InputError(f"{DATASET}{name} names no dataset: wanted {DATASET}OWNER/NAME")
        self.name = name

    def put(self, name: str, data: bytes) -> None:
        from huggingface_hub import HfApi

        HfApi().upload_file(path_or_fileobj=data, path_in_repo=name, repo_id=self.name, repo_type="dataset")

    def newest(self) -> bytes:
        from huggingface_hub import HfApi, hf_hub_download

        names = sorted(n for n in HfApi().list_repo_files(self.name, repo_type="dataset") if n.endswith(SUFFIX))
        if not names:
            raise InputError(f"no encrypted copy (*{SUFFIX}) is in {DATASET}{self.name}")
        return Path(hf_hub_download(self.name, names[-1], repo_type="dataset")).read_bytes()


class BackupFile:
    """One copy by its name; nothing is put there."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def put(self, name: str, data: bytes) -> None:
        raise OSError(f"{self.path} is a file: give a folder")

    def newest(self) -> bytes:
        return self.path.read_bytes()


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
            name = f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{self.folder.name}{SUFFIX}"
            self.place.put(name, sealed(self.folder, self.store, self.key))
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
