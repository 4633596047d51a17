"""The packages of a serving image's distribution, as records of vulnerabilities name them, and their licences.

Security teams of Debian and Ubuntu name the source package and its version, from which several packages are built. A record may name a
built one too. The ecosystem is the distribution with its release: `Debian:12`, `Ubuntu:22.04:LTS`, `Ubuntu:Pro:22.04:LTS`; `Debian` alone is
any release.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Any

from pipeline.gates import debian_versions
from pipeline.gates.image_system import ImageSystem, SystemPackage
from pipeline.gates.known_vulnerabilities import Installed

# The distributions with dpkg of which the OSV database has records, as os-release names them.
DISTRIBUTIONS = ("debian", "ubuntu")
# What stands beside a release in an ecosystem's name, and changes nothing of which packages it is about.
BESIDE = ("lts", "pro")
UNKNOWN = "unknown"


class SystemPackages:
    """The packages of an image by both of their names. `ask` gives the image's system, None where there is none; it is called once, and
    only when there is a record of a distribution. `seen` are the distributions and releases of such records."""

    def __init__(self, ask: Callable[[], ImageSystem | None]) -> None:
        self._ask = ask
        self.seen: set[str] = set()

    @cached_property
    def _system(self) -> ImageSystem | None:
        return self._ask()

    @cached_property
    def _by_name(self) -> dict[str, list[Installed]]:
        installed = self._system.packages if self._system is not None else ()
        built: dict[tuple[str, str], list[str]] = {}
        for each in installed:
            built.setdefault(each.built_from, []).append(each.name)
        sources: dict[str, list[Installed]] = {}
        for (name, version), names in built.items():
            sources.setdefault(name, []).append(Installed(version, _told(name, version, names), tuple(names)))
        own = {each.name: [Installed(each.version, f"{each.name} {each.version}", (each.name,))] for each in installed}
        # A source first: a package of the same name may have been built from another one.
        return own | sources

    def is_of(self, ecosystem: str) -> bool:
        distribution, *release = ecosystem.lower().split(":")
        if distribution not in DISTRIBUTIONS:
            return False
        named = [part for part in release if part not in BESIDE]
        self.seen.add(":".join((ecosystem.split(":")[0], *named)))
        system = self._system
        return system is not None and distribution == system.distribution and named in ([], [system.release])

    def named(self, name: str) -> Sequence[Installed]:
        return self._by_name.get(name, ())

    def order(self, version: str) -> Any:
        return debian_versions.key(version)


def _told(source: str, version: str, names: Sequence[str]) -> str:
    built = sorted({*names})
    return f"{source} {version}" + (f" ({', '.join(built)})" if built != [source] else "")


def unlicensed(packages: Iterable[SystemPackage], allowed: Iterable[str]) -> dict[SystemPackage, list[str]]:
    """The packages with licences that are not among the allowed ones, and which; one whose file names none has the licence `unknown`."""
    names = frozenset(name.lower() for name in allowed)
    found = {p: [each for each in p.licences or (UNKNOWN,) if not is_allowed(each, names)] for p in packages}
    return {package: licences for package, licences in found.items() if licences}


def is_allowed(licence: str, allowed: frozenset[str]) -> bool:
    """Whether what a Debian package's file says can be kept with these licences, in lower case: of `A or B` one is enough, of `A and B`
    both are needed, `and` binds first, and after a comma last (https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/).
    `GPL-2+ with OpenSSL exception` is one licence, and is named whole."""
    written = licence.lower()
    if written in allowed:
        return True
    for between, of in ((r",\s*and\s+", all), (r",?\s+(?:and/)?or\s+", any), (r"\s+and\s+", all)):
        parts = re.split(between, written)
        if len(parts) > 1:
            return of(is_allowed(part.strip(), allowed) for part in parts)
    return False
