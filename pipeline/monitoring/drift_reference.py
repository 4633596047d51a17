"""What a model's live traffic is compared with: all rows that it learnt from, as a model takes them and the prediction log has them.

`features` is the one list of what drift is looked for in.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import pandas as pd

from pipeline.monitoring.profiles.reference import Reference, kept_in, reference_of
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
    # With the personal and the calendar ones: which these are can change later.
    numeric, categorical = names(frames.columns_of(model.training))
    taken = frames.numbers_of(rows, model, doubles)
    texts = {name: rows[name].where(rows[name] != frames.MISSING_CATEGORY) for name in categorical}
    taken = pd.concat([taken, pd.DataFrame(texts, index=rows.index)], axis=1)
    return reference_of(taken, numeric, categorical, rows[model.source.event_time], model.monitor.slices)


def whole_of(file: Path, model: Model, doubles: Collection[str]) -> Reference:
    """The reference of a version by the file of its sample. A version from before profiles has the sample's, and one from before
    `monitor.slices` named a column has its slices of the sample."""
    kept = kept_in(file)
    if kept is None:
        return of_training(pd.read_parquet(file), model, doubles)
    return kept.sliced_by(model.monitor.slices, lambda: of_training(pd.read_parquet(file), model, doubles))


def watched(whole: Reference, model: Model) -> Reference:
    """The profiles of the features whose drift is looked for."""
    numeric, categorical = names(features(model))
    return whole.only([*numeric, *categorical])
