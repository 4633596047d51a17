"""Texts in the columns of numbers and times, features too, become values; what is no value of its kind stays beside the row as `unread`.

`unread` is JSON, {column: text}, and NULL for a row whose cells could all be read. The unreadable cell itself is NULL. The stage
`validate` puts such rows into quarantine, with the text as an example, so that nothing becomes a missing value silently.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import duckdb
import pyarrow as pa

from pipeline.data import drawn_precision, source_times, text_sql
from pipeline.data.sql import column_types, quoted
from pipeline.errors import DataError
from pipeline.serving.schema.spelling import NUMBER
from pipeline.serving.schema.times import FORMS
from pipeline.settings.source import Source
from pipeline.settings.training import Training
from pipeline.training import tasks

COLUMN = "unread"
# Longer texts are cut: an unread cell may be a whole page.
TEXT_LENGTH = 100
TIME = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d.*)?", re.ASCII)
DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+", re.ASCII)
THOUSANDS = re.compile(r"[+-]?\d{1,3}([.,' \u00a0\u202f]\d{3})+([.,]\d*)?", re.ASCII)
# 1,234 may be a decimal comma too, so nobody is told to make it one.
BETWEEN_THOUSANDS = "its numbers seem to have marks between the thousands: leave them out where the data is made"
EXAMPLES = 3


@dataclass(frozen=True)
class UnreadTimes:
    """Rows whose event time is a text that is no time. They are in no partition, since they belong to no day."""

    rows: int = 0
    examples: list[str] = field(default_factory=list)

    def as_dict(self, column: str) -> dict[str, object]:
        """What the file of counts holds of them; {} when there are none."""
        return {"unread_times": {"column": column, "rows": self.rows, "examples": self.examples}} if self.rows else {}


def read(connection: duckdb.DuckDBPyConnection, source: Source, training: Training, subject: str) -> list[str]:
    """Reads the texts of the table `rows`, and adds the column `unread` to it. Returns the features whose texts are whole numbers that a
    double cannot tell from each other: once they are read, nobody sees it.

    Raises DataError when most texts of a column are no value of its kind.
    """
    texts_of_times = source_times.as_texts(connection, source, column_types(connection))
    types = column_types(connection)
    decimal = source.csv.decimal if source.kind == "files" else "."
    numbered = [*training.numeric, *training.weights, *([] if tasks.of(training).of_labels else [training.target])]
    texts = [c for c in numbered if types.get(c) == "VARCHAR"]
    values = numbers(texts, decimal) | {c: text_sql.truth(_cell(c)) for c in _truths(connection, texts, decimal)}
    values |= {c: _time(source, c) for c in texts_of_times}
    values |= {c: text_sql.time(_cell(c)) for c in training.datetime if types.get(c) == "VARCHAR"}
    if not values:
        if COLUMN in types:
            connection.execute(f"ALTER TABLE rows DROP COLUMN {COLUMN}")
        connection.execute(f"ALTER TABLE rows ADD COLUMN {COLUMN} VARCHAR")
        return []
    merged = [c for c in texts if c in training.numeric and drawn_precision.lost_in_double(connection, c, "VARCHAR")]
    _replace_rows(connection, types, values, source.label_time, training.target)
    times = {*source.times, *training.datetime}
    kinds = {c: "time" if c in times else "number" for c in values}
    _refuse_mostly_unreadable(connection, source, kinds, training.target, subject)
    return merged


def _truths(connection: duckdb.DuckDBPyConnection, columns: Sequence[str], decimal: str) -> list[str]:
    """Those of `columns` in which more cells are words like true and false than numbers."""
    truths = []
    for column in columns:
        cell = f"(SELECT {text_sql.stripped(quoted(column))} AS cell FROM rows)"
        words = f"SELECT count(*) FROM {cell} WHERE {text_sql.is_word('cell')}"
        ((counted,),) = connection.execute(words).fetchall()
        if counted:
            ((others,),) = connection.execute(
                f"SELECT count({text_sql.number('cell', decimal)}) FROM {cell}"
            ).fetchall()
            truths += [column] if counted > others else []
    return truths


def _replace_rows(
    connection: duckdb.DuckDBPyConnection,
    types: Mapping[str, str],
    values: Mapping[str, str],
    label_time: str | None,
    target: str,
) -> None:
    """Puts the `values`, SQL by column, into the place of the texts of the table `rows`, and what is unreadable into `unread`."""
    columns = [column for column in types if column != COLUMN]
    connection.execute(f"CREATE TEMP TABLE rows_read AS {with_values('rows', columns, values)}")
    connection.execute("DROP TABLE rows")
    connection.execute("ALTER TABLE rows_read RENAME TO rows")
    if label_time in values and target in columns:
        # Whether the label was known at the as-of cannot be told, so it may not get into the snapshot.
        connection.execute(f"UPDATE rows SET {quoted(target)} = NULL WHERE {of(label_time)}")


def numbers(columns: Sequence[str], decimal: str) -> dict[str, str]:
    """The `values` of `with_values` for columns of numbers."""
    return {column: text_sql.number(_cell(column), decimal) for column in columns}


def numbers_and_infinities(columns: Sequence[str]) -> dict[str, str]:
    """The same, for tables that nobody trains on."""
    return {column: text_sql.number_or_infinity(_cell(column)) for column in columns}


def with_values(relation: str, columns: Sequence[str], values: Mapping[str, str], unread: str = COLUMN) -> str:
    """A SELECT of `columns` of `relation`, with the `values` in the place of their texts, and of what is unread under that name."""
    # One SELECT inside the other, so that DuckDB strips and reads a cell once.
    texts = ", ".join(quoted(column) for column in columns)
    cells = ", ".join([texts, *(f"{text_sql.stripped(quoted(c))} AS {_cell(c)}" for c in values)])
    read = ", ".join(["*", *(f"{value} AS {_value(c)}" for c, value in values.items())])
    faults = {c: text_sql.unreadable(_cell(c), _value(c)) for c in values}
    results = ", ".join(f"{_value(c)} AS {quoted(c)}" if c in values else quoted(c) for c in columns)
    return f"SELECT {results}, {_as_json(faults)} AS {quoted(unread)} FROM (SELECT {read} FROM (SELECT {cells} FROM {relation}))"


def _time(source: Source, column: str) -> str:
    time = text_sql.time(_cell(column), source.epoch)
    if not ends_with_its_day(source, column):
        return time
    return f"CASE WHEN {text_sql.is_day(_cell(column))} THEN {time} + INTERVAL 1 DAY ELSE {time} END"


def ends_with_its_day(source: Source, column: str) -> bool:
    """Whether a date alone means the end of that day: what was learnt on a day was not known at its begin."""
    return column in (source.label_time, source.arrival_time) and column != source.event_time


def _cell(column: str) -> str:
    return quoted(f"perennial cell {column}")


def _value(column: str) -> str:
    return quoted(f"perennial value {column}")


def of(*columns: str | None) -> str:
    """SQL that is true for a row in which one of `columns` is unread."""
    names = ", ".join(text_sql.literal(column) for column in columns if column)
    return f"coalesce(list_has_any(json_keys({COLUMN}), [{names}]), FALSE)"


def times(connection: duckdb.DuckDBPyConnection, event_time: str) -> UnreadTimes:
    """The rows of the table `rows` whose event time is unread."""
    rows = connection.execute(f"SELECT {COLUMN} FROM rows WHERE {of(event_time)} ORDER BY ALL").fetchall()
    texts = [json.loads(cells)[event_time] for (cells,) in rows]
    return UnreadTimes(len(texts), list(dict.fromkeys(texts))[:EXAMPLES])


def only_if_any(partition: pa.Table) -> pa.Table:
    """`partition` without the column `unread` when that is empty, so that one more column changes no other file's bytes."""
    empty = partition[COLUMN].null_count == len(partition)
    return partition.drop_columns([COLUMN]) if empty else partition


