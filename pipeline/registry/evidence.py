"""What MLflow holds of a version now, byte by byte: what an approval names, and what is compared with it before a version goes live."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.registry import packages
from pipeline.registry.lookups import model_version
from pipeline.registry.records import download
from pipeline.registry.versions import CODE_TAG, DATA_TAG, SIGNATURE_TAG, Registry
from pipeline.training import signing
from pipeline.training.signing import MANIFEST

GATES = "gates.json"


@dataclass(frozen=True)
class Registered:
    """`files` are the sha256 of the package's files by their path; `gate_report` is that of gates.json. `runtime` is what serves it."""

    files: Mapping[str, str]
    data_version: str
    code_revision: str
    gate_report: str
    runtime: str


def registered(registry: Registry, name: str, version: str) -> Registered:
    """Fetches a version's package and gate report anew. Raises RegistryError when there is no such version, or a file is missing."""
    client = registry.reading()
    found = model_version(client, name, version)
    with tempfile.TemporaryDirectory() as aside:
        package = download(client, name, found, packages.PACKAGE, Path(aside) / "package")
        gates = download(client, name, found, GATES, Path(aside) / "gates")
        return Registered(
            files=digests(package),
            data_version=found.tags.get(DATA_TAG, ""),
            code_revision=found.tags.get(CODE_TAG, ""),
            gate_report=signing.digest(gates),
            runtime=_runtime(package),
        )


def damaged_copy(registry: Registry, name: str, version: str) -> tuple[Path, Mapping[str, str]] | None:
    """(the folder, its files' digests) of this machine's copy when it is not whole and signed; None when it is, or there is none.

    The copy would be replaced silently, which is right for a torn download. Where people approve, somebody has to look.
    """
    local = registry.home / "versions" / name / version / packages.PACKAGE
    if not local.is_dir():
        return None
    signature = packages.kept_signature(local) or model_version(registry.reading(), name, version).tags.get(
        SIGNATURE_TAG, ""
    )
    return (local, digests(local)) if packages.refusal(local, registry.key, signature, "") else None


def digests(folder: Path) -> dict[str, str]:
    """The sha256 of each file by its path in the folder."""
    return {
        path.relative_to(folder).as_posix(): signing.digest(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _runtime(package: Path) -> str:
    """onnx where the manifest does not say: that a manifest is damaged is found by its digest."""
    try:
        return str(json.loads((package / MANIFEST).read_text(encoding="utf-8"))["runtime"])
    except (OSError, ValueError, KeyError, TypeError):
        return "onnx"
