"""May what serves the version be served?

The list of it (bill_of_materials) is kept with each version. Where params.yaml names licences, each package's must be among them; where it
names a database, in the OSV form and on this disk, none of its vulnerabilities may be in a package, unless somebody accepted it by its id.
"""

from __future__ import annotations

from pipeline.gates.base import PackagedModel, Table, Verdict
from pipeline.gates.known_vulnerabilities import KEY, Vulnerable, records, vulnerable
from pipeline.gates.serving_packages import ServingPackage, is_allowed, serving_packages

NAMED = 5


def verdict(packaged: PackagedModel) -> Verdict | None:
    """None without a folder of the run, or without `licences` and `vulnerabilities`. The observed figure counts what is not allowed."""
    settings, root = packaged.model.gates.supply_chain, packaged.root
    if root is None or not (settings.licences or settings.vulnerabilities):
        return None
    packages = serving_packages(root, packaged.package.manifest.get("runtime", "onnx"))
    unlicensed = _unlicensed(packages, settings.licences)
    found: list[Vulnerable] = []
    if settings.vulnerabilities:
        known = vulnerable(packages, records(root / settings.vulnerabilities))
        found = [each for each in known if not {*each.ids} & {*settings.accepted}]
    parts = [f"{len(packages)} packages in the serving image"]
    if settings.licences:
        named = ", ".join(f"{each.name} ({each.licence or 'unknown'})" for each in unlicensed[:NAMED])
        parts.append(f"licences that are not allowed (gates.supply_chain.licences): {named or 'none'}")
    if settings.vulnerabilities:
        named = "; ".join(map(str, found[:NAMED]))
        parts.append(f"known vulnerabilities ({KEY}): {named or 'none'}")
    count = len(unlicensed) + len(found)
    faults = {each.package.name: each.ids[0] for each in found}
    rows = tuple((p.name, p.version, p.licence or "unknown", faults.get(p.name, "")) for p in packages)
    table = Table(("package", "version", "licence", "vulnerability"), rows)
    return Verdict("supply_chain", count == 0, count, 0, "; ".join(parts), table=table)


def _unlicensed(packages: list[ServingPackage], licences: tuple[str, ...]) -> list[ServingPackage]:
    """The packages whose licence is not allowed; one that nobody knows is not, unless `unknown` is."""
    allowed = frozenset(licences)
    if not allowed:
        return []
    return [p for p in packages if not (is_allowed(p.licence, allowed) if p.licence else "unknown" in allowed)]
