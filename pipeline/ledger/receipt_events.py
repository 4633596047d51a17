"""The events of the decisions when a model changes: what is known of its versions' losses, and what was decided."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from pipeline.ledger.events import Event


class WindowScored(Event, kind="window_scored"):
    """The versions that were trained before the window [start, end) were scored on its labelled requests, by the labels known at `as_of`.

    `losses` are mean losses by package digest, `served` the digest of the package that answered most of them; `left_out` says why a package has
    none. `requests` were logged in the window, `labelled` of them count. Times are ISO 8601.
    """

    start: str
    end: str
    as_of: str
    loss: str
    requests: int
    labelled: int
    losses: Mapping[str, float] = field(default_factory=dict)
    served: str = ""
    left_out: Mapping[str, str] = field(default_factory=dict)
