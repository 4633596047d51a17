"""A route: who answers a model's address, and with which share of its traffic."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Share:
    """One slot in a route."""

    slot: str
    version: str
    address: str


@dataclass(frozen=True)
class Route:
    """Who answers a model's address.

    `live` does, but for the `percent` (1 to 99) that a `candidate` gets; with `mirror` it gets copies and answers
    nobody. `previous` is the warm predecessor, which takes over only while `live` fails its health checks. `follow`
    names the header, or as `body:COLUMN` the column, whose value decides, '' for none. `rate_limit` is how many requests
    a second one client gets through, 0 for all. `stamp` is what answers through this very file carry.
    """

    model: str
    live: Share
    previous: Share | None = None
    candidate: Share | None = None
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
    def answering(self) -> list[Share]:
        """Who can answer a user, also when only one of them is left."""
        shadow = self.candidate if self.mirror else None
        return [s for s in (self.live, self.previous, self.candidate) if s is not None and s != shadow]

    @property
    def slots(self) -> set[str]:
        return {s.slot for s in (self.live, self.previous, self.candidate) if s is not None}
