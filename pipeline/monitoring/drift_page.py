"""The page of a comparison: its features, those that matter most first, each with its values then and now, and its looks before."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.html.templates import rendered
from pipeline.monitoring.answer_profile import ANSWERS, with_answers
from pipeline.monitoring.drift import DriftVerdict, FeatureDrift
from pipeline.monitoring.look_lines import PastLook, time_lines
from pipeline.monitoring.profiles.layout import SPECIAL, ColumnLayout, Layout
from pipeline.monitoring.profiles.profile import Profile
from pipeline.monitoring.profiles.reference import Reference


@dataclass(frozen=True)
class Sides:
    """What was compared, and what people call it; `classes` are those of a model that names its answers."""

    reference: Reference
    now: Profile
    reference_name: str
    now_name: str
    classes: Sequence[str] = ()


def drift_page(
    verdict: DriftVerdict,
    sides: Sides,
    said: str = "",
    looks: Sequence[PastLook] = (),
    evidently: Mapping[str, float] | None = None,
    evidently_file: str = "",
    serving: Collection[str] = (),
    data: Sequence[str] = (),
) -> str:
    """The page as HTML. `said` is the look in one sentence; `looks` are those of the model in the order of time, this one last.
    `evidently` has Evidently's PSI of a feature, and `evidently_file` its page beside this one. Of the features in `serving` the source does
    not show the change; `data` are lines on the data beside its values."""
    columns = {column.name: column for column in sides.reference.layout.columns}
    ordered = sorted(verdict.features, key=lambda feature: (feature.moved, *feature.rank), reverse=True)
    return rendered(
        Path(__file__).with_suffix(".html"),
        {
            **{name: getattr(verdict, name) for name in ("verdict", "reason", "limits", "rows_before", "rows_now")},
            "reference": sides.reference_name,
            "current": sides.now_name,
            "said": said,
            "data": data,
            "evidently_file": evidently_file,
            "slices": sorted((of.as_dict() for of in verdict.slices), key=_far, reverse=True),
            "answers": _answers(sides),
            "features": [
                {
                    **_feature(sides, feature, columns.get(feature.feature)),
                    **time_lines(feature.feature, looks),
                    "evidently": (evidently or {}).get(feature.feature),
                    "serving": feature.feature in serving,
                }
                for feature in ordered
            ],
        },
    )


def _far(of: Mapping[str, Any]) -> tuple[bool, float]:
    return of["verdict"] == "moved", of["times_limit"] or 0.0


def _answers(sides: Sides) -> dict[str, Any] | None:
    """The shares of the answers to the held-out rows and of those of the window, by bucket or class; None where they were not counted."""
    kept = sides.reference.answers
    columns = with_answers(Layout(()), kept, sides.classes).columns
    if not columns or ANSWERS not in sides.now.cells:
        return None
    counts = sides.now.cells[ANSWERS][: len(kept["shares"])]
    if not counts.sum():
        return None
    now = (counts / counts.sum()).tolist()
    names = [_bucket_name(columns[0], bucket) for bucket in range(len(now))]
    buckets = [
        {"name": name, "before": was, "now": is_} for name, was, is_ in zip(names, kept["shares"], now, strict=True)
    ]
    return {"rows": int(counts.sum()), "buckets": buckets, "most": max(*now, *kept["shares"]) or 1.0}


def _feature(sides: Sides, feature: FeatureDrift, column: ColumnLayout | None) -> dict[str, Any]:
    """`column` is None for how the numbers go together, which has no buckets."""
    shares = _shares(sides, column) if column else []
    return {
        "name": feature.feature,
        "moved": feature.moved,
        "judged": feature.judged,
        "reason": feature.reason,
        "times_limit": feature.times_limit,
        "importance": feature.importance,
        "buckets": [{"name": name, "before": was, "now": is_} for name, was, is_ in shares if was or is_],
        "most": max((share for _, *both in shares for share in both), default=0.0) or 1.0,
    }


def _shares(sides: Sides, column: ColumnLayout) -> list[tuple[str, float, float]]:
    """The share of the rows in each bucket, before and now, by its name."""
    counts = (sides.reference.whole.cells[column.name], sides.now.cells[column.name])
    before, now = ((cells / max(cells.sum(), 1)).tolist() for cells in counts)
    names = [_bucket_name(column, bucket) for bucket in range(column.buckets)]
    return list(zip([*names, *(name.replace("_", " ") for name in SPECIAL)], before, now, strict=True))


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
