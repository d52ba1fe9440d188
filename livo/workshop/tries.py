"""Tries at breaking methods: known prompts are answered at once, new ones wait in a line for the generator.

    answer = tries.ask(reading, visitor)      # Tried, or InLine; the page asks again until it is the first

Without a generator beside the rooms there are the stored results alone. One prompt is drawn at a time, each one once
for all who ask; a line that nobody asks for any more is left out.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from livo.types import InputError
from livo.web.events import Refused
from livo.workshop.traps import Tried, WrittenPrompt, stored, tried

MOST_WAITING = 40
"""Prompts in the line."""
MOST_KEPT = 2_000
"""Drawn prompts that are remembered; the oldest are forgotten."""
PATIENCE = 20.0
"""Seconds after which a prompt that nobody asks for any more leaves the line."""
FIRST_GUESS = 10.0
"""Seconds that a prompt takes, before one was timed."""
Draw = Callable[[WrittenPrompt, Callable[[float], None]], tuple[Mapping[str, int], int]]
"""Draws a prompt with every method, and tells from time to time which share of it, 0 to 1, is done: counts by method,
see `livo.workshop.traps.Tried`, and of how many pictures."""


@dataclass(frozen=True)
class InLine:
    """A place in the line.

    Attributes:
        before: prompts that come first, the one at work included.
        seconds: until this one is likely to be done.
        done: share of the one at work that is drawn, 0 to 1.
    """

    before: int
    seconds: float
    done: float


class Tries:
    """What is known of prompts, and the line of those that are to be drawn.

    Args:
        trap: of the pack.

    Attributes:
        draw: the generator beside the rooms; None where there is none.
    """

    def __init__(self, trap: Mapping[str, Any], draw: Draw | None = None) -> None:
        self.draw = draw
        self._stored = stored(trap)
        self._drawn: OrderedDict[str, Tried] = OrderedDict()
        self._failed: dict[str, str] = {}
        self._line: OrderedDict[str, tuple[WrittenPrompt, float]] = OrderedDict()
        self._whose: dict[str, str] = {}
        self._seconds, self._done = FIRST_GUESS, 0.0
        self._change = threading.Condition()
        self._worker: threading.Thread | None = None

    def known(self, reading: WrittenPrompt) -> Tried | None:
        """What was counted for a prompt; None where nothing was yet."""
        return self._stored.get(reading.key) or self._drawn.get(reading.key)

    def ask(self, reading: WrittenPrompt, who: str) -> Tried | InLine:
        """What was counted, or where in the line the prompt is.

        Args:
            who: each has one place; another prompt gives up the one before.

        Raises:
            Refused: there is no generator, the line is full, or the prompt could not be drawn.
        """
        if found := self.known(reading):
            return found
        if self.draw is None:
            raise Refused(
                404, "not_stored", "no pictures of this prompt are stored, and nothing draws new ones here: try a job "
                "alone, somebody “smiling” or “angry”, or a “male doctor”",
            )  # fmt: skip
        with self._change:
            if problem := self._failed.pop(reading.key, ""):
                raise Refused(503, "not_drawn", problem)
            self._give_up(who, reading.key)
            if reading.key not in self._line and len(self._line) >= MOST_WAITING:
                raise Refused(503, "line_full", f"{MOST_WAITING} prompts are waiting: try one of the stored ones first")
            self._whose[who] = reading.key
            self._line[reading.key] = reading, time.monotonic()
            before = list(self._line).index(reading.key)
            if self._worker is None or not self._worker.is_alive():
                self._worker = threading.Thread(target=self._work, name="livo-tries", daemon=True)
                self._worker.start()
            return InLine(before, (before + 1 - self._done) * self._seconds, self._done)

    def _give_up(self, who: str, key: str) -> None:
        old = self._whose.pop(who, key)
        first = next(iter(self._line), "")
        if old not in (key, first) and old not in self._whose.values():
            self._line.pop(old, None)

    def _work(self) -> None:
        """Draws the line's prompts, the first one first; ends where none is left."""
        while True:
            with self._change:
                now = time.monotonic()
                for key in [k for k, (_, asked) in self._line.items() if now - asked > PATIENCE]:
                    del self._line[key]
                if not self._line:
                    self._worker, self._whose = None, {}
                    return
                key, (reading, _) = next(iter(self._line.items()))
                self._done = 0.0
            found, problem = self._try(reading)
            with self._change:
                self._line.pop(key, None)
                if found is None:
                    self._failed[key] = problem
                else:
                    self._seconds = 0.5 * self._seconds + 0.5 * (time.monotonic() - now)
                    self._drawn[key] = found
                    while len(self._drawn) > MOST_KEPT:
                        self._drawn.popitem(last=False)

    def _tell(self, share: float) -> None:
        self._done = share

    def _try(self, reading: WrittenPrompt) -> tuple[Tried | None, str]:
        assert self.draw is not None, "nothing waits where nothing draws"
        try:
            return tried(reading, *self.draw(reading, self._tell)), ""
        except InputError as error:
            return None, str(error)
        except Exception as error:  # of a model: the class goes on
            return None, f"this prompt could not be drawn ({type(error).__name__}): try another one"
