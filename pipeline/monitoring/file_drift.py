"""Drift between two files, without a model: every column that both have."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from pipeline.errors import DataError
from pipeline.monitoring.drift import DriftVerdict, compare
from pipeline.settings.models import DriftLimits


def compare_files(reference: Path, current: Path, report: Path | None = None) -> DriftVerdict:
    """Judges `current` against `reference` (Parquet or CSV). Raises DataError when they cannot be compared."""
    before, now = _read(reference), _read(current)
    missing = [c for c in before.columns if c not in now.columns]
    if missing:
        raise DataError(
            str(current),
            f"has no column {', '.join(map(str, missing))}",
            f"{reference} has it: compare files with the same columns",
        )
    numeric = [c for c in before.columns if pd.api.types.is_numeric_dtype(before[c])]
    not_numeric = [c for c in numeric if not pd.api.types.is_numeric_dtype(now[c])]
    if not_numeric:
        raise DataError(
            str(current),
            f"column {not_numeric[0]} is not a number as in {reference}",
            "correct the program that writes it",
        )
    times = [c for c in before.columns if pd.api.types.is_datetime64_any_dtype(before[c])]
    # A column that differs in nearly every row is an identifier, not a feature.
    identifiers = [c for c in before.columns if c not in numeric and before[c].nunique() > 0.9 * len(before)]
    categorical = [c for c in before.columns if c not in {*numeric, *times, *identifiers}]
    frames = [f.assign(**{c: f[c].astype("string").astype(object) for c in categorical}) for f in (before, now)]
    return compare(frames[0], frames[1], numeric, categorical, DriftLimits(), report)


def _read(path: Path) -> pd.DataFrame:
    try:
        frame = pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise DataError(
            str(path),
            f"cannot be read as {'CSV' if path.suffix == '.csv' else 'Parquet'} ({str(error).splitlines()[0]})",
            "check that the file exists and is complete",
        ) from error
    return frame.rename(columns=str)
