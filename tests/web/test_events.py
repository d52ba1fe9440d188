"""The store: chains, keys, several writers, and real kills."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from raters import Server, account, free_port, make_folder, run_raters

from livo.types import InputError
from livo.web import events
from livo.web.events import Draft, Refused, Store, default_url, refuse_ephemeral
from livo.web.migrations import canonical

ROOT = Path(__file__).resolve().parents[2]
DIGEST = "d" * 64


def draft(n: int, rater: int = 0, value: float = 1.0) -> Draft:
    return Draft(rater, f"key-{rater}-{n:020d}", "answer", {"trial": "t", "question": "q", "value": value})


@pytest.fixture
def store(tmp_path):
    store = Store(default_url(tmp_path), DIGEST)
    yield store
    store.close()


def test_what_was_stored_is_there_in_order_and_whole(store):
    stored = [store.append(draft(n, n % 3)) for n in range(30)]
    assert store.events() == stored and store.events(1) == [e for e in stored if e.stream == 1]
    assert [e.number for e in store.events(2)] == list(range(1, 11))
    assert store.verify() == []


def test_the_same_key_is_one_event_and_one_receipt(store):
    first = store.append(draft(1))
    assert store.append(draft(1)) == first and len(store.events()) == 1
    with pytest.raises(Refused, match="another answer"):
        store.append(draft(1, value=2.0))
    assert store.append(Draft(1, draft(1).key, "skip")).stream == 1, "keys of another rater do not matter"


def test_a_refusal_stores_nothing_and_takes_no_other_along(store):
    def never(draft, before):
        raise Refused(422, "no", "not this one")

    futures = [store.submit(draft(n), never if n % 2 else None) for n in range(40)]
    outcomes = [f.exception() is None for f in futures]
    assert outcomes == [n % 2 == 0 for n in range(40)]
    assert len(store.events()) == 20 and store.verify() == []


def test_a_check_sees_what_came_before_it_in_the_same_batch(store):
    def once(draft, before):
        if before:
            raise Refused(409, "answered", "once only")

    futures = [store.submit(draft(n), once) for n in range(25)]
    assert sum(f.exception() is None for f in futures) == 1 == len(store.events())


@pytest.mark.parametrize(("statement", "says"), [
    ("UPDATE events SET body='{\"value\":5.0}' WHERE number=3 AND stream=0", "changed"),
    ("DELETE FROM events WHERE number=3 AND stream=0", "missing"),
    ("UPDATE events SET edition='x' WHERE number=3 AND stream=0", "another state"),
    ("UPDATE events SET body='{' WHERE number=3 AND stream=0", "not readable"),
    ("UPDATE events SET stream=1, number=99 WHERE number=10 AND stream=0", "missing"),
])  # fmt: skip
def test_verify_sees_what_was_done_to_the_file(store, tmp_path, statement, says):
    for n in range(20):
        store.append(draft(n, n % 2))
    with sqlite3.connect(tmp_path / "answers.sqlite") as connection:
        assert connection.execute(statement).rowcount == 1
    problems = store.verify()
    assert problems and any(says in problem for problem in problems), problems


def test_two_processes_may_write_to_one_rater(tmp_path):
    stores = [Store(default_url(tmp_path), DIGEST) for _ in range(3)]
    threads = [
        threading.Thread(target=lambda s=s, k=k: [s.append(draft(100 * k + n)) for n in range(20)])
        for k, s in enumerate(stores)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    events = stores[0].events()
    assert [e.number for e in events] == list(range(1, 61)) and stores[0].verify() == []
    for store in stores:
        store.close()


def test_erasing_leaves_one_event_that_says_so(store):
    for n in range(4):
        store.append(draft(n, n % 2))
    store.erase(0)
    assert [e.kind for e in store.events(0)] == ["withdraw"] and len(store.events(1)) == 2
    assert store.verify() == []
    assert store.append(draft(9)).number == 2, "the writer does not go on from what it remembers"
    assert store.verify() == []


def test_events_taken_away_at_the_end_are_missed(store, tmp_path):
    for n in range(20):
        store.append(draft(n, n % 2))
    for statement in ("DELETE FROM events WHERE number=10 AND stream=0", "DELETE FROM events WHERE stream=1",
                      "DELETE FROM heads WHERE stream=1"):  # fmt: skip
        with sqlite3.connect(tmp_path / "answers.sqlite") as connection:
            assert connection.execute(statement).rowcount
    problems = store.verify()
    assert any("10 events were stored, 9 are there" in line for line in problems), problems
    assert any("20 events in 2 streams were stored, 9 in 1 are there" in line for line in problems), problems


def test_a_chain_with_fresh_digests_lacks_the_seal(tmp_path):
    url = default_url(tmp_path)
    store = Store(url, DIGEST, b"the study's own")
    for n in range(5):
        store.append(draft(n))
    events = store.events()
    store.close()
    previous = events[-2].digest
    forged = replace(events[-1], body={**events[-1].body, "value": 5.0})
    forged = replace(forged, digest=forged.expected_digest(previous))
    stranger = Store(url, DIGEST, b"")  # whoever has the file, but not the key
    with sqlite3.connect(tmp_path / "answers.sqlite") as connection:
        connection.execute("UPDATE events SET body=?, digest=? WHERE number=5", (canonical(forged.body), forged.digest))
        connection.execute("UPDATE heads SET digest=?, seal=?", (forged.digest, stranger._head(forged)["seal"]))
    stranger.close()
    store = Store(url, DIGEST, b"the study's own")
    assert any("seal" in line for line in store.verify())
    store.close()


def test_a_damaged_file_is_reported_salvaged_and_backed_up(store, tmp_path):
    for n in range(400):
        store.submit(draft(n, n % 7))
    store.append(draft(400, 0))
    store.backup(tmp_path / "copy.sqlite")
    with pytest.raises(InputError, match="already"):
        store.backup(tmp_path / "copy.sqlite")
    store.close()
    path = tmp_path / "answers.sqlite"
    pages = bytearray(path.read_bytes())
    at = pages.index(b"key-3-" + b"%020d" % 38)  # a page of events
    start = at - at % 4096
    pages[start : start + 4096] = os.urandom(4096)
    path.write_bytes(bytes(pages))
    damaged = Store(default_url(tmp_path), DIGEST)
    problems = damaged.verify()
    assert problems and all(isinstance(line, str) for line in problems)
    found, lost = damaged.salvage()
    assert 200 < len(found) < 401 and lost, (len(found), lost[:3])
    damaged.close()
    copy = Store(f"sqlite:///{tmp_path / 'copy.sqlite'}", DIGEST)
    assert copy.verify() == [] and len(copy.events()) == 401
    copy.close()


def test_what_was_erased_is_not_in_the_files_any_more(store, tmp_path):
    store.append(Draft(3, "k" * 16, "answer", {"value": "unmistakable-words"}))
    store.append(draft(1))
    store.erase(3)
    for path in tmp_path.iterdir():
        assert b"unmistakable-words" not in path.read_bytes(), path.name


@pytest.mark.parametrize("body", [{"value": "\ud800"}, {"value": object()}])
def test_an_event_that_cannot_be_written_fails_no_other(store, body):
    good, bad, more = store.submit(draft(1)), store.submit(Draft(0, "k" * 16, "answer", body)), store.submit(draft(2))
    assert good.result().number == 1 and more.result().number == 2
    with pytest.raises((UnicodeEncodeError, TypeError)):
        bad.result()
    assert store.verify() == []


def test_a_client_that_hangs_up_does_not_take_the_writer_along(store):
    """asyncio cancels the future of a request whose client has gone: setting its result used to end the thread."""
    for n in range(200):
        store.submit(draft(n)).cancel()
    assert store.append(draft(1000)).key == draft(1000).key
    assert store._thread.is_alive()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_writer_that_died_is_followed_by_another(store, monkeypatch, capsys):
    first = store.append(draft(0))
    monkeypatch.setattr(store, "_commit", lambda batch: sys.exit())
    with pytest.raises(RuntimeError, match="SystemExit"):
        store.append(draft(1))
    monkeypatch.undo()
    assert store._thread.is_alive(), "what ends a thread is answered, and does not end it"
    store._queue.put("nonsense")  # nothing known ends it: so this does
    store._thread.join()
    assert store.append(draft(2)).number == 2 and store.append(draft(1)).number == 3
    assert capsys.readouterr().err.count("was started again") == 1
    assert store.events()[0] == first and store.verify() == []


def test_a_clock_that_is_set_back_loses_nothing(store, monkeypatch):
    class Back(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) - timedelta(hours=1)

    before = [store.append(draft(n)) for n in range(3)]
    monkeypatch.setattr(events, "datetime", Back)
    after = [store.append(draft(n)) for n in range(3, 6)]
    assert after[0].at < before[0].at and store.events() == before + after and store.verify() == []


def test_a_closed_store_says_so_and_does_not_keep_anybody_waiting(tmp_path):
    store = Store(default_url(tmp_path), DIGEST)
    store.close()
    with pytest.raises(Refused, match="closed"):
        store.submit(draft(1)).result(timeout=5)


def test_a_full_disk_is_said_so_once_and_everything_acknowledged_stays(tmp_path, capsys):
    store = Store(default_url(tmp_path), DIGEST)
    first = store.append(draft(0))
    with store.engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
    sa.event.listen(store.engine, "checkout", lambda dbapi, *_: dbapi.execute(f"PRAGMA max_page_count={pages + 2}"))
    big = "x" * 3000
    refused = 0
    for n in range(1, 12):
        try:
            store.append(Draft(0, draft(n).key, "answer", {"value": big}))
        except Refused as refusal:
            refused += 1
            assert refusal.status == 507 and "kept in this browser" in str(refusal)
    assert refused > 3 and capsys.readouterr().err.count("livo:") == 1
    assert store.events()[0] == first and store.verify() == []
    store.close()


def test_the_files_are_frozen_by_the_first_event(tmp_path):
    store = Store(default_url(tmp_path), DIGEST)
    store.check_frozen()
    store.append(draft(1))
    store.close()
    other = Store(default_url(tmp_path), "e" * 64)
    with pytest.raises(InputError, match="changed since the first answer"):
        other.check_frozen()
    other.close()


@pytest.mark.parametrize(
    "url", ["nonsense", "sqlite:////no/such/folder/x.sqlite", "postgresql+psycopg://127.0.0.1:1/none", "oracle://x/y"]
)
def test_a_store_that_is_not_there_is_said_so(url):
    with pytest.raises(InputError, match="store"):
        Store(url, DIGEST)


def test_a_disk_that_a_restart_empties_is_refused_on_a_space(monkeypatch, tmp_path):
    refuse_ephemeral(default_url(tmp_path))
    monkeypatch.setenv("SPACE_ID", "someone/space")
    monkeypatch.setattr(os.path, "ismount", lambda path: False)
    with pytest.raises(InputError, match="--allow-ephemeral"):
        refuse_ephemeral(default_url(tmp_path))
    refuse_ephemeral("postgresql+psycopg://host/name")
    monkeypatch.setattr(os.path, "ismount", lambda path: Path(path) == tmp_path)
    refuse_ephemeral(default_url(tmp_path))


WRITER = """
import sys
from livo.web.events import Draft, Store
store = Store(sys.argv[1], "d" * 64)
for n in range(int(sys.argv[2]), 1_000_000):
    event = store.append(Draft(0, f"key-{n:020d}", "answer", {"trial": "t", "question": "q", "value": n}))
    print(n, event.number, flush=True)
