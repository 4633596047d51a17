"""Labels that come later than the newest snapshot measured: a look measures again, where none was there when it was due.

The next snapshot comes with the next retrain, for which nothing speaks as long as no label is seen.
"""

from __future__ import annotations

import logging
import math
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from pipeline.context import Context
from pipeline.data.label_delay import LEAST_ROWS, SHARE, LabelDelay
from pipeline.ledger.label_events import LabelsMeasured
from pipeline.runs import label_maturity
from pipeline.runs.window_scores import MIN_ROWS
from pipeline.settings.models import time_of

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)


def measured_anew(context: Context, run: str, name: str, as_of: datetime, since: datetime) -> bool:
    """Whether labels are found to take longer than was known; the ledger has it then, so that a look that is repeated sees the same. `since`
    is when the windows began that have requests and no labels. Measured once a window; never where the settings state the delay."""
    from pipeline.monitoring import live_quality

    model = context.params.model(name)
    if model.source.label_time is None or model.source.label_delay_days is not None:
        return False
    if newest(context, name, as_of) is not None:
        return False
    rows = live_quality.labels(model, context.project, since, as_of, name, context.registry.key.log_key())
    delay, known = _delay(rows, since + (as_of - since) / 2), label_maturity.measured(context, name, as_of)
    longer = (delay.p95_s or 0) > ((known.p95_s if known is not None else None) or 0)
    event = LabelsMeasured(
        as_of=as_of.isoformat(),
        since=since.isoformat(),
        labels=len(rows),
        label_delay_s=(delay if longer else LabelDelay()).as_dict(),
    )
    context.ledger.append(event, name, run)
    log.info("%s: %s", name, event.sentence())
    return longer


def newest(context: Context, name: str, as_of: datetime) -> LabelsMeasured | None:
    """The measure of a look of the last window up to `as_of`; None where none was made."""
    period = timedelta(days=context.params.model(name).policy.window_days)
    found = [entry.event for entry in context.ledger.events(LabelsMeasured, model=name)]
    near = [each for each in found if as_of - period < time_of(each.as_of) <= as_of]
    return max(near, key=lambda each: time_of(each.as_of), default=None)


def nothing_to_learn(context: Context, name: str, as_of: datetime, trained: datetime | None) -> str:
    """That hardly a label has come that the live version, `trained` as of then, does not know or a retrain would see; '' where one has."""
    found = newest(context, name, as_of)
    if found is None or found.labels >= MIN_ROWS:
        return ""
    since = time_of(found.since)
    begins = as_of - timedelta(days=context.params.model(name).source.window_days)
    if since > begins and (
        trained is None or trained < since - timedelta(days=context.params.model(name).policy.window_days)
    ):
        return ""
    return f"of the source's rows since {since:%Y-%m-%d} {found.labels:,} have labels, so there is next to nothing new to learn"


def _delay(rows: pd.DataFrame, middle: datetime) -> LabelDelay:
    """As a snapshot measures it: of the rows before the `middle` alone, since of the younger half only the quick labels are there."""
    import numpy as np
    import pandas as pd

    event = pd.to_datetime(rows["event_time"], utc=True)
    late = (pd.to_datetime(rows["known"], utc=True) - event)[event < middle].dt.total_seconds().clip(lower=0)
    if len(late) < LEAST_ROWS:
        return LabelDelay()
    median, p95 = np.quantile(late, [0.5, SHARE], method="inverted_cdf")
    return LabelDelay(math.ceil(median), math.ceil(p95))
