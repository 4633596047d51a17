"""A package's files, read once and checked: each file by its digest in the manifest, the manifest by its signature."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.serving.errors import PackageRefused

MANIFEST, GOLDEN, CATEGORIES = "manifest.json", "golden.json", "categories.json"
# Rows of the data that explanations compare with; only where the model's block allows them.
BACKGROUND = "background.json"


@dataclass(frozen=True)
class Contents:
    """The manifest and the bytes that were checked. The model is loaded from these bytes, not from the disk again."""

    manifest: dict[str, Any]
    files: dict[str, bytes]


def read(folder: Path, public_key: str = "", signature: str = "") -> Contents:
    """Reads a package. With a `public_key` (Ed25519, hexadecimal) its manifest must carry that key's `signature`.

    Raises PackageRefused when it cannot be read, when a file was changed or is not in the manifest, or when the signature
    does not fit.
    """
    try:
        manifest_bytes = (folder / MANIFEST).read_bytes()
        manifest = json.loads(manifest_bytes)
        files = {name: (folder / name).read_bytes() for name in manifest["files"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PackageRefused(f"package {folder} cannot be read: {error}") from error
    for name, digest in manifest["files"].items():
        if hashlib.sha256(files[name]).hexdigest() != digest:
            raise PackageRefused(f"package {folder}: {name} is not what was packaged")
    known = {folder / MANIFEST, *(folder / name for name in manifest["files"])}
    if unnamed := sorted(path for path in folder.rglob("*") if not path.is_dir() and path not in known):
        raise PackageRefused(f"package {folder}: {unnamed[0].relative_to(folder)} is not in its {MANIFEST}")
    if public_key:
        _refuse_unsigned(folder, manifest_bytes, public_key, signature)
    return Contents(manifest, files)


def _refuse_unsigned(folder: Path, manifest: bytes, public_key: str, signature: str) -> None:
    from nacl.exceptions import CryptoError
    from nacl.signing import VerifyKey

    try:
        VerifyKey(bytes.fromhex(public_key)).verify(manifest, bytes.fromhex(signature))
    except (CryptoError, ValueError, TypeError) as error:
        raise PackageRefused(f"package {folder}: {MANIFEST} is not what was signed") from error
