"""A route: the slots that answer a model's address, and their shares of its traffic."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.ledger.package_of_version import PackageOfVersion


@dataclass(frozen=True)
class RoutedSlot:
    """A slot in a route: its name (blue or green), its version, its URL, and its package's digest where that is known."""

    slot: str
    version: str
    address: str
    digest: str = ""

    @property
    def package(self) -> PackageOfVersion:
        return PackageOfVersion(self.version, self.digest)


@dataclass(frozen=True)
class Route:
    """The slots that answer a model's address.

    `live` answers all requests, except for the `percent` (1 to 99) that a `candidate` gets; with `mirror` the candidate gets
    copies, and no user gets its answers. `previous` is the warm predecessor, which takes over only while `live` fails its
    health checks. `follow` names a header, or as `body:COLUMN` a column, which decides the slot of a request; '' for none.
    `rate_limit` is in requests a second for each client, 0 for no limit. `stamp` is in each answer that came through this file.
    """

    model: str
    live: RoutedSlot
    previous: RoutedSlot | None = None
    candidate: RoutedSlot | None = None
    percent: int = 0
    mirror: bool = False
    follow: str = ""
    rate_limit: int = 0
    stamp: str = ""

    @property
    def shares(self) -> dict[str, int]:
        """Percent of the answers by version."""
        if self.candidate is None or self.mirror:
            return {self.live.version: 100}
        return {self.live.version: 100 - self.percent, self.candidate.version: self.percent}

    @property
    def answering(self) -> list[RoutedSlot]:
        """The slots that can answer a user; while the others are dead, one of them answers all requests."""
        shadow = self.candidate if self.mirror else None
        return [s for s in (self.live, self.previous, self.candidate) if s is not None and s != shadow]

    @property
    def slots(self) -> set[str]:
        return {s.slot for s in (self.live, self.previous, self.candidate) if s is not None}
