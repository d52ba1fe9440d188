"""Who gets pictures when, by a simulated clock: Gradio's real queue and the real turn, and comparisons that only take
time. What hostile clients cost honest visitors is a property of the order, and needs no machine to be measured on."""

from __future__ import annotations

import heapq
import random
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import gradio as gr
import numpy as np
import pytest
from gradio.data_classes import PredictBodyInternal
from loops import finish

from livo.types import InputError
from livo.ui import turn as turn_module
from livo.ui.turn import Turn
from livo.ui.waiting import keep_in_order

STEPS, HONEST, THINK = 12, 50, 120.0
"""Steps of a comparison; visitors, and mean seconds between two comparisons of one."""


@dataclass(eq=False)
class Asked:
    who: str
    at: float
    methods: int
    images: int
    each: float
    hangs_up: float = float("inf")
    work: Generator[Any, None, None] | None = None


@dataclass
class Found:
    """Seconds until an honest visitor had pictures; what else they were told; comparisons of hostile clients."""

    waits: list[float] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    hostile: int = 0

    @property
    def p95(self) -> float:
        return float(np.quantile(self.waits, 0.95))


def generate(methods: str, count: float, steps: float) -> None:
    """What the page's function is called with."""


class Server:
    """One function that generates."""

    def __init__(self, clock: list[float]) -> None:
        with gr.Blocks() as page:
            gr.Button().click(generate, [gr.Textbox(), gr.Number(), gr.Number()], concurrency_id="generation")
        page.queue(max_size=20)
        self.clock, self.queue, self.turn = clock, page._queue, Turn(look=0.0)
        keep_in_order(self.queue, self.turn, "generation", 20, "full")
        self.at_work: list[Asked] = []

    async def push(self, asked: Asked) -> str:
        """Empty, or why it was refused."""
        session = f"{asked.who} {asked.at}"
        request = SimpleNamespace(client=SimpleNamespace(host=asked.who))
        body = PredictBodyInternal.model_construct(
            fn_index=0, session_hash=session, data=[",".join("m" * asked.methods), asked.images, STEPS], request=None,
            event_id=None, trigger_id=None,
        )  # fmt: skip
        body.__dict__["asked"] = asked
        taken, told, _ = await self.queue.push(body, request, None)  # type: ignore[arg-type]
        if taken:
            there = self.queue.pending_messages_per_session[session]
            while there.qsize():
                there.get_nowait()
        return "" if taken else str(told)

    def begin(self) -> None:
        line = self.queue.event_queue_per_concurrency_id.get("generation")
        while line and line.queue and (got := self.queue.get_events()):
            line.current_concurrency += 1
            asked = got[0][0].data.__dict__["asked"]
            asked.work = self.turn.hold(self._steps(asked), asked.who, asked.methods * asked.images * STEPS)
            self.at_work.append(asked)

    def _steps(self, asked: Asked) -> Iterator[int]:
        for number in range(STEPS):
            self.clock[0] += asked.methods * asked.images * asked.each
            yield number

    def look(self) -> Iterator[tuple[Asked, str]]:
        """Every caller asks for the next message once; those that are through, with an error or without."""
        for asked in list(self.at_work):
            if self.clock[0] >= asked.hangs_up:  # nobody fetches anything more
                over = "hung up"
                asked.work.close()
            else:
                try:
                    next(asked.work)
                    continue
                except StopIteration:
                    over = ""
                except InputError as error:
                    over = str(error)
            self.at_work.remove(asked)
            self.queue.event_queue_per_concurrency_id["generation"].current_concurrency -= 1
            yield asked, over


def crowd(clock: list[float], hostile: list[str], images: int = 50, each: float = 0.02, listens: float = 30.0) -> Found:
    """Five minutes of honest visitors, each with an address, beside hostile clients, who ask again at once.

    Args:
        images: that these ask for, of two methods; 50 is as much as they may.
        each: seconds of a step of one picture, on honest visitors' machine; a third of that in large calls.
        listens: seconds after which they hang up.
    """
    rng, found, server, begun, ends = random.Random(0), Found(), Server(clock), clock[0], clock[0] + 300
    due: list[tuple[float, int, Asked]] = []

    def ask(asked: Asked) -> None:
        heapq.heappush(due, (asked.at, rng.randrange(10**9), asked))

    def again(who: str, at: float) -> None:
        if at < ends:
            ask(Asked(who, at, 2, images, each / 3 if images > 8 else each, at + listens))

    for number in range(HONEST):
        at = begun + rng.random() * THINK
        while at < ends:
            ask(Asked(f"10.0.0.{number}", at, rng.randint(1, 3), rng.randint(1, 4), each))
            at += rng.expovariate(1 / THINK)
    for number, who in enumerate(hostile):
        again(who, begun + number / 10)

    async def run() -> None:
        while due or server.at_work or len(server.queue):
            while due and due[0][0] <= clock[0]:
                asked = heapq.heappop(due)[2]
                if told := await server.push(asked):
                    if asked.who in hostile:
                        again(asked.who, clock[0] + 1.0)  # refusals in a loop come late
                    else:
                        found.refused.append(told)
            server.begin()
            before = clock[0]
            for asked, over in server.look():
                if asked.who in hostile:
                    found.hostile += not over
                    again(asked.who, clock[0] + 0.05)
                elif over:
                    found.refused.append(over)
                else:
                    found.waits.append(clock[0] - asked.at)
            if clock[0] == before:
                clock[0] += 0.05

    finish(run())
    return found


def simulated(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The clock, whose only number may be moved on."""
    now = [1_000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(turn_module, "release_memory", lambda: None)
    return now


MANY, ONE = [f"10.1.0.{n}" for n in range(20)], ["10.1.0.1"] * 20


@pytest.fixture(scope="module")
def alone() -> Found:
    with pytest.MonkeyPatch.context() as patch:
        return crowd(simulated(patch), [])


@pytest.mark.parametrize(
    ("hostile", "given"),
    [
        (MANY, {}),  # each as large as it may be
        (ONE, {}),
        (MANY, {"images": 2}),  # as small as a visitor's, in a loop
        (MANY, {"listens": 3.0}),  # and away
    ],
    ids=["twenty addresses", "one address", "small ones", "who hang up"],
)
def test_honest_visitors_wait_little_longer_beside_hostile_ones(
    monkeypatch: pytest.MonkeyPatch, alone: Found, hostile: list[str], given: dict[str, float]
) -> None:
    beside = crowd(simulated(monkeypatch), hostile, **given)
    assert len(beside.waits) == len(alone.waits) > 100, "the same visitors"
    assert not beside.refused and not alone.refused
    assert beside.p95 <= 1.5 * alone.p95


def test_what_honest_visitors_leave_is_everybodys(monkeypatch: pytest.MonkeyPatch) -> None:
    assert crowd(simulated(monkeypatch), MANY[:2]).hostile > 5
