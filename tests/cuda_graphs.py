"""In place of CUDA graphs where there is no GPU: what a graph does, done to tensors of any device.

Operators that run while a graph is captured are kept with the very tensors that they read and wrote; replaying runs
them again and writes their results into the same tensors. Nothing else of a call happens again: no Python of its own.
"""

from __future__ import annotations

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Graph(TorchDispatchMode):
    """As `torch.cuda.CUDAGraph`; `made` has all of them."""

    made: list[Graph]
    replays = 0

    def __init__(self) -> None:
        super().__init__()
        self._operators: list = []
        self.made.append(self)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self._operators.append((func, args, kwargs or {}, out))
        return out

    def replay(self) -> None:
        self.replays += 1
        for func, args, kwargs, out in self._operators:
            again = func(*args, **kwargs)
            for kept, new in zip(tree_leaves(out), tree_leaves(again), strict=True):
                if isinstance(kept, torch.Tensor):
                    kept.copy_(new)

    def pool(self) -> tuple[int, int]:
        return (0, 1)


def install(monkeypatch, kind: type[Graph] = Graph) -> list[Graph]:
    """Has graphs of this kind captured; all that are."""
    made: list[Graph] = []
    kind = type("Own", (kind,), {"made": made})
    monkeypatch.setattr(torch.cuda, "CUDAGraph", kind)
    monkeypatch.setattr(torch.cuda, "graph", lambda graph, pool, capture_error_mode: graph)
    return made
