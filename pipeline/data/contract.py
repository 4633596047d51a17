"""The data contract: what a row must be like, checked with pandera, and what a day should bring (see `history`).

Rows that break it go to quarantine with the reason; in = kept + quarantined. The kept rows are not stored a
second time: they are the snapshot without the quarantine. Whether so many may be missing is for the contract
gates to say, not for this module.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.data.day_history import gone_missing, unusual_days
from pipeline.errors import DataError
from pipeline.settings.models import Column, Contract, Model

EXAMPLES = 3
ROW, REASON = "snapshot_row", "reason"


def check(name: str, model: Model, snapshot: Path, counts: Path, quarantine: Path, report: Path) -> dict[str, Any]:
    """Writes the snapshot's rows that break the contract to `quarantine` (Parquet) and the JSON `report`.

    `quarantine` has the row's number in the snapshot (`row`) and the reason beside its own columns. The report is
    {"in", "kept", "quarantined", "faults": [{"column", "check", "rows", "examples"}], "days", "missing": see
    `history`}.
    Raises DataError when no row is left to train on.
    """
    rows, counted = read_snapshot(snapshot), json.loads(counts.read_text(encoding="utf-8"))
    cases = broken_rows(rows, model.gates.contract, model)
    bad = rows.index.isin(cases["index"])
    reasons = (
        cases.groupby("index").apply(
            lambda c: "; ".join(sorted({f"{x.column}: {x.check}" for x in c.itertuples()})), include_groups=False
        )
        if len(cases)
        else pd.Series(dtype=str)
    )
    broken = rows[bad].assign(**{REASON: reasons.reindex(rows.index[bad]).to_numpy(dtype=object)})
    broken.insert(0, ROW, rows.index[bad].astype("int64"))
    broken.to_parquet(quarantine, index=False)
    told = {
        "in": len(rows),
        "kept": int((~bad).sum()),
        "quarantined": int(bad.sum()),
        "faults": [
            {
                "column": str(column),
                "check": str(check),
                "rows": len(found),
                "examples": [_plain(v) for v in found.failure_case.head(EXAMPLES)],
            }
            for (column, check), found in cases.groupby(["column", "check"], sort=True)
        ],
        "days": unusual_days(counted["rows_a_day"], model),
        "missing": gone_missing(counted, model),
    }
    report.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    if told["kept"] == 0:
        raise DataError(
            f"{name} contract",
            f"all {told['in']} rows break it ({faults_line(told)})",
            "look at gates.contract in params.yaml and at the source",
        )
    return told


def read_snapshot(folder: Path) -> pd.DataFrame:
    """All partitions of a snapshot, in time order; the index is the row's number in the snapshot."""
    files = sorted(folder.glob("*.parquet"))
    if not files:
        raise DataError(f"snapshot {folder}", "has no partitions", "run the snapshot stage first")
    return pa.concat_tables([pq.read_table(file) for file in files]).to_pandas()


def kept_rows(snapshot: Path, quarantine: Path) -> pd.DataFrame:
    """The snapshot's rows that are not in quarantine, in time order."""
    rows = read_snapshot(snapshot)
    broken = pd.read_parquet(quarantine, columns=[ROW])[ROW]
    return rows.drop(index=broken.to_numpy()).reset_index(drop=True)


def broken_rows(rows: pd.DataFrame, contract: Contract, model: Model) -> pd.DataFrame:
    """One row a fault: {"index", "column", "check", "failure_case"}; empty when all is well."""
    import pandera.pandas as pandera

    declared = {c: contract.columns.get(c) for c in model.training.features}
    binary = Column(allowed=(0, 1)) if model.training.task == "binary" else Column()
    declared[model.training.target] = contract.columns.get(model.training.target, binary)
    key = contract.columns.get(model.source.key, Column())
    schema = pandera.DataFrameSchema(
        {c: _column(pandera, rule, c in model.training.categorical) for c, rule in declared.items()}
        | {model.source.key: _column(pandera, key, True, unique=True, report_duplicates="exclude_first")}
    )
    try:
        schema.validate(rows, lazy=True)
    except pandera.errors.SchemaErrors as found:
        cases = found.failure_cases
        whole = cases[cases["index"].isna()]
        if len(whole):
            raise DataError(
                f"snapshot column {whole.column.iloc[0]}",
                f"{whole.check.iloc[0]} fails on {whole.failure_case.iloc[0]}",
                "run the snapshot stage again",
            ) from found
        return cases.assign(index=cases["index"].astype("int64"))[["index", "column", "check", "failure_case"]]
    return pd.DataFrame({"index": pd.Series(dtype="int64"), "column": [], "check": [], "failure_case": []})


def _column(pandera: Any, rule: Column | None, text: bool, **more: Any) -> Any:
    checks = []
    if not text:
        checks.append(pandera.Check(lambda v: ~v.isin([math.inf, -math.inf]), name="finite"))
    rule = rule or Column(nullable=True)
    if rule.type == "integer":
        checks.append(pandera.Check(lambda v: v % 1 == 0, name="integer"))
    if rule.min is not None:
        checks.append(pandera.Check.ge(rule.min))
    if rule.max is not None:
        checks.append(pandera.Check.le(rule.max))
    if rule.allowed is not None:
        checks.append(pandera.Check.isin([_as_text(v) for v in rule.allowed] if text else list(rule.allowed)))
    return pandera.Column(str if text else "float64", nullable=rule.nullable, checks=checks, **more)


def _as_text(value: bool | int | float | str) -> str:
    """How the snapshot, where categories are text, writes a value of params.yaml."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def faults_line(report: dict[str, Any]) -> str:
    """The faults in one line: column, check, rows, examples."""
    return ", ".join(
        f"{f['column']} {f['check']}: {f['rows']:,} rows, e.g. {' '.join(map(str, dict.fromkeys(f['examples'])))}"
        for f in report["faults"]
    )


def _plain(value: Any) -> str | float | None:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return str(value)
    return float(value) if isinstance(value, int | float) else str(value)
