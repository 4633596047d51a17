"""The event of landed data that workers count for the drift of the version that learns from it."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.ledger.events import Event


class LandedProfiled(Event, kind="landed_profiled"):
    """A worker counted `partitions` (file names) of the snapshot, with `rows` rows that are learnt from, without those of `quarantine`, in the
    buckets of `edges`; `profiles` is the file that has their profiles. These four are DVC hashes. Equal hashes are equal profiles, in any run.
    `pushed_bytes` went to the remote."""

    snapshot: str
    quarantine: str
    edges: str
    profiles: str
    partitions: Sequence[str]
    rows: int
    pushed_bytes: int = 0

    def sentence(self) -> str:
        listed = sorted(self.partitions)
        files = listed[0] if len(listed) == 1 else f"{len(listed)} partitions, {listed[0]} to {listed[-1]},"
        return f"{self.rows:,} rows of {files} were counted beside the training"