def cells(text: str | None) -> Mapping[str, str]:
    """{column: text} of a row's `unread`."""
    return json.loads(text) if isinstance(text, str) else {}


def _as_json(faults: Mapping[str, str]) -> str:
    if not faults:
        return "NULL::VARCHAR"
    pairs = [
        f"CASE WHEN {fault} THEN {text_sql.literal(json.dumps(column, ensure_ascii=False) + ': ')}"
        f" || to_json(left({quoted(column)}, {TEXT_LENGTH})) END"
        for column, fault in faults.items()
    ]
    return f"CASE WHEN {' OR '.join(faults.values())} THEN '{{' || concat_ws(', ', {', '.join(pairs)}) || '}}' END"


def _refuse_mostly_unreadable(
    connection: duckdb.DuckDBPyConnection, source: Source, kinds: Mapping[str, str], target: str, subject: str
) -> None:
    unread: dict[str, list[str]] = {}
    for (row,) in connection.execute(f"SELECT {COLUMN} FROM rows WHERE {COLUMN} IS NOT NULL").fetchall():
        for column, text in cells(row).items():
            unread.setdefault(column, []).append(text)
    for column, kind in kinds.items():
        texts = unread.get(column, [])
        ((has_value,),) = connection.execute(f"SELECT count({quoted(column)}) FROM rows").fetchall()
        if len(texts) <= has_value:
            continue
        examples = ", ".join(repr(text[:40]) for text in sorted(set(texts))[:EXAMPLES])
        raise DataError(
            f"{subject} source",
            f"column {column} is no {kind} in {len(texts):,} of {len(texts) + has_value:,} rows, e.g. {examples}",
            _advice(source, kind, texts, subject, feature=column not in (*source.times, target)),
        )


