"""Profiles of the prediction log's partitions, counted by workers: in groups before a look, which then adds the profiles up.

The deployer keeps the log, releases and rolls back; it lists what is not counted yet, sends the files, and keeps what comes back. A look
counts what is missing itself, so that nothing here has to succeed.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.context import Context
from pipeline.deployer import traffic
from pipeline.deployer.window_profiles import kept_profiles

if TYPE_CHECKING:
    from pipeline.monitoring.log_partitions import Partition
    from pipeline.monitoring.profiles.kept import Hour, Kept

# A group is what one task counts: at most so much of each, with one partition more than that where it is larger by itself.
MOST_GROUPS = 16
GROUP_ROWS = 2_000_000
GROUP_BYTES = 256 * 2**20
# Their names fit into one call.
GROUP_PARTITIONS = 200
# Profiles are given back in pieces of about this size.
PIECE_BYTES = 4 * 2**20

logger = logging.getLogger(__name__)


@dataclass
class _Group:
    partitions: list[Partition]

    @property
    def rows(self) -> int:
        return sum(each.rows for each in self.partitions)

    @property
    def size(self) -> int:
        return sum(each.size for each in self.partitions)

    def takes(self, more: Partition) -> bool:
        if not self.partitions:
            return True
        full = len(self.partitions) == GROUP_PARTITIONS
        return not full and self.rows + more.rows <= GROUP_ROWS and self.size + more.size <= GROUP_BYTES

    def as_dict(self, number: int, of: int) -> dict[str, Any]:
        files = f"{len(self.partitions)} {'files' if len(self.partitions) > 1 else 'file'}"
        title = f"{number} of {of}: {files}, {self.rows:,} requests"
        return {"title": title, "partitions": [each.name for each in self.partitions]}


def groups(context: Context, name: str) -> list[dict[str, Any]]:
    """What the tasks before a look count: {"title": for people, "partitions": their names}; none while no version is live. What does not fit into
    MOST_GROUPS is counted by the look."""
    listed = traffic(context).uncounted(name).partitions
    found, left = grouped(listed)
    logger.info("%s: %d files of the prediction log have no profile yet, %d groups", name, len(listed), len(found))
    if left:
        rows = sum(each.rows for each in left)
        logger.info("%s: %d files more, with %d requests, are left to the look", name, len(left), rows)
    return [group.as_dict(number, len(found)) for number, group in enumerate(found, 1)]


def grouped(partitions: Sequence[Partition]) -> tuple[list[_Group], list[Partition]]:
    """Groups of neighbours, and the partitions that are left when there are MOST_GROUPS."""
    found: list[_Group] = []
    for at, each in enumerate(partitions):
        if not found or not found[-1].takes(each):
            if len(found) == MOST_GROUPS:
                return found, [*partitions[at:]]
            found.append(_Group([]))
        found[-1].partitions.append(each)
    return found, []


def profile_group(context: Context, run: str, name: str, group: dict[str, Any]) -> dict[str, Any]:
    """Counts those partitions of a group that are not counted yet, here, and gives their profiles to the deployer. Returns how many it was given,
    how many it kept, and why it refused others."""
    deployer = traffic(context)
    listed = deployer.uncounted(name)
    # Another look may have counted them since, and a try of this task before.
    wanted = [each.name for each in listed.partitions if each.name in {*group["partitions"]}]
    told: dict[str, Any] = {"given": 0, "kept": 0, "refused": {}}
    if not wanted:
        return told
    # A folder that nobody else can read: the rows are data of people.
    with tempfile.TemporaryDirectory(prefix="perennial-partitions-") as folder:
        log = Path(folder) / "log"
        log.mkdir()
        deployer.fetch_partitions(run, name, wanted, log)
        kept = kept_profiles(context, name, listed.version, listed.digest, Path(folder) / "kept" / "profiles.db")
        from pipeline.monitoring import log_partitions

        log_partitions.count(log, kept)
        for piece in _pieces(kept, wanted):
            taken = deployer.take_profiles(run, name, kept.edges, piece)
            told["given"] += len(piece)
            told["kept"] += taken.kept
            told["refused"].update(taken.refused)
    for partition, why in told["refused"].items():
        logger.warning("%s: the deployer keeps no profile of %s, which %s", name, partition.split(" ")[0], why)
    logger.info("%s: counted %d of %d files, kept %d", name, told["given"], len(wanted), told["kept"])
    return told


def _pieces(kept: Kept, wanted: Sequence[str]) -> Iterator[dict[str, list[Hour]]]:
    """The profiles of the counted ones of the partitions, some at a time."""
    counted, piece, size = kept.counted(), {}, 0
    for name in wanted:
        if name not in counted:
            continue
        piece[name] = kept.hours(name)
        size += sum(len(hour.cells) for hour in piece[name])
        if size >= PIECE_BYTES:
            yield piece
            piece, size = {}, 0
    if piece:
        yield piece
