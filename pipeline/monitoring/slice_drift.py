"""The verdict of a look on each slice of `monitor.slices`: what moved in it, or that it has too few rows to say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pipeline.monitoring.feature_drift import FeatureDrift
from pipeline.monitoring.profiles.layout import ColumnLayout
from pipeline.monitoring.profiles.profile import Profile
from pipeline.monitoring.profiles.slices import Slice

NAMED = 5


@dataclass(frozen=True)
class SliceDrift:
    """`features` are those of a slice with rows enough; `rows_now` is None where the deployer does not count slices."""

    where: Slice
    rows_before: int
    rows_now: int | None
    features: tuple[FeatureDrift, ...] = ()

    @property
    def verdict(self) -> Literal["moved", "not moved", "no verdict"]:
        if any(feature.moved for feature in self.features):
            return "moved"
        return "not moved" if any(feature.judged for feature in self.features) else "no verdict"

    @property
    def furthest(self) -> FeatureDrift | None:
        return max(self.features, key=lambda feature: feature.times_limit, default=None)

    def as_dict(self) -> dict[str, Any]:
        most = self.furthest
        return {
            "slice": str(self.where),
            "verdict": self.verdict,
            "rows_before": self.rows_before,
            "rows_now": self.rows_now,
            "furthest": most.base if most else None,
            "times_limit": float(most.times_limit) if most else None,
            "moved": {feature.base: feature.reason for feature in self.features if feature.moved},
        }


def slices_of(
    columns: Sequence[ColumnLayout],
    before: Profile,
    now: Profile,
    judged: Mapping[ColumnLayout, FeatureDrift],
) -> tuple[SliceDrift, ...]:
    """Each slice that the columns name, in their order."""
    found: dict[Slice, list[ColumnLayout]] = {}
    for column in columns:
        if column.where is not None:
            found.setdefault(column.where, []).append(column)
    return tuple(
        SliceDrift(
            where,
            before.rows_of(some[0]),
            now.rows_of(some[0]) if some[0].name in now.cells else None,
            tuple(judged[column] for column in some if column in judged),
        )
        for where, some in found.items()
    )


def unjudged_said(slices: Sequence[SliceDrift], fewest: int) -> str:
    """The slices without a verdict, in words that follow a reason; '' for none."""
    if not (none := [str(of.where) for of in slices if of.verdict == "no verdict"]):
        return ""
    named = ", ".join(none[:NAMED]) + (f" and {len(none) - NAMED} more" if len(none) > NAMED else "")
    why = f"each has fewer than {fewest:,} rows now or before (monitor.min_rows), or no values to judge"
    return f"; no verdict where {named}, {len(none)} of {len(slices)} slices: {why}"
