"""Looks at an alarm's days in the source: what its rows do not show is train/serve skew, which no retrain cures."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from pipeline.context import Context
from pipeline.errors import DataError
from pipeline.serving.schema import Schema

if TYPE_CHECKING:
    import pandas as pd

    from pipeline.monitoring.drift import DriftVerdict
    from pipeline.monitoring.skew import Compare, Skew


def judged(
    context: Context,
    name: str,
    drift: DriftVerdict,
    requests: pd.DataFrame,
    schema: Schema,
    as_of: datetime,
    compare: Compare,
) -> tuple[DriftVerdict, Skew | None]:
    """The verdict on the requests of the window that ends at `as_of`, which is skew where the source's rows show nothing of the change; and what
    they show, None without an alarm. `compare` judges a table as the look does. A source that cannot be read leaves it unknown."""
    from pipeline.monitoring import skew, source_window

    if not drift.changed:
        return drift, None
    model = context.params.model(name)
    start = as_of - timedelta(days=model.monitor.window_days)
    try:
        key = context.registry.key.log_key()
        rows = source_window.rows_as_logged(model, context.project, start, as_of, name, schema, key)
    except DataError as error:
        return drift, skew.unknown(drift, str(error))
    tolerance = timedelta(seconds=model.monitor.label_tolerance_s)
    found = skew.looked_for(drift, requests, rows, compare, tolerance, model.monitor.min_rows)
    if found.only_serving:
        drift = replace(drift, verdict="skew", reason=f"{drift.reason}; {found}")
    return drift, found
