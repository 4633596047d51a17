"""Are the numbers of the held-out days among those that the model learnt from?

Outside of the range that it learnt a tree answers as at its end, and a line goes on where nobody has been. The range is that of the
reference sample, so a rare value may be outside by chance. Features that follow the calendar leave each range by nature (`calendar: true` in
`gates.contract.columns`). A feature that grows does so too: the limit stops where params.yaml states it, and else warns.
"""

from __future__ import annotations

import numpy as np

from pipeline.gates.base import PackagedModel, Table, Verdict

NAMED_COLUMNS = 5


def verdict(packaged: PackagedModel) -> Verdict | None:
    """None for a model without numbers, or without its reference. The observed figure is the largest share of a column's held-out values."""
    model, reference, held_out = packaged.model, packaged.reference, packaged.held_out
    columns = [name for name in model.training.numeric if name not in model.calendar]
    if reference is None or not len(reference) or not columns:
        return None
    limit = model.gates.unknown_ranges
    shares = {
        name: _outside(reference[name].to_numpy("float64"), held_out[name].to_numpy("float64")) for name in columns
    }
    ranked = sorted(shares.items(), key=lambda item: item[1][0], reverse=True)
    most = ranked[0][1][0]
    named = [f"{name} {share:.1%} outside {low:.4g} to {high:.4g}" for name, (share, low, high) in ranked if share > 0]
    reason = (
        f"numbers outside of what was learnt, of {len(held_out):,} held-out rows: {'; '.join(named[:NAMED_COLUMNS]) or 'none'}; at most "
        f"{limit:.0%} of a column (gates.unknown_ranges)"
    )
    table = Table(("column", "outside", "learnt from", "learnt to"), tuple((name, *found) for name, found in ranked))
    stated = "unknown_ranges" in model.gates.model_fields_set
    return Verdict("unknown_ranges", most <= limit, most, limit, reason, mode="on" if stated else "warn", table=table)


def _outside(learnt: np.ndarray, values: np.ndarray) -> tuple[float, float, float]:
    """(the share of values outside, the smallest and the largest number learnt); missing ones are left out on both sides."""
    learnt, values = learnt[np.isfinite(learnt)], values[np.isfinite(values)]
    if not len(learnt):
        return (1.0 if len(values) else 0.0), 0.0, 0.0
    low, high = float(learnt.min()), float(learnt.max())
    return float(((values < low) | (values > high)).mean()) if len(values) else 0.0, low, high
