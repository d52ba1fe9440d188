"""Who waits for a comparison, and in which order: whoever had least of the server's time lately comes first.

keep_in_order(page._queue, turn, GENERATION, most=20, full="...")       before the page is launched

Gradio's queue takes events in the order in which they came, and works for whoever never fetches the answer: somebody
with many addresses fills it, and nobody else gets anything. This reaches into Gradio's queue; nothing else does.
"""

from __future__ import annotations

import functools
import inspect
import time
from collections.abc import Callable
from typing import Any

from gradio.queueing import Event, Queue
from gradio.server_messages import ProcessCompletedMessage

from livo.types import InputError
from livo.ui.turn import Shares, Turn
from livo.web.guard import asker

BEGUN = 8
"""Comparisons that may have begun; one is at work, and the others wait for it or have given way. Twice as many where
the next one comes before them all."""
MUCH, MUCH_MORE = 5.0, 20.0
"""Seconds by which all that have begun must come after one that waits, so that one is ended; the second where no more
than one can begin."""
LIKELY = {"methods": 3.0, "images": 8.0, "steps": 12.0}
"""Of a comparison that does not say so."""
POLL = 0.02
"""Seconds after which the queue looks again whether something can begin; Gradio's thousand looks a second cost the
generator time."""
SOON, UNHEARD = 3.0, 30.0
"""Seconds after which an event whose messages nobody has begun to fetch makes room for others, and is dropped; it does
not begin before somebody does."""
UNREAD = 120.0
"""Seconds after which messages that nobody fetches are thrown away."""
LONGEST_NAME = 64
"""Letters of a session's name, which Gradio keeps."""
DISPLACED = "others came who had less of the server's time lately, and the queue is full: try again in a minute"


def keep_in_order(queue: Queue, turn: Turn, line: str, most: int, full: str, begun: int = BEGUN) -> None:
    """Makes a queue fair.

    Args:
        turn: which of those that have begun is at work; it knows how much each address had.
        line: the queue's name (`concurrency_id`) of whatever generates.
        most: events that may wait.
        full: what a newcomer is told where all that wait had less.
        begun: comparisons that may have begun: 1 where none can give way, as on a lent GPU.
    """
    shares = turn.shares
    push, get = queue.push, queue.get_events
    unread = Unread(queue)
    queue.sleep_when_free = POLL
    for function in queue.blocks.fns.values():
        if function.concurrency_id == line:
            function.concurrency_limit = begun

    async def fair_push(body: Any, request: Any, username: Any) -> Any:
        unread.sweep()
        if len(body.session_hash or "") > LONGEST_NAME:
            return False, f"a session's name has at most {LONGEST_NAME} letters", "error"
        function = queue.blocks.fns.get(body.fn_index)
        if function is None or function.concurrency_id != line:
            return await push(body, request, username)
        who = asker(request)
        shares.asked(who)
        try:
            shares.check(who)
        except InputError as error:  # before it takes anybody's place
            return False, str(error), "queue_full"
        waiting = _line(queue, line)
        if len(queue) >= most:
            rank = _rank(waiting, turn)
            last = max(waiting, key=lambda event: (unread.unheard(event, SOON), rank(event)), default=None)
            own = turn.standing(who) + shares.seconds(size_asked(function.fn, body.data))
            own += sum(_seconds(event, shares) for event in waiting if asker(event.request) == who)
            if last is None or (rank(last) <= own and not unread.unheard(last, SOON)):
                return False, full, "queue_full"
            _displace(queue, waiting, last)
        return await push(body, request, username)

    def fair_get() -> Any:
        if (there := queue.event_queue_per_concurrency_id.get(line)) is None:
            return get()
        for event in [event for event in there.queue if unread.unheard(event, UNHEARD)]:
            _displace(queue, there.queue, event)
        unheard = [event for event in there.queue if unread.unheard(event)]
        rank = _rank(there.queue, turn)
        there.queue = sorted((event for event in there.queue if event not in unheard), key=rank)
        if there.queue:
            first = rank(there.queue[0])
            there.concurrency_limit = 2 * begun if begun > 1 and first < turn.least else begun
            if there.current_concurrency >= there.concurrency_limit:
                turn.make_room(first, MUCH if begun > 1 else MUCH_MORE)
        chosen = get()
        there.queue += unheard
        return chosen

    queue.push, queue.get_events = fair_push, fair_get


