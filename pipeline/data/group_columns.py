"""The columns that only gates look at: by them rows form slices and groups, and the model learns from none of them."""

from __future__ import annotations

from pipeline.data import neutral_sql, unread
from pipeline.errors import DataError
from pipeline.settings.models import Model


def refuse_unfit(types: dict[str, str], name: str, model: Model) -> None:
    """Raises DataError for one that the source with these DuckDB types does not have, or that has no one text."""
    for column in model.beside:
        section = "slices" if column in model.gates.slices.columns else "fairness"
        key = f"models.{name}.gates.{section}.columns"
        if column not in types:
            there = ", ".join(known for known in types if known != unread.COLUMN)
            raise DataError(key, f"names {column}, which the source does not have", f"its columns are {there}"[:400])
        if neutral_sql.unfit_category(types[column]):
            advice = f"cast it to text in models.{name}.source.query, or take it out"
            raise DataError(key, f"names {column}, which holds {types[column]} and forms no groups", advice)
