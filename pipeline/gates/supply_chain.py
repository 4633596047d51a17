"""May what serves the version be served?

The list of it (bill_of_materials) is kept with each version. Where params.yaml names licences, each package's must be among them; where it
names a database, in the OSV form and on this disk, none of its vulnerabilities may be in a package, unless somebody accepted it by its id.
A database that is older than `database_days`, or that cannot be read, lets no version pass: nobody knows what it lacks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from pipeline.errors import SettingsError
from pipeline.gates.base import PackagedModel, Table, Verdict
from pipeline.gates.known_vulnerabilities import KEY, Vulnerable, newest, records, vulnerable
from pipeline.gates.serving_packages import ServingPackage, is_allowed, serving_packages
from pipeline.settings.model_gates import SupplyChain

NAMED = 5


def verdict(packaged: PackagedModel) -> Verdict | None:
    """None without a folder of the run, or without `licences` and `vulnerabilities`. The observed figure counts what is not allowed."""
    settings, root = packaged.model.gates.supply_chain, packaged.root
    if root is None or not (settings.licences or settings.vulnerabilities):
        return None
    try:
        packages = serving_packages(root, packaged.package.manifest.get("runtime", "onnx"))
        known = records(root / settings.vulnerabilities) if settings.vulnerabilities else []
    except SettingsError as error:
        return Verdict("supply_chain", False, 0, 0, str(error))
    unlicensed = _unlicensed(packages, settings.licences)
    found = [each for each in vulnerable(packages, known) if not {*each.ids} & {*settings.accepted}]
    parts = [f"{len(packages)} packages in the serving image"]
    if settings.licences:
        named = ", ".join(f"{each.name} ({each.licence or 'unknown'})" for each in unlicensed[:NAMED])
        parts.append(
            f"licences that are not allowed (gates.supply_chain.licences): {named or 'none'}{_more(unlicensed)}"
        )
    expired = ""
    if settings.vulnerabilities:
        named = "; ".join(map(str, found[:NAMED]))
        parts.append(f"known vulnerabilities ({KEY}): {named or 'none'}{_more(found)}")
        age, expired = _age(known, settings)
        parts.append(f"{age}{expired}")
    count = len(unlicensed) + len(found)
    return Verdict(
        "supply_chain", count == 0 and not expired, count, 0, "; ".join(parts), table=_table(packages, found)
    )


def _more(found: Sequence[Any]) -> str:
    return f" and {len(found) - NAMED} more" if len(found) > NAMED else ""


def _age(known: Sequence[Mapping[str, Any]], settings: SupplyChain) -> tuple[str, str]:
    """(how new the database is, why it is too old or '')."""
    at, days = newest(known), settings.database_days
    age = f"{len(known):,} record{'s' if len(known) != 1 else ''}" + (
        f", the newest of {at:%Y-%m-%d}" if at else ", none of which says when it changed"
    )
    if days is None or (at is not None and at >= datetime.now(UTC) - timedelta(days=days)):
        return age, ""
    limit = f"at most {days:g} days old (gates.supply_chain.database_days)"
    return age, f": too old to tell, it must be {limit}; download a newer export"


def _table(packages: Sequence[ServingPackage], found: Sequence[Vulnerable]) -> Table:
    of: dict[str, list[str]] = {}
    for each in found:
        of.setdefault(each.package.name, []).append(each.ids[0])
    rows = tuple((p.name, p.version, p.licence or "unknown", ", ".join(of.get(p.name, []))) for p in packages)
    return Table(("package", "version", "licence", "vulnerability"), rows)


def _unlicensed(packages: list[ServingPackage], licences: tuple[str, ...]) -> list[ServingPackage]:
    """The packages whose licence is not allowed; one that nobody knows is not, unless `unknown` is."""
    allowed = frozenset(licences)
    if not allowed:
        return []
    return [p for p in packages if not (is_allowed(p.licence, allowed) if p.licence else "unknown" in allowed)]
