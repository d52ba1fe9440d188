"""One comparison at a time, whichever way it came in: the page, the API, a tool call."""

from __future__ import annotations

import ctypes
import gc
import statistics
import sys
import threading
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from livo.compare.comparison import Comparison
from livo.types import InputError
from livo.web.guard import Buckets

PATIENCE = 120.0
"""Seconds that a comparison waits for its turn, at a time."""
ABANDONED = 2.0
"""Seconds after which a comparison whose caller fetches nothing more gives its turn to others, until they come back."""
PRESENT = 10.0
"""Seconds after which one that waits, and whose caller does not look, is passed over."""
AT_ONCE = 20.0
"""Seconds of work that one address may use up while others ask too; then it has `SHARE` of the time."""
SHARE = 0.2
ENOUGH = 5
"""Addresses whose comparisons must have been timed before one gives way: no machine is too slow."""
ALONE = 60.0
"""Seconds after which others who asked for nothing more are thought to be gone."""
ENDED = (
    "this was ended, because others are waiting who had less of the server's time: ask for fewer images, methods or "
    "steps"
)
Item = TypeVar("Item")


class Shares:
    """How much of the server's time each address has had: one that asks in a loop leaves the others their part.

    An address that is alone has all of it: a class behind one address, on a server of its own, is never limited.
    """

    def __init__(self) -> None:
        self._left = Buckets(AT_ONCE, SHARE)
        self._took: dict[str, float] = {}
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

    def finished(self, who: str, seconds: float) -> None:
        """A comparison of an address took so long, from its first step to its last, without what others had of it."""
        with self._lock:
            self._took.pop(who, None)
            self._took[who] = seconds  # last in order
            while len(self._took) > 30:
                del self._took[next(iter(self._took))]

    @property
    def usual(self) -> float:
        """Seconds that a comparison takes here: the median over addresses, so that one that asks in a loop counts once.

        Without end where it is not known yet.
        """
        with self._lock:
            return statistics.median(self._took.values()) if len(self._took) >= ENOUGH else float("inf")

    def used(self, who: str) -> float:
        """Seconds of work that an address has had and not made up for."""
        with self._lock:
            return AT_ONCE - self._left.left(who)

    def charge(self, who: str, seconds: float) -> None:
        """What an address has used up."""
        if who:
            with self._lock:
                self._left.spend(who, seconds)


@dataclass(frozen=True)
class Paused:
    """A comparison waits for its turn, or gave it to others for a while."""


@dataclass(eq=False)
class TurnClaim:
    """A comparison that is at work or waits.

    Attributes:
        who: to whose share its time counts; empty for nobody's.
        seen: when its caller last looked.
        ended: somebody who had less needs its place.
    """

    who: str
    seen: float = field(default_factory=time.monotonic)
    ended: bool = False


class Turn:
    """Held by one comparison at a time; between two steps it goes to whoever had less of the server's time.

    A queue in front of it may have several doors; this is inside, so that none of them runs two comparisons at once.
    """

    def __init__(self, patience: float = PATIENCE, abandoned: float = ABANDONED) -> None:
        self._patience, self._abandoned = patience, abandoned
        self.shares = Shares()
        self._changed = threading.Condition()
        self._claims: list[TurnClaim] = []  # in the order in which they came
        self._holder: TurnClaim | None = None
        self._idle_since = float("inf")

    def hold(self, work: Iterator[Item], who: str = "") -> Generator[Item | Paused, None, None]:
        """The items of a piece of work, made while nothing else is; closing it ends the work and gives the turn back.

        Args:
            who: to whose share the time counts; empty for nobody's.

        Raises:
            InputError: others took too long, or the place was needed.
        """
        own, spent, since = TurnClaim(who), 0.0, time.monotonic()
        with self._changed:
            self._claims.append(own)
        try:
            yield from self._come_to_turn(own)
            since = time.monotonic()
            for item in work:
                with self._changed:
                    self._idle_since = time.monotonic()
                yield item
                spent += self._charge(own, since)
                since = time.monotonic()
                if not isinstance(item, Comparison) and not self._keeps_turn(own):  # a comparison is the last item
                    yield from self._come_to_turn(own)
                    since = time.monotonic()
            self.shares.finished(who, spent)
        finally:
            if close := getattr(work, "close", None):
                close()
            self._charge(own, since)
            with self._changed:
                self._claims.remove(own)
                self._holder = None if self._holder is own else self._holder
                self._changed.notify_all()
            release_memory()

    def make_room(self, used: float, usual: float) -> None:
        """Ends the comparison whose address had most, where every one here had much more than somebody who waits.

        Args:
            used: what they had.
            usual: how many usual comparisons count as much.
        """
        with self._changed:
            here = [*self._waiting(time.monotonic()), *filter(None, [self._holder])]
            much = used + usual * self.shares.usual
            if here and not any(claim.ended for claim in here) and min(map(self._had, here)) > much:
                max(here, key=self._had).ended = True

    def _come_to_turn(self, own: TurnClaim) -> Generator[Paused, None, None]:
        until = time.monotonic() + self._patience
        while not self._take(own, min(1.0, until - time.monotonic())):
            if time.monotonic() >= until:
                raise InputError("other comparisons are being made: try again in a minute")
            yield Paused()

    def _take(self, own: TurnClaim, seconds: float) -> bool:
        """Whether its turn came within some seconds."""
        until = time.monotonic() + seconds
        with self._changed:
            while True:
                now = own.seen = time.monotonic()
                if own.ended:
                    raise InputError(ENDED)
                free = self._holder is None or now - self._idle_since > self._abandoned
                if free and min(self._waiting(now), key=self._had) is own:
                    self._holder, self._idle_since = own, float("inf")
                    return True
                if now >= until:
                    return False
                self._changed.wait(min(0.25, until - now))

    def _keeps_turn(self, own: TurnClaim) -> bool:
        """Whether a comparison goes on, after one of its steps."""
        with self._changed:
            own.seen = time.monotonic()
            if own.ended:
                raise InputError(ENDED)
            if self._holder is not own:  # its caller looked away, and another one began
                return False
            self._idle_since = float("inf")
            much = self._had(own) - self.shares.usual
            if any(self._had(claim) < much for claim in self._waiting(own.seen)):
                self._holder = None
                self._changed.notify_all()
            return self._holder is own

    def _waiting(self, now: float) -> list[TurnClaim]:
        return [claim for claim in self._claims if claim is not self._holder and now - claim.seen < PRESENT]

    def _had(self, claim: TurnClaim) -> float:
        return self.shares.used(claim.who)

    def _charge(self, own: TurnClaim, since: float) -> float:
        seconds = time.monotonic() - since if self._holder is own else 0.0
        self.shares.charge(own.who, seconds)
        return seconds


def release_memory() -> None:
    """Gives what the pictures took back to the system; glibc keeps it otherwise."""
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
