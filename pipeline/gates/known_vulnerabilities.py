"""Which packages a database in the OSV form knows a vulnerability of, without a network.

A record says for each package which versions are affected: by name, or by ranges of the kind ECOSYSTEM, events of `introduced`, `fixed` and
`last_affected` in the order of versions. A database is as good as it is new: the newest time of its records says how new. Source: the Open Source Vulnerability format 1.6, https://ossf.github.io/osv-schema.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.errors import SettingsError
from pipeline.gates.serving_packages import ServingPackage

ECOSYSTEM = "PyPI"
KEY = "gates.supply_chain.vulnerabilities"
NAME_ONE = "name a file or a folder of OSV records, or their export as a zip"


@dataclass(frozen=True)
class Vulnerable:
    """`ids` are those of the record, its own first."""

    package: ServingPackage
    ids: tuple[str, ...]
    summary: str

    def __str__(self) -> str:
        return f"{self.package.name} {self.package.version}: {self.ids[0]}" + (
            f" ({self.summary})" if self.summary else ""
        )


def records(database: Path) -> list[Mapping[str, Any]]:
    """The records of a file, which has one or a list, of the JSON files below a folder, or of those in a zip, as OSV exports an ecosystem.
    Raises SettingsError."""
    found: list[Mapping[str, Any]] = []
    for name, text in _texts(database):
        try:
            read = json.loads(text)
        except ValueError as error:
            raise SettingsError(KEY, f"{name} cannot be read ({error})", NAME_ONE) from error
        listed = read.get("vulns", read) if isinstance(read, dict) else read
        listed = listed if isinstance(listed, list) else [listed]
        if fault := next(filter(None, map(_fault, listed)), ""):
            raise SettingsError(KEY, f"{name} has a record {fault}", NAME_ONE)
        found += listed
    if not found:
        raise SettingsError(KEY, f"{database} has no record", "download an export of the OSV database there")
    return found


def _texts(database: Path) -> Iterator[tuple[str, bytes]]:
    """(the name, the content) of each JSON file of the database. Raises SettingsError."""
    try:
        if zipfile.is_zipfile(database):
            with zipfile.ZipFile(database) as archive:
                for name in sorted(archive.namelist()):
                    if name.endswith(".json"):
                        yield f"{name} in {database}", archive.read(name)
            return
        for file in sorted(database.rglob("*.json")) if database.is_dir() else [database]:
            yield str(file), file.read_bytes()
    except (OSError, zipfile.BadZipFile) as error:
        raise SettingsError(KEY, f"{database} cannot be read ({error})", NAME_ONE) from error


def _fault(record: Any) -> str:
    """What is wrong with a record's form, as far as it is read here; '' when nothing is."""
    if not (isinstance(record, dict) and isinstance(record.get("id"), str)):
        return "without an id"
    affected = record.get("affected") or []
    is_read = isinstance(affected, list) and all(map(_is_affected, affected))
    return "" if is_read else f"({record['id']}) whose affected is not of the OSV form"


def _is_affected(each: Any) -> bool:
    if not (isinstance(each, dict) and isinstance(each.get("package") or {}, dict)):
        return False
    versions, ranges = each.get("versions") or [], each.get("ranges") or []
    if not (isinstance(versions, list) and isinstance(ranges, list)):
        return False
    events = [event for of in ranges if isinstance(of, dict) for event in of.get("events") or [None]]
    return all(isinstance(of, dict) for of in ranges) and all(isinstance(event, dict) for event in events)


def newest(known: Iterable[Mapping[str, Any]]) -> datetime | None:
    """When a record changed last, by what the records say; None where none says it."""
    times = []
    for record in known:
        try:
            at = datetime.fromisoformat(str(record.get("modified") or record.get("published")))
        except ValueError:
            continue
        times.append(at if at.tzinfo else at.replace(tzinfo=UTC))
    return max(times, default=None)


def vulnerable(packages: Sequence[ServingPackage], known: Iterable[Mapping[str, Any]]) -> Iterator[Vulnerable]:
    """Each package with each record that has its version; records that were withdrawn are left out."""
    by_name = {_normal(package.name): package for package in packages}
    for record in known:
        if record.get("withdrawn"):
            continue
        for affected in record.get("affected") or []:
            of = affected.get("package") or {}
            package = by_name.get(_normal(str(of.get("name", ""))))
            if package is not None and of.get("ecosystem") == ECOSYSTEM and _has(affected, package.version):
                ids = (record["id"], *map(str, record.get("aliases") or ()))
                yield Vulnerable(package, ids, " ".join(str(record.get("summary") or "").split())[:80])
                break


def _normal(name: str) -> str:
    """A package's name as PyPI tells names apart (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _has(affected: Mapping[str, Any], version: str) -> bool:
    if any(_is_same(str(each), version) for each in affected.get("versions") or []):
        return True
    ranges = [each for each in affected.get("ranges") or [] if each.get("type") in ("ECOSYSTEM", "SEMVER")]
    return any(_in_range(each.get("events") or [], version) for each in ranges)


def _is_same(one: str, other: str) -> bool:
    """Whether both name one version: 2.1 is 2.1.0."""
    from packaging.version import InvalidVersion, Version

    try:
        return one == other or Version(one) == Version(other)
    except InvalidVersion:
        return False


def _in_range(events: Sequence[Mapping[str, str]], version: str) -> bool:
    from packaging.version import InvalidVersion, Version

    try:
        asked = Version(version)
        inside = False
        dated = [(_version(str(value)), kind) for event in events for kind, value in event.items()]
        for at, kind in sorted(dated, key=lambda each: each[0]):
            if kind == "introduced" and asked >= at:
                inside = True
            elif (kind == "fixed" and asked >= at) or (kind == "last_affected" and asked > at):
                inside = False
        return inside
    except InvalidVersion:
        # A version that cannot be compared is one that nobody can rule out.
        return True


def _version(written: str) -> Any:
    from packaging.version import Version

    return Version("0.dev0" if written == "0" else written)
