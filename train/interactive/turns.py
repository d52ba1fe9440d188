"""Trainings of many visitors on one machine: one at a time, in the order they came, each in a process of its own.

A process can be killed at any moment: that is how a training ends when its visitor leaves. It has its own threads,
gives way to the page (`os.nice`), and a crash of it is a message and no more.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
import threading
import time
from collections.abc import Generator
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

from livo.live_training import Ended, LiveRequest, Preparing, Stepped, Update, Waiting
from livo.types import InputError

MOST_WAITING = 12
POLL_SECONDS = 0.5
LOST_AFTER = 60.0
"""Seconds in which nobody asked for the next report: that visitor is gone, also where nobody said so."""
START_SECONDS, STEP_SECONDS = 12.0, 0.5
"""What a training takes before its first step, and for one, until this machine has shown its own pace."""


@dataclass(eq=False)
class Ticket:
    """A visitor's place in the queue."""

    request: LiveRequest
    asked: float = field(default_factory=time.monotonic)
    left: float = 0.0
    process: BaseProcess | None = None


class LiveTrainings:
    """All trainings of one server; calling it is a `livo.live_training.LiveTrainer`.

    Args:
        backbone: as `load_backbone` takes it.
        threads: of a training.
    """

    def __init__(self, backbone: str = "miniature", threads: int = 2) -> None:
        self.backbone, self.threads = backbone, threads
        self._lock = threading.Lock()
        self._tickets: list[Ticket] = []
        self._pace = STEP_SECONDS

    def __call__(self, request: LiveRequest) -> Generator[Update, None, None]:
        """Waits for its turn, trains, reports; closing the iterator kills the training and frees the place.

        Raises:
            InputError: the concepts cannot be learned from, or too many wait already.
        """
        ticket = self._join(request)
        try:
            while waiting := self._ahead(ticket):
                yield waiting
                time.sleep(POLL_SECONDS)
            yield from self._train(ticket)
        finally:
            self._leave(ticket)

    # --- the queue ---------------------------------------------------------------------------------------------------

    def _join(self, request: LiveRequest) -> Ticket:
        with self._lock:
            if len(self._tickets) > MOST_WAITING:
                raise InputError(
                    f"{MOST_WAITING} visitors wait for a training already: watch one together, or come back in a few "
                    "minutes"
                )
            ticket = Ticket(request, left=START_SECONDS + request.num_steps * self._pace)
            self._tickets.append(ticket)
            return ticket

    def _ahead(self, ticket: Ticket) -> Waiting | None:
        """Who trains before this ticket; None where it is its turn."""
        with self._lock:
            ticket.asked = time.monotonic()
            for lost in [t for t in self._tickets if ticket.asked - t.asked > LOST_AFTER]:
                self._remove(lost)
            if ticket not in self._tickets:  # this visitor's machine slept, and the place was given on
                self._tickets.append(ticket)
            before = self._tickets[: self._tickets.index(ticket)]
            return Waiting(len(before), sum(t.left for t in before)) if before else None

    def _leave(self, ticket: Ticket) -> None:
        with self._lock:
            self._remove(ticket)

    def _remove(self, ticket: Ticket) -> None:
        if ticket.process is not None:
            ticket.process.kill()
            ticket.process.join()
            ticket.process = None
        if ticket in self._tickets:
            self._tickets.remove(ticket)

    # --- the training ------------------------------------------------------------------------------------------------

    def _train(self, ticket: Ticket) -> Generator[Update, None, None]:
        spawn = multiprocessing.get_context("spawn")  # a fork would copy the locks that the server's threads hold
        ours, theirs = spawn.Pipe(duplex=False)
        with tempfile.TemporaryDirectory(prefix="livo-training-", ignore_cleanup_errors=True) as folder:
            arguments = (theirs, ticket.request, self.backbone, Path(folder), self.threads)
            process = spawn.Process(target=train_in_process, args=arguments, daemon=True)
            began = time.monotonic()
            process.start()
            ticket.process = process
            theirs.close()
            try:
                yield from self._reports(ticket, process, ours, began)
            finally:
                ours.close()
                process.kill()
                process.join()

    def _reports(
        self, ticket: Ticket, process: BaseProcess, connection: Connection, began: float
    ) -> Generator[Update, None, None]:
        """What the process sends; its seconds count from `began`, so that the start of the process is in them."""
        last: Update = Preparing("starting a process for it")
        first_step = 0.0
        while True:
            ticket.asked = time.monotonic()
            seconds = ticket.asked - began
            if not connection.poll(POLL_SECONDS):
                if isinstance(last, Preparing):  # gives the page a moment to close this
                    ticket.left = max(1.0, START_SECONDS - seconds) + ticket.request.num_steps * self._pace
                    yield replace(last, seconds=seconds)
                continue
            try:
                sent = connection.recv()
            except EOFError:
                process.join()
                why = f"the training's process stopped (exit code {process.exitcode})"
                yield Ended(seconds, f"{why}: train again, with fewer concepts if it was short of memory")
                return
            if isinstance(sent, InputError):
                raise sent
            last = replace(sent, seconds=time.monotonic() - began)
            if isinstance(last, Stepped):
                first_step = first_step or last.seconds
                if last.step > 1:
                    self._pace = (last.seconds - first_step) / (last.step - 1)
                ticket.left = (last.num_steps - last.step) * self._pace
            yield last
            if isinstance(last, Ended):
                process.join(5)  # it ends by itself now
                return


def train_in_process(connection: Connection, request: LiveRequest, backbone: str, folder: Path, threads: int) -> None:
    """What a training's process runs: sends every report, then ends; ends as well when nobody reads."""
    os.environ["TQDM_DISABLE"] = "1"
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C is the server's, which takes its processes along
    if hasattr(os, "nice"):
        os.nice(5)
    import torch
    from tqdm import tqdm

    tqdm.set_lock(threading.RLock())  # its own is the system's, and a kill would leave that behind
    from livo.classifiers.judge import load_judge
    from livo.diffusion.backbones import load_backbone, only_stable_diffusion
    from train.interactive.run import train_live

    torch.set_num_threads(threads)
    try:
        loaded = only_stable_diffusion(load_backbone(backbone, "cpu"), "training live")
        if loaded.folder is None or not (loaded.folder / "evaluator").is_dir():
            raise InputError(
                f"backbone {backbone} has no judge in evaluator/: nobody could say which pictures it draws too rarely"
            )
        for update in train_live(request, loaded, load_judge(loaded.folder / "evaluator"), folder):
            connection.send(update)
    except BrokenPipeError:
        return
    except InputError as error:
        connection.send(error)
    except Exception as error:  # a report, so that the page can say it
        connection.send(Ended(0.0, f"the training failed ({type(error).__name__}: {error})"))
