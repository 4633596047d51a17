"""Is a folder the package of a version? A number does not say so: a model that is deleted and made again counts from 1 again."""

from __future__ import annotations

from pathlib import Path

from pipeline.serving import contents
from pipeline.serving.errors import PackageRefused
from pipeline.training import signing
from pipeline.training.signing import MANIFEST, SigningKey


def refusal(folder: Path, key: SigningKey, signature: str, model_digest: str) -> str:
    """Why the folder is not the package that its version's tags name, by the checks of a slot; '' when it is."""
    try:
        checked = contents.read(folder, key.public() if signature else "", signature)
    except PackageRefused as error:
        return str(error)
    if model_digest and checked.manifest.get("model_digest") != model_digest:
        return f"package {folder}: holds another model than its version names"
    return ""


def package_digest(folder: Path) -> str:
    """What identifies a package: the sha256 of its manifest, which has the digest of every other file."""
    return signing.digest(folder / MANIFEST)
