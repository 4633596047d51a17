"""Is there a slice that nobody named and that lost? Each category, and each tenth of each number, of enough rows is looked at.

The search looks at many slices, so the intervals hold for all of them at once, at a level at which a sound model is stopped once in a
hundred times at most. Beside the naive guess, of a first version, it warns: a hard slice is no loss.
"""

from __future__ import annotations

from pipeline.gates.base import PackagedModel, Verdict
from pipeline.gates.compared_rows import compared_rows, with_rows_to_compare
from pipeline.gates.row_groups import Group, groups_of
from pipeline.gates.slice_losses import slice_losses, table, worst
from pipeline.gates.slices import said

LEVEL = 0.99
SHOWN = 10


def verdict(packaged: PackagedModel) -> Verdict | None:
    """None where no slice has `gates.slices.automatic_rows`, or where a column's only one is all rows."""
    settings = packaged.model.gates.slices
    packaged = with_rows_to_compare(packaged)
    groups = _groups(packaged, settings.automatic_rows)
    if not groups:
        return None
    compared = compared_rows(packaged)
    found = slice_losses(compared, groups, settings.automatic_rows, LEVEL)
    most = worst(found, settings.limit)
    if most is None or most.worse_by is None:
        return None
    found.sort(key=lambda each: each.worse_by if each.worse_by is not None else 0.0, reverse=True)
    lost = [each for each in found if each.lost(settings.limit)]
    reason = said(compared, lost or [most], len(found), settings.limit)
    return Verdict(
        "automatic_slices",
        not lost,
        most.worse_by,
        settings.limit,
        reason,
        most.interval,
        mode="on" if compared.champion else "warn",
        table=table(found[:SHOWN], settings.limit),
    )


def _groups(packaged: PackagedModel, rows: int) -> list[Group]:
    """The slices of the features and of `gates.slices.columns`; not those of times and free texts."""
    model, held_out = packaged.model, packaged.held_out
    columns = dict.fromkeys([*model.training.numeric, *model.training.categorical, *model.gates.slices.columns])
    found = [group for column in columns for group in groups_of(held_out, column, rows)]
    return [group for group in found if group.rows.sum() < len(held_out)]
