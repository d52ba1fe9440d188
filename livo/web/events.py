"""The store: one append-only table of events, in SQLite or in PostgreSQL; nothing is acknowledged before it is durable.

The events of a stream (a rater of a study, a room of the workshop) form a chain: they are numbered without gaps, and
each holds a digest of itself and of the one before. The last of each stream, and how many there are, stand beside them
under a keyed hash. `verify` sees whatever was lost, doubled, changed or cut off. The client makes an event's key; the
same key twice is one event, and the same receipt.

One thread writes. It commits whatever waits at once (SQLite: WAL, synchronous=FULL; PostgreSQL: synchronous_commit on),
and hands out receipts after the commit. The tables are those of `livo.web.migrations`.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import queue
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, IntegrityError

from livo.types import InputError
from livo.web.migrations import MIGRATIONS, SEALED_FROM, canonical, rater_columns, schema
from livo.web.migrations import events as _events
from livo.web.migrations import heads as _heads
from livo.web.migrations import totals as _totals

ORGANISER = -1
"""The stream of who pauses and resumes a study, among those of raters."""
WITHDRAWN = "withdraw"
RECIPE = 2
"""How digests are made now; 1 hashed a rater's columns."""
QUIET_SECONDS = 60.0
"""Between two lines about the same trouble in the server's log."""
_COLUMNS = [column for column in _events.columns if column.name != "seq"]


@dataclass(frozen=True)
class Event:
    """One thing that happened.

    Attributes:
        edition: digest of the files that it answers to, when it happened; "workshop" of rooms.
        stream: whose chain it belongs to: a rater's number, or a room's.
        number: of the stream's events, from 1 on.
        actor: who of the stream, where there are several: a room's visitor; "" otherwise.
        key: made by the client.
        kind: what happened, such as consent, answer, act.
        body: what belongs to the kind, such as {"trial": ..., "question": ..., "value": 4.0}.
        at: when it was stored, UTC.
        recipe: how its digest is made.
    """

    edition: str
    stream: int
    number: int
    actor: str
    key: str
    kind: str
    body: dict[str, Any]
    at: str
    digest: str
    recipe: int = RECIPE

    def expected_digest(self, previous: str) -> str:
        """What the digest must be after an event of the given digest."""
        if self.recipe == 1:
            trial, question, body = rater_columns(self.actor, self.body)
            hashed = [self.edition, self.stream, self.number, self.key, self.kind, trial, question, body, self.at]
        else:
            hashed = [self.edition, self.stream, self.number, self.actor, self.key, self.kind, self.body, self.at]
        return hashlib.sha256(canonical([previous, *hashed]).encode()).hexdigest()


@dataclass(frozen=True)
class Draft:
    """An event as the client sends it."""

    stream: int
    key: str
    kind: str
    body: dict[str, Any] = field(default_factory=dict)
    actor: str = ""

    def same(self, event: Event) -> bool:
        """Whether the event is this draft, stored."""
        return (self.kind, self.actor, self.body) == (event.kind, event.actor, event.body)


