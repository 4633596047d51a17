"""Does each slice that `gates.slices.columns` forms keep what it had?

A better mean may hide a group of rows that got worse. Each slice is compared on its own held-out rows: with the champion, on those that
it was not trained on, and where there is none with the naive guess, which a model that helps a slice beats.
"""

from __future__ import annotations

from pipeline.gates.base import PackagedModel, Verdict
from pipeline.gates.compared_rows import ComparedRows, compared_rows, with_rows_to_compare
from pipeline.gates.row_groups import large_and_small
from pipeline.gates.slice_losses import NOT_ENOUGH, SliceLoss, slice_losses, table, worst

LEVEL = 0.95
NAMED = 3


def verdict(packaged: PackagedModel) -> Verdict | None:
    """None without `gates.slices.columns`. The observed figure is the worst slice's, a share of the naive guess's loss."""
    settings = packaged.model.gates.slices
    if not settings.columns:
        return None
    packaged = with_rows_to_compare(packaged)
    compared = compared_rows(packaged)
    parts = [large_and_small(packaged.held_out, column, settings.min_rows) for column in settings.columns]
    found = slice_losses(compared, [group for large, _ in parts for group in large], settings.min_rows, LEVEL)
    found += [SliceLoss(name, rows) for _, few in parts for name, rows in few]
    limit, most = settings.limit, worst(found, settings.limit)
    small = [each.name for each in found if each.interval is None]
    if most is None:
        reason = (
            f"{NOT_ENOUGH} in any of {len(found):,} slices, at least {settings.min_rows:,} each (gates.slices.min_rows); "
            "a longer evaluation.holdout_days has more"
        )
        return Verdict("slices", True, 0.0, limit, reason, judged=False, table=table(found, limit))
    lost = [each for each in found if each.lost(limit)]
    reason = said(compared, lost or [most], len(found) - len(small), limit)
    if small:
        reason += f"; {NOT_ENOUGH}: {', '.join(small[:NAMED])}" + (
            f" and {len(small) - NAMED:,} more" * (len(small) > NAMED)
        )
    assert most.worse_by is not None
    return Verdict("slices", not lost, most.worse_by, limit, reason, most.interval, table=table(found, limit))


def said(compared: ComparedRows, named: list[SliceLoss], judged: int, limit: float) -> str:
    """What the slices that lost, or the worst one, are worse by."""
    each = [
        f"{one.name}: {compared.loss} {one.loss:.4g} against {one.before:.4g}, {_by(one.worse_by, one.interval)}, "
        f"{one.rows:,} rows" + (", not proven" if one.over(limit) and not one.lost(limit) else "")
        for one in named[:NAMED]
        if one.worse_by is not None and one.interval is not None
    ]
    more = f" and {len(named) - NAMED} more" if len(named) > NAMED else ""
    return (
        f"of {judged} slices beside {compared.against}: {'; '.join(each)}{more}; as shares of {compared.naive_loss}, at most {limit:g} "
        "(gates.slices.limit)"
    )


def _by(worse_by: float, interval: tuple[float, float]) -> str:
    """A loss, or a gain, with its interval, in words."""
    if worse_by >= 0:
        return f"worse by {worse_by:.3f} [{interval[0]:.3f}, {interval[1]:.3f}]"
    return f"better by {-worse_by:.3f} [{-interval[1]:.3f}, {-interval[0]:.3f}]"
