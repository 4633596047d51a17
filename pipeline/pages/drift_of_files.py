"""The page of two tables: its features, the ones that moved most first, each with its values then and now."""

from __future__ import annotations

import sys
from typing import Any

from pipeline.monitoring.drift import FeatureDrift
from pipeline.monitoring.file_drift import Comparison
from pipeline.monitoring.profiles.layout import SPECIAL, ColumnLayout
from pipeline.pages.templates import rendered


def drift_page(comparison: Comparison, reference: str, current: str) -> str:
    """The page as HTML. `reference` and `current` name the tables."""
    verdict = comparison.drift
    columns = {column.name: column for column in comparison.reference.layout.columns}
    ordered = sorted(verdict.features, key=lambda feature: (feature.moved, feature.rank), reverse=True)
    return rendered(
        "drift_of_files.html",
        {
            **{name: getattr(verdict, name) for name in ("verdict", "reason", "limits", "rows_before", "rows_now")},
            "reference": reference,
            "current": current,
            "features": [_feature(comparison, feature, columns[feature.feature]) for feature in ordered],
        },
    )


def _feature(comparison: Comparison, feature: FeatureDrift, column: ColumnLayout) -> dict[str, Any]:
    sides = (comparison.reference.whole.cells[column.name], comparison.now.cells[column.name])
    before, now = ((cells / max(cells.sum(), 1)).tolist() for cells in sides)
    names = [_bucket_name(column, bucket) for bucket in range(column.buckets)]
    shares = list(zip([*names, *(name.replace("_", " ") for name in SPECIAL)], before, now, strict=True))
    return {
        "name": feature.feature,
        "moved": feature.moved,
        "judged": feature.judged,
        "reason": feature.reason,
        "times_limit": feature.times_limit,
        "buckets": [{"name": name, "before": was, "now": is_} for name, was, is_ in shares if was or is_],
        "most": max(*before, *now) or 1.0,
    }


def _bucket_name(column: ColumnLayout, bucket: int) -> str:
    """With four digits; the bucket of a single value is named by it."""
    if column.kind == "category" or not column.edges:
        return column.bucket_name(bucket)
    # The edge below a least value of 0 is the number next to it.
    edges = [f"{0.0 if abs(edge) < sys.float_info.min else edge:.4g}" for edge in column.edges]
    if bucket == 0:
        return f"up to {edges[0]}"
    if bucket == len(edges):
        return f"over {edges[-1]}"
    low, high = edges[bucket - 1], edges[bucket]
    return high if low == high else f"{low} to {high}"
