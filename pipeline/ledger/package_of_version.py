"""What a version is: its package. The ledger's events and the route file both name it so."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PackageOfVersion:
    """A version's number and its package's digest, '' where an older event lacks it.

    The number alone can name two packages: a registered model that is deleted and made again counts from 1 again.
    """

    version: str
    digest: str = ""

    def is_same(self, other: PackageOfVersion) -> bool:
        """Whether both are one package, as far as both digests are known."""
        return self.version == other.version and ("" in (self.digest, other.digest) or self.digest == other.digest)
