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
from livo.ui.turn import ENDED, HALF, Paused, Shares, Turn


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


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1_000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_one_address_leaves_the_others_their_part(clock: list[float]) -> None:
    shares = Shares()
    for _ in range(3):
        assert not shares.check("loop")
        shares.charge("loop", 60)  # alone: as much as it likes
    assert shares.check("visitor")
    with pytest.raises(InputError, match="others are waiting.*try again in 301 s"):
        shares.check("loop")
    assert shares.check("visitor")
    clock[0] += 61  # the visitor has gone
    assert not shares.check("loop") and not shares.check("")


def test_half_of_what_an_address_had_is_forgotten_in_five_minutes(clock: list[float]) -> None:
    shares = Shares()
    shares.charge("loop", 8)
    clock[0] += HALF
    assert shares.used("loop") == pytest.approx(4)
    shares.charge("loop", 2)
    clock[0] += HALF
    assert shares.used("loop") == pytest.approx(3) and shares.used("visitor") == 0


def test_who_asks_without_a_pause_comes_later_and_is_not_refused_for_it(clock: list[float]) -> None:
    shares = Shares()
    shares.asked("visitor")
    shares.asked("loop")
    for _ in range(30):
        clock[0] += 20
        shares.asked("visitor")
        for _ in range(20):
            shares.asked("loop")
    assert shares.standing("visitor") < 10 < 1_000 < shares.standing("loop")
    shares.check("visitor")
    assert shares.check("loop"), "a class behind one address asks so"


def test_how_long_a_comparison_takes_is_learned_from_those_before() -> None:
    shares = Shares()
    for _ in range(100):
        shares.finished(60, 3.0)
    assert shares.seconds(120) == pytest.approx(6.0, rel=1e-3)


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


def test_work_gives_way_between_two_steps_to_who_will_have_had_less() -> None:
    turn, order = Turn(), list[str]()

    def steps(name: str, n: int) -> Iterator[str]:
        for _ in range(n):
            order.append(name)
            yield name

    turn.shares.charge("often", 5)
    large, often, small = (
        turn.hold(steps("large", 3), "large", 400),
        *(turn.hold(steps(name, 3), name, 40) for name in ("often", "small")),
    )
    next(large)
    with ThreadPoolExecutor(3) as pool:
        others = [pool.submit(made, work) for work in (often, small)]
        while len(turn._claims) < 3:
            time.sleep(0.001)
        assert made(large) == 2 * ["large"], "it goes on where it was"
        assert [other.result() for other in others] == [3 * ["often"], 3 * ["small"]]
    assert order[0] == "large" and order[-3:] == 3 * ["often"], "who asks often comes last, however small"
    assert order[1:7] == 3 * ["small"] + 2 * ["large"] + ["often"]


def test_who_comes_first_goes_first_among_equals() -> None:
    turn, work = Turn(abandoned=600.0, look=0.0), Work()
    first, second = (turn.hold(work.items(3), who, 60) for who in ("first", "second"))
    next(first)
    assert isinstance(next(second), Paused) and made(first) == [1, 2]
    assert made(second) == [0, 1, 2] and work.most == 1


def test_one_is_ended_where_all_come_much_later_than_who_waits() -> None:
    turn, work = Turn(abandoned=600.0, look=0.0), Work()
    one, most = turn.hold(work.items(9), "one"), turn.hold(work.items(9), "most", 3_000)
    next(one)
    turn.shares.charge("one", 9)
    turn.make_room(5, 5)
    assert next(one) == 1, "4 s are not much"
    assert isinstance(next(most), Paused)
    turn.make_room(0, 5)
    turn.make_room(0, 5)
    with pytest.raises(InputError, match=ENDED):
        next(most)
    assert next(one) == 2, "one at a time"
