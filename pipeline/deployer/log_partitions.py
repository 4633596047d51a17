"""The partitions of a model's prediction log that workers count: which ones, their bytes, and the profiles that come back.

The log lies here, and a release or a rollback must not wait for the counting of rows. What comes back is taken over where it can be true.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

from pipeline.context import Context
from pipeline.deployer.window_profiles import kept_profiles
from pipeline.ledger.timeline import live_at
from pipeline.rollout.prediction_folders import predictions_folder

if TYPE_CHECKING:
    from pipeline.monitoring.log_partitions import Partition
    from pipeline.monitoring.profiles.kept import Hour


@dataclass(frozen=True)
class Uncounted:
    """The partitions without a profile in the layout of the version that is live; `edges` is that layout's digest. '' and none where no version
    is live."""

    version: str = ""
    digest: str = ""
    edges: str = ""
    partitions: tuple[Partition, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "partitions": [[each.name, each.rows] for each in self.partitions]}

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Uncounted:
        from pipeline.monitoring.log_partitions import Partition

        partitions = tuple(Partition(name, rows) for name, rows in values["partitions"])
        return cls(values["version"], values["digest"], values["edges"], partitions)


@dataclass(frozen=True)
class Taken:
    """How many partitions' profiles are kept now, and why others are not, by partition."""

    kept: int
    refused: Mapping[str, str]

    def as_dict(self) -> dict[str, Any]:
        return {"kept": self.kept, "refused": {**self.refused}}

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Taken:
        return cls(values["kept"], values["refused"])


def uncounted(context: Context, name: str) -> Uncounted:
    """Of the whole log: an event time may be of any day, and a look tells how many requests it has outside its window."""
    from pipeline.monitoring import log_partitions

    live = live_at(context.ledger, name)
    if live is None:
        return Uncounted()
    kept = kept_profiles(context, name, live.version, live.digest)
    found = log_partitions.uncounted(predictions_folder(context.home, name), kept)
    return Uncounted(live.version, live.digest, kept.edges, tuple(found))


def opened(context: Context, name: str, partitions: Sequence[str]) -> Iterator[tuple[str, BinaryIO]]:
    """The files of those partitions that are there still; each is closed when the next one is taken."""
    from pipeline.monitoring import log_partitions

    yield from log_partitions.opened(predictions_folder(context.home, name), partitions)


def take(context: Context, name: str, edges: str, found: Mapping[str, Sequence[Hour]]) -> Taken:
    """Keeps the profiles that somebody counted in the layout with the digest `edges`, where that is the layout of the live version, the log has the
    partition, and its rows are as many. What is kept already stays as it is."""
    from pipeline.monitoring import log_partitions

    live = live_at(context.ledger, name)
    kept = kept_profiles(context, name, live.version, live.digest) if live else None
    if kept is None or kept.edges != edges:
        return Taken(0, dict.fromkeys(found, "was counted in a layout that is not the live version's"))
    folder, known = predictions_folder(context.home, name), kept.counted()
    here = {part: path for part in found if (path := log_partitions.there(folder, part)) is not None}
    rows = log_partitions.traffic_rows(folder, here.values())
    refused, right = {}, {}
    for part, hours in found.items():
        if part not in here or here[part].name not in rows:
            refused[part] = "is no file of the log now"
        elif why := log_partitions.doubtful(hours, kept, rows[here[part].name]):
            refused[part] = why
        elif part not in known:
            right[part] = hours
    kept.keep(right)
    return Taken(len(right), refused)
