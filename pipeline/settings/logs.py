"""Logging: what a program of ours writes to standard error. In an Airflow task, Airflow's own handlers write the same records.

Each module logs by `logging.getLogger(__name__)`. `about` adds the model and the run to all lines of a block.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal

PACKAGE = "pipeline"
FORMATS = {
    # A person at a terminal reads what happens, not when.
    "terminal": "%(message)s",
    "service": "%(asctime)s.%(msecs)03dZ %(levelname)s %(about)s%(message)s",
}

_about: ContextVar[str] = ContextVar("about", default="")


class _About(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        record.about = _about.get()
        return True


def configure(style: Literal["terminal", "service"]) -> None:
    """Writes the package's records from INFO on to standard error: `service` with time, level, model and run."""
    handler = logging.StreamHandler(sys.stderr)
    formatter = logging.Formatter(FORMATS[style], datefmt="%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    handler.addFilter(_About())
    logger = logging.getLogger(PACKAGE)
    logger.handlers = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False


@contextmanager
def about(model: str = "", run: str = "") -> Iterator[None]:
    """Names the model and the run on each line that is logged in the block, in this thread."""
    words = " ".join(word for word in (f"model={model}" if model else "", f"run={run}" if run else "") if word)
    token = _about.set(f"[{words}] " if words else "")
    try:
        yield
    finally:
        _about.reset(token)
