"""The store: one append-only table of events, in SQLite or in PostgreSQL; nothing is acknowledged before it is durable.

Every rater's events form a chain: they are numbered without gaps, and each holds a digest of itself and of the one
before, so that `verify` sees whatever was lost, doubled or changed. The client makes an event's key; the same key twice
is one event, and the same receipt.

One thread writes. It commits whatever waits at once (SQLite: WAL, synchronous=FULL; PostgreSQL: synchronous_commit on),
and hands out receipts after the commit.

    events(seq, study, rater, number, key, kind, trial, question, body, at, digest)
    schema(version)
"""

from __future__ import annotations

import hashlib
import json
import os
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, IntegrityError

from livo.types import InputError

ORGANISER = -1
"""Who pauses and resumes, among the raters."""
WITHDRAWN = "withdraw"

_metadata = sa.MetaData()
_schema = sa.Table("schema_version", _metadata, sa.Column("version", sa.Integer, nullable=False))
_events = sa.Table(
    "events",
    _metadata,
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("study", sa.String(64), nullable=False),
    sa.Column("rater", sa.Integer, nullable=False),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("key", sa.String(64), nullable=False),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("trial", sa.String(32), nullable=False),
    sa.Column("question", sa.String(32), nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("at", sa.String(32), nullable=False),
    sa.Column("digest", sa.String(64), nullable=False),
    sa.UniqueConstraint("rater", "number", name="one_number"),
    sa.UniqueConstraint("rater", "key", name="one_key"),
)
_COLUMNS = [column for column in _events.columns if column.name != "seq"]


@dataclass(frozen=True)
class Event:
    """One thing that happened.

    Attributes:
        study: digest of the study's files when it happened.
        number: of the rater's events, from 1 on.
        key: made by the client.
        kind: consent, options, answer, skip, reveal, undo, mood, stop; of the organiser, pause and resume; withdraw.
        body: what belongs to the kind, such as {"value": 4.0}.
        at: when it was stored, UTC.
    """

    study: str
    rater: int
    number: int
    key: str
    kind: str
    trial: str
    question: str
    body: dict[str, Any]
    at: str
    digest: str

    def expected_digest(self, previous: str) -> str:
        """What the digest must be after an event of the given digest."""
        told = [previous, self.study, self.rater, self.number, self.key, self.kind, self.trial, self.question]
        return hashlib.sha256(_json([*told, self.body, self.at]).encode()).hexdigest()


@dataclass(frozen=True)
class Draft:
    """An event as the client sends it."""

    rater: int
    key: str
    kind: str
    trial: str = ""
    question: str = ""
    body: dict[str, Any] = field(default_factory=dict)

    def same(self, event: Event) -> bool:
        """Whether the event is this draft, stored."""
        return (self.kind, self.trial, self.question, self.body) == (
            event.kind,
            event.trial,
            event.question,
            event.body,
        )


class Refused(Exception):
    """The event cannot be stored. `status` is HTTP's, `code` is a word that the pages know, the message is for people."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


Check = Callable[[Draft, Sequence[Event]], None]
"""Raises `Refused` where the draft does not fit what the rater did before."""


def default_url(folder: Path) -> str:
    """The store beside the study."""
    return f"sqlite:///{folder / 'answers.sqlite'}"


def refuse_ephemeral(url: str) -> None:
    """On a hosted Space, a file outside a mounted volume is gone at the next restart.

    Raises:
        InputError: the store is such a file.
    """
    path = sa.make_url(url).database
    if not os.environ.get("SPACE_ID") or not url.startswith("sqlite") or not path:
        return
    if not any(os.path.ismount(parent) for parent in Path(path).resolve().parents if parent != Path("/")):
        raise InputError(
            f"{path} lies on this Space's own disk, which a restart empties: put the study on a mounted volume, give "
            "--store postgresql+psycopg://..., or accept the loss with --allow-ephemeral"
        )


# --- migrations ------------------------------------------------------------------------------------------------------


def _first(connection: sa.Connection) -> None:
    _metadata.create_all(connection)


def _rater_index(connection: sa.Connection) -> None:
    connection.execute(sa.text("CREATE INDEX IF NOT EXISTS events_by_study ON events (study)"))


MIGRATIONS = (_first, _rater_index)
"""Step n takes a store of version n to n + 1. Steps are appended, never changed."""


class Store:
    """The events of one study.

    Args:
        url: SQLAlchemy's, such as sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME.
        study: digest of the study's files.

    Raises:
        InputError: it cannot be opened, or was written by a newer program.
    """

    def __init__(self, url: str, study: str) -> None:
        self.study = study
        try:
            self.engine = sa.create_engine(url, pool_size=4, max_overflow=4)
        except (sa.exc.ArgumentError, ImportError) as error:
            raise InputError(
                f"no store is at {url!r} ({error}): give sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME"
            ) from error
        if self.engine.dialect.name == "sqlite":
            sa.event.listen(self.engine, "connect", _prepare_sqlite)
            sa.event.listen(self.engine, "begin", _begin_sqlite)
        elif self.engine.dialect.name == "postgresql":
            sa.event.listen(self.engine, "connect", _prepare_postgresql)
        self._writer = self.engine.execution_options(livo_write=True)
        try:
            self._migrate()
        except DBAPIError as error:
            shown = self.engine.url.render_as_string(hide_password=True)
            raise InputError(
                f"the store {shown} cannot be opened ({error.orig}): check that it is there and can be written"
            ) from error
        self._queue: queue.SimpleQueue[tuple[Draft, Check | None, Future[Event]] | None] = queue.SimpleQueue()
        self._cache: dict[int, list[Event]] = {}
        self._thread = threading.Thread(target=self._work, name="study store", daemon=True)
        self._thread.start()

    def _migrate(self) -> None:
        with self._writer.begin() as connection:
            _schema.create(connection, checkfirst=True)
            version = connection.execute(sa.select(_schema.c.version)).scalar() or 0
            if version > len(MIGRATIONS):
                raise InputError(
                    f"the store has version {version}, and this program knows {len(MIGRATIONS)}: update the program"
                )
            for step in MIGRATIONS[version:]:
                step(connection)
            connection.execute(_schema.delete())
            connection.execute(_schema.insert().values(version=len(MIGRATIONS)))

    # --- writing -----------------------------------------------------------------------------------------------------

    def submit(self, draft: Draft, check: Check | None = None) -> Future[Event]:
        """Stores an event; the future has it once it is durable, or raises `Refused`."""
        future: Future[Event] = Future()
        self._queue.put((draft, check, future))
        return future

    def append(self, draft: Draft, check: Check | None = None) -> Event:
        """Stores an event and waits until it is durable.

        Raises:
            Refused: it does not fit; nothing was stored.
        """
        return self.submit(draft, check).result()

    def close(self) -> None:
        """Writes what waits, and ends."""
        self._queue.put(None)
        self._thread.join()
        self.engine.dispose()

    def _work(self) -> None:
        while (first := self._queue.get()) is not None:
            batch, last = [first], False
            while not self._queue.empty():
                if (more := self._queue.get()) is None:
                    last = True
                    break
                batch.append(more)
            try:
                self._commit(batch)
            except (
                IntegrityError
            ):  # another process wrote to the same rater in between: one at a time, from its events on
                for one in batch:
                    self._alone(one)
            except Exception as error:
                self._cache.clear()
                for _, _, future in batch:
                    future.set_exception(error)
            if last:
                return

    def _alone(self, one: tuple[Draft, Check | None, Future[Event]], turns: int = 5) -> None:
        for turn in range(turns):
            self._cache.clear()
            try:
                return self._commit([one])
            except Exception as error:
                if turn == turns - 1 or not isinstance(error, IntegrityError):
                    return one[2].set_exception(error)

    def _commit(self, batch: Sequence[tuple[Draft, Check | None, Future[Event]]]) -> None:
        """One transaction. Receipts after it; a refusal stores nothing and concerns its own draft only."""
        answers: list[tuple[Future[Event], Event | Refused]] = []
        rows: list[Event] = []
        raters = {draft.rater for draft, _, _ in batch}
        with self._writer.begin() as connection:
            known = self._known(connection, raters)
            for draft, check, future in batch:
                before = known[draft.rater]
                try:
                    event = next((event for event in before if event.key == draft.key), None)
                    if event is None:
                        if check:
                            check(draft, before)
                        event = self._next(draft, before)
                        before.append(event)
                        rows.append(event)
                    elif not draft.same(event):
                        raise Refused(409, "key_used", "this key belongs to another answer")
                    answers.append((future, event))
                except Refused as refused:
                    answers.append((future, refused))
            if rows:
                connection.execute(_events.insert(), [_row(event) for event in rows])
        self._cache |= known
        for future, answer in answers:
            if isinstance(answer, Refused):
                future.set_exception(answer)
            else:
                future.set_result(answer)

    def _known(self, connection: sa.Connection, raters: set[int]) -> dict[int, list[Event]]:
        """The raters' events: those remembered, if the store still has the last of them, and what came after."""
        last = {rater: events[-1] for rater in raters if (events := self._cache.get(rater))}
        wanted = [sa.and_(_events.c.rater == rater, _events.c.number >= event.number) for rater, event in last.items()]
        if fresh := raters - last.keys():
            wanted.append(_events.c.rater.in_(fresh))
        found: dict[int, list[Event]] = {rater: [] for rater in raters}
        for row in connection.execute(
            sa.select(*_COLUMNS).where(sa.or_(*wanted)).order_by(_events.c.rater, _events.c.number)
        ):
            found[row.rater].append(_event(row))
        for rater, event in last.items():
            if found[rater] and found[rater][0].digest == event.digest:
                found[rater] = self._cache[rater] + found[rater][1:]
            else:  # erased by another process, and perhaps begun again
                query = sa.select(*_COLUMNS).where(_events.c.rater == rater).order_by(_events.c.number)
                found[rater] = [_event(row) for row in connection.execute(query)]
        return found

    def _next(self, draft: Draft, before: Sequence[Event]) -> Event:
        at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        told = (
            self.study,
            draft.rater,
            len(before) + 1,
            draft.key,
            draft.kind,
            draft.trial,
            draft.question,
            draft.body,
            at,
        )
        event = Event(*told, digest="")
        return Event(*told, digest=event.expected_digest(before[-1].digest if before else ""))

    # --- reading -----------------------------------------------------------------------------------------------------

    def events(self, rater: int | None = None) -> list[Event]:
        """All events, or a rater's, in the order in which they were stored."""
        query = sa.select(*_COLUMNS).order_by(_events.c.seq)
        if rater is not None:
            query = query.where(_events.c.rater == rater)
        with self.engine.connect() as connection:
            return [_event(row) for row in connection.execute(query)]

    def latest(self, rater: int) -> list[Event]:
        """The rater's events as this process last wrote them; read where it has written none."""
        known = self._cache.get(rater)
        return self.events(rater) if known is None else list(known)

    def check_frozen(self) -> None:
        """The study's files are those of the first answer.

        Raises:
            InputError: they are not.
        """
        with self.engine.connect() as connection:
            studies = set(connection.execute(sa.select(_events.c.study).distinct()).scalars())
        if studies - {self.study}:
            raise InputError(
                "study.yaml or items.json has changed since the first answer, which froze them: put them back, or make a "
                "new study in another folder"
            )

    def verify(self) -> list[str]:
        """What is wrong with the store: gaps, doubled keys, changed rows, rows of another study; empty where nothing is."""
        wrong: list[str] = []
        last: dict[int, Event] = {}
        keys: set[tuple[int, str]] = set()
        query = sa.select(*_COLUMNS).order_by(_events.c.rater, _events.c.number)
        with self.engine.connect() as connection:
            for row in connection.execute(query):
                try:
                    event = _event(row)
                except ValueError:
                    wrong.append(f"rater {row.rater}, event {row.number}: the body is not readable")
                    continue
                who = f"rater {event.rater}, event {event.number}"
                before = last.get(event.rater)
                if event.number != (before.number + 1 if before else 1):
                    wrong.append(f"{who}: {before.number + 1 if before else 1} was wanted; events are missing")
                elif event.digest != event.expected_digest(before.digest if before else ""):
                    wrong.append(f"{who}: its digest is not that of its words: it was changed")
                if event.study != self.study:
                    wrong.append(f"{who}: it belongs to another state of the study's files")
                if (event.rater, event.key) in keys:
                    wrong.append(f"{who}: its key occurs twice")
                keys.add((event.rater, event.key))
                last[event.rater] = event
        return wrong

    def erase(self, rater: int) -> None:
        """Deletes what a rater gave. What stays is one event that says so; its number begins a new chain."""
        with self._writer.begin() as connection:
            connection.execute(_events.delete().where(_events.c.rater == rater))
            event = self._next(Draft(rater, f"erased-{os.urandom(8).hex()}", WITHDRAWN, body={"erased": True}), [])
            connection.execute(_events.insert(), [_row(event)])


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def _row(event: Event) -> dict[str, Any]:
    return {**event.__dict__, "body": _json(event.body)}


def _event(row: sa.Row) -> Event:
    return Event(*row[:7], json.loads(row.body), row.at, row.digest)


def _prepare_sqlite(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # transactions are begun below, as readers or as writers
    for pragma in ("busy_timeout=20000", "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}").fetchall()


def _begin_sqlite(connection: sa.Connection) -> None:
    write = connection.get_execution_options().get("livo_write")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def _prepare_postgresql(connection: Any, _: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET synchronous_commit TO on")
    connection.commit()
