"""Which groups of held-out rows lost by the new model: what the gates `slices` and `automatic_slices` share.

A slice loses when its mean loss is worse by more than `gates.slices.limit` and its interval leaves out 0. The intervals hold for all slices
that are looked at together (see group_means), so that a long list stops no more sound models than a short one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.gates.base import Table
from pipeline.gates.compared_rows import ComparedRows
from pipeline.gates.group_means import means
from pipeline.gates.row_groups import Group

NOT_ENOUGH = "not enough rows"
# Slices of too few rows that a table has: a column may have one for each row.
SMALL_SHOWN = 20
COLUMNS = ("slice", "rows", "loss", "loss before", "worse by", "low", "high", "says")


@dataclass(frozen=True)
class SliceLoss:
    """`worse_by` and its interval are shares of the naive guess's loss; None for a slice of not enough rows."""

    name: str
    rows: int
    loss: float | None = None
    before: float | None = None
    worse_by: float | None = None
    interval: tuple[float, float] | None = None

    def over(self, limit: float) -> bool:
        """Whether it is worse by more than the limit, be it by chance."""
        return self.worse_by is not None and self.worse_by > limit

    def lost(self, limit: float) -> bool:
        return self.over(limit) and self.interval is not None and self.interval[0] > 0

    def row(self, limit: float) -> tuple[str | float | None, ...]:
        low, high = self.interval or (None, None)
        judged = "worse" if self.lost(limit) else "not proven" if self.over(limit) else "ok"
        says = NOT_ENOUGH if self.interval is None else judged
        return (self.name, self.rows, self.loss, self.before, self.worse_by, low, high, says)


def slice_losses(compared: ComparedRows, groups: Sequence[Group], min_rows: int, level: float) -> list[SliceLoss]:
    """Each group, in their order; those of `min_rows` or more are judged, together at `level`."""
    enough = [group for group in groups if group.rows.sum() >= min_rows]
    masks = [group.rows for group in enough]
    found = means(compared.worse_by, masks, compared.blocks, compared.weight, level)
    judged = {
        str(group): (float(mean), (float(low), float(high)))
        for group, mean, low, high in zip(enough, found.mean, found.low, found.high, strict=True)
        if np.isfinite(low)
    }
    return [_slice(compared, group, *judged.get(str(group), (None, None))) for group in groups]


def _slice(
    compared: ComparedRows, group: Group, worse_by: float | None, interval: tuple[float, float] | None
) -> SliceLoss:
    weight = None if compared.weight is None else compared.weight[group.rows]
    if weight is not None and not weight.any():
        weight = None
    own, before = (
        compared.shown(float(np.average(of[group.rows], weights=weight))) for of in (compared.own, compared.other)
    )
    return SliceLoss(str(group), int(group.rows.sum()), own, before, worse_by, interval)


def worst(slices: Sequence[SliceLoss], limit: float) -> SliceLoss | None:
    """The slice that lost most; where none did, the judged one that is worst. None where no slice is judged."""
    judged = [each for each in slices if each.interval is not None]
    return max(judged, key=lambda each: (each.lost(limit), each.worse_by), default=None)


def table(slices: Sequence[SliceLoss], limit: float) -> Table:
    """The slices that were judged, then the first SMALL_SHOWN of those with too few rows to be."""
    small = [each for each in slices if each.interval is None]
    shown = [each for each in slices if each.interval is not None] + small[:SMALL_SHOWN]
    return Table(COLUMNS, tuple(each.row(limit) for each in shown))
