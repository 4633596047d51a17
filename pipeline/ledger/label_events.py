"""The event of a look that measured how long labels take."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.data.label_delay import LabelDelay
from pipeline.ledger.events import Event


class LabelsMeasured(Event, kind="labels_measured"):
    """None was there when it was due, so the look as of `as_of` measured their delay again, on the rows since `since`. `label_delay_s` is of
    pipeline.data.label_delay.LabelDelay, {"median", "p95"}; both None where no longer delay was found than was known. `labels` counts the
    rows of the source since then that have one by now."""

    as_of: str
    since: str
    labels: int
    label_delay_s: Mapping[str, Any]

    def sentence(self) -> str:
        delay = LabelDelay.read(self.label_delay_s)
        longer = "" if delay is None or delay.p95_s is None else f": {delay}"
        return (
            f"no label of {self.since[:10]} and after was there when due, and {self.labels:,} have come since{longer}"
        )
