"""Gradio's queue, made fair: its real push and its real messages, without a server."""

from __future__ import annotations

import inspect
import time
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest
from gradio.data_classes import PredictBodyInternal
from gradio.queueing import Queue
from loops import finish

from livo.types import InputError
from livo.ui import turn as turn_module
from livo.ui import waiting
from livo.ui.compare_tab import GENERATION
from livo.ui.page import build_page
from livo.ui.turn import Paused, Turn
from livo.ui.waiting import BEGUN, DISPLACED, Unread, keep_in_order, size_asked
from livo.ui.workbench import load_workbench

MOST = 4


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process full of other tests' things takes a second to look through them."""
    monkeypatch.setattr(turn_module, "release_memory", lambda: None)


class Line:
    """A page of one function that generates, and one that does not."""

    def __init__(self) -> None:
        with gr.Blocks() as page:
            button = gr.Button()
            button.click(lambda: None, concurrency_id="generation", concurrency_limit=1)
            button.click(lambda: None, concurrency_id="other")
        page.queue(max_size=MOST)
        self.queue: Queue = page._queue
        self.turn = Turn(abandoned=600.0, look=0.0)
        self.shares = self.turn.shares
        keep_in_order(self.queue, self.turn, "generation", MOST, "full")

    async def ask(self, who: str, session: str = "", function: int = 0, listens: bool = True) -> tuple[bool, str]:
        request = SimpleNamespace(client=SimpleNamespace(host=who))
        body = PredictBodyInternal.model_construct(
            fn_index=function, session_hash=session or who, data=[], request=None, event_id=None, trigger_id=None
        )
        taken, told, _ = await self.queue.push(body, request, None)  # type: ignore[arg-type]
        if taken and listens:
            self.messages(session or who)
        return taken, str(told)

    def take(self, line: str = "generation") -> str:
        """Whose event begins now; empty for nobody's."""
        events, _, of = self.queue.get_events() or ([], False, line)
        self.queue.event_queue_per_concurrency_id[of].current_concurrency += len(events)
        return events[0].session_hash if events else ""

    @property
    def order(self) -> list[str]:
        """Of those that wait; the queue is put in order when somebody's turn comes."""
        line = self.queue.event_queue_per_concurrency_id["generation"]
        line.current_concurrency, before = 2 * BEGUN, line.current_concurrency
        self.queue.get_events()
        line.current_concurrency = before
        return [event.session_hash for event in line.queue]

    def messages(self, session: str) -> list[Any]:
        there = self.queue.pending_messages_per_session[session]
        return [there.get_nowait() for _ in range(there.qsize())]


def test_who_had_least_comes_first_and_a_full_queue_has_room_for_them() -> None:
    async def run() -> None:
        line = Line()
        line.shares.charge("greedy", 15)
        for n in range(MOST):
            assert (await line.ask("greedy", f"g{n}"))[0]
        assert await line.ask("greedy", "g9") == (False, "full")
        assert (await line.ask("honest"))[0]
        assert line.order == ["honest", "g0", "g1", "g2"]
        told = line.messages("g3")[-1]
        assert told.output == {"error": DISPLACED} and not told.success
        assert (await line.ask("second"))[0] and line.order == ["honest", "second", "g0", "g1"]
        assert len(line.queue.event_ids_to_events) == MOST

    finish(run())


def test_who_asks_twice_comes_after_who_asks_once() -> None:
    async def run() -> None:
        line = Line()
        for who, session in (("a", "a1"), ("a", "a2"), ("b", "b1")):
            await line.ask(who, session)
        assert line.order == ["b1", "a1", "a2"]

    finish(run())


def test_who_had_too_much_takes_nobodys_place() -> None:
    async def run() -> None:
        line = Line()
        line.shares.charge("greedy", 200)
        await line.ask("honest")
        taken, told = await line.ask("greedy")
        assert not taken and "others are waiting" in told and line.order == ["honest"]
        assert (await line.ask("greedy", function=1))[0], "what makes no pictures is no matter of shares"

    finish(run())


