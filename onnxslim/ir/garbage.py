"""Garbage collection where graphs are large: it would walk every node again and again."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def no_collection() -> Iterator[None]:
    """Keep the garbage collector from walking a graph that is at work."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def collect_young() -> None:
    """Free what was made and dropped since the last time: cycles that may hold arrays."""
    gc.collect(0)
