"""Stores of older programs stay readable and their chains stay valid. The rows below were written by version 2."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from livo.types import InputError
from livo.web.events import Draft, Store, default_url
from livo.web.migrations import MIGRATIONS

STUDY = "d" * 64
VERSION_2 = """
CREATE TABLE schema_version (version INTEGER NOT NULL);
INSERT INTO schema_version VALUES (2);
CREATE TABLE events (seq INTEGER NOT NULL, study VARCHAR(64) NOT NULL, rater INTEGER NOT NULL, number INTEGER NOT NULL,
 "key" VARCHAR(64) NOT NULL, kind VARCHAR(16) NOT NULL, trial VARCHAR(32) NOT NULL, question VARCHAR(32) NOT NULL,
 body TEXT NOT NULL, at VARCHAR(32) NOT NULL, digest VARCHAR(64) NOT NULL, PRIMARY KEY (seq),
 CONSTRAINT one_number UNIQUE (rater, number), CONSTRAINT one_key UNIQUE (rater, "key"));
CREATE INDEX events_by_study ON events (study);
"""
RATINGS = (
    (STUDY, -1, 1, "control-1", "pause", "", "", "{}", "2026-11-28T02:39:54.937Z",
     "5e4d48e70f9e82257c1c81441c3773e9dee47d2107913100dfd1a350023df105"),
    (STUDY, 0, 1, "k" * 16, "consent", "", "", '{"adult":true,"language":"fr"}', "2026-11-28T02:39:54.943Z",
     "fec7dc8858084e0bfa05ac271561fd8f0e587a1bef2787fe2609936ff6c03d35"),
    (STUDY, 0, 2, "a" * 16, "answer", "tok1", "consistency_5", '{"ms":12,"value":4.0}', "2026-11-28T02:39:54.948Z",
     "f778dfdb82daa41a96b152aa4fe041c51476a596a063cd9f91dd19af49f4156f"),
    (STUDY, 0, 3, "b" * 16, "skip", "tok2", "", "{}", "2026-11-28T02:39:54.956Z",
     "9a978120bb1b949caf2b798b7b3890d103588bb9ae1464165add9024fb63bec3"),
    (STUDY, 1, 1, "é" * 8, "mood", "", "", '{"value":3}', "2026-11-28T02:39:54.959Z",
     "75e60dca68f98aa072f2cb72c6f71d4337b5ed463387bcd2ef61dc84157af6d2"),
)  # fmt: skip
ROOM = (
    ("workshop", 77, 1, "room", "room", "", "", '{"lesson":"x","school":true,"secret":"s"}', "2026-11-28T02:39:54.992Z",
     "196bf462a8d533f08db0fd32fb473aab2427a45a3acd7ea9edf64354106cb04a"),
    ("workshop", 77, 2, "c" * 16, "answer", "f" * 32, "1.0.2", '{"value":[1,0,null]}', "2026-11-28T02:39:55.001Z",
     "c159d33bda3fcab184207f03b151b1ac6720ee34d61a210cfabcc8e15530b50b"),
)  # fmt: skip
INSERT = (
    "INSERT INTO events (study, rater, number, key, kind, trial, question, body, at, digest) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)


def older_store(folder: Path, rows: tuple[tuple[object, ...], ...]) -> Path:
    path = folder / "answers.sqlite"
    with sqlite3.connect(path) as connection:
        connection.executescript(VERSION_2)
        connection.executemany(INSERT, rows)
    return path


def test_a_studys_events_are_read_verified_and_gone_on_with(tmp_path: Path) -> None:
    path = older_store(tmp_path, RATINGS)
    store = Store(default_url(tmp_path), STUDY, b"key")
    assert store.verify() == []
    answer = store.events(0)[1]
    assert answer.body == {"trial": "tok1", "question": "consistency_5", "value": 4.0, "ms": 12}
    assert [(event.number, event.recipe) for event in store.events(0)] == [(1, 1), (2, 1), (3, 1)]
    assert store.append(Draft(0, "e" * 16, "stop")).number == 4
    assert store.verify() == []
    store.close()
    Store(default_url(tmp_path), STUDY, b"key").close()  # nothing is migrated twice
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT version FROM schema_version").fetchall() == [(len(MIGRATIONS),)]
        connection.execute("UPDATE events SET body = replace(body, '4.0', '5.0') WHERE number = 2")
    store = Store(default_url(tmp_path), STUDY, b"key")
    assert any("stream 0, event 2" in line and "changed" in line for line in store.verify())
    store.close()


def test_a_rooms_answers_get_the_schema_of_their_own(tmp_path: Path) -> None:
    older_store(tmp_path, ROOM)
    store = Store(default_url(tmp_path), "workshop")
    assert store.verify() == []
    opened, answer = store.events(77)
    assert opened.actor == "" and answer.actor == "f" * 32
    assert answer.body == {"place": [1, 0, 2], "value": [1, 0, None]}
    store.close()


def test_a_newer_store_is_refused(tmp_path: Path) -> None:
    path = older_store(tmp_path, ())
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE schema_version SET version = 99")
    with pytest.raises(InputError, match="update the program"):
        Store(default_url(tmp_path), STUDY)
