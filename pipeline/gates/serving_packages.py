"""What is in a serving image: the Python packages of its requirements, with the licences that this installation knows of them.

The image is made from `requirements/serving.txt`, or `serving-skops.txt`, whose lines are pinned and hashed (see
pipeline/rollout/engines/serving_image.py), for Python 3.11 on Linux.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from pipeline.errors import SettingsError

FILES = {"onnx": "serving.txt", "skops": "serving-skops.txt"}
# The image's Python, whatever this one is.
MARKERS = {
    "python_version": "3.11",
    "python_full_version": "3.11.0",
    "implementation_name": "cpython",
    "platform_python_implementation": "CPython",
    "sys_platform": "linux",
    "platform_system": "Linux",
    "os_name": "posix",
    "platform_machine": "x86_64",
}
# What older metadata call a licence; new ones have an SPDX expression.
NAMED = {
    "apache software license": "Apache-2.0",
    "apache 2.0": "Apache-2.0",
    "apache license 2.0": "Apache-2.0",
    "bsd license": "BSD-3-Clause",
    "3-clause bsd license": "BSD-3-Clause",
    "mit license": "MIT",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "python software foundation license": "PSF-2.0",
}
# Packages whose metadata name no licence, by the licence in their repository.
BY_NAME = {"skops": "MIT"}
SPDX = re.compile(r"[A-Za-z0-9.+-]+")
HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


@dataclass(frozen=True)
class ServingPackage:
    """`licence` is an SPDX expression, '' where nobody knows it; `hashes` are the SHA-256 of the files that may be installed."""

    name: str
    version: str
    licence: str = ""
    hashes: tuple[str, ...] = ()


def serving_packages(root: Path, runtime: str) -> list[ServingPackage]:
    """The packages of the image of this runtime, by the requirements below `root`. Raises SettingsError when they cannot be read."""
    from packaging.requirements import InvalidRequirement, Requirement

    file = root / "requirements" / FILES[runtime]
    try:
        lines = file.read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
        found = []
        for line in lines:
            written = line.partition(" #")[0].strip()
            if not written or written.startswith(("#", "-")):
                continue
            requirement = Requirement(written.partition("--hash")[0].strip())
            if requirement.marker is None or requirement.marker.evaluate(MARKERS):
                pinned = [each.version for each in requirement.specifier if each.operator == "=="]
                hashes = tuple(HASH.findall(written))
                found.append(
                    ServingPackage(requirement.name, (pinned or [""])[0], licence_of(requirement.name), hashes)
                )
    except (OSError, InvalidRequirement) as error:
        raise SettingsError(str(file), f"cannot be read ({error})", "restore it from the repository") from error
    return found


def base_image(root: Path) -> str:
    """The image that the serving image is made from, by its Dockerfile; '' for a project without one."""
    file = root / "docker" / "serving" / "Dockerfile"
    written = file.read_text(encoding="utf-8") if file.is_file() else ""
    found = re.search(r"^ARG BASE_IMAGE=(\S+)", written, re.MULTILINE)
    return found[1] if found else ""


def licence_of(name: str) -> str:
    """The SPDX expression of an installed package; '' where it has none, or is not installed here."""
    try:
        told = metadata.metadata(name)
    except metadata.PackageNotFoundError:
        return ""
    if expression := told.get_all("License-Expression"):
        return str(expression[0])
    classified = [c.rpartition(" :: ")[2] for c in told.get_all("Classifier") or [] if c.startswith("License :: ")]
    known = [NAMED[c.lower()] for c in classified if c.lower() in NAMED]
    if known:
        return " AND ".join(dict.fromkeys(known))
    written = str((told.get_all("License") or [""])[0]).strip()
    named = NAMED.get(written.lower(), written)
    return named if SPDX.fullmatch(named) else BY_NAME.get(name, "")


@cache
def _spdx() -> Any:
    """The reader of SPDX expressions: it knows 2,400 licences, and to make one for each package took most of the time of the gates."""
    from license_expression import get_spdx_licensing

    return get_spdx_licensing()


def is_allowed(expression: str, allowed: frozenset[str]) -> bool:
    """Whether an SPDX expression can be kept with these licences alone: of A OR B one is enough, of A AND B both are needed.

    What is no expression is not allowed. `GPL-2.0-only WITH Classpath-exception-2.0` is one licence, and is named whole.
    """
    from license_expression import AND, OR, ExpressionError

    names = {each.lower() for each in allowed}

    def kept(part: Any) -> bool:
        if isinstance(part, OR | AND):
            return (any if isinstance(part, OR) else all)(map(kept, part.args))
        return str(part.render()).lower() in names

    try:
        parsed = _spdx().parse(expression)
    except ExpressionError:
        return False
    return parsed is not None and kept(parsed)
