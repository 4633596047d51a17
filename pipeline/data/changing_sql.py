"""Says what in a query gives other rows or values each time it is read: a clock, chance, a sample.

A source is read again for each as-of, for a rebuild, for scoring and for labels. The days from a time to now() are others in each of them,
and in a request; they also tell a past as-of what nobody knew then.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import duckdb

from pipeline.data import statements

# DuckDB's words for the clock, which it reads as names of columns, its functions of the clock, and those of chance.
CLOCK_WORDS = frozenset({"current_date", "current_time", "current_timestamp", "localtime", "localtimestamp"})
CLOCK = CLOCK_WORDS | {"now", "today", "get_current_time", "get_current_timestamp", "transaction_timestamp"}
NO_SEED = -1
CHANCE = frozenset({"random", "uuid", "gen_random_uuid", "uuidv4", "uuidv7"})
WHY = {
    "clock": "other values each time that the source is read: a past as-of learns what nobody knew then, and no request has what was "
    "learnt; count to the event time, as `age` of training.calendar does",
    "chance": "other values each time that the source is read, so that no version can be rebuilt; leave it out",
    "sample": "other rows each time that the source is read, so that no version can be rebuilt and scoring lacks rows; leave it out",
}


def changing(query: str) -> list[tuple[str, str]]:
    """(what, why it should not be there, and what to do) for each kind of such a thing in the `query`; none where DuckDB cannot say."""
    with duckdb.connect() as connection:
        last = statements.split(query, "query")[1]
        ((serialized,),) = connection.execute("SELECT json_serialize_sql($1)", [last]).fetchall()
    tree = json.loads(serialized)
    found = {} if tree["error"] else dict(_found(tree))
    return [(what, WHY[kind]) for kind, what in found.items()]


def _found(node: Any) -> Iterator[tuple[str, str]]:
    """(kind, how it is written) of each below `node` of DuckDB's tree of a statement."""
    if isinstance(node, list):
        for part in node:
            yield from _found(part)
        return
    if not isinstance(node, dict):
        return
    function, column = _names(node)
    if column in CLOCK_WORDS:
        yield "clock", column
    if function in CLOCK or (function == "age" and len(node["arguments"]) == 1):
        yield "clock", f"{function}()"
    if function in CHANCE:
        yield "chance", f"{function}()"
    if (sample := node.get("sample")) and sample["seed"] == NO_SEED:
        yield "sample", "USING SAMPLE"
    yield from _found(list(node.values()))


def _names(node: dict[str, Any]) -> tuple[str, str]:
    """That of a function, and that of a column without its table's; '' where the node is none."""
    if node.get("class") == "FUNCTION":
        return str(node["function_name"]).lower(), ""
    names = node.get("column_names") if node.get("class") == "COLUMN_REF" else None
    return "", str(names[0]).lower() if names and len(names) == 1 else ""
