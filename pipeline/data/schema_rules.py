"""The schema with the data contract's rules: what a request must keep is what a row must keep."""

from __future__ import annotations

from dataclasses import replace

from pipeline.errors import DataError
from pipeline.serving.schema import Column, Schema, Unreadable
from pipeline.settings.gates import Column as Rule
from pipeline.settings.models import Model


def with_rules(schema: Schema, model: Model) -> Schema:
    """The schema with the rules of `gates.contract`. Raises DataError for an `allowed` value that its column cannot hold."""
    rules = model.gates.contract.columns
    return replace(schema, columns=tuple(with_rule(column, rules.get(column.name)) for column in schema.columns))


def with_rule(column: Column, rule: Rule | None) -> Column:
    """The column with its rule. Without a rule the contract promises nothing, so its values may be missing."""
    if rule is None:
        return column
    ruled = replace(column, nullable=rule.nullable, min=rule.min, max=rule.max)
    try:
        return ruled.with_allowed(rule.allowed) if rule.allowed else ruled
    except Unreadable as error:
        raise DataError(
            f"column {column.name}",
            f"{error}, in gates.contract.columns.{column.name}.allowed",
            "list values that the column can hold",
        ) from error
