"""The data contract: what a row must be like, checked with pandera.

Rows that break it go to quarantine with the reason; in = kept + quarantined. Whether so many may be
missing is for the contract gate to say, not for this module.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.errors import DataError
from pipeline.params import Column, Contract, Model

EXAMPLES = 3


def check(name: str, model: Model, snapshot: Path, kept: Path, quarantine: Path, report: Path) -> dict[str, Any]:
    """Splits the snapshot into `kept` and `quarantine` (Parquet) and writes the JSON `report`.

    The report is {"in", "kept", "quarantined", "faults": [{"column", "check", "rows", "examples"}]}.
    Raises DataError when no row is left to train on.
    """
    rows = read_snapshot(snapshot)
    cases = broken_rows(rows, model.gates.contract, model)
    bad = rows.index.isin(cases["index"])
    reasons = (
        cases.groupby("index").apply(
            lambda c: "; ".join(sorted({f"{x.column}: {x.check}" for x in c.itertuples()})), include_groups=False
        )
        if len(cases)
        else pd.Series(dtype=str)
    )
    rows[~bad].to_parquet(kept, index=False)
    rows[bad].assign(reason=reasons.reindex(rows.index[bad]).to_numpy(dtype=object)).to_parquet(quarantine, index=False)
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
    """All partitions of a snapshot, in time order."""
    files = sorted(folder.glob("*.parquet"))
    if not files:
        raise DataError(f"snapshot {folder}", "has no partitions", "run the snapshot stage first")
    return pd.concat([pd.read_parquet(file) for file in files], ignore_index=True)


def broken_rows(rows: pd.DataFrame, contract: Contract, model: Model) -> pd.DataFrame:
    """One row a fault: {"index", "column", "check", "failure_case"}; empty when all is well."""
    import pandera.pandas as pa

    declared = {c: contract.columns.get(c) for c in [*model.training.features, model.training.target]}
    schema = pa.DataFrameSchema(
        {c: _column(pa, rule, c in model.training.categorical) for c, rule in declared.items()}
        | {model.source.key: pa.Column(unique=True, nullable=False, report_duplicates="exclude_first")}
    )
    try:
        schema.validate(rows, lazy=True)
    except pa.errors.SchemaErrors as found:
        cases = found.failure_cases.dropna(subset=["index"])
        return cases.assign(index=cases["index"].astype("int64"))[["index", "column", "check", "failure_case"]]
    return pd.DataFrame({"index": pd.Series(dtype="int64"), "column": [], "check": [], "failure_case": []})


def _column(pa: Any, rule: Column | None, categorical: bool) -> Any:
    checks = []
    if not categorical:
        checks.append(pa.Check(lambda v: ~v.isin([math.inf, -math.inf]), name="finite"))
    if rule is None:
        return pa.Column(nullable=True, checks=checks)
    if rule.min is not None:
        checks.append(pa.Check.ge(rule.min))
    if rule.max is not None:
        checks.append(pa.Check.le(rule.max))
    if rule.allowed is not None:
        checks.append(pa.Check.isin(list(rule.allowed)))
    return pa.Column(nullable=rule.nullable, checks=checks)


def faults_line(report: dict[str, Any]) -> str:
    """The faults in one line: column, check, rows, examples."""
    return ", ".join(f"{f['column']} {f['check']}: {f['rows']} rows, e.g. {f['examples'][0]}" for f in report["faults"])


def _plain(value: Any) -> str | float | None:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return str(value)
    return float(value) if isinstance(value, int | float) else str(value)