"""


def test_a_kill_at_any_moment_loses_nothing_acknowledged(tmp_path):
    url, acknowledged = default_url(tmp_path), {}
    for turn in range(4):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, url, str(turn * 100_000)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        ) as writer:
            for _ in range(7 + 13 * turn):
                n, number = writer.stdout.readline().split()
                acknowledged[int(n)] = int(number)
            writer.kill()
            for line in writer.stdout:
                if len(line.split()) == 2 and line.endswith("\n"):
                    acknowledged[int(line.split()[0])] = int(line.split()[1])
    store = Store(url, DIGEST)
    stored = {e.body["value"]: e.number for e in store.events()}
    assert acknowledged.items() <= stored.items() and len(acknowledged) > 50
    assert len(stored) == len(store.events()) and store.verify() == []
    store.close()


def test_a_server_that_is_killed_while_people_rate_loses_and_doubles_nothing(tmp_path):
    folder = make_folder(
        tmp_path / "study",
        prompts=4,
        seeds=4,
        raters=12,
        ratings_per_rater=12,
        questions=("consistency_5",),
        training=0,
        gold_every=0,
    )
    port = free_port()
    server = Server(folder.path, port)
    try:
        server.wait()
        raters = run_raters(folder, port, 12, 12, 0.2, server, kills=3, every=0.9)
        with ThreadPoolExecutor(1) as pool:  # a browser test before this one leaves its event loop in the main thread
            diary = pool.submit(asyncio.run, raters).result()
    finally:
        server.kill()
    counts = account(folder, default_url(folder.path), diary)
    assert counts["receipts"] == 12 * 13 and counts["retries"] > 0, "the kills were felt"
    assert counts | {"lost": 0, "doubled": 0, "changed": 0, "problems": 0, "stored": 12 * 13} == counts
