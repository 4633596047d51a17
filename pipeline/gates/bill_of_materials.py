"""A list of what serves a version, in the CycloneDX form: the packages of its image, and the package itself by its digests.

It is the same for the same version: it has no time and no random number. Source: CycloneDX 1.6, https://cyclonedx.org/docs/1.6/json.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.gates.image_system import ImageSystem
from pipeline.gates.serving_packages import ServingPackage

FILE = "sbom.json"
# The system below the packages is known once there is an image: with the version's first rollout.
IMAGE_FILE = "sbom-image.json"


def bill_of_materials(
    manifest: Mapping[str, Any], packages: Sequence[ServingPackage], base: str = ""
) -> dict[str, Any]:
    """The list as JSON; `manifest` is that of the version's package, `base` the name of the image below it."""
    from cyclonedx.model import HashAlgorithm, HashType
    from cyclonedx.model.component import Component, ComponentType

    model = Component(
        name=str(manifest["model"]),
        type=ComponentType.MACHINE_LEARNING_MODEL,
        bom_ref=f"model:{manifest['model']}",
        description=f"{manifest['task']}, served by {manifest.get('runtime', 'onnx')}",
    )
    files = [
        Component(
            name=path,
            type=ComponentType.FILE,
            bom_ref=f"file:{path}",
            hashes=[HashType(alg=HashAlgorithm.SHA_256, content=str(sha256).removeprefix("sha256:"))],
        )
        for path, sha256 in manifest.get("files", {}).items()
    ]
    libraries = [_library(package) for package in packages]
    if base:
        files.append(Component(name=base, type=ComponentType.CONTAINER, bom_ref=f"image:{base}"))
    return _written(model, [*libraries, *files])


def image_contents(model: str, version: str, system: ImageSystem) -> dict[str, Any]:
    """The list of a serving image's system as JSON: each package by its URL, which names its source too where that is another, with
    the licences in the distribution's words."""
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.model.license import DisjunctiveLicense
    from packageurl import PackageURL

    distribution, release = system.distribution, system.release
    below = Component(name=distribution, version=release, type=ComponentType.OPERATING_SYSTEM, bom_ref="system")
    found = []
    for each in system.packages:
        named = {"arch": each.architecture, "distro": f"{distribution}-{release}"}
        if each.built_from != (each.name, each.version):
            named["upstream"] = "@".join(each.built_from)
        url = PackageURL("deb", distribution, each.name, each.version, named)
        library = Component(
            name=each.name, version=each.version, type=ComponentType.LIBRARY, bom_ref=str(url), purl=url
        )
        library.licenses.update(DisjunctiveLicense(name=name) for name in each.licences)
        found.append(library)
    whole = Component(name=model, version=version, type=ComponentType.CONTAINER, bom_ref=f"image:{system.image}")
    return _written(whole, [below, *found])


def _written(whole: Any, parts: Sequence[Any]) -> dict[str, Any]:
    """The list of the parts of `whole` as JSON, the same for the same ones."""
    from cyclonedx.model.bom import Bom
    from cyclonedx.output.json import JsonV1Dot6

    bom = Bom(components=parts)
    bom.metadata.component = whole
    bom.register_dependency(whole, parts)
    written = json.loads(JsonV1Dot6(bom).output_as_string())
    # Made anew for each file by the library.
    written.pop("serialNumber", None)
    written["metadata"].pop("timestamp", None)
    return written


def _library(package: ServingPackage) -> Any:
    from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, XsUri
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.model.license import DisjunctiveLicense, LicenseExpression
    from packageurl import PackageURL

    known = package.licence
    is_expression = " " in known
    licences = [LicenseExpression(known) if is_expression else DisjunctiveLicense(id=known)] if known else []
    url = PackageURL("pypi", None, package.name.lower(), package.version)
    # The files that may be installed: which of them is, the platform decides.
    files = ExternalReference(
        type=ExternalReferenceType.DISTRIBUTION,
        url=XsUri(f"https://pypi.org/project/{package.name}/{package.version}/"),
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=each) for each in package.hashes],
    )
    return Component(
        name=package.name,
        version=package.version,
        type=ComponentType.LIBRARY,
        bom_ref=str(url),
        purl=url,
        licenses=licences,
        external_references=[files],
    )
