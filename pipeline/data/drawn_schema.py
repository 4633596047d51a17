"""Draws a model's schema from the rows of its training window, and checks it against params.yaml.

It goes by the window's rows, not by the types of the source's columns, which a file of another day may change.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import duckdb

from pipeline.data import drawn_precision, neutral_sql, sql, unread
from pipeline.errors import DataError
from pipeline.serving.schema import Column, Schema
from pipeline.serving.schema.columns import Kind
from pipeline.serving.schema.spelling import Spelling
from pipeline.settings.gates import Column as Rule
from pipeline.settings.models import Model

# A number as a category, without leading zeros: these are a name's, like the postal code 01067. A fraction has no zeros at its end: these
# are a version's, like 1.10.
NUMBER = re.compile(r"[+-]?(0|[1-9]\d*)(\.0*|\.\d*[1-9])?", re.ASCII)
TRUTHS = ({"true", "false"}, {"yes", "no"})
# A column that is different in more of its rows than this, of so many rows at least, says who somebody is.
IDENTIFYING, IDENTIFYING_ROWS = 0.9, 50


def draw(connection: duckdb.DuckDBPyConnection, name: str, model: Model, types: dict[str, str]) -> Schema:
    """The schema of the rows in the table `landing`, which came from a source with these DuckDB types.

    Raises DataError, with advice, for a category that has a value in no row, or another one in nearly every row.
    """
    rules = model.gates.contract.columns
    columns = [_number(c, rules.get(c), types[c]) for c in model.training.numeric]
    columns += [Column(c, "datetime", parts=model.training.calendar_of(c)) for c in model.training.datetime]
    precisions = drawn_precision.precisions(connection, columns)
    columns = [replace(column, precision=precisions[column.name]) for column in columns]
    columns += [Column(c, "text", groups=model.training.words) for c in model.training.text]
    for column in columns:
        if column.kind in ("datetime", "text"):
            _refuse_empty(connection, name, column.name, column.kind)
    columns += [_category(connection, name, c, rules.get(c), model.source.kind) for c in model.training.categorical]
    source = model.source
    return Schema(tuple(columns), source.key or "", source.event_time, source.timezone, source.epoch)


def refuse_unfit(
    connection: duckdb.DuckDBPyConnection, name: str, model: Model, types: dict[str, str], merged: Sequence[str] = ()
) -> None:
    """Raises DataError for columns of the table `rows` whose cells are no texts, or have no one text: by their type, or because digits
    are lost; and for numbers that differ only in digits that a double does not have, as texts those that are `merged`."""
    for column in model.training.numeric:
        if column in merged or drawn_precision.lost_in_double(connection, column, types[column]):
            raise DataError(
                f"{name} source",
                f"column {column} holds {'texts' if column in merged else types[column]}, and a double cannot tell its numbers from each other",
                f"subtract an offset in models.{name}.source.query, or list it in models.{name}.training.categorical",
            )
    for column in model.training.text:
        # The type of an empty column says nothing.
        if types[column] not in ("VARCHAR", '"NULL"') and not types[column].startswith("ENUM"):
            kind = "datetime" if neutral_sql.is_time(types[column]) else "numeric"
            fits = sql.is_number(types[column]) or kind == "datetime"
            advice = f"list it in models.{name}.training.{kind}" if fits else "leave it out"
            advice += f", or cast it to text in models.{name}.source.query"
            raise DataError(f"{name} source", f"column {column} holds {types[column]}, not text", advice)
    for column in (*([model.source.key] if model.source.key else []), *model.training.categorical):
        if neutral_sql.unfit_category(types[column]) and column not in (
            model.source.event_time,
            model.source.label_time,
        ):
            other = (
                f"list it in models.{name}.training.datetime" if neutral_sql.is_time(types[column]) else "leave it out"
            )
            advice = f"cast it to text in models.{name}.source.query, or {other}"
            raise DataError(f"{name} source", f"column {column} holds {types[column]}, not one text", advice)
        lost = neutral_sql.lost_digits(column, types[column])
        counted = connection.execute(f"SELECT count(*) FILTER ({lost}) FROM rows").fetchone() if lost else None
        if counted and counted[0]:
            raise DataError(
                f"{name} source",
                f"column {column} holds {types[column]}, and {counted[0]:,} rows are too large for it: their last digits are lost",
                "write the column as BIGINT or as text where the data is made",
            )


def _number(name: str, rule: Rule | None, duckdb_type: str) -> Column:
    kind: Kind = "boolean" if duckdb_type == "BOOLEAN" else "number"
    if rule is not None and rule.type in ("integer", "boolean", "number"):
        kind = rule.type
    return Column(name, kind)


def _category(connection: duckdb.DuckDBPyConnection, model: str, name: str, rule: Rule | None, source: str) -> Column:
    cell = sql.quoted(name)
    counted = connection.execute(f"SELECT count({cell}), count(DISTINCT {cell}) FROM landing").fetchone() or (0, 0)
    rows, different = counted
    values = [
        str(value)
        for (value,) in connection.execute(f"SELECT DISTINCT {cell} FROM landing WHERE {cell} IS NOT NULL").fetchall()
    ]
    if rows == 0:
        _refuse_empty(connection, model, name, "categorical")
    if rows >= IDENTIFYING_ROWS and different > IDENTIFYING * rows:
        raise DataError(
            f"{model} source",
            f"column {name} has {different:,} different values in {rows:,} rows, e.g. {min(values)[:40]}: nothing can be learnt from it",
            _advice(model, values, source),
        )
    return Column(name, "category", spelling=_spelling(values, rule))


def _refuse_empty(connection: duckdb.DuckDBPyConnection, model: str, name: str, kind: str) -> None:
    if connection.execute(f"SELECT count({sql.quoted(name)}) FROM landing").fetchall() == [(0,)]:
        raise DataError(
            f"{model} source",
            f"column {name} has a value in no row",
            f"check the source, or take it out of models.{model}.training.{kind}",
        )


def _spelling(values: list[str], rule: Rule | None) -> Spelling:
    if rule is not None and rule.type in ("text", "boolean", "number", "integer"):
        return {"text": "text", "boolean": "truth", "number": "number", "integer": "number"}[rule.type]  # type: ignore[return-value]
    lower = {value.strip().lower() for value in values}
    # NO alone is a country.
    if lower in TRUTHS or (lower <= TRUTHS[0] and lower == set(values)):
        return "truth"
    return "number" if all(NUMBER.fullmatch(value.strip()) for value in values) else "text"


def _advice(model: str, values: list[str], source: str) -> str:
    """What to do with a column that is different in nearly every row, by what its values look like."""
    some = values[:1000]
    if unread.looks_like(unread.TIME, some):
        return f"it is a time: list it in models.{model}.training.datetime"
    if unread.looks_like(unread.THOUSANDS, some):
        return unread.BETWEEN_THOUSANDS
    if unread.looks_like(unread.DECIMAL_COMMA, some):
        if source == "files":
            return f"it is a number: list it in models.{model}.training.numeric, and set models.{model}.source.csv.decimal to ','"
        return f"it is a number with a decimal comma: write replace(column, ',', '.')::DOUBLE in models.{model}.source.query"
    if all(NUMBER.fullmatch(value) for value in some):
        return f"it is a number: list it in models.{model}.training.numeric, or take it out if it identifies the row"
    if unread.looks_free(some):
        return f"it is free text: list it in models.{model}.training.text"
    return f"it is an identifier: take it out of models.{model}.training.categorical, or list it in training.text if people write it"
