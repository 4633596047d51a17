"""A backtest in tasks: the span, the versions of one training window after the other or side by side, and what they come to.

What a task makes is kept beside what others make, so that the last one finds all of it and trains nothing.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pipeline.context import Context
from pipeline.errors import DataError
from pipeline.runs.backtest import run, shared, training_windows
from pipeline.runs.backtest.matrix import build
from pipeline.settings.models import time_of

log = logging.getLogger(__name__)


def plan(context: Context, name: str, until: datetime | None = None) -> dict[str, Any]:
    """{"start", "end", "apart"}: the span, by what the source has before `until`, and the training windows, in days, that have a task of
    their own. Raises SettingsError and DataError as a backtest does."""
    model = context.params.model_of_a_run(name)
    now = min(until, context.clock()) if until else context.clock()
    span = run.span_of(name, model, context.project, None, None, run.WINDOW_DAYS, now)
    first = training_windows.first_row(name, model, context.project, span)
    lengths = training_windows.lengths_of(training_windows.USUAL, model, span, first)
    apart = [f"{days:g}" for days in lengths]
    return {"start": span.start.isoformat(), "end": span.end.isoformat(), "apart": apart}


def make(context: Context, name: str, planned: Mapping[str, Any], window: str) -> int:
    """Makes the versions that learn from so many days, and returns how many were trained now. On a server, whose workers share no disk, it goes
    on from what was kept in the DVC remote, and keeps them there."""
    model = context.params.model_of_a_run(name)
    source = model.source.model_copy(update={"window_days": float(window)})
    if float(window) <= model.evaluation.holdout_days:
        return 0
    span = run.Span(time_of(planned["start"]), time_of(planned["end"]), run.WINDOW_DAYS)
    folder = context.home / "backtests" / name
    if context.server_mode:
        shared.take(context, name, folder)
    began = time.time()
    try:
        # Other windows are made beside it, by tasks of their own.
        made = build(name, model.model_copy(update={"source": source}), context.project, folder, span, processes=1)
    except DataError as error:
        # The comparison says so too, and goes on without this window.
        log.warning("%s", error)
        return 0
    if context.server_mode:
        shared.share(context, name, window, folder, began)
    return made.trained


def compare(context: Context, name: str, planned: Mapping[str, Any]) -> dict[str, Any]:
    """The backtest of the span with all training windows: the event's sentence, the training window, and the page."""
    start, end = time_of(planned["start"]), time_of(planned["end"])
    if context.server_mode:
        shared.take(context, name, context.home / "backtests" / name)
    found = run.backtest(context, name, start, end, windows=training_windows.USUAL)
    said = found.windows.recommendation if found.windows else ""
    log.info("%s; %s", found.recommendation, said)
    return {
        "recommendation": found.recommendation,
        "training_window": said,
        "trained": found.matrix.trained,
        "report": str(found.report),
    }
