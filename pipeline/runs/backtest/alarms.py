"""Whether the inputs of a window had an alarm, as a look at its end would have said: for policies that go by drift.

The window is compared with the rows that the version as of its start learnt from. A version that is older is compared with older
rows in life, so a past in which nobody retrains has other alarms than these.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd

from pipeline.monitoring import drift, drift_reference
from pipeline.monitoring.measures.own import own_measures
from pipeline.monitoring.profiles.in_memory import profile_of
from pipeline.runs.backtest.past import Span
from pipeline.serving.schema import Schema
from pipeline.settings.models import Model
from pipeline.training import frames

QUARTER_DAYS = 91


def alarm(model: Model, root: Path, learnt: pd.DataFrame, asked: pd.DataFrame, schema: Schema, span: Span) -> bool:
    """`learnt` are a version's rows in a snapshot's form, `asked` the features of the window that begins at its as-of."""
    taught = learnt if model.evaluation.refit else learnt[~frames.held_out(learnt, model)]
    reference = drift_reference.of_training(taught, model, schema.doubles)
    numeric, categorical = drift_reference.names(drift_reference.features(model))
    reference = replace(reference.only([*numeric, *categorical]), newcomers=drift_reference.newcomers(learnt, model))
    begin = model.as_of
    if span.days < 1:
        reference = drift_reference.of_hours(reference, taught, model, schema.doubles, begin, begin + span.length)
    known = {name: frozenset(learnt[name].dropna().unique()) for name in categorical}
    asked = asked.assign(**{c: asked[c].where(asked[c] != frames.MISSING_CATEGORY, None) for c in categorical})
    window = drift.Window(
        profile_of(asked, reference.layout, known), span.days, begin.date(), (begin + span.length).date()
    )
    own = own_measures(model.monitor.measures, root, [measure.name for measure in drift.MEASURES])
    looks = max(QUARTER_DAYS / span.days, 1)
    return drift.compare(reference, window, model.monitor, looks, known, own=own).verdict == "drift"
