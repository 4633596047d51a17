"""The verdict on requests beside what the champion learnt from: of the profile of all of them, or of rows that are here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from pipeline.context import Context
from pipeline.serving.schema import Column, Schema

if TYPE_CHECKING:
    import pandas as pd

    from pipeline.monitoring.drift import DriftVerdict
    from pipeline.monitoring.profiles.profile import Profile
    from pipeline.monitoring.profiles.reference import Reference
    from pipeline.runs.drift_by_rows import ByRows
    from pipeline.settings.models import Model


def of_profile(
    context: Context,
    name: str,
    reference: Reference,
    now: Profile,
    requests: pd.DataFrame,
    schema: Schema,
    as_of: datetime,
    found: ByRows,
) -> DriftVerdict:
    """Compares the profile of all requests with what the champion learnt from. Leaves personal features out. An unknown value is told from
    the `requests`, which may be a part of them. What was found by the rows shares the budget."""
    from pipeline.monitoring import drift_reference

    model = context.params.model(name)
    verdict = found.added_to(compared(context, name, reference, now, requests, schema, as_of, found.shared))
    said = said_left_out(model, drift_reference.features(model))
    return replace(verdict, reason=f"{verdict.reason}; {said}") if said else verdict


def of_rows(
    context: Context,
    name: str,
    reference: Reference,
    rows: pd.DataFrame,
    schema: Schema,
    as_of: datetime,
    shared: bool = False,
) -> DriftVerdict:
    """`compared` of rows that are here."""
    from pipeline.monitoring.profiles.in_memory import profile_of

    profile = profile_of(rows, reference.layout, learnt(schema))
    return compared(context, name, reference, profile, rows, schema, as_of, shared)


def compared(
    context: Context,
    name: str,
    reference: Reference,
    profile: Profile,
    rows: pd.DataFrame,
    schema: Schema,
    as_of: datetime,
    shared: bool = False,
) -> DriftVerdict:
    """The verdict of a look on the `profile` of the window that ends at `as_of`; `rows` of it, as the log has them, name unknown values.
    `shared` says that half of the budget is the domain classifier's."""
    from pipeline.monitoring import drift
    from pipeline.monitoring.measures.own import own_measures
    from pipeline.settings.cron import runs_a_quarter

    model = context.params.model(name)
    known = learnt(schema)
    window = drift.Window(
        profile,
        model.monitor.window_days,
        (as_of - timedelta(days=model.monitor.window_days)).date(),
        as_of.date(),
    )
    looks = max(runs_a_quarter(model.monitor.cron), 1) * (2 if shared else 1)
    examples = _unknown_values(rows, known)
    own = own_measures(model.monitor.measures, context.project, [measure.name for measure in drift.MEASURES])
    return drift.compare(reference, window, model.monitor, looks, known, examples, own)


def learnt(schema: Schema) -> dict[str, frozenset[str]]:
    """The categories that the version learnt, by column."""
    return {column.name: column.learnt for column in schema.columns if column.learnt is not None}


def said_left_out(model: Model, columns: Sequence[Column]) -> str:
    """Which features, and numbers that are made of `columns`, drift leaves out because they follow the calendar; '' for none."""
    parts = [f"{column.name} {part}" for column in columns for part in column.parts]
    if not (named := [*model.calendar, *parts]):
        return ""
    return f"{', '.join(named)} {'follows' if len(named) == 1 else 'follow'} the calendar and so cannot drift"


def _unknown_values(requests: pd.DataFrame, learnt: Mapping[str, frozenset[str]]) -> dict[str, str]:
    """A value that training never saw, for each column that has one."""
    found = {}
    for column, known in learnt.items():
        if column in requests.columns:
            values = requests[column].dropna()
            unknown = values[~values.isin(known)]
            if len(unknown):
                found[column] = str(unknown.iloc[0])
    return found
