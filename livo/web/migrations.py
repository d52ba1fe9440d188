"""The store's tables, and how older stores become readable: a list of steps that are appended to and never changed.

events(seq, edition, stream, number, actor, key, kind, body, at, digest, recipe)
heads(stream, number, digest, seal)         the last event of each stream, under a keyed hash
totals(events, streams, seal)               how much there is in all, likewise; one row
schema_version(version)
"""

from __future__ import annotations

import json
from typing import Any

import sqlalchemy as sa

tables = sa.MetaData()
schema = sa.Table("schema_version", tables, sa.Column("version", sa.Integer, nullable=False))
events = sa.Table(
    "events",
    tables,
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("edition", sa.String(64), nullable=False),
    sa.Column("stream", sa.Integer, nullable=False),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("actor", sa.String(64), nullable=False, server_default=""),
    sa.Column("key", sa.String(64), nullable=False),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("at", sa.String(32), nullable=False),
    sa.Column("digest", sa.String(64), nullable=False),
    sa.Column("recipe", sa.Integer, nullable=False, server_default="1"),
)
heads = sa.Table(
    "heads",
    tables,
    sa.Column("stream", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("digest", sa.String(64), nullable=False),
    sa.Column("seal", sa.String(64), nullable=False),
)
totals = sa.Table(
    "totals",
    tables,
    sa.Column("events", sa.Integer, nullable=False),
    sa.Column("streams", sa.Integer, nullable=False),
    sa.Column("seal", sa.String(64), nullable=False),
)

WORKSHOP = "workshop"
"""The edition of rooms: their trial was a visitor, and their question a place RUN.STEP.ROUND."""


def canonical(value: Any) -> str:
    """JSON of which there is one form only."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def rater_columns(actor: str, body: dict[str, Any]) -> tuple[str, str, dict[str, Any]]:
    """Trial, question and body as the first recipe hashed them, when every event had a rater's columns."""
    rest = {name: value for name, value in body.items() if name not in ("trial", "question", "place")}
    question = body.get("question") or ".".join(map(str, body.get("place", ())))
    return actor or body.get("trial", ""), question, rest


# --- steps: from version n to n + 1 ----------------------------------------------------------------------------------


def _rater_events(connection: sa.Connection) -> None:
    numbered = "SERIAL PRIMARY KEY" if connection.dialect.name == "postgresql" else "INTEGER NOT NULL PRIMARY KEY"
    connection.exec_driver_sql(
        f"CREATE TABLE events (seq {numbered}, study VARCHAR(64) NOT NULL, rater INTEGER NOT NULL, "
        "number INTEGER NOT NULL, key VARCHAR(64) NOT NULL, kind VARCHAR(16) NOT NULL, trial VARCHAR(32) NOT NULL, "
        "question VARCHAR(32) NOT NULL, body TEXT NOT NULL, at VARCHAR(32) NOT NULL, digest VARCHAR(64) NOT NULL, "
        "CONSTRAINT one_number UNIQUE (rater, number), CONSTRAINT one_key UNIQUE (rater, key))"
    )


def _rater_index(connection: sa.Connection) -> None:
    connection.exec_driver_sql("CREATE INDEX IF NOT EXISTS events_by_study ON events (study)")


def _streams(connection: sa.Connection) -> None:
    """A rater's columns become what every event has, and the rest goes into the body."""
    for old, new in (("study", "edition"), ("rater", "stream")):
        connection.exec_driver_sql(f"ALTER TABLE events RENAME COLUMN {old} TO {new}")
    connection.exec_driver_sql("ALTER TABLE events ADD COLUMN actor VARCHAR(64) NOT NULL DEFAULT ''")
    connection.exec_driver_sql("ALTER TABLE events ADD COLUMN recipe INTEGER NOT NULL DEFAULT 1")
    query = sa.text("SELECT seq, edition, trial, question, body FROM events WHERE trial <> '' OR question <> ''")
    put = sa.text("UPDATE events SET actor = :actor, body = :body WHERE seq = :seq")
    rows = [_row_of_stream(*row) for row in connection.execute(query)]
    for start in range(0, len(rows), 10_000):
        connection.execute(put, rows[start : start + 10_000])
    for old in ("trial", "question"):
        connection.exec_driver_sql(f"ALTER TABLE events DROP COLUMN {old}")


def _row_of_stream(seq: int, edition: str, trial: str, question: str, body: str) -> dict[str, Any]:
    try:
        payload = json.loads(body)
    except ValueError:  # it was damaged before, and `verify` says so
        return {"seq": seq, "actor": "", "body": body}
    if edition == WORKSHOP:
        return {
            "seq": seq,
            "actor": trial,
            "body": canonical({"place": list(map(int, question.split("."))), **payload}),
        }
    asked = {name: word for name, word in (("trial", trial), ("question", question)) if word}
    return {"seq": seq, "actor": "", "body": canonical({**asked, **payload})}


def _seals(connection: sa.Connection) -> None:
    tables.create_all(connection, tables=[heads, totals])


MIGRATIONS = (_rater_events, _rater_index, _streams, _seals)
SEALED_FROM = 4
"""The version from which on streams have sealed heads."""
