"""The data contract: rules for single rows, checked with pandera, and what is usual for a day (see day_history).

Rows that break a rule go to quarantine with the reason; in = kept + quarantined. The kept rows are not stored a second time:
they are the snapshot without the quarantine. The gates decide whether too many rows are missing, not this module.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.data import row_keys, unread
from pipeline.data.day_history import missing_values, unusual_days
from pipeline.data.schema_rules import with_rules
from pipeline.errors import DataError
from pipeline.serving.scan import MAX_TEXT_BYTES
from pipeline.serving.schema import Column as Ruled
from pipeline.serving.schema import Schema, spelling
from pipeline.settings.gates import Column, Contract
from pipeline.settings.models import Model
from pipeline.training import tasks

EXAMPLES = 3
ROW, REASON = "snapshot_row", "reason"


def check(name: str, model: Model, snapshot: Path, counts: Path, quarantine: Path, report: Path) -> dict[str, Any]:
    """Writes the snapshot's rows that break the contract to `quarantine` (Parquet) and the JSON `report`.

    `quarantine` has a row's number in the snapshot and the reason beside its own columns. Returns the report: {"in", "kept",
    "quarantined", "held_out": kept rows of the held-out days, "label_delay_s": the snapshot's, "faults": [{"column", "check", "rows",
    "examples"}], "days", "missing", "quarantined_a_day": {day: (quarantined, in)}}; days and missing are from day_history. A model without source.key has "alike" too.
    Rows whose event time could not be read are in no partition; they count as quarantined, and `quarantine` does not have them.
    Raises DataError when no row is left to train on.
    """
    return checked(name, model, snapshot, counts, quarantine, report)[0]


def checked(
    name: str, model: Model, snapshot: Path, counts: Path, quarantine: Path, report: Path
) -> tuple[dict[str, Any], pd.DataFrame]:
    """What `check` does and returns, and with it the rows that are kept (see `kept_rows`)."""
    rows, counted = read_snapshot(snapshot), json.loads(counts.read_text(encoding="utf-8"))
    drawn = Schema.of_snapshot(snapshot)
    cases = with_unread(rows, broken_rows(rows, model.gates.contract, model, drawn), model)
    broken = _with_reasons(rows, cases)
    broken.to_parquet(quarantine, index=False)
    unread_times = counted.get("unread_times", {"rows": 0})
    validation = {
        "in": len(rows) + unread_times["rows"],
        "kept": len(rows) - len(broken),
        "quarantined": len(broken) + unread_times["rows"],
        "held_out": int((rows[model.source.event_time].drop(index=broken.index) >= model.held_out_from).sum()),
        "label_delay_s": counted.get("label_delay_s"),
        "faults": [*_faults(cases), *([{**unread_times, "check": "time"}] if unread_times["rows"] else [])],
        "days": unusual_days(counted["rows_a_day"], model),
        "missing": missing_values(counted, model),
        "quarantined_a_day": _a_day(rows[model.source.event_time], broken[ROW].to_numpy()),
    }
    if model.source.key is None:
        validation["alike"] = alike(rows.drop(index=broken[ROW]), model)
    report.write_text(json.dumps(validation, indent=2) + "\n", encoding="utf-8")
    if validation["kept"] == 0:
        raise DataError(
            f"{name} contract",
            f"all {len(rows)} rows break it ({faults_line(validation)})",
            f"correct models.{name}.gates.contract or the source",
        )
    return validation, _kept(rows, broken[ROW].to_numpy())


def _a_day(times: pd.Series, broken: np.ndarray) -> dict[str, tuple[int, int]]:
    """By day (rows in quarantine, all rows) of rows with these times, of which those numbered `broken` are in quarantine."""
    days = times.dt.tz_convert("UTC").dt.floor("D")
    bad = days.loc[broken].value_counts()
    return {
        f"{day:%Y-%m-%d}": (int(bad.get(day, 0)), int(rows)) for day, rows in days.value_counts().sort_index().items()
    }


def alike(rows: pd.DataFrame, model: Model) -> int:
    """The rows that are like an earlier one in event time and features: without source.key nothing tells whether they are two."""
    return int(pd.Series(row_keys.of_frame(rows, rows[model.source.event_time], model.training)).duplicated().sum())


def with_unread(rows: pd.DataFrame, cases: pd.DataFrame, model: Model) -> pd.DataFrame:
    """`cases`, with one for each cell that could not be read in place of those for its being missing."""
    if unread.COLUMN not in rows:
        return cases
    times = (*model.source.times, *model.training.datetime)
    of_rows = rows[unread.COLUMN].dropna().map(unread.cells)
    found = [
        {"index": row, "column": column, "check": "time" if column in times else "number", "failure_case": text}
        for row, cells in of_rows.items()
        for column, text in cells.items()
    ]
    told = {(case["index"], case["column"]) for case in found}
    # Without the time of a label the snapshot has no label either.
    told |= {(row, model.training.target) for row, column in told if column == model.source.label_time}
    others = [(row, column) not in told for row, column in zip(cases["index"], cases["column"], strict=True)]
    return pd.concat([cases[others], pd.DataFrame(found)], ignore_index=True)


def _with_reasons(rows: pd.DataFrame, cases: pd.DataFrame) -> pd.DataFrame:
    """The rows that break the contract, with their number in the snapshot and the reason."""
    bad = rows.index.isin(cases["index"])
    reasons = (
        cases.groupby("index").apply(
            lambda faults: "; ".join(sorted({f"{fault.column}: {fault.check}" for fault in faults.itertuples()})),
            include_groups=False,
        )
        if len(cases)
        else pd.Series(dtype=str)
    )
    broken = rows[bad].assign(**{REASON: reasons.reindex(rows.index[bad]).to_numpy(dtype=object)})
    broken.insert(0, ROW, rows.index[bad].astype("int64"))
    return broken


def _faults(cases: pd.DataFrame) -> list[dict[str, Any]]:
    return [
        {
            "column": str(column),
            "check": str(check),
            "rows": len(failures),
            "examples": [_plain(value) for value in failures.failure_case.head(EXAMPLES)],
        }
        for (column, check), failures in cases.groupby(["column", "check"], sort=True)
    ]


def read_snapshot(folder: Path) -> pd.DataFrame:
    """All partitions of a snapshot, in time order, with categories as a model takes them; the index is the row's number in it."""
    files = sorted(folder.glob("*.parquet"))
    if not files:
        raise DataError(f"snapshot {folder}", "has no partitions", "run the snapshot stage first")
    return spelt(_read(files), Schema.of_snapshot(folder))


