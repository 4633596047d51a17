"""`perennial init`: looks at a table, drafts a block, checks it as params.yaml is checked, and writes it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
from pydantic import ValidationError

from pipeline.data import changing_sql, labels, sql, text_sql
from pipeline.data.source import readable
from pipeline.data.sql import quoted
from pipeline.errors import SettingsError
from pipeline.init import block, draft, facts, first_checks, flags, roles, small_table, text_groups, windows
from pipeline.init.looks import Looks, instant
from pipeline.init.odd_cells import OddCells
from pipeline.init.request import Assumption, Draft, LeftOut, Request
from pipeline.init.table import TABLE, Origin, open_table
from pipeline.settings.faults import all_faults, fault
from pipeline.settings.models import MODEL_NAME, Model
from pipeline.training.tasks import TASKS

PARAMS = "params.yaml"


@dataclass(frozen=True)
class Result:
    """The draft, the block's text, and whether it was written."""

    draft: Draft
    block: str
    written: bool

    def as_dict(self) -> dict[str, Any]:
        return {
            "model": self.draft.model,
            "settings": self.draft.settings,
            "assumptions": [vars(each) for each in self.draft.assumptions],
            "left_out": [vars(each) for each in self.draft.left_out],
            "written": self.written,
        }


def init(request: Request, project: Path, dry_run: bool) -> Result:
    """Drafts the block of `request`, and adds it to the project's params.yaml unless `dry_run`.

    Raises SettingsError or DataError for what cannot be a model; params.yaml is then as it was.
    """
    if not MODEL_NAME.fullmatch(request.model):
        raise SettingsError(
            f"model name {request.model!r}", "cannot be used", "use a-z, 0-9 and '-', at most 40 characters"
        )
    flags.refuse_wrong(request)
    try:
        with sql.connect(project) as connection:
            drafted = _draft(connection, request, project)
        Model.model_validate(drafted.settings)
    except ValidationError as error:
        raise fault(*all_faults(error, f"models.{request.model}", [])) from error
    if not dry_run:
        block.add(project / PARAMS, drafted)
    return Result(drafted, block.text(drafted), not dry_run)


def _draft(connection: duckdb.DuckDBPyConnection, request: Request, project: Path) -> Draft:
    # Before a query is run: it may make times of texts, in the zone that a run has.
    connection.execute(f"SET TimeZone = {text_sql.literal(request.timezone)}")
    origin = open_table(connection, project, request.data, request.model, request.target)
    counted = facts.by_name(facts.count(connection, origin.csv.decimal))
    # Of the target's spellings target_labels.py asks.
    columns = {name: each if name == request.target else each.with_digits_as_truths() for name, each in counted.items()}
    looks = Looks(connection, request.target, origin.csv.decimal)
    found = roles.find(request, columns, looks, OddCells(connection, origin, columns))
    time = instant(found.time.name, found.time.type, found.epoch)
    of_labels = TASKS[found.task].of_labels
    target_sql = _target(columns[found.target.name], found.positive, of_labels, origin)
    label = f"{target_sql} IS NOT NULL"
    known = instant(found.label_time.name, found.label_time.type, found.epoch) if found.label_time else time
    chosen = windows.choose(connection, request, found, time, known, label)
    frame = _frame(connection, origin, columns, found, time, target_sql)
    # What a run as of then would learn from and judge by.
    frame = frame[frame["perennial_time"] >= pd.Timestamp(chosen.start)].reset_index(drop=True)
    times = frame.pop("perennial_time")
    is_held_out = (times >= pd.Timestamp(chosen.holdout_start)).to_numpy()
    target = frame[found.target.name].to_numpy()
    weight = frame[found.weight.name].to_numpy() if found.weight else None
    first_checks.refuse_unjudgeable(target, is_held_out, found.task, chosen)
    kept = {*request.numeric, *request.categorical, *request.text}
    leaks = [leak for leak in first_checks.leaks(frame, is_held_out, found) if leak.column not in kept]
    new = first_checks.mostly_new(frame, is_held_out, request, found)
    left_out = {each.column: each for each in (*leaks, *new)}
    if origin.unnamed:
        why = "it has no name in the first line, as the index that pandas writes"
        left_out[""] = LeftOut("a column", why, "name it there, or write the file without it")
    without = list(left_out.values())
    drafted = draft.make(request, origin, found, chosen, target, weight, is_held_out, without, columns)
    if origin.query is not None:
        said = [Assumption("query", what, why) for what, why in changing_sql.changing(origin.query)]
        drafted = replace(drafted, assumptions=[*said, *drafted.assumptions])
    # A frame of hundreds of columns is in as many blocks, and pandas warns of the next one.
    dated = frame.copy().assign(**{found.time.name: times})
    return text_groups.with_groups(small_table.with_estimator(drafted, dated, is_held_out), dated, is_held_out)


def _frame(
    connection: duckdb.DuckDBPyConnection,
    origin: Origin,
    columns: dict[str, facts.Facts],
    found: roles.Roles,
    time: str,
    target: str,
) -> pd.DataFrame:
    """The labelled rows in order of time, those that have a weight: a target of numbers, weights and numeric features as float64, labels, categories and texts as text, and `perennial_time`."""
    weights = [found.weight.name] if found.weight else []
    numbers = [*weights, *([] if TASKS[found.task].of_labels else [found.target.name]), *found.features["numeric"]]
    parts = [f"{time} AS perennial_time", f"{target} AS {quoted(found.target.name)}"]
    parts += [f"{_value(columns[name], origin)} AS {quoted(name)}" for name in [*weights, *found.features["numeric"]]]
    texts = [*found.features["categorical"], *found.features["text"]]
    parts += [f"CAST({quoted(name)} AS VARCHAR) AS {quoted(name)}" for name in texts]
    there = [target, time, *(_value(columns[name], origin) for name in weights)]
    where = " AND ".join(f"{each} IS NOT NULL" for each in there)
    query = f"SELECT {', '.join(parts)} FROM {TABLE} WHERE {where} ORDER BY 1"
    with readable("--data"):
        frame = connection.sql(query).df()
    return frame.astype(dict.fromkeys(numbers, "float64"))


def _target(column: facts.Facts, positive: str | None, of_labels: bool, origin: Origin) -> str:
    if of_labels:
        return labels.text(column.name, column.type, origin.csv.decimal)
    if positive is None:
        return _value(column, origin)
    return labels.one_or_zero(*labels.texts(column.name, column.type, positive, origin.csv.decimal))


def _value(column: facts.Facts, origin: Origin) -> str:
    """SQL for the number of a cell."""
    cell = quoted(column.name)
    if column.type != "VARCHAR":
        return f"CASE WHEN isfinite(CAST({cell} AS DOUBLE)) THEN CAST({cell} AS DOUBLE) END"
    stripped = text_sql.stripped(cell)
    if column.is_truth:
        return f"CAST({text_sql.truth(stripped)} AS DOUBLE)"
    return text_sql.number(stripped, origin.csv.decimal)
