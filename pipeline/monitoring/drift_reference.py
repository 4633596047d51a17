"""What a model's live traffic is compared with: all rows that it learnt from, as a model takes them and the prediction log has them.

`features` is the one list of what drift is looked for in.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import date, datetime
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.monitoring.profiles import counted_before, in_memory
from pipeline.monitoring.profiles.layout import Layout
from pipeline.monitoring.profiles.profile import Profile
from pipeline.monitoring.profiles.reference import Reference, days_of, drawn, kept_in, reference_of
from pipeline.serving.schema import Column
from pipeline.settings.models import Model
from pipeline.training import frames


def features(model: Model) -> list[Column]:
    """The features whose drift is looked for: those without personal data that do not follow the calendar. Of a time or a text they are
    some of its numbers (`Column.watched`)."""
    hidden = {*model.rollout.serving.personal, *model.calendar}
    return [column for column in frames.columns_of(model.training) if column.name not in hidden]


def names(columns: Collection[Column]) -> tuple[list[str], list[str]]:
    """The names that the watched numbers and the categories have in the prediction log."""
    numbers = [name for column in columns for name in column.watched]
    return numbers, [column.name for column in columns if column.is_category]


def of_training(rows: pd.DataFrame, model: Model, doubles: Collection[str]) -> Reference:
    """The reference of the rows that a model learnt from, in a snapshot's neutral form."""
    table, lists = _table(rows, model, doubles), _lists(model)
    return reference_of(table, *lists, rows[model.source.event_time], model.monitor.slices)


def layout_of_training(rows: pd.DataFrame, model: Model, doubles: Collection[str]) -> Layout:
    """The layout of that reference, which all of its rows fix."""
    return drawn(_table(rows, model, doubles), *_lists(model), model.monitor.slices)


def counted(
    rows: pd.DataFrame, model: Model, doubles: Collection[str], layout: Layout, known: Mapping[date, Profile]
) -> tuple[Reference, int]:
    """That reference, where its layout is drawn and the profiles of some of its days are `known`; and how many of these were taken."""
    days = days_of(rows[model.source.event_time])
    taken = counted_before.sound(known, layout, counted_before.rows_a_day(days)) if known else {}

    def table(left: np.ndarray) -> pd.DataFrame:
        # A choice of all rows would copy them.
        return _table(rows if left.all() else rows[left], model, doubles)

    by_day = counted_before.by_day(table, layout, days, taken)
    return Reference(layout, counted_before.kept(by_day, layout)), len(taken)


def days_counted(rows: pd.DataFrame, model: Model, doubles: Collection[str], layout: Layout) -> dict[date, Profile]:
    """The profiles of the days of some of that reference's rows."""
    return in_memory.by_day(_table(rows, model, doubles), layout, days_of(rows[model.source.event_time]))


def _lists(model: Model) -> tuple[list[str], list[str]]:
    # With the personal and the calendar ones: which these are can change later.
    return names(frames.columns_of(model.training))


def _table(rows: pd.DataFrame, model: Model, doubles: Collection[str]) -> pd.DataFrame:
    """What is counted of the rows: numbers and categories as the prediction log has them."""
    taken = frames.numbers_of(rows, model, doubles)
    texts = {name: rows[name].where(rows[name] != frames.MISSING_CATEGORY) for name in _lists(model)[1]}
    return pd.concat([taken, pd.DataFrame(texts, index=rows.index)], axis=1)


def whole_of(file: Path, model: Model, doubles: Collection[str]) -> Reference:
    """The reference of a version by the file of its sample. A version from before profiles has the sample's, and one from before
    `monitor.slices` named a column has its slices of the sample."""
    kept = kept_in(file)
    if kept is None:
        return of_training(pd.read_parquet(file), model, doubles)
    return kept.sliced_by(model.monitor.slices, lambda: of_training(pd.read_parquet(file), model, doubles))


def of_hours(
    whole: Reference, rows: pd.DataFrame, model: Model, doubles: Collection[str], start: datetime, end: datetime
) -> Reference:
    """What a window [start, end) of less than a day is compared with: of the rows that were learnt from, or of a sample, those that have its hours."""
    return whole.at_hours(_table(rows, model, doubles), rows[model.source.event_time], start, end)


def newcomers(rows: pd.DataFrame, model: Model) -> dict[str, float]:
    """Of each category that has any, the share of its held-out values that the rows before never had: of postcodes or hashes so many are usual."""
    before, out = frames.before_held_out(rows, model), frames.held_out(rows, model)
    found = {}
    for name in model.training.categorical:
        # Of a million rows each value once: to look for all of them among all takes ten times as long.
        counts = rows.loc[out, name].value_counts().drop(frames.MISSING_CATEGORY, errors="ignore")
        new = int(counts[~counts.index.isin(before[name].unique())].sum())
        if new:
            found[name] = round(new / int(counts.sum()), 6)
    return found


def watched(whole: Reference, model: Model) -> Reference:
    """The profiles of the features whose drift is looked for."""
    numeric, categorical = names(features(model))
    return whole.only([*numeric, *categorical])
