"""A package's digests say that it is what was packaged; the signature of its manifest says that it passed its gates.

Ed25519. The private key is drawn when it is first needed and is readable by its owner only; $PERENNIAL_SIGNING_KEY names
another file, for workers that share one.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import RegistryError, StageError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class SigningKey:
    """This home's private key: drawn when it is first needed, or the one in `file`, or the one of `seed` (hexadecimal)."""

    home: Path
    file: str = ""
    seed: str = field(default="", repr=False)

    def sign(self, content: bytes) -> str:
        """The signature of `content`, in hexadecimal. Raises RegistryError when the key cannot be read."""
        return self._private().sign(content).hex()

    def verified(self, content: bytes, signature: str) -> bool:
        """Whether this key has signed `content`."""
        from cryptography.exceptions import InvalidSignature

        try:
            self._private().public_key().verify(bytes.fromhex(signature), content)
        except (InvalidSignature, ValueError):
            return False
        return True

    def public(self) -> str:
        """The public key, in hexadecimal."""
        return self._private().public_key().public_bytes_raw().hex()

    def log_key(self) -> str:
        """A secret for the pseudonyms in prediction logs, in hexadecimal; it follows from the signing key."""
        return hmac.new(self._private().private_bytes_raw(), b"prediction log", hashlib.sha256).hexdigest()

    def _private(self) -> Ed25519PrivateKey:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        if self.seed:
            try:
                return Ed25519PrivateKey.from_private_bytes(bytes.fromhex(self.seed))
            except ValueError as error:
                raise RegistryError("PERENNIAL_SIGNING_SEED", f"is no key ({error})", "`make env` draws one") from error
        path = Path(self.file) if self.file else self.home / "keys" / "signing.pem"
        if not path.is_file() and not self.file:
            _draw(path)
        try:
            key = serialization.load_pem_private_key(path.read_bytes(), password=None)
        except (OSError, ValueError) as error:
            raise RegistryError(f"key {path}", f"cannot be read ({error})", "check $PERENNIAL_SIGNING_KEY") from error
        if not isinstance(key, Ed25519PrivateKey):
            raise RegistryError(f"key {path}", "is no Ed25519 key", "check $PERENNIAL_SIGNING_KEY")
        return key


def _draw(path: Path) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    pem = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(pem)
    try:
        # Several processes may draw at once: the first one's key stays.
        os.link(aside, path)
    except FileExistsError:
        return
    finally:
        aside.unlink()


def digest(path: Path) -> str:
    """sha256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verified_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a package whose files all have the digests it names. Raises StageError otherwise."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StageError(f"package {folder}", f"has no readable {MANIFEST} ({error})", "build it again") from error
    for file, expected in manifest["files"].items():
        if not (folder / file).is_file() or digest(folder / file) != expected:
            raise StageError(f"package {folder}", f"{file} is not what was packaged", "build it again")
    return manifest
