"""What goes wrong around a server: kills, damage, a full disk, a clock that is set back. `python -m tests.siege`."""

from __future__ import annotations

import contextlib
import resource
import secrets
import signal
import sqlite3
from collections.abc import Iterator

import httpx

from livo.web.events import Store
from tests.besieged import Line, Target, statuses

AHEAD = """
import datetime, runpy, sys, time
sys.path.insert(0, "")
import livo.web.events
real = time.time
class Ahead(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return super().now(tz) + datetime.timedelta(hours=1)
livo.web.events.datetime, time.time = Ahead, lambda: real() + 3600
sys.argv[0] = "app.py"
runpy.run_path("app.py", run_name="__main__")
"""
"""A server whose clock is an hour ahead."""


def kills(target: Target) -> Iterator[Line]:
    """kill -9 in the middle: nothing acknowledged is lost."""
    code, secret = target.room()
    receipts, _ = target.answer(code, 25)
    target.stop(signal.SIGKILL)
    target.start()
    there = target.answered(code, secret)
    held = there == len(receipts) > 0
    yield Line("kills", "kill -9 after 25 receipts", held, f"{there} of {len(receipts)} are there")


def full_disk(target: Target) -> Iterator[Line]:
    """Files cannot grow any more: stated refusals, one line, nothing acknowledged lost, and on it goes with room."""
    code, secret = target.room()
    receipts, _ = target.answer(code, 5)
    size = target.log.stat().st_size
    grown = max(path.stat().st_size for path in (target.rooms.with_name("rooms.sqlite-wal"), target.rooms, target.log))
    resource.prlimit(target.process.pid, resource.RLIMIT_FSIZE, (grown, resource.RLIM_INFINITY))
    more, replies = list[str](), list[httpx.Response]()
    while len(replies) < 60 and not (replies and replies[-1].status_code >= 500):  # the journal may have room still
        keys, got = target.answer(code, 5)
        more, replies = more + keys, replies + got
    failed = [r for r in replies if r.status_code != 200]
    pages = httpx.get(f"{target.base}/").status_code
    resource.prlimit(target.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    after, _ = target.answer(code, 5)
    told, sure = target.told_since(size), len(receipts) + len(more) + len(after)
    there = target.answered(code, secret)
    words = all(r.status_code in (503, 507) and "kept in this browser" in r.text for r in failed)
    held = bool(failed) and words and pages == 200 and len(after) == 5 and there == sure and told.count("\n") <= 1
    found = f"{statuses(failed)}, the page {pages}, afterwards 5 of {len(after)}; {there} of {sure} are there"
    yield Line("full disk", "files cannot grow under a room", held, f"{found}; log: {told.strip()[:60]}")


def clock(target: Target) -> Iterator[Line]:
    """Receipts of an hour to come, then the right clock: order, counts and chains stay."""
    target.stop(signal.SIGKILL)
    target.start(("-c", AHEAD))
    code, secret = target.room()
    receipts, _ = target.answer(code, 10)
    target.stop(signal.SIGKILL)
    target.start()
    more, _ = target.answer(code, 10)
    there = target.answered(code, secret)
    store = Store(f"sqlite:///{target.rooms}", "workshop")
    wrong, at = store.verify(), [event.at for event in store.events() if event.kind == "answer"][-20:]
    store.close()
    back = at != sorted(at)
    held = there == len(receipts) + len(more) == 20 and not wrong and back
    yield Line("clock", "set back an hour between answers", held, f"{there} of 20 are there; {len(wrong)} faults found")


def damage(target: Target) -> Iterator[Line]:
    """Two pages of the rooms' database overwritten: one line in the log, stated refusals, and the page goes on."""
    code, secret = target.room()
    target.stop(signal.SIGKILL)
    path = target.rooms
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
    whole = path.read_bytes()
    torn = bytearray(whole)
    torn[pages // 2 * 4_096 : (pages // 2 + 2) * 4_096] = secrets.token_bytes(8_192)
    path.write_bytes(torn)
    target.start()
    size = target.log.stat().st_size
    replies = [httpx.post(f"{target.base}/workshop/api/rooms", json={"lesson": "guess-the-set"}) for _ in range(5)]
    replies.append(httpx.get(f"{target.base}/"))
    told = target.log.read_bytes()[size:].decode()
    held = [r.status_code for r in replies] == [503] * 5 + [200] and told.count("\n") == 1 and "Traceback" not in told
    found = f"{statuses(replies)}; log: {told.strip()[:70]}"
    target.stop(signal.SIGKILL)
    path.write_bytes(whole)
    target.start()
    back = httpx.get(
        f"{target.base}/workshop/api/rooms/{code}/host", headers={"authorization": f"Bearer {secret}"}
    ).status_code
    yield Line("damage", "two pages of the database overwritten", held and back == 200, f"{found}; the copy: {back}")
