"""What a container's image says of its system: the packages that its distribution installed, as dpkg writes them down."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from typing import Any

from pipeline.rollout.engines.base import SlotImage

# /etc/os-release is a link to it, and an archive of a link has no text.
RELEASE, STATUS = "/usr/lib/os-release", "/var/lib/dpkg/status"
INSTALLED = "install ok installed"


def of(container: Any) -> SlotImage | None:
    """Of a container, whether it runs or not; None where the image names no distribution, or none with dpkg."""
    release = dict(_pairs(_text(container, RELEASE).splitlines(), "="))
    packages = tuple(sorted(installed(_text(container, STATUS))))
    if not packages or "ID" not in release:
        return None
    return SlotImage(container.image.id, release["ID"], release.get("VERSION_ID", ""), packages)


def installed(status: str) -> Iterator[tuple[str, str, str]]:
    """(name, version, architecture) of each package that is installed, by dpkg's file of their states."""
    for paragraph in status.split("\n\n"):
        # A line that begins with a space goes on with the one before it.
        told = dict(_pairs((line for line in paragraph.splitlines() if not line.startswith(" ")), ":"))
        if told.get("Status") == INSTALLED:
            yield told["Package"], told["Version"], told["Architecture"]


def _pairs(lines: Any, between: str) -> Iterator[tuple[str, str]]:
    for line in lines:
        name, found, value = line.partition(between)
        if found:
            yield name.strip(), value.strip().strip('"')


def _text(container: Any, path: str) -> str:
    """The file's text; '' where there is none."""
    from docker.errors import NotFound

    try:
        parts, _ = container.get_archive(path)
    except NotFound:
        return ""
    with tarfile.open(fileobj=io.BytesIO(b"".join(parts))) as archive:
        for member in archive:
            if member.isfile() and (file := archive.extractfile(member)) is not None:
                return file.read().decode(errors="replace")
    return ""
