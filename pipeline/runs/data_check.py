"""The alarm on the data of a look: whether requests come as they used to, and since which look they do not."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from pipeline.context import Context
from pipeline.ledger.events import DriftChecked, GatesChecked
from pipeline.ledger.store import Ledger
from pipeline.monitoring import data_quality, quarantine_rates, source_volume
from pipeline.monitoring.data_quality import DataQuality
from pipeline.monitoring.logged_quality import LoggedQuality
from pipeline.monitoring.quarantine_rates import QuarantineRates
from pipeline.monitoring.source_volume import SourceVolume
from pipeline.runs import label_maturity
from pipeline.settings.cron import runs_a_quarter
from pipeline.settings.models import time_of


def judged(context: Context, name: str, logged: LoggedQuality | None, rows: int, as_of: datetime) -> DataQuality | None:
    """The verdict on what the log says of its own data up to `as_of`, with `rows` in the window; None from a deployer of an earlier
    version, which does not say. An alarm that goes on keeps the look that raised it."""
    if logged is None:
        return None
    monitor = context.params.model(name).monitor
    looks = max(runs_a_quarter(monitor.cron), 1)
    found = data_quality.judged(logged, rows, monitor.false_alarms_a_quarter, looks)
    if found.verdict != "alarm":
        return found
    return replace(found, since=_since(context.ledger, name, as_of) or as_of.isoformat())


def quarantine(context: Context, name: str, as_of: datetime) -> QuarantineRates | None:
    """The quarantine of the newest run's partitions as of `as_of` or before; None without one that tells."""
    last = _newest_run(context, name, as_of)
    budget = context.params.model(name).monitor.false_alarms_a_quarter
    return quarantine_rates.judged(last.quarantined_a_day or {}, last.as_of or "", budget) if last else None


def source(context: Context, name: str, as_of: datetime) -> SourceVolume | None:
    """Whether these partitions have the rows that such days have, where it is known how long their labels take."""
    model, last = context.params.model(name), _newest_run(context, name, as_of)
    delay = label_maturity.measured(context, name, as_of)
    known = model.source.label_delay_days is not None or (delay is not None and delay.p95_s is not None)
    mature = label_maturity.mature_after(model, delay) if known else None
    budget = model.monitor.false_alarms_a_quarter
    return source_volume.judged(last.quarantined_a_day or {}, last.as_of or "", mature, budget) if last else None


def _newest_run(context: Context, name: str, as_of: datetime) -> GatesChecked | None:
    """Of the runs that tell of their partitions the one with the newest as-of that is not after this one."""
    told = [
        entry
        for entry in context.ledger.events(GatesChecked, model=name)
        if entry.event.as_of and entry.event.quarantined_a_day and time_of(entry.event.as_of) <= as_of
    ]
    return max(told, key=lambda entry: (time_of(entry.event.as_of or ""), entry.seq)).event if told else None


def _since(ledger: Ledger, name: str, as_of: datetime) -> str:
    """The look that raised the alarm which the look before left; '' when it left none. Only looks of an earlier as-of count, so that a
    repeated look gives the same answer."""
    earlier = [entry for entry in ledger.events(DriftChecked, model=name) if time_of(entry.event.as_of) < as_of]
    if not earlier:
        return ""
    last = max(earlier, key=lambda entry: (time_of(entry.event.as_of), entry.seq)).event
    return str((last.data or {}).get("since", ""))
