"""What one version's prediction log tells another version, by the schemas of both.

The log has numbers: of a free text how many words of each group it has, and of a time the days that the answering version made of it. With
another number of groups the words are in other groups. In another zone a time without a zone is another moment, and its hour another one.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.serving.schema.columns import Column, Schema


def lacking(schema: Schema, numbers: Collection[str], texts: Collection[str]) -> list[str]:
    """What a version of that schema takes and a log of these columns of numbers and of texts has not: in one phrase for each text whose words are
    in other groups there."""
    found = [column.name for column in schema.columns if column.is_category and column.name not in texts]
    for column in schema.columns:
        gone = [name for name in column.matrix if name not in numbers]
        found += [name for name in gone if not is_group(column, name)]
        found += [in_groups(column)] if any(is_group(column, name) for name in gone) else []
    return found


def is_group(column: Column, name: str) -> bool:
    """Whether one of the column's numbers counts the words of a group."""
    return column.kind == "text" and name not in column.watched


def in_groups(column: Column) -> str:
    return f"the words of {column.name} in {column.groups} groups"


def unlike_groups(logged: Schema, schema: Schema) -> list[str]:
    """The texts whose words a version of `schema` takes in another number of groups than the log of the version of `logged` has."""
    groups = {column.name: column.groups for column in logged.columns if column.kind == "text"}
    return [
        f"{in_groups(column)}, the live version's log has {groups[column.name] or 'none'}"
        for column in schema.columns
        if column.groups and groups.get(column.name, column.groups) != column.groups
    ]


def unlike_times(one: Schema, other: Schema) -> str:
    """Why the times in the log of one version are others to the other; '' where both read them alike, or neither learns from one."""
    if one.timezone == other.timezone or not any(c.kind == "datetime" for s in (one, other) for c in s.columns):
        return ""
    return f"a time without a zone is one in {one.timezone} to one version, in {other.timezone} to the other"
