"""Are there enough held-out rows, with labels, to judge a model on?"""

from __future__ import annotations

from pipeline.data.label_delay import LabelDelay
from pipeline.gates.base import ValidatedData, Verdict


def verdict(data: ValidatedData) -> Verdict | None:
    """None for a report from before these rows were counted."""
    rows = data.validation.get("held_out")
    if rows is None:
        return None
    evaluation = data.model.evaluation
    limit, days = evaluation.min_holdout_rows, f"the last {evaluation.holdout_days:g} days (evaluation.holdout_days)"
    reason = f"{rows:,} labelled rows in {days}, at least {limit:,} required (evaluation.min_holdout_rows)"
    delay = LabelDelay.read(data.validation.get("label_delay_s"))
    if rows < limit and delay is not None:
        reason += f"; {delay}"
    return Verdict("held_out_rows", rows >= limit, rows, limit, reason)
