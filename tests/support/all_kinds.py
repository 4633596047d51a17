"""The model `every`: a table with columns of every kind, in every spelling, with missing values in all, and categories that come later."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from harness.project import CHURN, make_project

NAME, KEY, SEEN, KNOWN, TARGET = "every", "Kunde", "seen at", "known at", "gone?"
AS_OF = datetime(2024, 3, 1, tzinfo=UTC)
DAYS, A_DAY, HELD_OUT_DAYS = 24, 100, 6
MISSING = 0.06
NEW_CITY, NEW_CODE = "Neustadt", 77
# The categories of the held-out days that no earlier row has.
LATER = 0.02

Draw = Callable[[np.random.Generator, int], list[Any]]


def picked(*values: Any) -> Draw:
    return lambda rng, rows: [values[i] for i in rng.integers(0, len(values), rows)]


def numbers(low: float, high: float, made: Callable[[float], Any] = float) -> Draw:
    return lambda rng, rows: [made(value) for value in rng.uniform(low, high, rows)]


def times(made: Callable[..., Any]) -> Draw:
    """Minutes of 2023, those that a clock leaves out or goes through twice too."""
    return lambda rng, rows: [
        made(2023, *(int(part) for part in parts)) for parts in rng.integers((1, 1, 0, 0), (13, 29, 24, 60), (rows, 4))
    ]


def float32(value: float) -> float:
    return float(np.float32(value))


NUMBERS: dict[str, tuple[pa.DataType, Draw]] = {
    "double": (pa.float64(), numbers(-100, 100, float32)),
    "single": (pa.float32(), numbers(0, 1, float32)),
    "tiny": (pa.float64(), numbers(0, 1e-6, float32)),
    "large": (pa.float64(), numbers(0, 1e7, float32)),
    "decimal": (pa.decimal128(9, 2), numbers(-50, 50, lambda v: Decimal(f"{v:.2f}"))),
    "byte": (pa.int8(), numbers(-100, 100, int)),
    "whole": (pa.int64(), numbers(-(10**6), 10**6, int)),
    "unsigned": (pa.uint16(), numbers(0, 60_000, int)),
    # What pandas makes of integers with a missing value.
    "whole as double": (pa.float64(), numbers(0, 20, lambda v: float(int(v)))),
    "number as text": (pa.string(), picked("5", "+5", " 5.5 ", "5e-1", "0.25", "NA", "nan")),
    "flag": (pa.bool_(), picked(True, False)),
    "flag as words": (pa.string(), picked("yes", "No", "Y", "n", "TRUE", "f", "NULL")),
    "flag as digits": (pa.int8(), picked(0, 1)),
    "mostly empty": (pa.float64(), picked(None, None, None, None, 1.0, 2.0)),
    "age": (pa.float64(), numbers(18, 90, lambda v: float(int(v)))),
}
CATEGORIES: dict[str, tuple[pa.DataType, Draw]] = {
    "plan": (pa.string(), picked("basic", "plus", "Plus", " plus ")),
    "größe [m²]": (pa.string(), picked("ä", 'say "x"', "a,b", "a;b", "two\nlines", "NA", "None", "1e5")),
    "city": (pa.string(), picked(*(f"city {i}" for i in range(120)))),
    "code": (pa.int64(), picked(2, 30, -1, 10**12)),
    "code as double": (pa.float64(), picked(1.0, 2.0, 3.0)),
    "code as text": (pa.string(), picked("1", "2", "30", "2.0")),
    "postal code": (pa.string(), picked("01067", "10115", "007")),
    "size": (pa.float32(), picked(0.5, 1.0, 1.5)),
    "truth": (pa.bool_(), picked(True, False)),
    "truth as words": (pa.string(), picked("yes", "NO", "Yes", "no")),
    "day": (pa.date32(), picked(*(date(2024, 1, day) for day in range(1, 9)))),
    "colour": (pa.dictionary(pa.int8(), pa.string()), picked("red", "green")),
    "mail": (pa.string(), picked("a.example", "b.example")),
}
TIMES: dict[str, tuple[pa.DataType, Draw]] = {
    "since": (pa.timestamp("us"), times(datetime)),
    "renewed": (pa.timestamp("ms", "Asia/Kolkata"), times(lambda *parts: datetime(*parts, tzinfo=UTC))),
    "born": (pa.date32(), picked(*(date(1980, month, 1) for month in range(1, 13)))),
    "told": (pa.string(), times(lambda *parts: f"{datetime(*parts):%Y-%m-%d %H:%M}+01:00")),
}
TEXTS: dict[str, tuple[pa.DataType, Draw]] = {
    "note [free]": (pa.string(), picked("rang", 'rang twice,\nwas "out"', "ä ö ü", "  ", "NA", "a " * 40)),
}
DRAWN = {**NUMBERS, **TIMES, **TEXTS, **CATEGORIES}
# What the model gets, and what the log has.
LOGGED = [
    *NUMBERS,
    *(f"{name} days" for name in TIMES),
    *(f"{name} {part}" for name in TEXTS for part in ("characters", "words")),
    *CATEGORIES,
]
# Of these a category has values in the held-out days that training never sees.
GROWING = {"city": NEW_CITY, "code": NEW_CODE}
PERSONAL = {KEY: "hash", "mail": "hash", "age": "drop"}

MODEL = copy.deepcopy(CHURN) | {
    "description": "A column of every kind",
    "as_of": AS_OF.isoformat(),
    "source": {
        "query": f"""SELECT * FROM read_parquet('every/*.parquet', union_by_name = true)
                     WHERE "{SEEN}" >= $start AND "{SEEN}" < $end""",
        "key": KEY,
        "event_time": SEEN,
        "label_time": KNOWN,
        "timezone": "Europe/Berlin",
        "window_days": DAYS,
    },
    "training": {
        "target": TARGET,
        "numeric": list(NUMBERS),
        "datetime": list(TIMES),
        "text": list(TEXTS),
        "categorical": list(CATEGORIES),
        # The model that a slot, an export and a rebuild have to hold without its library.
        "estimator": "lightgbm",
        "options": {"n_estimators": 30},
        "seed": 3,
    },
    "evaluation": {
        **{"holdout_days": HELD_OUT_DAYS, "metric": "roc_auc", "reference_rows": 5000, "golden_rows": 25},
        # The held-out rows stand for requests: what is served may not have learnt them.
        "refit": False,
    },
    "gates": {
        "metric_limit": 0.7,
        "unknown_share": 0.2,
        "contract": {
            "min_rows": 100,
            "columns": {
                "double": {"min": -100, "max": 100, "nullable": True},
                "whole as double": {"type": "integer", "min": 0, "nullable": True},
                "flag as digits": {"type": "boolean", "nullable": True},
                "flag": {"allowed": [True, False], "nullable": True},
                "code as double": {"allowed": [1, 2, "3"], "nullable": True},
                "postal code": {"type": "text", "nullable": True},
            },
        },
    },
    "monitor": {"cron": "0 6 * * *", "window_days": 7, "min_rows": 100},
    "rollout": {"engine": "process", "bake_s": 0.1, "serving": {"personal": PERSONAL}},
}


def table(seed: int = 1) -> pa.Table:
    """The rows of the training window with labels. Every column has missing values; the label follows from columns of each sort."""
    rng, rows = np.random.default_rng(seed), DAYS * A_DAY
    seen = [AS_OF - timedelta(days=DAYS) + timedelta(days=i / A_DAY) for i in range(rows)]
    cells = {name: draw(rng, rows) for name, (_, draw) in DRAWN.items()}
    held_out = np.array([at >= AS_OF - timedelta(days=HELD_OUT_DAYS) for at in seen])
    for name, new in GROWING.items():
        for row in np.flatnonzero(held_out & (rng.random(rows) < LATER)):
            cells[name][row] = new
    score = np.array(cells["double"]) / 50 + 1.5 * np.array(cells["flag"]) + np.array([c == 2 for c in cells["code"]])
    for values in cells.values():
        for row in np.flatnonzero(rng.random(rows) < MISSING):
            values[row] = None
    columns = {name: pa.array(cells[name], kind) for name, (kind, _) in DRAWN.items()}
    label = (score + rng.normal(0, 0.5, rows) > np.median(score)).astype(float)
    return pa.table(
        {
            KEY: pa.array(range(7000, 7000 + rows), pa.int32()),
            SEEN: pa.array(seen, pa.timestamp("us", "UTC")),
            **columns,
            TARGET: pa.array(label),
            KNOWN: pa.array([at + timedelta(hours=2) for at in seen], pa.timestamp("us", "UTC")),
        }
    )


def project(folder: Path) -> Path:
    """A project with the model, its rows in two files: in the first, one column of integers has no missing value and another type."""
    made = make_project(folder, {NAME: MODEL})
    rows, half = table(), DAYS * A_DAY // 2
    (made / "every").mkdir()
    first = rows.slice(0, half)
    pq.write_table(first, made / "every" / "1.parquet")
    pq.write_table(rows.slice(half), made / "every" / "2.parquet")
    with (made / ".gitignore").open("a") as ignored:
        ignored.write("/every/\n")
    return made


def later(rows: pa.Table, days: int) -> pa.Table:
    """The rows with event times so many days later."""
    seen = pa.array([time + timedelta(days=days) for time in rows[SEEN].to_pylist()], rows.schema.field(SEEN).type)
    return rows.set_column(rows.column_names.index(SEEN), SEEN, seen)


def asked(rows: pa.Table) -> pa.Table:
    """The columns that a client sends: all but label and its time."""
    return rows.drop_columns([TARGET, KNOWN])


def records(rows: pa.Table) -> list[dict[str, Any]]:
    """The rows as JSON has them: a number stays a number, a time and a date are their ISO texts."""
    return [
        {name: plain(rows.schema.field(name).type, value) for name, value in row.items()} for row in rows.to_pylist()
    ]


def plain(kind: pa.DataType, value: Any) -> Any:
    if isinstance(value, date):
        return value.isoformat()
    # JSON has the digits that a float32 needs.
    return json.loads(str(np.float32(value))) if kind == pa.float32() and value is not None else _of_decimal(value)


def _of_decimal(value: Any) -> Any:
    return float(value) if isinstance(value, Decimal) else value


DATATYPES = {
    pa.float64(): "FP64",
    pa.float32(): "FP32",
    pa.int8(): "INT8",
    pa.uint16(): "UINT16",
    pa.int32(): "INT32",
    pa.int64(): "INT64",
    pa.bool_(): "BOOL",
    pa.decimal128(9, 2): "FP64",
}


def tensors(rows: pa.Table) -> dict[str, Any]:
    """The rows as a request of the v2 protocol, each column with the datatype that its cells have."""
    cells = {name: [record[name] for record in records(rows)] for name in rows.column_names}
    datatypes = {name: DATATYPES.get(rows.schema.field(name).type, "BYTES") for name in cells}
    # The protocol has a datatype for numbers, so a text is refused there.
    texts = cells["number as text"]
    cells["number as text"] = [None if v in (None, "NA", "nan") else float(v) for v in texts]
    datatypes["number as text"] = "FP64"
    inputs = [
        {"name": name, "datatype": datatypes[name], "shape": [len(column)], "data": column}
        for name, column in cells.items()
    ]
    return {"inputs": inputs}