class Refused(Exception):
    """A request is not served. `status` is HTTP's, `code` is a word that the pages know, the message is for people."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


Check = Callable[[Draft, Sequence[Event]], None]
"""Raises `Refused` where the draft does not fit what happened in its stream before."""
_Waiting = tuple[Draft, Check | None, "Future[Event]"]


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


class Store:
    """The events of one study, or of all rooms.

    Args:
        url: SQLAlchemy's, such as sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME.
        edition: digest of the files that events answer to.
        key: of the keyed hash over what stands last; whoever lacks it cannot take events away unseen.

    Raises:
        InputError: it cannot be opened, or was written by a newer program.
    """

    def __init__(self, url: str, edition: str, key: bytes = b"") -> None:
        self.edition, self._key = edition, key
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
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._cache: dict[int, list[Event]] = {}
        self._spoken = float("-inf")
        self._closed, self._starting = False, threading.Lock()
        self._thread = self._start()

    def _migrate(self) -> None:
        with self._writer.begin() as connection:
            schema.create(connection, checkfirst=True)
            version = connection.execute(sa.select(schema.c.version)).scalar() or 0
            if version > len(MIGRATIONS):
                raise InputError(
                    f"the store has version {version}, and this program knows {len(MIGRATIONS)}: update the program"
                )
            for step in MIGRATIONS[version:]:
                step(connection)
            if version < SEALED_FROM:
                self._seal_all(connection)
            connection.execute(schema.delete())
            connection.execute(schema.insert().values(version=len(MIGRATIONS)))

    # --- writing -----------------------------------------------------------------------------------------------------

    def submit(self, draft: Draft, check: Check | None = None) -> Future[Event]:
        """Stores an event; the future has it once it is durable, or raises `Refused`."""
        future: Future[Event] = Future()
        if self._closed:  # nothing would ever answer
            future.set_exception(Refused(503, "closed", "the store is closed: restart the server"))
            return future
        self._queue.put((draft, check, future))
        self._watch()
        return future

    def _start(self) -> threading.Thread:
        thread = threading.Thread(target=self._work, name="event store", daemon=True)
        thread.start()
        return thread

    def _watch(self) -> None:
        """A writer that ended, which nothing known can make it do, is said so and followed by another."""
        with self._starting:
            if self._closed or self._thread.is_alive():
                return
            message = "livo: the writer of events ended and was started again; nothing acknowledged is lost"
            print(message, file=sys.stderr, flush=True)
            self._cache.clear()
            self._thread = self._start()

    def append(self, draft: Draft, check: Check | None = None) -> Event:
        """Stores an event and waits until it is durable.

        Raises:
            Refused: it does not fit, or cannot be written; nothing was stored.
        """
        return self.submit(draft, check).result()

    def close(self) -> None:
        """Writes what waits, and ends."""
        self._closed = True
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
            # From here on nobody can cancel them: a result can be set on each.
            batch = [one for one in batch if one[2].set_running_or_notify_cancel()]
            try:
                self._commit(batch)
            except (
                IntegrityError
            ):  # another process wrote to the same stream in between: one at a time, from its events on
                for one in batch:
                    self._alone(one)
            except BaseException as error:  # whatever it is, whoever waits is answered, and the thread lives on
                self._fail(batch, error if isinstance(error, Exception) else RuntimeError(repr(error)))
            if last:
                return

    def _alone(self, one: _Waiting, turns: int = 5) -> None:
        for turn in range(turns):
            self._cache.clear()
            try:
                self._commit([one])
                return
            except Exception as error:
                if turn == turns - 1 or not isinstance(error, IntegrityError):
                    self._fail([one], error)
                    return

    def _fail(self, batch: Sequence[_Waiting], error: Exception) -> None:
        """Nothing was stored. Clients keep what they sent, and send it again."""
        self._cache.clear()
        reason = str(getattr(error, "orig", error)).splitlines()[0]
        if time.monotonic() - self._spoken > QUIET_SECONDS:
            self._spoken = time.monotonic()
            print(
                f"livo: events cannot be stored ({reason}); clients keep them and try again",
                file=sys.stderr,
                flush=True,
            )
        refusal: Exception = error
        if isinstance(error, DBAPIError):
            full = "full" in reason or "No space left" in reason
            refusal = Refused(
                507 if full else 503,
                "disk_full" if full else "store",
                f"the server {'has no space left' if full else 'cannot write now'}; what you sent is kept in this "
                "browser and sent again",
            )
        for _, _, future in batch:
            if not future.done():
                future.set_exception(refusal)

    def _commit(self, batch: Sequence[_Waiting]) -> None:
        """One transaction. Receipts after it; a refusal stores nothing and concerns its own draft only."""
        answers: list[tuple[Future[Event], Event | Exception]] = []
        rows: list[Event] = []
        streams = {draft.stream for draft, _, _ in batch}
        with self._writer.begin() as connection:
            total = connection.execute(sa.select(_totals).with_for_update()).one()  # one process at a time, from here
            known = self._known(connection, streams)
            for draft, check, future in batch:
                before = known[draft.stream]
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
                except Exception as refused:  # also one that cannot be encoded
                    answers.append((future, refused))
            if rows:
                connection.execute(_events.insert(), [_row(event) for event in rows])
                self._seal(connection, total, {event.stream: event for event in rows}, len(rows))
        self._cache |= known
        for future, answer in answers:
            if isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                future.set_result(answer)

    def _known(self, connection: sa.Connection, streams: set[int]) -> dict[int, list[Event]]:
        """The streams' events: those remembered, if the store still has the last of them, and what came after."""
        last = {stream: events[-1] for stream in streams if (events := self._cache.get(stream))}
        wanted = [sa.and_(_events.c.stream == stream, _events.c.number >= e.number) for stream, e in last.items()]
        if fresh := streams - last.keys():
            wanted.append(_events.c.stream.in_(fresh))
        found: dict[int, list[Event]] = {stream: [] for stream in streams}
        rows = sa.select(*_COLUMNS).where(sa.or_(*wanted)).order_by(_events.c.stream, _events.c.number)
        for row in connection.execute(rows):
            found[row.stream].append(_event(row))
        for stream, event in last.items():
            if found[stream] and found[stream][0].digest == event.digest:
                found[stream] = self._cache[stream] + found[stream][1:]
            else:  # erased by another process, and perhaps begun again
                query = sa.select(*_COLUMNS).where(_events.c.stream == stream).order_by(_events.c.number)
                found[stream] = [_event(row) for row in connection.execute(query)]
        return found

    def _next(self, draft: Draft, before: Sequence[Event]) -> Event:
        at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        number, previous = len(before) + 1, before[-1].digest if before else ""
        event = Event(self.edition, draft.stream, number, draft.actor, draft.key, draft.kind, draft.body, at, digest="")
        return replace(event, digest=event.expected_digest(previous))

    # --- seals: what stands last, and how much there is --------------------------------------------------------------

    def _seal_of(self, *parts: object) -> str:
        return hmac.new(self._key, canonical(list(parts)).encode(), "sha256").hexdigest()

    def _head(self, event: Event) -> dict[str, Any]:
        stream, number, digest = event.stream, event.number, event.digest
        return {"stream": stream, "number": number, "digest": digest, "seal": self._seal_of(stream, number, digest)}

    def _seal(self, connection: sa.Connection, total: sa.Row[Any], last: dict[int, Event], more: int) -> None:
        there = set(connection.execute(sa.select(_heads.c.stream).where(_heads.c.stream.in_(last))).scalars())
        connection.execute(_heads.delete().where(_heads.c.stream.in_(there)))
        connection.execute(_heads.insert(), [self._head(event) for event in last.values()])
        self._put_totals(connection, total.events + more, total.streams + len(last.keys() - there))

    def _put_totals(self, connection: sa.Connection, events: int, streams: int) -> None:
        values = {"events": events, "streams": streams, "seal": self._seal_of("all", events, streams)}
        if not connection.execute(_totals.update().values(values)).rowcount:
            connection.execute(_totals.insert().values(values))

    def _seal_all(self, connection: sa.Connection) -> None:
        latest = sa.select(_events.c.stream, sa.func.max(_events.c.number).label("top")).group_by(_events.c.stream)
        tops = latest.subquery()
        both = sa.and_(_events.c.stream == tops.c.stream, _events.c.number == tops.c.top)
        last = [_event(row) for row in connection.execute(sa.select(*_COLUMNS).join(tops, both))]
        connection.execute(_heads.delete())
        if last:
            connection.execute(_heads.insert(), [self._head(event) for event in last])
        count = connection.execute(sa.select(sa.func.count()).select_from(_events)).scalar_one()
        self._put_totals(connection, count, len(last))

    # --- reading -----------------------------------------------------------------------------------------------------

    def events(self, stream: int | None = None) -> list[Event]:
        """All events, or a stream's, in the order in which they were stored."""
        query = sa.select(*_COLUMNS).order_by(_events.c.seq)
        if stream is not None:
            query = query.where(_events.c.stream == stream)
        with self.engine.connect() as connection:
            return [_event(row) for row in connection.execute(query)]

    def latest(self, stream: int) -> list[Event]:
        """The stream's events as this process last wrote them; read where it has written none."""
        known = self._cache.get(stream)
        return self.events(stream) if known is None else list(known)

    def check_frozen(self) -> None:
        """The study's files are those of the first answer.

        Raises:
            InputError: they are not.
        """
        with self.engine.connect() as connection:
            editions = set(connection.execute(sa.select(_events.c.edition).distinct()).scalars())
        if editions - {self.edition}:
            raise InputError(
                "study.yaml or items.json has changed since the first answer, which froze them: put them back, or make "
                "a new study in another folder"
            )

    def verify(self) -> list[str]:
        """What is wrong with the store, a line each; empty where nothing is.

        Gaps, doubled keys, changed rows, rows of another edition, events taken away at the end, damage to the file.
        """
        wrong = list(self._damage())
        last: dict[int, Event] = {}
        keys: set[tuple[int, str]] = set()
        count = 0
        try:
            with self.engine.connect() as connection:
                query = sa.select(*_COLUMNS).order_by(_events.c.stream, _events.c.number)
                for row in connection.execute(query):
                    count += 1
                    wrong += self._check_row(row, last, keys)
                wrong += self._check_seals(connection, last, count)
        except DBAPIError as error:
            wrong.append(f"the database's file cannot be read whole ({error.orig}): restore a copy")
        return wrong

    def _check_row(self, row: sa.Row[Any], last: dict[int, Event], keys: set[tuple[int, str]]) -> Iterator[str]:
        who = f"stream {row.stream}, event {row.number}"
        try:
            event = _event(row)
        except (ValueError, TypeError):
            yield f"{who}: the body is not readable"
            return
        before = last.get(event.stream)
        wanted = before.number + 1 if before else 1
        if event.number != wanted:
            yield f"{who}: {wanted} was wanted; events are missing"
        elif event.digest != event.expected_digest(before.digest if before else ""):
            yield f"{who}: its digest is not that of its words: it was changed"
        if event.edition != self.edition:
            yield f"{who}: it belongs to another state of the study's files"
        if (event.stream, event.key) in keys:
            yield f"{who}: its key occurs twice"
        keys.add((event.stream, event.key))
        last[event.stream] = event

    def _check_seals(self, connection: sa.Connection, last: dict[int, Event], count: int) -> Iterator[str]:
        heads = {row.stream: row for row in connection.execute(sa.select(_heads))}
        for stream, head in heads.items():
            event = last.get(stream)
            if not hmac.compare_digest(head.seal, self._seal_of(stream, head.number, head.digest)):
                yield f"stream {stream}: the seal on its last event is not this study's: it was changed"
            elif event is None or event.number < head.number:
                yield f"stream {stream}: {head.number} events were stored, {event.number if event else 0} are there"
            elif event.digest != head.digest:
                yield f"stream {stream}, event {event.number}: it is not the one that was sealed: it was changed"
        for stream in last.keys() - heads.keys():
            yield f"stream {stream}: nothing is sealed of it: it was added by other means"
        totals = connection.execute(sa.select(_totals)).all()
        if len(totals) != 1 or totals[0].seal != self._seal_of("all", totals[0].events, totals[0].streams):
            yield "the seal on the number of events is not this study's: it was changed"
        elif (count, len(last)) != (totals[0].events, totals[0].streams):
            stored = f"{totals[0].events} events in {totals[0].streams} streams were stored"
            yield f"{stored}, {count} in {len(last)} are there"

    def _damage(self) -> Iterator[str]:
        if self.engine.dialect.name != "sqlite":
            return
        try:
            with self.engine.connect() as connection:
                lines = connection.exec_driver_sql("PRAGMA integrity_check(20)").scalars().all()
            yield from (f"the database's file is damaged: {line}" for line in lines if line != "ok")
        except DBAPIError as error:
            yield f"the database's file is damaged: {error.orig}"

    def salvage(self) -> tuple[list[Event], list[str]]:
        """Every event that can still be read, one by one, and a line on each that cannot."""
        found: list[Event] = []
        lost: list[str] = []
        with self.engine.connect() as connection:
            try:
                most = connection.execute(sa.select(sa.func.max(_events.c.seq))).scalar() or 0
            except DBAPIError as error:
                return [], [f"nothing can be read ({error.orig})"]
            for seq in range(1, most + 1):
                try:
                    row = connection.execute(sa.select(*_COLUMNS).where(_events.c.seq == seq)).one_or_none()
                    found += [] if row is None else [_event(row)]
                except (DBAPIError, ValueError, TypeError) as error:
                    lost.append(f"row {seq} cannot be read ({getattr(error, 'orig', error)})")
        return found, lost

    def backup(self, path: Path) -> None:
        """Copies a SQLite store whole, also while it is written to.

        Raises:
            InputError: the file is there already or cannot be written, or the store is no file.
        """
        if self.engine.dialect.name != "sqlite":
            raise InputError("a PostgreSQL store is copied by its own tools: pg_dump")
        if path.exists():
            raise InputError(f"{path} is there already: give a new file")
        try:
            self._alone_on_sqlite("VACUUM INTO ?", str(path))
        except sqlite3.Error as error:
            raise InputError(f"{path} cannot be written ({error}): give another file") from error

    def erase(self, stream: int) -> None:
        """Deletes a stream's events, also from the journal. One event that says so stays, and begins a new chain."""
        with self._writer.begin() as connection:
            total = connection.execute(sa.select(_totals).with_for_update()).one()
            gone = connection.execute(_events.delete().where(_events.c.stream == stream)).rowcount
            event = self._next(Draft(stream, f"erased-{os.urandom(8).hex()}", WITHDRAWN, {"erased": True}), [])
            connection.execute(_events.insert(), [_row(event)])
            self._seal(connection, total, {stream: event}, 1 - gone)
        if self.engine.dialect.name == "sqlite":
            self._alone_on_sqlite("PRAGMA wal_checkpoint(TRUNCATE)")

    def _alone_on_sqlite(self, statement: str, *values: str) -> None:
        """A statement that wants no transaction around it."""
        connection = self.engine.raw_connection()
        try:
            connection.cursor().execute(statement, values).fetchall()
        finally:
            connection.close()


def _row(event: Event) -> dict[str, Any]:
    return {**event.__dict__, "body": canonical(event.body)}


def _event(row: sa.Row[Any]) -> Event:
    fields = dict(row._mapping)
    return Event(**{**fields, "body": json.loads(fields["body"])})


def _prepare_sqlite(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # transactions are begun below, as readers or as writers
    for pragma in ("busy_timeout=20000", "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "secure_delete=ON"):
        connection.execute(f"PRAGMA {pragma}").fetchall()


def _begin_sqlite(connection: sa.Connection) -> None:
    write = connection.get_execution_options().get("livo_write")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def _prepare_postgresql(connection: Any, _: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET synchronous_commit TO on")
    connection.commit()
