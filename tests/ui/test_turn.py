"""One comparison at a time, however it came in; whoever fetches nothing more loses the turn.

Work ends with its caller.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from livo.types import InputError
from livo.ui.turn import Shares, Turn


class Work:
    """Counts how many are at work at once, and how many steps were made."""

    def __init__(self) -> None:
        self.running, self.most, self.steps, self.lock = 0, 0, 0, threading.Lock()

    def items(self, n: int = 5) -> Iterator[int]:
        with self.lock:
            self.running += 1
            self.most = max(self.most, self.running)
        try:
            for i in range(n):
                time.sleep(0.01)
                self.steps += 1
                yield i
        finally:
            with self.lock:
                self.running -= 1


def test_no_two_run_at_once() -> None:
    turn, work = Turn(), Work()
    with ThreadPoolExecutor(12) as pool:
        done = list(pool.map(lambda _: list(turn.hold(work.items())), range(12)))
    assert done == [list(range(5))] * 12 and work.most == 1


def test_closing_ends_the_work_and_gives_the_turn_back() -> None:
    turn, work = Turn(patience=1), Work()
    first = turn.hold(work.items(1_000))
    next(first)
    first.close()
    assert work.running == 0 and work.steps == 1
    assert list(turn.hold(work.items(2))) == [0, 1]


def test_one_address_leaves_the_others_their_part(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1_000.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    shares = Shares()
    for _ in range(3):
        assert not shares.check("loop")
        shares.charge("loop", 40)  # alone: as much as it likes
    assert shares.check("visitor")
    with pytest.raises(InputError, match="others are waiting.*try again in 501 s"):
        shares.check("loop")
    assert shares.check("visitor")
    clock[0] += 61  # the visitor has gone
    assert not shares.check("loop") and not shares.check("")


def test_a_failure_gives_the_turn_back() -> None:
    def fails() -> Iterator[int]:
        yield 1
        raise InputError("it failed")

    turn = Turn(patience=1)
    with pytest.raises(InputError, match="it failed"):
        list(turn.hold(fails()))
    assert list(turn.hold(iter([1]))) == [1]


def test_who_waits_too_long_is_told_so() -> None:
    turn, work = Turn(patience=0.3), Work()
    first = turn.hold(work.items())
    next(first)
    with pytest.raises(InputError, match="try again in a minute"):
        list(turn.hold(work.items()))
    first.close()


def test_a_caller_who_fetches_nothing_more_loses_the_turn() -> None:
    turn, work = Turn(patience=5, abandoned=0.2), Work()
    first = turn.hold(work.items())
    next(first)  # and then nobody asks again: the tab is gone, and nothing closed the iterator
    assert list(turn.hold(work.items(3))) == [0, 1, 2]
    with pytest.raises(InputError, match="ask again"):
        next(first)
    assert work.running == 0
