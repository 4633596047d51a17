"""The part of the gate `supply_chain` on the distribution below our packages: only who has the engine can read what an image has of it.

It is asked for when the database has records of a distribution, or `system_licences` are named. Where it cannot be read then, the version
does not pass: whoever named them believes that they are kept. With `rollout.engine: process` there is no image.
"""

from __future__ import annotations

from functools import cached_property

from pipeline.errors import PerennialError
from pipeline.gates.base import PackagedModel
from pipeline.gates.image_system import ImageSystem, ServingSystem, SystemPackage
from pipeline.gates.known_vulnerabilities import Searched
from pipeline.gates.supply_findings import Looked, few, looked
from pipeline.gates.system_packages import SystemPackages, unlicensed

KNOWN = "known vulnerabilities of these"


class Served:
    """What would serve the packaged model now; asked at most once, and only by who needs it."""

    def __init__(self, packaged: PackagedModel) -> None:
        self._packaged = packaged

    def system(self) -> ImageSystem | None:
        return self.answer.system if isinstance(self.answer, ServingSystem) else None

    @cached_property
    def answer(self) -> ServingSystem | str:
        """A text says why nobody knows it."""
        ask, manifest = self._packaged.serving_system, self._packaged.package.manifest
        if ask is None:
            return "no engine was asked"
        try:
            return ask(manifest.get("runtime", "onnx"))
        except PerennialError as error:
            return str(error)

    def unread(self) -> Looked | None:
        """Why there is no list of packages, None where there is one."""
        answer = self.answer
        if isinstance(answer, str):
            return Looked((f"the packages of the image's distribution cannot be read ({answer})",), stops=True)
        if answer.system is not None:
            return None
        if answer.has_image:
            return Looked((f"its image {_short(answer.image)} has no list of packages of dpkg",), stops=True)
        if self._packaged.model.rollout.engine == "process":
            return Looked((f"no image: {answer.why}; the packages of the machine's system are not checked",))
        why = f"no image whose packages can be read: {answer.why}; mend that, or set rollout.engine: process where no image is to serve"
        return Looked((why,), stops=True)

    def named(self) -> str:
        """What is checked, with the image as an approval has it."""
        assert isinstance(self.answer, ServingSystem) and self.answer.system is not None
        system, image = self.answer.system, _short(self.answer.image)
        return f"{len(system.packages)} packages of {system.distribution} {system.release} in image {image}"


def _short(image: str) -> str:
    kind, between, digest = image.rpartition(":")
    return f"{kind}{between}{digest[:12]}"


def system_looked(
    packaged: PackagedModel, served: Served, packages: SystemPackages, searched: Searched | None
) -> Looked:
    """What there is to say of the distribution; `searched` is what the database has of it, None without a database."""
    settings = packaged.model.gates.supply_chain
    parts, listed = [], Looked()
    if searched is not None and not packages.seen:
        told = "the packages of the image's distribution are listed (sbom-image.json) and not checked: the database has no record of a distribution"
        listed = Looked((told,))
        searched = None
    if searched is None and not settings.system_licences:
        return listed
    if (why := served.unread()) is not None:
        return Looked((*listed.words, *why.words), stops=why.stops)
    system = served.system()
    assert system is not None
    if settings.system_licences:
        parts.append(_licensed(unlicensed(system.packages, settings.system_licences)))
    if searched is not None and not searched.records:
        here = f"{system.distribution}:{system.release}"
        others = few(sorted(packages.seen), ", ")
        parts.append(
            Looked((f"the database has records of {others} and none of {here}: download its export too",), stops=True)
        )
    elif searched is not None:
        parts.append(looked(searched, settings, KNOWN, f"{system.distribution.capitalize()}:{system.release}"))
    return Looked(
        (*listed.words, served.named(), *(word for part in parts for word in part.words)),
        sum(part.count for part in parts),
        any(part.stops for part in parts),
        parts[-1].vulnerable,
        parts[0].unlicensed,
    )


def _licensed(found: dict[SystemPackage, list[str]]) -> Looked:
    named = [f"{package.name} ({few(licences)})" for package, licences in found.items()]
    words = f"licences of these that are not allowed (gates.supply_chain.system_licences): {few(named, ', ')}"
    return Looked((words,), len(found), unlicensed=tuple(package.name for package in found))
