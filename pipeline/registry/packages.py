"""Is a folder the package of a version? A number does not say so: a model that is deleted and made again counts from 1 again.

A signed package that was fetched is kept with its signature. So what is live can be started again while MLflow is away, and also
after its version was deleted there or its number was given to another package.
"""

from __future__ import annotations

from pathlib import Path

from pipeline.serving import contents
from pipeline.serving.errors import PackageRefused
from pipeline.training import signing
from pipeline.training.signing import MANIFEST, SigningKey

PACKAGE, SIGNATURE, EARLIER = "package", "package.signature", "earlier"


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


def kept(folder: Path, key: SigningKey, digest: str) -> Path | None:
    """The whole and signed copy of the package with that digest in a version's `folder`, or None. It asks nobody else."""
    for local in (folder / PACKAGE, folder / EARLIER / digest / PACKAGE):
        if not (local / MANIFEST).is_file() or package_digest(local) != digest:
            continue
        signature = kept_signature(local)
        if signature and not refusal(local, key, signature, ""):
            return local
    return None


def kept_signature(local: Path) -> str:
    """The signature with which a copy was fetched, hexadecimal; '' when there is none."""
    try:
        return local.with_name(SIGNATURE).read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def is_another(folder: Path, key: SigningKey, tagged: str, signature: str, digest: str) -> bool:
    """Whether a version's tags in MLflow (its package's digest `tagged`, its signature) are of another package than `digest`.

    A version from before that tag is known by its signature: it fits the manifest of a copy in the version's `folder`, or not.
    """
    if not digest or tagged:
        return bool(digest) and tagged != digest
    manifest = folder / PACKAGE / MANIFEST
    if not signature or not manifest.is_file():
        return False
    return key.verified(manifest.read_bytes(), signature) != (signing.digest(manifest) == digest)


def keep_signature(local: Path, signature: str) -> None:
    """Writes the signature of a copy beside it."""
    if signature and kept_signature(local) != signature:
        local.with_name(SIGNATURE).write_text(signature, encoding="utf-8")


def put_aside(local: Path, key: SigningKey, aside: Path) -> None:
    """Makes room for another package: a whole and signed copy may be live, so it is kept under its digest."""
    signature = kept_signature(local)
    if signature and not refusal(local, key, signature, ""):
        earlier = local.parent / EARLIER / package_digest(local)
        earlier.mkdir(parents=True, exist_ok=True)
        if not (earlier / PACKAGE).exists():
            local.with_name(SIGNATURE).rename(earlier / SIGNATURE)
            local.rename(earlier / PACKAGE)
            return
    local.with_name(SIGNATURE).unlink(missing_ok=True)
    if local.exists():
        local.rename(aside / "replaced")
