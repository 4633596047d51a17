"""What the first look at a page would wait for, made in a thread once the API server answers: modules, settings, bills and roll-ups.

A page waits for nothing here: it makes what is not there yet by itself. What is kept stays right by its own rules; this only asks once, and
again when a day has passed, for the sums of the months that are over are made anew each day.
"""

from __future__ import annotations

import functools
import gc
import importlib
import logging
import pkgutil
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import PerennialError

if TYPE_CHECKING:
    from pipeline.context import Context

_log = logging.getLogger(__name__)
# So often the looks that tell their time are made anew, whether somebody wants them or not.
ANEW_S = 30.0
# Of so many models the bills are made ahead one by one.
FEW = 10


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
            self._make(looks())
            keep_from_searches()
            until = datetime.now(UTC) + timedelta(seconds=_until_tomorrow(datetime.now(UTC)))
            while not self._stop.wait(ANEW_S) and datetime.now(UTC) < until:
                self._make(looks_again())

    def _make(self, of: Sequence[Callable[[], Any]]) -> None:
        for look in of:
            if self._stop.is_set():
                return
            _quietly(look)


def import_pages() -> None:
    """Imports each module of pipeline.pages; one that cannot be imported is a warning, and the page's own error."""
    package = importlib.import_module("pipeline.pages")
    for found in pkgutil.iter_modules(package.__path__, "pipeline.pages."):
        try:
            importlib.import_module(found.name)
        except Exception as error:  # a broken library raises anything, and none may stop the others
            _log.warning("%s is not imported: %s: %s", found.name, type(error).__name__, error)


def keep_from_searches() -> None:
    """Lets Python look for cycles among new objects only: to look through all that a server keeps for good takes the time of several pages,
    and would come in the middle of one."""
    gc.collect()
    gc.freeze()


def looks() -> list[Callable[[], Any]]:
    """The registry's client, and the pages of all models, the dearest last."""
    from pipeline.pages import gates, overview, portfolio, roi

    pages = (
        _compile_templates,
        gates.ask_mlflow,
        _decode_rollups,
        portfolio.portfolio_page,
        roi.roi_page,
        overview.overview_page,
        _bills_of_models,
    )
    return [functools.partial(_look, page) for page in pages]


def looks_again() -> list[Callable[[], Any]]:
    """What a page shows with the time that it is of, so that it is never old and nobody waits for it."""
    from pipeline.pages import newest_status

    return [functools.partial(_look, look) for look in (_renew_bills, newest_status.renew)]


def _renew_bills(context: Context) -> None:
    """The bills of all models; that of one is quickly made."""
    from pipeline.accounts.closed_months import FRESH_MS, bill_so_far
    from pipeline.accounts.statement import Terms
    from pipeline.pages.kept_settings import with_kept_settings
    from pipeline.pages.model_history import settings_digest

    terms = Terms.of(with_kept_settings(context).params)
    for by_month in (False, True):
        digest = settings_digest(context)
        bill_so_far(context.ledger, terms, digest, by_month=by_month, fresh_ms=FRESH_MS // 4)


def _bills_of_models(context: Context) -> None:
    """Of a few models each has much of the ledger, and its months that are over take a look's time to add up."""
    from pipeline.accounts.closed_months import bill_so_far
    from pipeline.accounts.statement import Terms
    from pipeline.pages.kept_settings import with_kept_settings
    from pipeline.pages.model_history import settings_digest

    models = sorted(context.ledger.models())
    terms, digest = Terms.of(with_kept_settings(context).params), settings_digest(context)
    for model in models if len(models) <= FEW else ():
        for by_month in (False, True):
            bill_so_far(context.ledger, terms, digest, model=model, by_month=by_month)


def _decode_rollups(context: Context) -> None:
    from pipeline.ledger.rollup_parts import PARTS
    from pipeline.ledger.rollups import rolled_up

    rolled_up(context.ledger, *PARTS)


def _compile_templates(_context: Context) -> None:
    from pipeline.html.templates import compiled
    from pipeline.pages import overview

    for template in sorted(Path(overview.__file__).parent.glob("*.html")):
        if template.name != "overview.html":
            compiled(template, ())


def _look(page: Callable[[Context], Any]) -> None:
    from pipeline.context import Context

    context = Context.here()
    with context.ledger.reading():
        page(context)


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
