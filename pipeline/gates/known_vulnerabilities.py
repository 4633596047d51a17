"""Which packages a database in the OSV form knows a vulnerability of, without a network.

A record says for each package which versions are affected: by name, or by ranges of the kind ECOSYSTEM, events of `introduced`, `fixed` and
`last_affected` in the order of versions, which each ecosystem has for itself. A database is as good as it is new: the newest time of its
records says how new. Source: the Open Source Vulnerability format, https://ossf.github.io/osv-schema.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from pipeline.gates.osv_records import changed
from pipeline.gates.serving_packages import ServingPackage

PYPI = "PyPI"
KINDS = ("introduced", "fixed", "last_affected")


@dataclass(frozen=True)
class Installed:
    """A package as records name it: `told` is its name for people, `of` are the names of what is installed of it."""

    version: str
    told: str
    of: tuple[str, ...]


@dataclass(frozen=True)
class Vulnerable:
    """`ids` are those of the record, its own first; `upstream` are those that it gathers. `fixed` is the first version without it, '' while
    there is none. `unimportant` is what its distribution calls so: the packages that it builds are not affected."""

    package: Installed
    ids: tuple[str, ...]
    upstream: tuple[str, ...] = ()
    summary: str = ""
    fixed: str = ""
    unimportant: bool = False

    def __str__(self) -> str:
        better = f", fixed in {self.fixed}" if self.fixed else ""
        return f"{self.package.told}: {self.ids[0]}" + (f" ({self.summary})" if self.summary else "") + better

    def is_accepted(self, accepted: Collection[str]) -> bool:
        """By any of its own ids, or by all of those that it gathers: a notice may name several vulnerabilities as its aliases too."""
        several = {each for each in self.ids[1:] if each.startswith("CVE-")}
        several = several if len(several) > 1 else set()
        gathers = several | {*self.upstream}
        return not ({*self.ids} - several).isdisjoint(accepted) or (bool(gathers) and gathers <= {*accepted})


class Packages(Protocol):
    """The packages of one ecosystem."""

    def is_of(self, ecosystem: str) -> bool:
        """Whether records of this ecosystem are about them."""

    def named(self, name: str) -> Sequence[Installed]:
        """What is installed of what a record calls so; none for another name."""

    def order(self, version: str) -> Any:
        """A value in the order of versions. Raises ValueError for what is none."""


class PythonPackages:
    """Those of PyPI, whose names are compared as PyPI does (PEP 503)."""

    def __init__(self, packages: Sequence[ServingPackage]) -> None:
        self._by_name: dict[str, list[Installed]] = {
            _normal(each.name): [Installed(each.version, f"{each.name} {each.version}", (each.name,))]
            for each in packages
        }

    def is_of(self, ecosystem: str) -> bool:
        return ecosystem == PYPI

    def named(self, name: str) -> Sequence[Installed]:
        return self._by_name.get(_normal(name), ())

    def order(self, version: str) -> Any:
        from packaging.version import Version

        return Version(version)


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@dataclass
class Searched:
    """What a database has of some packages: how many records of their ecosystem, when the newest of these changed, and what is found."""

    records: int = 0
    newest: datetime | None = None
    found: list[Vulnerable] = field(default_factory=list)


def search(known: Iterable[Mapping[str, Any]], kinds: Sequence[Packages]) -> list[Searched]:
    """For each of the `kinds` of packages what the records say; of a record that was withdrawn only its time counts."""
    results = [Searched() for _ in kinds]
    for record in known:
        for packages, result in zip(kinds, results, strict=True):
            theirs = [each for each in record.get("affected") or [] if packages.is_of(_package(each, "ecosystem"))]
            if not theirs:
                continue
            result.records += 1
            if (at := changed(record)) is not None:
                result.newest = max(at, result.newest or at)
            if not record.get("withdrawn"):
                result.found += _found(record, theirs, packages)
    return results


def _package(affected: Mapping[str, Any], part: str) -> str:
    return str((affected.get("package") or {}).get(part, ""))


def _found(
    record: Mapping[str, Any], affected: Sequence[Mapping[str, Any]], packages: Packages
) -> Iterator[Vulnerable]:
    """Each package that has a version which the record names, once."""
    ids = (record["id"], *map(str, record.get("aliases") or ()))
    upstream = tuple(map(str, record.get("upstream") or ()))
    summary = " ".join(str(record.get("summary") or "").split())[:80]
    found: dict[Installed, Vulnerable] = {}
    for each in affected:
        for package in packages.named(_package(each, "name")):
            if _has(each, package.version, packages.order):
                fixed = _fixed(each, package.version, packages.order)
                told = Vulnerable(package, ids, upstream, summary, fixed, _is_unimportant(each))
                if package not in found or found[package].unimportant:
                    found[package] = told
    yield from found.values()


def _is_unimportant(affected: Mapping[str, Any]) -> bool:
    told = affected.get("ecosystem_specific")
    return isinstance(told, dict) and told.get("urgency") == "unimportant"


def _has(affected: Mapping[str, Any], version: str, order: Callable[[str], Any]) -> bool:
    versions = [str(each) for each in affected.get("versions") or []]
    if version in versions or any(_in_range(events, version, order) for events in _ranges(affected)):
        return True
    return any(_is_same(each, version, order) for each in versions)


def _ranges(affected: Mapping[str, Any]) -> list[Sequence[Mapping[str, Any]]]:
    return [
        each.get("events") or [] for each in affected.get("ranges") or [] if each.get("type") in ("ECOSYSTEM", "SEMVER")
    ]


def _is_same(one: str, other: str, order: Callable[[str], Any]) -> bool:
    """Whether both name one version: 2.1 is 2.1.0."""
    try:
        return order(one) == order(other)
    except ValueError:
        return False


def _in_range(events: Sequence[Mapping[str, Any]], version: str, order: Callable[[str], Any]) -> bool:
    try:
        asked = order(version)
        told = [(kind, str(at)) for event in events for kind, at in event.items() if kind in KINDS]
        # Before any version.
        inside = ("introduced", "0") in told
        dated = [(order(at), kind) for kind, at in told if (kind, at) != ("introduced", "0")]
        for at, kind in sorted(dated, key=lambda each: each[0]):
            if kind == "introduced" and asked >= at:
                inside = True
            elif (kind == "fixed" and asked >= at) or (kind == "last_affected" and asked > at):
                inside = False
        return inside
    except ValueError:
        # A version that cannot be compared is one that nobody can rule out.
        return True


def _fixed(affected: Mapping[str, Any], version: str, order: Callable[[str], Any]) -> str:
    """The first version after this one in which it is fixed; '' where none is named."""
    named = [str(event["fixed"]) for events in _ranges(affected) for event in events if "fixed" in event]
    try:
        later = [each for each in named if order(each) > order(version)]
        return min(later, key=order, default="")
    except ValueError:
        return ""
