"""Names in params.yaml: of columns, and of a user's own functions."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated

from pydantic import AfterValidator

HOOK = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_]*")


def _hook(written: str) -> str:
    if not HOOK.fullmatch(written):
        raise ValueError(f"must be written as module:function; got {written!r}")
    return written


Hook = Annotated[str, AfterValidator(_hook)]

# Columns that the stages add to those of the source.
RESERVED = frozenset({"snapshot_row", "reason", "prediction", "unread", "perennial_time", "perennial_file"})
# Columns that the monitor has beside the features of the prediction log.
BESIDE_FEATURES = frozenset(
    {
        "key",
        "event_time",
        "received_at",
        "version",
        "slot",
        "is_golden",
        "target",
        "known",
        "timed",
        "request_id",
        "place",
    }
)

LONGEST_NAME = 250


def _column_name(name: str) -> str:
    if not name.strip():
        raise ValueError("must be the name of a column; got an empty one")
    if not name.isprintable():
        raise ValueError(f"the column {name!r} has a line break, a tab or another letter that is not shown")
    if len(name) > LONGEST_NAME:
        raise ValueError(f"a column's name may have {LONGEST_NAME} letters; this one has {len(name):,}")
    return name


ColumnName = Annotated[str, AfterValidator(_column_name)]


def one_name(name: str) -> str:
    """`name` as DuckDB and Parquet readers tell columns apart: Spend and spend are one."""
    return "".join(letter.lower() if letter.isascii() else letter for letter in name)


def named_twice(names: Iterable[str]) -> list[str]:
    """The names that stand for a column which an earlier one of `names` stands for too."""
    seen: set[str] = set()
    twice = []
    for name in names:
        if one_name(name) in seen:
            twice.append(name)
        seen.add(one_name(name))
    return list(dict.fromkeys(twice))
