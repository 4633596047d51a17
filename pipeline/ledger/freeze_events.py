"""The events of a model's stop button."""

from __future__ import annotations

from pipeline.ledger.events import Event


class Frozen(Event, kind="frozen"):
    """From now on the model changes at nobody's word but a person's; up to `until` (UTC, ISO 8601), '' for no end. `by` is the person."""

    reason: str
    until: str = ""
    by: str = ""

    def sentence(self) -> str:
        end = f" until {self.until[:16].replace('T', ' ')}" if self.until else ""
        return f"frozen{end}{f' by {self.by}' if self.by else ''}: {self.reason}"


class Unfrozen(Event, kind="unfrozen"):
    """`by` ended the freeze."""

    reason: str
    by: str = ""

    def sentence(self) -> str:
        return f"no longer frozen{f', by {self.by}' if self.by else ''}: {self.reason}"
