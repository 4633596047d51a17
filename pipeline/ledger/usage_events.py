"""The events of what a model takes while nobody runs anything: the processor time of its slots, and bytes that lie somewhere."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.ledger.events import Event


class SlotUsed(Event, kind="slot_used"):
    """From `start` to `end` (UTC, ISO 8601) the slot with that version took `busy_s` seconds of a processor, as its own counters say for
    `covered_s` seconds of that time. `second` says that a slot which started later ran beside it."""

    version: str
    slot: str
    start: str
    end: str
    covered_s: float
    busy_s: float
    second: bool = False


class BytesStored(Event, kind="bytes_stored"):
    """The bytes that lie outside the DVC remote for the model since this look, by the place where they lie; an even share of what all models
    have together is in it. A place that it does not name has none."""

    places: Mapping[str, int]


class BytesMoved(Event, kind="bytes_moved"):
    """Bytes that went to or came from a store beside those of `data_landed`, `stage_kept` and `version_registered`, and `what` they were."""

    what: str
    bytes: int