def _advice(source: Source, kind: str, texts: Sequence[str], subject: str, feature: bool) -> str:
    query = f"models.{subject}.source.query"
    correct = "correct what writes the files" if source.kind == "files" else f"cast it in {query[:-5]}{source.kind}"
    if kind == "time":
        if feature:
            return f"times must be like {FORMS}; {correct}, or list it in {_list_for(texts, subject)}"
        if source.epoch is None and sum(NUMBER.fullmatch(text.strip()) is not None for text in texts) * 2 > len(texts):
            return f"set models.{subject}.source.epoch to s, ms, us or ns since 1970, or cast it in {query}"
        if source.kind == "files":
            return f"times must be like {FORMS}; {correct}, or cast it in {query}"
        return f"times must be like {FORMS}; correct the source, or {correct}"
    if looks_like(THOUSANDS, texts):
        return BETWEEN_THOUSANDS
    other = "," if source.csv.decimal == "." else "."
    swapped = re.compile(rf"\s*[+-]?\d*{re.escape(other)}\d+\s*")
    if source.kind == "files" and sum(swapped.fullmatch(text) is not None for text in texts) * 2 > len(texts):
        return f"set models.{subject}.source.csv.decimal to '{other}'"
    if source.kind != "files" and looks_like(DECIMAL_COMMA, texts):
        return f"it is a number with a decimal comma: write replace(column, ',', '.')::DOUBLE in {query}"
    return f"{correct}, or list it in {_list_for(texts, subject)}" if feature else f"{correct}: the target is a number"


def _list_for(texts: Sequence[str], subject: str) -> str:
    """The list of params.yaml in which a column with such texts belongs."""
    kind = "datetime" if looks_like(TIME, texts) else "text" if looks_free(texts) else "categorical"
    return f"models.{subject}.training.{kind}"


def looks_like(pattern: re.Pattern[str], texts: Sequence[str]) -> bool:
    """Whether all texts have the pattern's form."""
    return all(pattern.fullmatch(text.strip()) for text in texts)


def looks_free(texts: Sequence[str]) -> bool:
    """Whether most of the texts have three words or more and are different: people write so, and no program that gives names."""
    several = sum(len(text.split()) >= 3 for text in texts)
    return several * 2 > len(texts) and len(set(texts)) * 2 > len(texts)
