"""No pauses for the search for cycles: a bill of years is 100,000 tuples that make none, and the search takes half of its time."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_pauses() -> Iterator[None]:
    """In the block Python does not look for cycles, in any thread; what it would have found it finds after it."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
