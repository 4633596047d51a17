"""What a look says of rows beyond what their columns are one by one: how the numbers go together, and faults that can be named.

It takes the sample of what the live version learnt from. The domain classifier needs half a year of it, and has half of the budget of
false alarms then; faults are named from fewer weeks.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.context import Context

if TYPE_CHECKING:
    import pandas as pd

    from pipeline.ledger.timeline import LiveVersion
    from pipeline.monitoring.domain_classifier import Together
    from pipeline.monitoring.drift import DriftVerdict
    from pipeline.monitoring.drift_exchanged import Looked
    from pipeline.monitoring.profiles.reference import Reference
    from pipeline.serving.schema import Schema
    from pipeline.settings.models import Model


@dataclass(frozen=True)
class ByRows:
    """What was found in some rows. `together` is None where the classifier cannot judge."""

    model: Model
    reference: Reference
    together: Together | None = None
    looked: Looked | None = None

    @property
    def shared(self) -> bool:
        """Whether half of the budget is the classifier's."""
        return self.together is not None

    def added_to(self, verdict: DriftVerdict, also: Collection[str] = ()) -> DriftVerdict:
        """The verdict on the same rows, with these features; those of faults that are named in `also` too where they are not."""
        from pipeline.monitoring import drift_exchanged, drift_together

        if not verdict.features:
            return verdict
        if self.looked is not None:
            given = self.looked, self.model.monitor, self.reference.importances
            verdict = drift_exchanged.with_named(verdict, *given, also)
        return drift_together.with_together(verdict, self.together, self.model.monitor) if self.together else verdict


def found(
    context: Context, name: str, live: LiveVersion, reference: Reference, rows: pd.DataFrame, schema: Schema
) -> ByRows:
    """What the rows of requests, or of the source in the same days, show."""
    import pandas as pd

    from pipeline.monitoring import drift_exchanged, drift_reference, exchanged, null_distribution
    from pipeline.runs.drift_report import as_logged

    model = context.params.model(name)
    numbers, categories = drift_reference.names(drift_reference.features(model))
    weeks = null_distribution.weeks_of(reference.days)
    enough = reference.timed and weeks >= min(exchanged.LEAST_BLOCKS, null_distribution.PROVEN_WEEKS) and len(rows)
    if not enough or len(numbers) < 2 or not {*numbers} <= {*rows.columns}:
        return ByRows(model, reference)
    sample = as_logged(pd.read_parquet(context.registry.reference_file(name, live.version, live.digest)), schema)
    times = model.source.event_time
    if not {*numbers, times} <= {*sample.columns}:
        return ByRows(model, reference)
    together = _together(context, name, live, reference, sample, rows)
    if weeks < exchanged.LEAST_BLOCKS:
        return ByRows(model, reference, together)
    columns = drift_exchanged.columns_of(numbers, reference.importances)
    kept = context.home / "profiles" / f"{name}.exchanged.json"
    shared = [name for name in categories if name in sample.columns and name in rows.columns]
    texts = drift_exchanged.columns_of(shared, reference.importances)
    of = drift_exchanged.of_reference(sample, times, columns, rows["event_time"], kept, live.digest, texts)
    return ByRows(model, reference, together, of.judged(rows))


def _together(
    context: Context, name: str, live: LiveVersion, reference: Reference, sample: pd.DataFrame, rows: pd.DataFrame
) -> Together | None:
    """What the domain classifier says; None where the version learnt from less than half a year, and for some hours: it compares
    weeks."""
    from pipeline.monitoring import drift_reference, drift_together
    from pipeline.monitoring.null_distribution import PROVEN_WEEKS, weeks_of
    from pipeline.settings.cron import runs_a_quarter

    model = context.params.model(name)
    if weeks_of(reference.days) < PROVEN_WEEKS or reference.of_hours:
        return None
    numbers, _ = drift_reference.names(drift_reference.features(model))
    columns = drift_together.columns_of(numbers, reference.importances)
    share = min(0.5, model.monitor.false_alarms_a_quarter / max(runs_a_quarter(model.monitor.cron), 1) / 2)
    kept = context.home / "profiles" / f"{name}.json"
    return drift_together.together(sample, rows, model.source.event_time, columns, share, kept, live.digest)
