"""When a model's labels have matured: by the delay that params.yaml states, else by the one that its snapshots measured."""

from __future__ import annotations

from datetime import datetime, timedelta

from pipeline.context import Context
from pipeline.data.label_delay import LabelDelay, duration
from pipeline.ledger import label_delays
from pipeline.settings import label_reach
from pipeline.settings.models import Model

DAY_S = 86_400


def measured(context: Context, name: str, as_of: datetime) -> LabelDelay | None:
    """The delay that was measured as of `as_of` or before; None when nothing was, or without label times."""
    timed = context.params.model(name).source.label_time is not None
    return label_delays.known_at(context.ledger, name, as_of) if timed else None


def mature_after(model: Model, delay: LabelDelay | None) -> timedelta:
    """So long after its event time a row's label is known, as most are; no time when nobody knows how long labels take."""
    if model.source.label_delay_days is not None:
        return timedelta(days=model.source.label_delay_days)
    return timedelta(seconds=delay.p95_s) if delay is not None and delay.p95_s is not None else timedelta(0)


def unreached(context: Context, name: str, as_of: datetime) -> list[str]:
    """A line for each span of the settings that is not longer than half of the labels take, as measured, and for a stated delay that is
    shorter than the measured one."""
    model, delay = context.params.model(name), measured(context, name, as_of)
    if delay is None or delay.median_s is None or delay.p95_s is None:
        return []
    said = f"labels come {duration(delay.median_s)} after their rows (median; 95 % within {duration(delay.p95_s)})"
    found = label_reach.unreached(model, delay.median_s / DAY_S, delay.p95_s / DAY_S, said, "hardly one")
    lines = [f"models.{name}.{key} {why}" for key, why in found]
    stated = model.source.label_delay_days
    if stated is not None and delay.p95_s > stated * DAY_S:
        lines.append(f"models.{name}.{label_reach.STATED} is {stated:g} days, but {said}")
    return lines
