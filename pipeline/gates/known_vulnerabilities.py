"""Which packages a database in the OSV form knows a vulnerability of, without a network.

A record says for each package which versions are affected: by name, or by ranges of the kind ECOSYSTEM, events of `introduced`, `fixed` and
`last_affected` in the order of versions. Source: the Open Source Vulnerability format 1.6, https://ossf.github.io/osv-schema.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import SettingsError
from pipeline.gates.serving_packages import ServingPackage

ECOSYSTEM = "PyPI"
KEY = "gates.supply_chain.vulnerabilities"


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
    """The records of a file, which has one or a list, or of the JSON files below a folder. Raises SettingsError."""
    files = sorted(database.rglob("*.json")) if database.is_dir() else [database]
    if not files:
        raise SettingsError(KEY, f"{database} has no JSON file", "download an export of the OSV database there")
    found: list[Mapping[str, Any]] = []
    for file in files:
        try:
            read = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise SettingsError(
                KEY, f"{file} cannot be read ({error})", "name a file or a folder of OSV records"
            ) from error
        listed = read if isinstance(read, list) else read.get("vulns", [read]) if isinstance(read, dict) else [read]
        if not all(isinstance(each, dict) and isinstance(each.get("id"), str) for each in listed):
            raise SettingsError(KEY, f"{file} has a record without an id", "name a file or a folder of OSV records")
        found += listed
    return found


def vulnerable(packages: Sequence[ServingPackage], known: Iterable[Mapping[str, Any]]) -> Iterator[Vulnerable]:
    """Each package with each record that has its version; records that were withdrawn are left out."""
    by_name = {_normal(package.name): package for package in packages}
    for record in known:
        if record.get("withdrawn"):
            continue
        for affected in record.get("affected", []):
            of = affected.get("package", {})
            package = by_name.get(_normal(str(of.get("name", ""))))
            if package is not None and of.get("ecosystem") == ECOSYSTEM and _has(affected, package.version):
                ids = (record["id"], *record.get("aliases", ()))
                yield Vulnerable(package, ids, " ".join(str(record.get("summary", "")).split())[:80])
                break


def _normal(name: str) -> str:
    """A package's name as PyPI tells names apart (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _has(affected: Mapping[str, Any], version: str) -> bool:
    if version in affected.get("versions", []):
        return True
    ranges = [each for each in affected.get("ranges", []) if each.get("type") in ("ECOSYSTEM", "SEMVER")]
    return any(_in_range(each.get("events", []), version) for each in ranges)


def _in_range(events: Sequence[Mapping[str, str]], version: str) -> bool:
    from packaging.version import InvalidVersion, Version

    try:
        asked = Version(version)
        inside = False
        dated = [(_version(value), kind) for event in events for kind, value in event.items()]
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
