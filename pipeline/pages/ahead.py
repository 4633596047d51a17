"""What the first look at a page would wait for, made in a thread once the API server answers: modules, settings, bills and roll-ups.

A page waits for nothing here: it makes what is not there yet by itself. What is kept stays right by its own rules; this only asks once, and
again when a day has passed, for the sums of the months that are over are made anew each day.
"""

from __future__ import annotations

import functools
import importlib
import logging
import pkgutil
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from pipeline.errors import PerennialError

if TYPE_CHECKING:
    from pipeline.context import Context

_log = logging.getLogger(__name__)


class Ahead:
    """A daemon thread that looks at the pages with many models before anybody else does, until it is told to stop."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pages ahead", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ends it when the page that it makes now is made; nobody waits for that."""
        self._stop.set()

    def _run(self) -> None:
        import_pages()
        while not self._stop.is_set():
            for look in looks():
                if self._stop.is_set():
                    return
                _quietly(look)
            self._stop.wait(_until_tomorrow(datetime.now(UTC)))


def import_pages() -> None:
    """Imports each module of pipeline.pages; one that cannot be imported is a warning, and the page's own error."""
    package = importlib.import_module("pipeline.pages")
    for found in pkgutil.iter_modules(package.__path__, "pipeline.pages."):
        try:
            importlib.import_module(found.name)
        except Exception as error:  # a broken library raises anything, and none may stop the others
            _log.warning("%s is not imported: %s: %s", found.name, type(error).__name__, error)


def looks() -> list[Callable[[], Any]]:
    """The pages of all models, the dearest last."""
    from pipeline.pages import overview, portfolio, roi

    pages = (portfolio.portfolio_page, roi.roi_page, overview.overview_page)
    return [functools.partial(_look, page) for page in pages]


def _look(page: Callable[[Context], str]) -> None:
    from pipeline.context import Context

    page(Context.here())


def _quietly(look: Callable[[], Any]) -> None:
    try:
        look()
    except PerennialError as error:
        # Whoever looks at the page is told.
        _log.info("a page cannot be made ahead: %s", error)
    except Exception as error:
        _log.warning("a page is not made ahead: %s: %s", type(error).__name__, error)


def _until_tomorrow(now: datetime) -> float:
    """Seconds until the first minute of the next day, in UTC."""
    tomorrow = (now + timedelta(days=1)).replace(hour=0, minute=1, second=0, microsecond=0)
    return (tomorrow - now).total_seconds()
