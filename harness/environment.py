"""The environment for the time of a block."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager


@contextmanager
def environment(change: Mapping[str, str | None]) -> Iterator[None]:
    """Variables with a value are set, those with None are removed; afterwards all are as before."""
    before = {name: os.environ.get(name) for name in change}
    _apply(change)
    try:
        yield
    finally:
        _apply(before)


def _apply(change: Mapping[str, str | None]) -> None:
    for name, value in change.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
