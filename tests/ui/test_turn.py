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
from livo.ui import turn as turn_module
from livo.ui.turn import ENDED, ENOUGH, Paused, Shares, Turn


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process full of other tests' things takes a second to look through them."""
    monkeypatch.setattr(turn_module, "release_memory", lambda: None)


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


def made(items: Iterator[object]) -> list[object]:
    """What a turn yields, without the waiting."""
    return [item for item in items if not isinstance(item, Paused)]


def test_no_two_run_at_once() -> None:
    turn, work = Turn(), Work()
    with ThreadPoolExecutor(12) as pool:
        done = list(pool.map(lambda _: made(turn.hold(work.items())), range(12)))
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


def test_a_caller_who_fetches_nothing_more_loses_the_turn_for_a_while() -> None:
    turn, work = Turn(patience=5, abandoned=0.2), Work()
    first = turn.hold(work.items(4))
    next(first)  # and then nobody asks again: the tab is gone, and nothing closed the iterator
    assert list(turn.hold(work.items(3))) == [0, 1, 2]
    assert list(first) == [1, 2, 3] and work.running == 0, "whoever comes back goes on"


def usual(turn: Turn, seconds: float) -> None:
    for number in range(ENOUGH):
        turn.shares.finished(f"10.0.0.{number}", seconds)


def test_work_gives_way_between_two_steps_to_who_had_less() -> None:
    turn, order = Turn(), list[str]()

    def steps(name: str, n: int) -> Iterator[str]:
        for _ in range(n):
            order.append(name)
            yield name

    usual(turn, 1.0)
    large, small, equal = (turn.hold(steps(name, 3), name) for name in ("large", "small", "equal"))
    next(large)
    turn.shares.charge("large", 5)
    with ThreadPoolExecutor(3) as pool:
        others = [pool.submit(made, small), pool.submit(made, equal)]
        while len(turn._claims) < 3:
            time.sleep(0.001)
        assert made(large) == 2 * ["large"], "it goes on where it was"
        assert [item for other in others for item in other.result()] == 3 * ["small"] + 3 * ["equal"]
    assert sorted(order[1:7]) == 3 * ["equal"] + 3 * ["small"] and order[7:] == 2 * ["large"]


def test_what_had_no_more_than_a_usual_comparison_more_is_not_interrupted() -> None:
    turn, work = Turn(), Work()
    usual(turn, 10.0)
    first = turn.hold(work.items(3), "first")
    next(first)
    turn.shares.charge("first", 5)
    second = turn.hold(work.items(3), "second")
    assert isinstance(next(second), Paused) and list(first) == [1, 2]
    assert made(second) == [0, 1, 2] and work.most == 1


def test_one_is_ended_where_all_had_much_more_than_who_waits() -> None:
    turn, work = Turn(), Work()
    one, most = turn.hold(work.items(9), "one"), turn.hold(work.items(9), "most")
    next(one)
    turn.shares.charge("one", 9)
    turn.make_room(0, 2)
    assert next(one) == 1, "what is usual here is not known yet: no machine is too slow"
    usual(turn, 5.0)
    turn.make_room(0, 2)
    assert next(one) == 2, "9 s are no two usual ones"
    turn.shares.charge("one", 9)
    turn.shares.charge("most", 30)
    assert isinstance(next(most), Paused)
    turn.make_room(0, 2)
    turn.make_room(0, 2)
    with pytest.raises(InputError, match=ENDED):
        next(most)
    assert next(one) == 3, "one at a time"