def test_who_waits_for_a_place_gets_one_of_those_who_come_much_later() -> None:
    async def run() -> None:
        line = Line()
        work = list[Any]()

        async def one(who: str) -> bool:
            await line.ask(who)
            if begins := line.take() == who:
                work.append(line.turn.hold(iter(range(9)), who))
                assert next(work[-1]) == (Paused() if work[1:] else 0)
                line.shares.charge(who, 19 + len(work))
            return begins

        for n in range(2 * BEGUN):
            assert await one(f"10.0.0.{n}"), "each had less than those before"
        assert line.take() == "", "nobody waits"
        assert next(work[1]) == Paused()
        assert not await one("visitor")
        with pytest.raises(InputError, match="others are waiting who had less"):
            next(work[-1])

    finish(run())


def test_no_more_begin_than_may_where_they_come_no_earlier() -> None:
    async def run() -> None:
        line = Line()
        for n in range(BEGUN + 1):
            await line.ask(f"10.0.0.{n}")
            assert line.take() == (f"10.0.0.{n}" if n < BEGUN else "")
            if n == 0:
                first = line.turn.hold(iter(range(9)), "10.0.0.0")
                assert next(first) == 0
        assert len(line.order) == 1

    finish(run())


def on_click(prompt: str, methods: str, count: float, steps: float) -> None:
    """As the page's."""


def tool(prompt: str, method: str, images: int = 4) -> None:
    """As a program's."""


@pytest.mark.parametrize(
    ("function", "data", "size"),
    [
        (on_click, ["x", "a,b", 50, 12], 1_200),
        (tool, ["x", "livo", 50], 2 * 50 * 12),
        (tool, ["x"], 2 * 8 * 12),
        (on_click, [None, {}, "many", float("nan")], 3 * 8 * 1),
        (on_click, ["x", "a", -5, 10**400], 1_000),
        (None, [], 3 * 8 * 12),
    ],
)
def test_what_an_event_asks_for_is_known_before_it_begins(function: Any, data: list[Any], size: float) -> None:
    assert size_asked(function, data) == size


def test_the_pages_functions_say_what_is_asked_of_them() -> None:
    page = build_page(load_workbench("miniature", "cpu"), [])
    ours = {f.fn.__name__: f.fn for f in page.fns.values() if f.concurrency_id == GENERATION and f.fn}
    for name in ("on_click", "on_preset", "compare", "bias_report"):
        names = set(inspect.signature(ours[name]).parameters)
        assert names & {"methods", "method"} and names & {"images", "count"}, name


def test_a_sessions_name_is_short() -> None:
    async def run() -> None:
        taken, told = await Line().ask("long", "x" * 100_000, function=1)
        assert not taken and "at most 64 letters" in told

    finish(run())


def test_what_nobody_listens_to_does_not_begin_and_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        line = Line()
        for n in range(MOST):
            await line.ask(f"gone{n}", listens=False)
        assert line.take() == ""
        line.shares.charge("new", 1)
        assert await line.ask("new") == (False, "full"), "they may come still"
        monkeypatch.setattr(waiting, "SOON", -1)
        assert (await line.ask("new"))[0] and line.order[0] == "new" and len(line.order) == MOST
        line.messages("gone0")
        assert [line.take(), line.take(), line.take()] == ["gone0", "new", ""]
        monkeypatch.setattr(waiting, "UNHEARD", -1)
        assert line.take() == "" and line.order == []

    finish(run())


def test_messages_that_nobody_fetches_are_thrown_away(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1_000.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])

    async def run() -> None:
        line = Line()
        unread = Unread(line.queue)
        for session in ("gone", "waits"):
            await line.ask(session, listens=False)
        events = {event.session_hash: event for event in line.queue.event_ids_to_events.values()}
        for event in (events["gone"],):  # its work has ended
            line.queue.event_ids_to_events.pop(event._id)
        for _ in range(6):
            unread.sweep()
            clock[0] += waiting.UNREAD / 2
        assert list(line.queue.pending_messages_per_session) == ["waits"]
        assert list(line.queue.pending_event_ids_session) == ["waits"]

    finish(run())
