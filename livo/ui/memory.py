"""What the C library keeps of memory that was freed: little, and given back after each comparison."""

from __future__ import annotations

import ctypes
import gc
import sys

ARENA_MAX = -8
"""glibc's M_ARENA_MAX."""
ARENAS = 2
"""Heaps of glibc: each thread that answers visitors has one of its own unless told, and each stays as large as the
largest comparison that ever ran in that thread left it."""


def few_arenas() -> None:
    """For this process, before threads begin."""
    if mallopt := _of_glibc("mallopt"):
        mallopt(ARENA_MAX, ARENAS)


def release_memory() -> None:
    """Gives what the pictures took back to the system; glibc keeps it otherwise."""
    gc.collect()
    if trim := _of_glibc("malloc_trim"):
        trim(0)


def _of_glibc(name: str) -> ctypes._NamedFuncPointer | None:
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
