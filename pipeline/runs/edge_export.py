"""Writes a version as a folder that needs Python, onnxruntime and numpy alone: `perennial export`.

The folder has one folder for each version that was exported to it, and `current` names the newest. A version has the package, the
modules of pipeline/serving that read requests, word for word, and the digest of each of its files in a list that the signing key has
signed. It is made aside and renamed, and `current` is replaced last, so that a runner finds the old version or the new one.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline import edge
from pipeline.context import Context
from pipeline.errors import RegistryError
from pipeline.ledger.timeline import live_at
from pipeline.registry.packages import package_digest
from pipeline.settings.rollout import Serving
from pipeline.training.signing import SigningKey

EDGE = Path(edge.__file__).parent
ROOT = EDGE.parents[1]
ENTRY = ("pipeline.edge.worker",)
# It takes scikit-learn, and is loaded for its own packages only.
LEFT_OUT = ("pipeline.serving.skops_model", "pipeline.serving.trusted")
VERSIONS, KEEP = "versions", 3
KEYS = "key.pub"


@dataclass(frozen=True)
class Exported:
    """`folder` has it, in `files` files of `size_mb` MB, signed by the `key` (the public one, hexadecimal)."""

    model: str
    version: str
    digest: str
    folder: str
    files: int
    size_mb: float
    key: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def export(context: Context, model: str, version: str, to: Path) -> Exported:
    """Writes the version, or the live one for '', to the folder `to`. Raises RegistryError."""
    version, digest = _version(context, model, version)
    registry = context.registry
    package = registry.deployable_package(model, version, digest)
    manifest = json.loads((package / "manifest.json").read_bytes())
    if manifest.get("runtime", "onnx") != "onnx":
        raise RegistryError(
            f"model {model}",
            f"version {version} is served by skops, which takes scikit-learn; an export has onnxruntime and numpy alone",
            f"retrain it with models.{model}.training.runtime: onnx, or serve it from a slot",
        )
    if (to / KEYS).is_file() and (to / KEYS).read_text().strip() != registry.key.public():
        raise RegistryError(str(to), "has exports that another key signed", "name another folder")
    _refuse_another_model(to, model)
    _refuse_what_is_no_export(to)
    settings = context.params.models[model].rollout.serving if model in context.params.models else Serving()
    try:
        return _written(registry.key, package, model, version, settings, to)
    except OSError as error:
        raise RegistryError(
            str(to), f"cannot be written ({error.strerror or error})", "name a folder that you may write to by --to"
        ) from error


def _refuse_another_model(to: Path, model: str) -> None:
    """A runner of the folder would give its clients the answers of another model."""
    try:
        there = json.loads((to / "current" / "export.json").read_bytes())["model"]
    except (OSError, ValueError, KeyError):
        return
    if there != model:
        raise RegistryError(str(to), f"has exports of the model {there}", "name another folder by --to")


def _refuse_what_is_no_export(to: Path) -> None:
    """Or a folder of somebody's own gets ours among its files, and its serve.py is lost."""
    if not to.is_dir() or (to / KEYS).is_file():
        return
    others = sorted(path.name for path in to.iterdir() if path.name != VERSIONS and not path.name.startswith("."))
    if others:
        raise RegistryError(str(to), f"has other files than exports, {others[0]} for one", "name a new folder by --to")


def _written(key: SigningKey, package: Path, model: str, version: str, settings: Serving, to: Path) -> Exported:
    (to / VERSIONS).mkdir(parents=True, exist_ok=True)
    aside = to / VERSIONS / f".{version}.{os.getpid()}"
    try:
        shutil.copytree(package, aside / "package")
        for name, source in sorted(_modules().items()):
            (aside / "code" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, aside / "code" / name)
        files = sorted(path for path in aside.rglob("*") if path.is_file())
        content = json.dumps(
            {
                "model": model,
                "version": version,
                "digest": package_digest(package),
                "on_breach": settings.on_breach,
                "max_rows": settings.max_rows,
                "max_body_mb": settings.max_body_mb,
                "files": {str(path.relative_to(aside)): _sha256(path) for path in files},
            },
            indent=1,
        ).encode()
        (aside / "export.json").write_bytes(content)
        (aside / "export.signature").write_text(key.sign(content))
        size = sum(path.stat().st_size for path in aside.rglob("*") if path.is_file())
        made = to / VERSIONS / f"{version}-{hashlib.sha256(content).hexdigest()[:12]}"
        _place(aside, made)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    # The key first: by it the next export knows that serve.py is ours.
    _write(to / KEYS, key.public().encode())
    _write(to / "serve.py", (EDGE / "serve.py").read_bytes())
    _name_current(to, made)
    digest = package_digest(package)
    return Exported(model, version, digest, str(to), len(files), round(size / 1e6, 3), key.public())


def _version(context: Context, model: str, version: str) -> tuple[str, str]:
    live = live_at(context.ledger, model)
    if version:
        return version, live.digest if live is not None and live.version == version else ""
    if live is None:
        raise RegistryError(
            f"model {model}", "has no live version to export", f"name one: `perennial export {model} VERSION --to …`"
        )
    return live.version, live.digest


def _modules() -> dict[str, Path]:
    """The files that the worker imports, by their place in the export."""
    found: dict[str, Path] = {}
    wanted = list(ENTRY)
    while wanted:
        name = wanted.pop()
        path = ROOT / Path(*name.split("."))
        file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        relative = str(file.relative_to(ROOT))
        if name in LEFT_OUT or relative in found or not file.is_file():
            continue
        found[relative] = file
        wanted += [name.rpartition(".")[0]] if "." in name else []
        for node in ast.walk(ast.parse(file.read_bytes())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pipeline"):
                wanted += [str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)]
            elif isinstance(node, ast.Import):
                wanted += [alias.name for alias in node.names if alias.name.startswith("pipeline")]
    return found | {"orjson.py": EDGE / "json_as_orjson.py"}


def _place(aside: Path, made: Path) -> None:
    try:
        aside.rename(made)
    except OSError:
        # The same export is there: somebody may have changed a byte of it since.
        shutil.rmtree(made, ignore_errors=True)
        aside.rename(made)


def _name_current(to: Path, made: Path) -> None:
    link = to / f".current.{os.getpid()}"
    link.symlink_to(made.relative_to(to))
    os.replace(link, to / "current")
    older = sorted((p for p in (to / VERSIONS).iterdir() if p != made), key=lambda p: p.stat().st_mtime_ns)
    # A runner may still have the ones before.
    for path in older[: -(KEEP - 1)]:
        shutil.rmtree(path, ignore_errors=True)


def _write(path: Path, content: bytes) -> None:
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.write_bytes(content)
    os.replace(aside, path)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
