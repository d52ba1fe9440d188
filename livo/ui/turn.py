"""One comparison at a time, whichever way it came in: the page, the API, a tool call."""

from __future__ import annotations

import ctypes
import gc
import statistics
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from typing import TypeVar

from livo.compare.comparison import Comparison
from livo.types import InputError
from livo.web.guard import Buckets

PATIENCE = 120.0
"""Seconds that a comparison waits for its turn."""
ABANDONED = 30.0
"""Seconds after which a comparison whose caller fetches nothing more loses its turn."""
AT_ONCE = 20.0
"""Seconds of work that one address may use up while others ask too; then it has `SHARE` of the time."""
SHARE = 0.2
LONG, ENOUGH = 6.0, 5
"""Times the usual duration after which work gives way to others; the usual one is known from so many comparisons on."""
ALONE = 60.0
"""Seconds after which others who asked for nothing more are thought to be gone."""
Item = TypeVar("Item")


class Shares:
    """How much of the server's time each address has had: one that asks in a loop leaves the others their part.

    An address that is alone has all of it: a class behind one address, on a server of its own, is never limited.

    Attributes:
        others_wait: whether anybody stands in a queue who had less than an address.
    """

    def __init__(self) -> None:
        self.others_wait: Callable[[str], bool] = lambda who: False
        self._left = Buckets(AT_ONCE, SHARE)
        self._took: deque[float] = deque(maxlen=30)
        self._asked: dict[str, float] = {}
        self._lock = threading.Lock()

    def check(self, who: str) -> bool:
        """Whether others asked in the last minute: nobody's request may then be as large as it likes.

        Raises:
            InputError: they do, and it had more than its part lately.
        """
        if not who:
            return False
        with self._lock:
            now = time.monotonic()
            self._asked = {name: at for name, at in self._asked.items() if now - at < ALONE} | {who: now}
            if len(self._asked) == 1:
                return False
            if (left := self._left.left(who)) < 0:
                raise InputError(
                    "others are waiting, and most of the last minutes' work was for your network: try again in "
                    f"{1 - left / SHARE:.0f} s"
                )
            return True

    def check_step(self, who: str, seconds: float) -> None:
        """Between two steps of an address's work, which has taken so many seconds.

        Raises:
            InputError: that is long beside what others' work takes here, and some wait who had less.
        """
        usual = statistics.median(self._took) if len(self._took) >= ENOUGH else float("inf")
        if who and seconds > LONG * usual and self.others_wait(who):
            raise InputError(
                "this was ended, because others are waiting who had less of the server's time: ask for fewer images, "
                "methods or steps"
            )

    def finished(self, seconds: float) -> None:
        """A comparison took so long from its first step to its last."""
        self._took.append(seconds)

    def used(self, who: str) -> float:
        """Seconds of work that an address has had and not made up for."""
        with self._lock:
            return AT_ONCE - self._left.left(who)

    def charge(self, who: str, seconds: float) -> None:
        """What an address has used up."""
        if who:
            with self._lock:
                self._left.spend(who, seconds)


class Turn:
    """Held by one comparison from its first step to its last.

    A queue in front of it may have several doors; this is inside, so that none of them runs two comparisons at once.
    """

    def __init__(self, patience: float = PATIENCE, abandoned: float = ABANDONED) -> None:
        self._patience, self._abandoned = patience, abandoned
        self.shares = Shares()
        self._free = threading.Condition()
        self._holder: object | None = None
        self._idle_since = float("inf")

    def hold(self, work: Iterator[Item], who: str = "") -> Generator[Item, None, None]:
        """The items of a piece of work, made while nothing else is; closing it ends the work and gives the turn back.

        Args:
            who: to whose share the time counts; empty for nobody's.

        Raises:
            InputError: others took too long, or the caller did.
        """
        own = object()
        self._take(own)
        begun = charged = time.monotonic()

        def charge() -> None:
            nonlocal charged
            now = time.monotonic()
            self.shares.charge(who, now - charged)
            charged = now

        try:
            for item in work:
                self._wait_for_caller(own)
                yield item
                self._go_on(own)
                charge()
                if not isinstance(item, Comparison):  # which is the last item
                    self.shares.check_step(who, time.monotonic() - begun)
            self.shares.finished(time.monotonic() - begun)
        finally:
            if close := getattr(work, "close", None):
                close()
            charge()
            with self._free:
                if self._holder is own:
                    self._holder = None
                    self._free.notify_all()
            release_memory()

    def _take(self, own: object) -> None:
        until = time.monotonic() + self._patience
        with self._free:
            while self._holder is not None and time.monotonic() - self._idle_since < self._abandoned:
                if time.monotonic() > until:
                    raise InputError("another comparison is being made: try again in a minute")
                self._free.wait(0.25)
            self._holder, self._idle_since = own, float("inf")

    def _wait_for_caller(self, own: object) -> None:
        with self._free:
            if self._holder is own:
                self._idle_since = time.monotonic()

    def _go_on(self, own: object) -> None:
        with self._free:
            if self._holder is not own:
                raise InputError("nobody fetched this comparison for a while, and another one began: ask again")
            self._idle_since = float("inf")


def release_memory() -> None:
    """Gives what the pictures took back to the system; glibc keeps it otherwise."""
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
