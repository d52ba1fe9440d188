"""Calls captured as CUDA graphs: recorded once for each layout, then launched whole, by one operator of the CPU's.

On a large card a step of small batches is bound by Python, which launches some 1,500 kernels one by one. A graph
launches them at once, from the same memory each time: so what a call reads is copied into tensors that stay, and what
it makes is copied out of one.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

logger = logging.getLogger(__name__)

MOST = 4
"""Graphs that are kept; the one that was not asked for the longest goes. A run has one or two layouts."""
ROUNDING = 0.02
"""Of the largest number, by which a graph's first result may differ from the call's own in half precision."""


@dataclass(frozen=True)
class Captured:
    """A graph, the tensors that it reads, and the one that it writes."""

    graph: torch.cuda.CUDAGraph
    inputs: list[Tensor]
    output: Tensor


def agree(output: Tensor, own: Tensor) -> bool:
    """Whether they are the same but for rounding; the CPU waits for the answer."""
    return bool((output - own).abs().max() <= ROUNDING * own.abs().max())


class CapturedCalls:
    """Runs calls; one that comes with the same layout for the second time is captured, and from then on replayed.

    The second time, because most runs have a layout that lasts for one step, while methods share rows. All graphs share
    one pool of memory, so that they take what the largest does. The first result of a graph is compared with the call's
    own. Where that differs, or a graph cannot be captured, calls run as they are from then on, and a warning says so
    once.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()  # two threads must not fill the same inputs
        self._graphs: OrderedDict[Hashable, Captured | None] = OrderedDict()
        self._pool: Any = None
        self._given_up = False

    def __call__(self, key: Hashable, work: Callable[[Any], Tensor], given: Any) -> Tensor:
        """`work(given)`.

        Args:
            key: all that `work` depends on beside the numbers, shapes and types of `given`.
            work: has no effect, draws nothing at random, and never asks the device for a number.
            given: tensors and other things in dicts, lists and tuples.
        """
        if self._given_up:
            return work(given)
        leaves, spec = tree_flatten(given)
        places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]
        layout = (
            key,
            str(spec),
            tuple((leaf.shape, leaf.dtype) if isinstance(leaf, Tensor) else leaf for leaf in leaves),
        )
        with self._lock:
            captured = self._graphs.get(layout)
            if captured is not None:
                self._graphs.move_to_end(layout)
                torch._foreach_copy_(captured.inputs, [leaves[i] for i in places])
                captured.graph.replay()
                return captured.output.clone()
            if layout in self._graphs:  # for the second time
                for i in places:
                    leaves[i] = leaves[i].clone()
                return self._capture(layout, work, tree_unflatten(leaves, spec), [leaves[i] for i in places])
            self._graphs[layout] = None
            while len(self._graphs) > MOST:
                self._graphs.popitem(last=False)
        return work(given)

    def clear(self) -> None:
        """Lets all graphs and their memory go."""
        with self._lock:
            self._graphs.clear()
            self._pool = None

    def _capture(self, layout: Hashable, work: Callable[[Any], Tensor], given: Any, inputs: list[Tensor]) -> Tensor:
        own = work(given)  # also sets up what libraries set up at a first call, which no graph may hold
        try:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
                output = work(given)
            graph.replay()
            if not agree(output, own):
                raise RuntimeError("its result is another")
        except RuntimeError as error:
            logger.warning("calls are launched one operator at a time: no CUDA graph of one (%s)",
                           str(error).partition("\n")[0])  # fmt: skip
            self._given_up = True
            self._graphs.clear()
        else:
            self._pool = self._pool or graph.pool()
            self._graphs[layout] = Captured(graph, inputs, output)
            self._graphs.move_to_end(layout)
        return own
