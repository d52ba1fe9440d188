"""When something went wrong, or might: pictures against their digests, copies, and what is left of a damaged store."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from livo.study.preregistration import FILE
from livo.study.study_file import CORRECTIONS, IMAGES, ITEMS, SECRET, STUDY, StudyFolder
from livo.types import InputError
from livo.web.events import Event, Store


def check_pictures(folder: StudyFolder) -> Iterator[str]:
    """A line on each picture that is not the one that the study froze."""
    for item in folder.items.values():
        for veiled, digest in ((False, item.digest), (True, item.veil_digest)):
            path = folder.image_path(item, veiled=veiled)
            try:
                found = hashlib.sha256(path.read_bytes()).hexdigest()
            except OSError as error:
                yield f"{IMAGES}/{path.name} cannot be read ({error.strerror})"
                continue
            if digest and found != digest:
                yield f"{IMAGES}/{path.name} is not the picture that the study froze: it was changed"


@dataclass(frozen=True)
class Salvaged:
    """Events that could be read of a damaged store, for the exports."""

    found: Sequence[Event]
    problems: Sequence[str]

    def events(self, stream: int | None = None) -> list[Event]:
        """All of them, or a stream's."""
        return [event for event in self.found if stream is None or event.stream == stream]

    def verify(self) -> list[str]:
        """What could not be read."""
        return list(self.problems)


def salvaged(store: Store) -> tuple[Salvaged, dict[str, str]]:
    """What can be read of a store, row by row; and two files more: every event as it stands, and what is lost."""
    found, lost = store.salvage()
    problems = store.verify()
    rows = "".join(json.dumps(asdict(event), ensure_ascii=False) + "\n" for event in found)
    report = [f"{len(found)} events were read, {len(lost)} rows were not.", *lost, *problems]
    return Salvaged(found, problems), {"events.jsonl": rows, "salvage.txt": "\n".join(report) + "\n"}


def backup(folder: StudyFolder, store: Store, out: Path) -> str:
    """Copies the study whole; the copy can be served.

    Raises:
        InputError: there is something already, or it cannot be written.
    """
    if out.exists():
        raise InputError(f"{out} is there already: give a new folder with --out")
    try:
        out.mkdir(parents=True)
        for name in (STUDY, ITEMS, SECRET, CORRECTIONS, FILE):
            if (folder.path / name).exists():
                shutil.copy2(folder.path / name, out / name)
        shutil.copytree(folder.path / IMAGES, out / IMAGES)
    except OSError as error:
        raise InputError(f"{out} cannot be written ({error.strerror}): give another folder with --out") from error
    if store.engine.dialect.name == "sqlite":
        store.backup(out / "answers.sqlite")
        answers = "its answers"
    else:
        answers = "without its answers, which PostgreSQL holds (pg_dump copies them)"
    return f"the study is in {out}, {answers}; keep it as safe as the original, for {SECRET} is in it"
