"""May what serves the version be served?

The list of it (bill_of_materials) is kept with each version. Where params.yaml names licences, each package's must be among them; where it
names a database, in the OSV form and on this disk, none of its vulnerabilities may be in a package, unless somebody accepted it by its id.
A database that is older than `database_days`, that cannot be read, or that knows nothing of what serves, lets no version pass: nobody knows
what it lacks. The packages that we add are looked at here, those of the image's distribution in supply_system.
"""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.errors import SettingsError
from pipeline.gates.base import PackagedModel, Table, Verdict
from pipeline.gates.known_vulnerabilities import PYPI, PythonPackages, Searched, search
from pipeline.gates.osv_records import KEY, records
from pipeline.gates.serving_packages import ServingPackage, is_allowed, serving_packages
from pipeline.gates.supply_findings import Looked, few, looked
from pipeline.gates.supply_system import Served, system_looked
from pipeline.gates.system_packages import UNKNOWN, SystemPackages
from pipeline.settings.model_gates import SupplyChain

CELL = 20


def verdict(packaged: PackagedModel) -> Verdict | None:
    """None without a folder of the run, or where no licences and no database are named. The observed figure counts what is not allowed."""
    settings, root = packaged.model.gates.supply_chain, packaged.root
    if root is None or not (settings.licences or settings.system_licences or settings.vulnerabilities):
        return None
    served = Served(packaged)
    system = SystemPackages(served.system)
    try:
        packages = serving_packages(root, packaged.package.manifest.get("runtime", "onnx"))
        found: list[Searched] | None = None
        if settings.vulnerabilities:
            found = search(records(root / settings.vulnerabilities), (PythonPackages(packages), system))
    except SettingsError as error:
        return Verdict("supply_chain", False, 0, 0, str(error))
    parts = [Looked((f"{len(packages)} packages in the serving image",))]
    unlicensed = _unlicensed(packages, settings.licences)
    if settings.licences:
        parts.append(_licensed(unlicensed))
    if found is not None:
        parts.append(_python_looked(found[0], settings, others=bool(system.seen)))
    parts.append(system_looked(packaged, served, system, found[1] if found is not None else None))
    count = sum(part.count for part in parts)
    reason = "; ".join(word for part in parts for word in part.words)
    passed = count == 0 and not any(part.stops for part in parts)
    return Verdict("supply_chain", passed, count, 0, reason, table=_table(packages, parts, served))


def _licensed(unlicensed: Sequence[ServingPackage]) -> Looked:
    named = [f"{each.name} ({each.licence or UNKNOWN})" for each in unlicensed]
    words = f"licences that are not allowed (gates.supply_chain.licences): {few(named, ', ')}"
    return Looked((words,), len(unlicensed))


def _python_looked(found: Searched, settings: SupplyChain, *, others: bool) -> Looked:
    """`others` is whether the database has records of a distribution: one that has neither knows nothing of what serves."""
    if not found.records:
        words = f"the Python packages are not checked: the database ({KEY}) has no record of {PYPI}"
        return Looked(
            (words if others else f"{words}, and none of a distribution: download its export",), stops=not others
        )
    return looked(found, settings, f"known vulnerabilities ({KEY})", PYPI)


def _table(packages: Sequence[ServingPackage], parts: Sequence[Looked], served: Served) -> Table:
    """Our packages, and those of the distribution with a finding: all of them are in the list that is kept with the version."""
    *ours, theirs = parts
    of = {name: ids for part in ours for name, ids in part.vulnerable.items()}
    rows = [(p.name, p.version, p.licence or UNKNOWN, _some(of.get(p.name, []))) for p in packages]
    if (found := {*theirs.vulnerable, *theirs.unlicensed}) and (system := served.system()) is not None:
        rows += [
            (p.name, p.version, _some(p.licences) or UNKNOWN, _some(theirs.vulnerable.get(p.name, [])))
            for p in system.packages
            if p.name in found
        ]
    return Table(("package", "version", "licence", "vulnerability"), tuple(rows))


def _some(found: Sequence[str]) -> str:
    return ", ".join(found[:CELL]) + (f" and {len(found) - CELL} more" if len(found) > CELL else "")


def _unlicensed(packages: list[ServingPackage], licences: tuple[str, ...]) -> list[ServingPackage]:
    """The packages whose licence is not allowed; one that nobody knows is not, unless `unknown` is."""
    allowed = frozenset(licences)
    if not allowed:
        return []
    return [p for p in packages if not (is_allowed(p.licence, allowed) if p.licence else UNKNOWN in allowed)]
