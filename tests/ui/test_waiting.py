"""Gradio's queue, made fair: its real push and its real messages, without a server."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest
from gradio.data_classes import PredictBodyInternal
from gradio.queueing import Queue
from loops import finish

from livo.types import InputError
from livo.ui import waiting
from livo.ui.turn import AT_ONCE, ENOUGH, Shares, Turn
from livo.ui.waiting import DISPLACED, Unread, keep_in_order

MOST = 4


class Line:
    """A page of one function that generates, and one that does not."""

    def __init__(self) -> None:
        with gr.Blocks() as page:
            button = gr.Button()
            button.click(lambda: None, concurrency_id="generation", concurrency_limit=1)
            button.click(lambda: None, concurrency_id="other")
        page.queue(max_size=MOST)
        self.queue: Queue = page._queue
        self.shares = Shares()
        keep_in_order(self.queue, self.shares, "generation", MOST, "full")

    async def ask(self, who: str, session: str = "", function: int = 0) -> tuple[bool, str]:
        request = SimpleNamespace(client=SimpleNamespace(host=who))
        body = PredictBodyInternal.model_construct(
            fn_index=function, session_hash=session or who, data=[], request=None, event_id=None, trigger_id=None
        )
        taken, told, _ = await self.queue.push(body, request, None)  # type: ignore[arg-type]
        return taken, str(told)

    @property
    def order(self) -> list[str]:
        return [event.session_hash for event in self.queue.event_queue_per_concurrency_id["generation"].queue]

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
        line.shares.charge("greedy", 100)
        await line.ask("honest")
        taken, told = await line.ask("greedy")
        assert not taken and "others are waiting" in told and line.order == ["honest"]
        assert (await line.ask("greedy", function=1))[0], "what makes no pictures is no matter of shares"

    finish(run())


def test_a_loop_comes_after_a_visitor_and_its_long_work_gives_way() -> None:
    async def run() -> None:
        line = Line()
        for n in range(3):
            await line.ask("loop", f"l{n}")
        await line.ask("visitor")
        assert line.order == ["visitor", "l0", "l1", "l2"]
        turn = Turn()
        turn.shares = line.shares
        slow = turn.hold(iter(range(9)), "loop")
        line.shares.charge("loop", AT_ONCE)
        assert list(slow) == list(range(9)), "what is usual here is not known yet: no machine is too slow"
        for _ in range(ENOUGH):
            line.shares.finished(-1.0)  # whatever comes takes longer
        steps = turn.hold(iter(range(9)), "loop")
        assert next(steps) == 0
        with pytest.raises(InputError, match="this was ended, because others are waiting"):
            next(steps)
        line.queue.event_queue_per_concurrency_id["generation"].queue.clear()
        assert list(turn.hold(iter(range(9)), "loop")) == list(range(9)), "nobody waits"

    finish(run())


def test_a_sessions_name_is_short() -> None:
    async def run() -> None:
        taken, told = await Line().ask("long", "x" * 100_000, function=1)
        assert not taken and "at most 64 letters" in told

    finish(run())


def test_what_nobody_listens_to_is_not_worked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        line = Line()
        await line.ask("gone")
        await line.ask("there")
        line.messages("there")
        monkeypatch.setattr(waiting, "UNHEARD", -1)
        await line.ask("new")  # everybody is told how long it takes
        line.queue.broadcast_estimations("generation")
        by_session = {event.session_hash: event for event in line.queue.event_ids_to_events.values()}
        assert not by_session["gone"].alive and by_session["there"].alive

    finish(run())


def test_messages_that_nobody_fetches_are_thrown_away(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1_000.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])

    async def run() -> None:
        line = Line()
        unread = Unread(line.queue)
        for session in ("gone", "waits"):
            await line.ask(session)
        events = {event.session_hash: event for event in line.queue.event_ids_to_events.values()}
        for event in (events["gone"],):  # its work has ended
            line.queue.event_ids_to_events.pop(event._id)
        for _ in range(6):
            unread.sweep()
            clock[0] += waiting.UNREAD / 2
        assert list(line.queue.pending_messages_per_session) == ["waits"]
        assert list(line.queue.pending_event_ids_session) == ["waits"]

    finish(run())
