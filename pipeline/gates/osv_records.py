"""Reads a database in the OSV form, on this disk: one record after the other, for an export of a distribution is larger than memory.

Source: the Open Source Vulnerability format, https://ossf.github.io/osv-schema.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.errors import SettingsError

KEY = "gates.supply_chain.vulnerabilities"
NAME_ONE = "name a file or a folder of OSV records, or their export as a zip"


def records(database: Path) -> Iterator[Mapping[str, Any]]:
    """The records of a file, which has one or a list, of a zip, as OSV exports an ecosystem, or of the JSON files and zips below a folder.
    Raises SettingsError, also when there is none."""
    import orjson

    there = False
    for name, text in _texts(database):
        try:
            read = orjson.loads(text)
        except ValueError as error:
            raise SettingsError(KEY, f"{name} cannot be read ({error})", NAME_ONE) from error
        listed = read.get("vulns", read) if isinstance(read, dict) else read
        for record in listed if isinstance(listed, list) else [listed]:
            if fault := _fault(record):
                raise SettingsError(KEY, f"{name} has a record {fault}", NAME_ONE)
            there = True
            yield record
    if not there:
        raise SettingsError(KEY, f"{database} has no record", "download an export of the OSV database there")


def _texts(database: Path) -> Iterator[tuple[str, bytes]]:
    """(the name, the content) of each JSON file of the database. Raises SettingsError."""
    try:
        if database.is_dir():
            for file in sorted(path for path in database.rglob("*") if path.suffix in (".json", ".zip")):
                yield from _texts(file)
        elif database.suffix == ".zip" or zipfile.is_zipfile(database):
            with zipfile.ZipFile(database) as archive:
                for name in sorted(archive.namelist()):
                    if name.endswith(".json"):
                        yield f"{name} in {database}", archive.read(name)
        else:
            yield str(database), database.read_bytes()
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


def changed(record: Mapping[str, Any]) -> datetime | None:
    """When the record changed last, by what it says; None where it does not say it."""
    try:
        at = datetime.fromisoformat(str(record.get("modified") or record.get("published")))
    except ValueError:
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC)
