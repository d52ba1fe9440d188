"""One comparison at a time, whichever way it came in: the page, the API, a tool call."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from livo.compare.comparison import Comparison
from livo.types import InputError
from livo.ui.memory import release_memory

PATIENCE = 120.0
"""Seconds that a comparison waits for its turn, at a time."""
ABANDONED = 2.0
"""Seconds after which a comparison whose caller fetches nothing more gives its turn to others, until they come back."""
LOOK = 1.0
"""Seconds for which a comparison that waits sleeps at most, before its caller may say that they are still there."""
PRESENT = 10.0
"""Seconds after which one that waits, and whose caller does not look, is passed over."""
HALF = 300.0
"""Seconds after which half of what an address had is forgotten: a loop is told from a visitor by minutes."""
MOST = 90.0
"""Seconds of such work that one address may have had while others ask too: about a fifth of the time."""
REMEMBERED = 20_000
"""Addresses; those that had something longest ago are forgotten first."""
ASKED, HASTE, PAUSE = 0.5, 5.0, 10.0
"""Seconds of work that asking counts as for the order, and as many more without any pause after the last one; people
pause for the third."""
PACE = 0.01
"""Seconds of work that one step of one picture is thought to take before any comparison was timed."""
ALONE = 60.0
"""Seconds after which others who asked for nothing more are thought to be gone."""
ENDED = (
    "this was ended, because others are waiting who had less of the server's time: ask for fewer images, methods or "
    "steps"
)
Item = TypeVar("Item")


class Fading:
    """Amounts by name; half of each is forgotten in `HALF` seconds."""

    def __init__(self) -> None:
        self._amounts: dict[str, tuple[float, float]] = {}

    def of(self, name: str) -> float:
        """What is left."""
        amount, at = self._amounts.get(name, (0.0, 0.0))
        return float(amount * 0.5 ** ((time.monotonic() - at) / HALF))

    def since(self, name: str) -> float:
        """When something was added last."""
        return self._amounts.get(name, (0.0, float("-inf")))[1]

    def add(self, name: str, amount: float) -> None:
        """Adds."""
        left = self.of(name) + amount
        self._amounts.pop(name, None)
        self._amounts[name] = (left, time.monotonic())  # last in order
        while len(self._amounts) > REMEMBERED:
            del self._amounts[next(iter(self._amounts))]


class Shares:
    """How much of the server's time each address has had lately: one that asks in a loop leaves the others their part.

    An address that is alone has all of it: a class behind one address, on a server of its own, is never limited.
    """

    def __init__(self) -> None:
        self._had, self._haste = Fading(), Fading()
        self._asked: dict[str, float] = {}
        self._pace = PACE
        self._lock = threading.RLock()

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
            if (had := self.used(who)) > MOST:
                raise InputError(
                    "others are waiting, and most of the last minutes' work was for your network: try again in "
                    f"{1 + HALF * math.log2(had / MOST):.0f} s"
                )
            return True

    def used(self, who: str) -> float:
        """Seconds of work that an address has had, those of long ago counting less."""
        with self._lock:
            return self._had.of(who)

    def standing(self, who: str) -> float:
        """The same, and what its asking counts: whoever has least comes first."""
        with self._lock:
            return self._had.of(who) + self._haste.of(who)

    def charge(self, who: str, seconds: float) -> None:
        """What an address has used up."""
        if who and seconds:
            with self._lock:
                self._had.add(who, seconds)

    def asked(self, who: str) -> None:
        """An address asks for a comparison; one that asks without a pause is no visitor who looks at pictures."""
        with self._lock:
            pause = time.monotonic() - max(self._had.since(who), self._haste.since(who))
            self._haste.add(who, ASKED + HASTE * max(0.0, 1 - pause / PAUSE))

    def finished(self, size: float, seconds: float) -> None:
        """A comparison of so many methods x pictures x steps took so long, without what others had of that time."""
        with self._lock:
            self._pace += 0.1 * (seconds / max(1.0, size) - self._pace)

    def seconds(self, size: float) -> float:
        """What so many methods x pictures x steps will take here, about."""
        return size * self._pace


@dataclass(frozen=True)
class Paused:
    """A comparison waits for its turn, or gave it to others for a while."""


@dataclass(eq=False)
class TurnClaim:
    """A comparison that is at work or waits.

    Attributes:
        who: to whose share its time counts; empty for nobody's.
        size: methods x pictures x steps.
        spent: seconds of work that it has had.
        seen: when its caller last looked.
        ended: somebody who had less needs its place.
    """

    who: str
    size: float = 0.0
    spent: float = 0.0
    seen: float = field(default_factory=time.monotonic)
    ended: bool = False


class Turn:
    """Held by one comparison at a time: whoever will have had least of the server's time when theirs is done.

    That is asked again between two steps, so that a large comparison, and one of somebody who asks in a loop, gives
    way to a small one of somebody who asked once. A queue in front of it may have several doors; this is inside, so
    that none of them runs two comparisons at once.
    """

    def __init__(self, patience: float = PATIENCE, abandoned: float = ABANDONED, look: float = LOOK) -> None:
        self._patience, self._abandoned, self._look = patience, abandoned, look
        self.shares = Shares()
        self._changed = threading.Condition()
        self._claims: list[TurnClaim] = []  # in the order in which they came
        self._holder: TurnClaim | None = None
        self._idle_since = float("inf")

    def hold(self, work: Iterator[Item], who: str = "", size: float = 0.0) -> Generator[Item | Paused, None, None]:
        """The items of a piece of work, made while nothing else is; closing it ends the work and gives the turn back.

        Args:
            who: to whose share the time counts; empty for nobody's.
            size: methods x pictures x steps.

        Raises:
            InputError: others took too long, or the place was needed.
        """
        own, since = TurnClaim(who, size), time.monotonic()
        with self._changed:
            self._claims.append(own)
        try:
            yield from self._come_to_turn(own)
            since = time.monotonic()
            for item in work:
                with self._changed:
                    self._idle_since = time.monotonic()
                yield item
                self._charge(own, since)
                since = time.monotonic()
                if not isinstance(item, Comparison) and not self._keeps_turn(own):  # a comparison is the last item
                    yield from self._come_to_turn(own)
                    since = time.monotonic()
            if size:
                self.shares.finished(size, own.spent)
        finally:
            if close := getattr(work, "close", None):
                close()
            self._charge(own, since)
            with self._changed:
                self._claims.remove(own)
                self._holder = None if self._holder is own else self._holder
                self._changed.notify_all()
            release_memory()

    def standing(self, who: str) -> float:
        """Where an address will stand once all of its comparisons that have begun are done."""
        with self._changed:
            return self.shares.standing(who) + sum(self._left(claim) for claim in self._claims if claim.who == who)

    @property
    def least(self) -> float:
        """The same of the one of all that have begun, and whose callers are there, that comes first."""
        with self._changed:
            return min(map(self._rank, self._here()), default=float("inf"))

    def make_room(self, rank: float, more: float) -> None:
        """Ends the comparison whose address will have had most, where every one here will have had much more than
        somebody who waits.

        Args:
            rank: what they will have had, in seconds.
            more: seconds that count as much.
        """
        with self._changed:
            here = self._here()
            if here and not any(claim.ended for claim in here) and min(map(self._rank, here)) > rank + more:
                max(here, key=self._rank).ended = True

    def _come_to_turn(self, own: TurnClaim) -> Generator[Paused, None, None]:
        until = time.monotonic() + self._patience
        while not self._take(own, min(self._look, until - time.monotonic())):
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
                if free and min(self._waiting(now), key=self._rank) is own:
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
            rank = self._rank(own)
            if any(self._rank(claim) < rank for claim in self._waiting(own.seen)):
                self._holder = None
                self._changed.notify_all()
            return self._holder is own

    def _waiting(self, now: float) -> list[TurnClaim]:
        return [claim for claim in self._claims if claim is not self._holder and now - claim.seen < PRESENT]

    def _here(self) -> list[TurnClaim]:
        return [*self._waiting(time.monotonic()), *filter(None, [self._holder])]

    def _left(self, claim: TurnClaim) -> float:
        return max(0.0, self.shares.seconds(claim.size) - claim.spent)

    def _rank(self, claim: TurnClaim) -> float:
        """Where its address will stand once it is done."""
        return self.shares.standing(claim.who) + self._left(claim)

    def _charge(self, own: TurnClaim, since: float) -> None:
        seconds = time.monotonic() - since if self._holder is own else 0.0
        own.spent += seconds
        self.shares.charge(own.who, seconds)
