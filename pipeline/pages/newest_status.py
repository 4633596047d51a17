"""The newest look at what runs: the status of all models, which asks the router, the slots and MLflow.

Of hundreds of models that takes seconds, and a slot that hangs takes the deadline. So a look is made in a thread, a page waits WAIT_S for it
and then shows the look before it, which says when it was made. It waits for the new one where the look before is older than SHOWN_S, or
another version is live since.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.context import Context
from pipeline.deployer import traffic
from pipeline.rollout.routing import route_file

# So long a look is shown again, if ledger, routes and settings are still the same.
KEPT_S = 5.0
WAIT_S = 0.06
SHOWN_S = 120.0


@dataclass
class Look:
    """The status of each model, as ModelStatus.as_dict has it, what it rests on, and when the look began, by the clock and by
    time.monotonic(); `error` is what it ended with. `done` is set at its end."""

    of: tuple[Any, ...]
    at: str
    began: float
    models: list[dict[str, Any]] = field(default_factory=list)
    error: Exception | None = None
    done: threading.Event = field(default_factory=threading.Event)

    @property
    def age_s(self) -> float:
        return time.monotonic() - self.began


# By the ledger: the newest look that went well, and the one that goes on.
_KEPT: dict[str, Look] = {}
_GOES_ON: dict[str, Look] = {}
_LOCK = threading.Lock()


def begin(context: Context) -> Callable[[], Look]:
    """Begins a look where the newest one is not to be shown again; returns what gives the look to show. That raises what the look raised."""
    of, kept = _rests_on(context), _KEPT.get(context.ledger.url)
    if kept is not None and kept.of == of and kept.age_s <= KEPT_S:
        return lambda: kept
    going_on, until = _going_on(context, of), time.monotonic() + WAIT_S
    # Other settings, routes, or another project, are waited for: what is said of a block, and what is live, have no age.
    may_be_older = kept is not None and kept.age_s <= SHOWN_S and kept.of[:3] == of[:3]
    return lambda: _shown(going_on, kept if may_be_older else None, until)


def renew(context: Context) -> None:
    """Makes a look unless the newest one is to be shown again, and waits for it."""
    from pipeline.pages.kept_settings import with_kept_settings

    _going_on(context := with_kept_settings(context), _rests_on(context)).done.wait()


def _shown(going_on: Look, kept: Look | None, until: float) -> Look:
    if not going_on.done.wait(max(until - time.monotonic(), 0.0) if kept is not None else None) and kept is not None:
        return kept
    if going_on.error is not None:
        raise going_on.error
    return going_on


def _going_on(context: Context, of: tuple[Any, ...]) -> Look:
    """The look that goes on, if it is of the same state of things; else a new one that begins now."""
    url = context.ledger.url
    with _LOCK:
        look = _GOES_ON.get(url)
        if look is not None and not look.done.is_set() and look.of[:3] == of[:3]:
            return look
        look = _GOES_ON[url] = Look(of, f"{context.clock():%H:%M:%S}", time.monotonic())
    threading.Thread(target=_make, args=(context, look), name="status of all models", daemon=True).start()
    return look


def _make(context: Context, look: Look) -> None:
    try:
        look.models = [status.as_dict() for status in traffic(context).status("")]
        _KEPT[context.ledger.url] = look
    except Exception as error:  # whoever waits for it raises it
        look.error = error
    finally:
        look.done.set()


def _rests_on(context: Context) -> tuple[Any, ...]:
    """What changes when a look would differ, but for slots that begin or cease to answer: project, settings and routes first."""
    files = sorted(route_file.routes_folder(context.home).glob("*.yaml"))
    states = [(file.name, state.st_mtime_ns, state.st_size) for file in files if (state := _stat(file)) is not None]
    settings = _stat(context.project / "params.yaml")
    of_settings = (settings.st_mtime_ns, settings.st_size) if settings is not None else None
    return (context.project, context.home), of_settings, tuple(states), context.ledger.head()


def _stat(file: Path) -> os.stat_result | None:
    try:
        return file.stat()
    except FileNotFoundError:
        return None
