"""The labels of a target, whatever they are called: of two `training.positive` becomes 1 and the other one 0; of several each becomes
its one text."""

from __future__ import annotations

import duckdb

from pipeline.data import neutral_sql, text_sql
from pipeline.data.sql import column_types, quoted
from pipeline.errors import DataError
from pipeline.serving.schema.spelling import MISSING
from pipeline.settings.training import Training
from pipeline.training import tasks

EXAMPLES = 5
# A double does not tell larger whole numbers apart, so they stay the texts that they are.
LARGEST_WHOLE = 2**53


def read(connection: duckdb.DuckDBPyConnection, training: Training, decimal: str, subject: str) -> None:
    """Makes the target of the table `rows` 1, 0 or NULL, or the text of its label. A missing label stays missing; -1, -1.0 and "-1" are
    one label.

    Raises DataError when a binary target has a third label, or cells are no labels.
    """
    target, types = training.target, column_types(connection)
    if tasks.of(training).of_labels and target in types:
        if neutral_sql.unfit_category(types[target]):
            raise DataError(
                f"{subject} source",
                f"column {target} holds {types[target]}, not one label",
                f"cast it to text in models.{subject}.source.query",
            )
        label = text(target, types[target], decimal)
        connection.execute(f"ALTER TABLE rows ALTER {quoted(target)} TYPE VARCHAR USING {label}")
        return
    if training.positive is None or target not in types:
        return
    label, positive = texts(target, types[target], training.positive, decimal)
    query = f"SELECT DISTINCT {label} AS label, label = {positive} FROM rows WHERE label IS NOT NULL ORDER BY 1"
    found = connection.execute(query).fetchall()
    if sum(not is_positive for _, is_positive in found) > 1:
        shown = ", ".join(repr(label[:40]) for label, _ in found[:EXAMPLES]) + (" …" if len(found) > EXAMPLES else "")
        raise DataError(
            f"{subject} source",
            f"column {target} has {len(found):,} labels, {shown}, and models.{subject}.training.positive is {training.positive!r}",
            "a binary task has two: name one of them there, and leave other rows without a label in the source",
        )
    connection.execute(f"ALTER TABLE rows ALTER {quoted(target)} TYPE DOUBLE USING {one_or_zero(label, positive)}")


def text(target: str, duckdb_type: str, decimal: str) -> str:
    """SQL for a label's one text as people read it, NULL for a missing one: 2, 2.0 and "2" are 2, and True is true."""
    stripped = text_sql.stripped(neutral_sql.category(target, duckdb_type))
    missing = ", ".join(text_sql.literal(word) for word in sorted(MISSING))
    # Lambdas, so that DuckDB strips and reads a cell once.
    return f"""list_transform([{stripped}], lambda label: list_transform([{text_sql.number("label", decimal)}], lambda number:
                   CASE WHEN label IN ({missing}) THEN NULL
                        WHEN abs(number) < {LARGEST_WHOLE} AND number = trunc(number) THEN CAST(CAST(number AS BIGINT) AS VARCHAR)
                        WHEN abs(number) < {LARGEST_WHOLE} THEN CAST(number AS VARCHAR)
                        WHEN lower(label) IN ('true', 'false') THEN lower(label) ELSE label END)[1])[1]"""


def texts(target: str, duckdb_type: str, positive: object, decimal: str) -> tuple[str, str]:
    """SQL for a label's one text, NULL for a missing one, and for that of `positive`: that of its number, of its truth where
    `positive` is one, or its own without spaces around it."""
    written = str(positive).lower() if isinstance(positive, bool) else str(positive)
    cell = neutral_sql.category(target, duckdb_type)
    of_truth = isinstance(positive, bool)
    return _one_text(cell, decimal, of_truth), _one_text(text_sql.literal(written), ".", of_truth)


def one_or_zero(label: str, positive: str) -> str:
    """SQL for the target, from a pair of `texts`."""
    return f"CASE WHEN {label} = {positive} THEN 1.0 WHEN {label} IS NOT NULL THEN 0.0 END"


def _one_text(cell: str, decimal: str, of_truth: bool) -> str:
    missing = ", ".join(text_sql.literal(text) for text in sorted(MISSING))
    stripped = text_sql.stripped(cell)
    value = text_sql.truth(stripped) if of_truth else text_sql.number(stripped, decimal)
    return f"CASE WHEN {stripped} NOT IN ({missing}) THEN coalesce(CAST({value} AS VARCHAR), {stripped}) END"