def _line(queue: Queue, line: str) -> list[Event]:
    there = queue.event_queue_per_concurrency_id.get(line)
    return there.queue if there else []


def _rank(waiting: list[Event], turn: Turn) -> Callable[[Event], float]:
    """What each address will have had once an event of its is done."""
    ranks, ahead = dict[str, float](), dict[str, float]()
    for event in sorted(waiting, key=lambda event: event.enqueue_time):
        who = asker(event.request)
        ahead[who] = (ahead.get(who) or turn.standing(who)) + _seconds(event, turn.shares)
        ranks[event._id] = ahead[who]
    return lambda event: ranks[event._id]


def _seconds(event: Event, shares: Shares) -> float:
    return shares.seconds(size_asked(event.fn.fn, event.data.data if event.data else []))


def size_asked(function: Callable[..., Any] | None, data: list[Any]) -> float:
    """Methods x pictures x steps that an event asks for, as far as its data say so; whether they fit is asked later.

    Args:
        function: takes the data in their order, and calls them by their names.
    """
    names = _parameters(function) if function else ()
    given = dict(zip(names, data, strict=False))
    ids = given.get("methods")
    asked = {
        "methods": 2.0 if "method" in names else float(ids.count(",") + 1) if isinstance(ids, str) else None,
        "images": given.get("images", given.get("count")),
        "steps": given.get("steps"),
    }
    size = 1.0
    for name, likely in LIKELY.items():
        said = asked[name]
        size *= min(1_000.0, max(1.0, said)) if isinstance(said, int | float) else likely
    return size


@functools.lru_cache(maxsize=32)
def _parameters(function: Callable[..., Any]) -> tuple[str, ...]:
    return tuple(inspect.signature(function).parameters)


def _displace(queue: Queue, waiting: list[Event], event: Event) -> None:
    waiting.remove(event)
    queue.send_message(event, ProcessCompletedMessage(output={"error": DISPLACED}, success=False))
    queue.event_ids_to_events.pop(event._id, None)


class Unread:
    """Messages of a queue that nobody fetches: Gradio keeps those of 2,000 sessions, with their pictures, for ever."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._fetched: dict[str, tuple[int, float]] = {}
        self._swept = 0.0

    def unheard(self, event: Event, seconds: float = 0.0) -> bool:
        """Whether an event has waited for so long, and not one message was ever fetched of its session's."""
        messages = self._queue.pending_messages_per_session.get(event.session_hash)
        never = messages is not None and messages.qsize() > 0 and _fetched(messages) == 0
        return never and time.monotonic() - event.enqueue_time >= seconds

    def sweep(self) -> None:
        """Throws away what lay there for long."""
        now, queue = time.monotonic(), self._queue
        if now - self._swept < UNREAD / 4:
            return
        self._swept = now
        busy = {event.session_hash for event in queue.event_ids_to_events.values()}
        fetched = dict[str, tuple[int, float]]()
        for session, messages in list(queue.pending_messages_per_session.items()):
            count, since = self._fetched.get(session, (-1, now))
            same = count == _fetched(messages) and messages.qsize() > 0 and session not in busy
            if same and now - since > UNREAD:
                queue.pending_messages_per_session.pop(session, None)
            else:
                fetched[session] = (_fetched(messages), since if same else now)
        self._fetched = fetched
        for session in set(queue.pending_event_ids_session) - busy - set(fetched):
            queue.pending_event_ids_session.pop(session, None)


def _fetched(messages: Any) -> int:
    return messages._unfinished_tasks - messages.qsize()  # all that were ever put in, less those that are there
