"""Refuses a query that reads CSV or JSON with types that DuckDB would guess from the first lines.

DuckDB fixes the types by the first 20,480 lines. What comes later is converted to them without an error: 0.37 becomes 0, 040
becomes 40, 1_000 becomes 1000, and a time in a column of dates loses its hours (duckdb issue 25824). The same happens when the
query itself states an integer or a date; a DECIMAL has a scale, so that who states it asks for rounding.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import duckdb

from pipeline.errors import DataError

_READERS = re.compile(r"^read_(csv|json|ndjson)(_auto|_objects|_objects_auto)?$")
_FILE = re.compile(r"\.(csv|tsv|json|jsonl|ndjson)(\.gz|\.zst)?(\?.*)?$", re.IGNORECASE)
_IN_TEXT = re.compile(
    r"\bread_(?:csv|json|ndjson)(?:_auto)?\s*\(|'[^']*\.(?:csv|tsv|json|jsonl|ndjson)(?:\.gz|\.zst)?'", re.I
)
_ROUNDING = re.compile(r"^(U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?|INT\d|LONG|SHORT|DATE)$", re.IGNORECASE)
_LOSES_ROWS = ("ignore_errors", "store_rejects")
_TYPES = ("types", "dtypes", "column_types")


def refuse_sampled_types(
    connection: duckdb.DuckDBPyConnection, query: str, subject: str, key: str = "source.query"
) -> None:
    """Raises DataError for the first reader in `query`, the model's settings key `key`, that samples, rounds, or leaves rows out, with what to write."""
    ((serialized,),) = connection.execute("SELECT json_serialize_sql($1)", [query.strip().rstrip(";")]).fetchall()
    tree = json.loads(serialized)
    for what, fault, fix in _faults_of_text(query) if tree["error"] else _faults(tree):
        raise DataError(f"models.{subject}.{key}", f"{what} {fault}", fix)


def _faults(node: Any) -> Iterator[tuple[str, str, str]]:
    """(reader, what is wrong with it, what to write) of each reader below `node` of DuckDB's tree of a statement."""
    if isinstance(node, list):
        for part in node:
            yield from _faults(part)
    elif isinstance(node, dict):
        if node.get("type") == "TABLE_FUNCTION":
            yield from _faults_of_reader(node["function"])
        elif node.get("type") == "BASE_TABLE":
            # A name without quotes too: DuckDB reads the file data.csv for the table csv of the schema data.
            yield from _faults_of_file(".".join(node["qualified_name"]["path"]))
        yield from _faults(list(node.values()))


def _faults_of_file(name: str) -> Iterator[tuple[str, str, str]]:
    if _FILE.search(name):
        reader = "read_csv" if re.search(r"\.[ct]sv", name, re.IGNORECASE) else "read_json"
        yield f"'{name}'", _GUESSED, f"write {reader}('{name}', sample_size = -1){_OR_FILES}"


_GUESSED = "takes its types from the first 20,480 lines, and then rounds 0.37 to 0 without an error"
_OR_FILES = ", or use source.files, which reads all columns by their kind"


def _faults_of_reader(function: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    name = function["function_name"].lower()
    if name in ("query", "query_table"):
        for text in _texts(function["arguments"]):
            yield from _faults_of_text(text) if name == "query" else _faults_of_file(text)
    if not _READERS.match(name) or "objects" in name:
        return
    options = dict(_option(argument) for argument in function["arguments"])
    for option in _LOSES_ROWS:
        if option in options and not _is(options[option], "false", "0"):
            yield f"{name}({option})", "leaves lines out without counting them", f"remove {option}{_OR_FILES}"
    stated = [options[key] for key in ("columns", *_TYPES) if key in options]
    for type_name in (text for struct in stated for text in _texts(struct)):
        if _ROUNDING.match(type_name):
            yield (
                f"{name}({type_name})",
                "converts what is none without an error, as 0.37 to 0",
                f"state DOUBLE, TIMESTAMP or VARCHAR in place of {type_name}{_OR_FILES}",
            )
    everything_stated = "columns" in options or _is(options.get("all_varchar"), "true", "1")
    if not everything_stated and not _is(options.get("sample_size"), "-1"):
        also = "states the types of some columns only, and " if stated else ""
        text = " or all_varchar = true" if "csv" in name else ""
        yield name, also + _GUESSED, f"add sample_size = -1{text} to it{_OR_FILES}"


def _option(argument: dict[str, Any]) -> tuple[str, Any]:
    """(name, expression) of an argument: DuckDB keeps `name = value` as a comparison, `name := value` as a named argument."""
    value = argument["expression"]
    if argument.get("name"):
        return argument["name"].lower(), value
    if value.get("type") == "COMPARE_EQUAL" and value["left"].get("type") == "COLUMN_REF":
        return value["left"]["column_names"][-1].lower(), value["right"]
    return "", value


def _is(expression: Any, *wanted: str) -> bool:
    return str(_value(expression)).lower() in wanted


def _value(expression: Any) -> str | None:
    """The text of a constant, of a name, of -1, and of a cast of one of these."""
    if not isinstance(expression, dict):
        return None
    if expression.get("class") == "CONSTANT":
        return expression["literal"].get("text")
    if expression.get("class") == "COLUMN_REF":
        return expression["column_names"][-1]
    if expression.get("class") == "CAST":
        return _value(expression.get("child"))
    if expression.get("function_name") == "-" and len(expression["arguments"]) == 1:
        return f"-{_value(expression['arguments'][0]['expression'])}"
    return None


def _texts(expression: Any) -> Iterator[str]:
    """All constant texts below an expression: the types in a struct or a list."""
    if isinstance(expression, dict):
        if (value := _value(expression)) is not None:
            yield value
        else:
            yield from _texts(list(expression.values()))
    elif isinstance(expression, list):
        for part in expression:
            yield from _texts(part)


def _faults_of_text(query: str) -> Iterator[tuple[str, str, str]]:
    """The same for a statement that DuckDB does not serialize, as PIVOT: without a look at each reader's own options."""
    for found in _IN_TEXT.finditer(query):
        if not re.search(r"sample_size\s*(=|:=)\s*-1\b|all_varchar\s*(=|:=)\s*true", query, re.IGNORECASE):
            yield found[0].rstrip("( "), _GUESSED, f"add sample_size = -1 to it{_OR_FILES}"
    for option in _LOSES_ROWS:
        if re.search(rf"\b{option}\s*(=|:=)\s*(?!false)", query, re.IGNORECASE):
            yield option, "leaves lines out without counting them", f"remove {option}{_OR_FILES}"
