"""Notices what was cut off: a lease that ran out unreleased, or a rollout without an end that nobody carries on.

Each stays as it was until somebody recovers it: a canary keeps its share of the traffic. Who looks here recovers it at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from pipeline.ledger import lease
from pipeline.ledger.lease import Holder
from pipeline.ledger.rollout_events import CLOSINGS, OPENINGS
from pipeline.ledger.store import Ledger

# A model is seen as cut off at two looks with so many seconds between them: a rollout that ends well writes its last event, and then
# gives its lease back.
LOOK_S = 1.0
# The pauses between tries to recover one model, each twice the one before.
PAUSE_S, LONGEST_PAUSE_S = 2.0, 60.0


@dataclass
class _Tried:
    """How often a model was recovered in vain, and when it may be tried again, in monotonic seconds."""

    times: int = 0
    again_at: float = 0.0


@dataclass
class CutOff:
    """`due` is called again and again; `concerns` says of a model and its last holder whether they are ours to recover."""

    ledger: Ledger
    concerns: Callable[[str, Holder], bool] = lambda model, holder: True
    _seen: dict[str, tuple[int, int]] = field(default_factory=dict)
    _open: dict[str, int] = field(default_factory=dict)
    _last_seq: int = 0
    _tried: dict[str, _Tried] = field(default_factory=dict)

    def due(self) -> list[str]:
        """The models that are cut off now, were so at the last look, and may be tried again. Raises LedgerError."""
        self._read_new_events()
        now, seen = time.monotonic(), {}
        for model, holder in lease.holders(self.ledger).items():
            opened = self._open.get(model, 0)
            if not holder.is_alive and (holder.name or opened) and self.concerns(model, holder):
                seen[model] = holder.token, opened
        due = [m for m, key in seen.items() if self._seen.get(m) == key and now >= self._tried_of(m).again_at]
        self._seen = seen
        for model in set(self._tried) - set(seen):
            if now >= self._tried[model].again_at:
                del self._tried[model]
        return due

    def tries(self, model: str) -> None:
        """Call it when the model's recovery begins: the next one comes after a pause."""
        tried = self._tried_of(model)
        tried.again_at = time.monotonic() + min(LONGEST_PAUSE_S, PAUSE_S * 2**tried.times)
        tried.times += 1

    def _tried_of(self, model: str) -> _Tried:
        return self._tried.setdefault(model, _Tried())

    def _read_new_events(self) -> None:
        closings = {kind.KIND for kind in CLOSINGS}
        for entry in self.ledger.events(*OPENINGS, *CLOSINGS, after=self._last_seq):
            self._last_seq = entry.seq
            if entry.kind in closings:
                self._open.pop(entry.model, None)
            else:
                self._open[entry.model] = entry.seq