def _read(files: list[Path]) -> pa.Table:
    # Several files at once, on a core each: within one, threads wait for each other.
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as threads:
        tables = threads.map(lambda file: pq.ParquetFile(file).read(use_threads=False), files)
        return pa.concat_tables(tables, promote_options="default")


def spelt(table: pa.Table, schema: Schema | None) -> pd.DataFrame:
    """Rows in a snapshot's form, with categories as a model of that schema takes them."""
    rows = table.to_pandas()
    # Of a million rows both at once would be too much.
    del table
    for column in () if schema is None else schema.columns:
        if column.spelling != "text":
            # A category has one text in all models' readings; the partition has the one that the source wrote.
            spelt = {text: column.read(text) for text in rows[column.name].dropna().unique()}
            rows[column.name] = rows[column.name].map(spelt, na_action="ignore").astype(object)
    return rows


def kept_rows(snapshot: Path, quarantine: Path) -> pd.DataFrame:
    """The snapshot's rows that are not in quarantine, in time order."""
    return _kept(read_snapshot(snapshot), broken_numbers(quarantine))


def kept_of(files: list[Path], schema: Schema | None, broken: np.ndarray) -> pd.DataFrame:
    """Those of some partitions; `broken` are the numbers, in these files, of the rows in quarantine."""
    return _kept(spelt(_read(files), schema), broken)


def broken_numbers(quarantine: Path) -> np.ndarray:
    """The numbers in the snapshot of the rows in quarantine, int64."""
    return pd.read_parquet(quarantine, columns=[ROW])[ROW].to_numpy()


def _kept(rows: pd.DataFrame, broken: np.ndarray) -> pd.DataFrame:
    if unread.COLUMN in rows:
        del rows[unread.COLUMN]
    # A drop copies the whole table.
    return rows.drop(index=broken).reset_index(drop=True) if len(broken) else rows


def keeps(rows: pd.DataFrame, model: Model, drawn: Schema) -> np.ndarray:
    """Which of the rows, in a snapshot's form, the stage `validate` would keep: bool (rows,)."""
    cases = with_unread(rows, broken_rows(rows, model.gates.contract, model, drawn), model)
    return ~rows.index.isin(cases["index"])


def broken_rows(rows: pd.DataFrame, contract: Contract, model: Model, drawn: Schema | None = None) -> pd.DataFrame:
    """One row a fault: {"index", "column", "check", "failure_case"}. Raises DataError for a fault of a whole column.

    `drawn`, the snapshot's schema, says how a value of `allowed` is spelt.
    """
    import pandera.pandas as pandera

    ruled = {column.name: column for column in with_rules(drawn, model).columns} if drawn is not None else {}

    rules = {c: contract.columns.get(c) for c in model.training.features}
    target = contract.columns.get(model.training.target, Column())
    if (labels := tasks.of(model.training).allowed) is not None and target.allowed is None:
        # Whatever else the rule says.
        target = target.model_copy(update={"allowed": labels})
    rules[model.training.target] = target
    for column in model.training.weights:
        rule = contract.columns.get(column, Column())
        rules[column] = rule.model_copy(update={"min": max(0.0, rule.min or 0.0), "nullable": False})
    texts = {*model.training.categorical, *([model.training.target] if tasks.of(model.training).of_labels else [])}
    columns = {c: _column(pandera, rule, c in texts, ruled.get(c)) for c, rule in rules.items()}
    columns |= {c: _free_text(pandera, rules[c]) for c in model.training.text}
    # A time's type is the snapshot's own.
    columns |= {
        c: pandera.Column(None, nullable=(rules[c] or Column(nullable=True)).nullable) for c in model.training.datetime
    }
    if model.source.key not in (None, model.source.event_time):
        columns[model.source.key] = _column(pandera, contract.columns.get(model.source.key, Column()), True)
    schema = pandera.DataFrameSchema(columns)
    repeated = _repeated(rows, model)
    try:
        schema.validate(rows, lazy=True)
    except pandera.errors.SchemaErrors as error:
        cases = error.failure_cases
        of_columns = cases[cases["index"].isna()]
        if len(of_columns):
            raise DataError(
                f"snapshot column {of_columns.column.iloc[0]}",
                f"{of_columns.check.iloc[0]} fails on {of_columns.failure_case.iloc[0]}",
                "run the snapshot stage again",
            ) from error
        cases = cases.assign(index=cases["index"].astype("int64"))[["index", "column", "check", "failure_case"]]
        return pd.concat([cases, repeated], ignore_index=True) if len(repeated) else cases
    return repeated


def _repeated(rows: pd.DataFrame, model: Model) -> pd.DataFrame:
    """A fault for each row whose key and event time an earlier row has: a row is known by both, as a key may come again.

    None without source.key: rows that are alike may well be two (see `alike`).
    """
    key = model.source.key
    if key is None:
        return pd.DataFrame({"index": [], "column": [], "check": [], "failure_case": []})
    again = rows[rows.duplicated(list(dict.fromkeys([key, model.source.event_time])), keep="first") & rows[key].notna()]
    return pd.DataFrame(
        {
            "index": again.index.astype("int64"),
            "column": key,
            "check": "unique_with_its_time",
            "failure_case": again[key].astype("object"),
        }
    ).reset_index(drop=True)


def _free_text(pandera: Any, rule: Column | None) -> Any:
    """What no request can say no model learns from: the door refuses longer values (see pipeline.serving.scan)."""
    check = pandera.Check(lambda texts: texts.map(_bytes_sent) <= MAX_TEXT_BYTES, name="at most 32 KiB")
    return pandera.Column(str, nullable=(rule or Column(nullable=True)).nullable, checks=[check])


def _bytes_sent(text: str) -> int:
    """The length of a text in JSON."""
    # No letter takes more than six.
    return len(text) if 6 * len(text) <= MAX_TEXT_BYTES else len(json.dumps(text, ensure_ascii=False).encode()) - 2


def _column(pandera: Any, rule: Column | None, text: bool, ruled: Ruled | None = None, **options: Any) -> Any:
    checks = []
    if not text:
        checks.append(pandera.Check(lambda v: ~v.isin([math.inf, -math.inf]), name="finite"))
    rule = rule or Column(nullable=True)
    if rule.type == "boolean" and not text:
        checks.append(pandera.Check.isin([0.0, 1.0], name="boolean"))
    if rule.type == "integer" and not text:
        checks.append(pandera.Check(lambda v: v % 1 == 0, name="integer"))
    if rule.min is not None:
        checks.append(_check_of_numbers(pandera, "greater_than_or_equal_to", rule.min, lambda v, low: v >= low))
    if rule.max is not None:
        checks.append(_check_of_numbers(pandera, "less_than_or_equal_to", rule.max, lambda v, high: v <= high))
    if rule.allowed is not None:
        allowed = [spelling.category(v) for v in rule.allowed] if text else list(rule.allowed)
        values = list(ruled.allowed) if ruled is not None else allowed
        if text:
            checks.append(pandera.Check.isin(values))
        else:
            checks.append(_check_of_numbers(pandera, "isin", values, lambda v, them: v.isin(them)))
    return pandera.Column(str if text else "float64", nullable=rule.nullable, checks=checks, **options)


def _check_of_numbers(pandera: Any, name: str, limit: Any, keeps: Callable[[pd.Series, Any], pd.Series]) -> Any:
    """A check that takes a float32 as what it was written as: a FLOAT 0.1 keeps `max: 0.1`, though the double beside it is larger.

    So does the door (see `serving.schema.columns`). From 2^24 on a float32 no longer holds every whole number.
    """

    def check(values: pd.Series) -> pd.Series:
        single = values.astype("float32")
        written_short = (single.astype("float64") == values) & (values.abs() < 2**24)
        return keeps(values, limit) | (written_short & keeps(single, np.asarray(limit, "float32")))

    return pandera.Check(check, name=f"{name}({limit})")


def faults_line(report: dict[str, Any]) -> str:
    """The faults of a report in one line: column, check, rows, examples."""
    return ", ".join(
        f"{f['column']} {f['check']}: {f['rows']:,} rows, e.g. {' '.join(map(str, dict.fromkeys(f['examples'])))}"
        for f in report["faults"]
    )


def _plain(value: Any) -> str | float | None:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return str(value)
    return float(value) if isinstance(value, int | float) else str(value)[: unread.TEXT_LENGTH]
