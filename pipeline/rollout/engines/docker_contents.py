"""What a container's image says of its system: the packages that its distribution installed, as dpkg writes them down, and their licences."""

from __future__ import annotations

import io
import posixpath
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from pipeline.gates.image_system import ImageSystem, SystemPackage
from pipeline.rollout.engines.debian_copyright import licences

# /etc/os-release is a link to it, and an archive of a link has no text.
RELEASE, STATUS = "/usr/lib/os-release", "/var/lib/dpkg/status"
DOCUMENTS, COPYRIGHT = "/usr/share/doc", "copyright"
# The last word of a package's state whose files are not there; the others are installed, some of them incompletely.
NOT_THERE = ("not-installed", "config-files")


def of(container: Any) -> ImageSystem | None:
    """Of a container, whether it runs, has ended or was never started; None where the image names no distribution, or none with dpkg."""
    release = dict(_pairs(_text(container, RELEASE).splitlines(), "="))
    found = sorted(installed(_text(container, STATUS)), key=lambda each: (each.name, each.architecture))
    if not found or "ID" not in release:
        return None
    named = _licences(container)
    packages = tuple(replace(each, licences=named.get(each.name, ())) for each in found)
    return ImageSystem(container.image.id, release["ID"], release.get("VERSION_ID", ""), packages)


def installed(status: str) -> Iterator[SystemPackage]:
    """Each package that is installed, by dpkg's file of their states. `Source: glibc (2.36-9)` names the version only where it is another."""
    for paragraph in status.split("\n\n"):
        # A line that begins with a space goes on with the one before it.
        told = dict(_pairs((line for line in paragraph.splitlines() if not line.startswith(" ")), ":"))
        if "Version" in told and told.get("Status", "").split()[-1:] and told["Status"].split()[-1] not in NOT_THERE:
            source, _, version = told.get("Source", "").partition(" (")
            yield SystemPackage(
                told["Package"], told["Version"], told.get("Architecture", ""), source, version.rstrip(")")
            )


def _pairs(lines: Any, between: str) -> Iterator[tuple[str, str]]:
    for line in lines:
        name, found, value = line.partition(between)
        if found:
            yield name.strip(), value.strip().strip('"')


def _text(container: Any, path: str) -> str:
    """The file's text; '' where there is none."""
    return next((text for _, text in _files(container, path) if isinstance(text, str)), "")


def _licences(container: Any) -> dict[str, tuple[str, ...]]:
    """From a package to the licences that its file names. Where its folder or its file is a link, they are those of the package it leads to."""
    texts: dict[str, str] = {}
    links: dict[str, str] = {}
    for path, text in _files(container, DOCUMENTS, COPYRIGHT):
        if isinstance(text, str):
            texts[path] = text
        else:
            links[path] = text.decode()
    top = posixpath.basename(DOCUMENTS)
    names = {path.split("/")[1] for path in (*texts, *links) if path.count("/") > 0}
    found = {name: licences(_followed(f"{top}/{name}/{COPYRIGHT}", texts, links)) for name in names}
    return {name: told for name, told in found.items() if told}


def _followed(path: str, texts: dict[str, str], links: dict[str, str]) -> str:
    """The text at the path; '' where it leads nowhere, or round in a circle."""
    for _ in range(5):
        if path in texts:
            return texts[path]
        folder = posixpath.dirname(path)
        path = links.get(path) or (posixpath.join(links[folder], COPYRIGHT) if folder in links else "")
    return ""


def _files(container: Any, path: str, name: str = "") -> Iterator[tuple[str, str | bytes]]:
    """(path in the archive, text) of each file at or below the path, of those with that name where there is one; of a link (path, where it leads
    as bytes). Nothing where there is no such path."""
    from docker.errors import NotFound

    try:
        parts, _ = container.get_archive(path)
    except NotFound:
        return
    # As it comes: a folder may have more files than should be in memory at once.
    with tarfile.open(fileobj=io.BufferedReader(_Parts(parts)), mode="r|") as archive:
        for member in archive:
            if member.issym() or member.islnk():
                yield member.name, _target(member).encode()
                continue
            wanted = member.isfile() and posixpath.basename(member.name) == (name or posixpath.basename(path))
            if wanted and (file := archive.extractfile(member)) is not None:
                yield member.name, file.read().decode(errors="replace")


def _target(link: tarfile.TarInfo) -> str:
    """Where it leads, from the top of the archive, which is the folder above the one asked for."""
    if link.islnk():
        return link.linkname
    above = posixpath.dirname(DOCUMENTS)
    target = posixpath.normpath(posixpath.join(above, posixpath.dirname(link.name), link.linkname))
    return posixpath.relpath(target, above)


class _Parts(io.RawIOBase):
    """Bytes that come in parts, as a file."""

    def __init__(self, parts: Any) -> None:
        self._parts, self._left = iter(parts), b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._left:
            if (part := next(self._parts, None)) is None:
                return 0
            self._left = part
        some, self._left = self._left[: len(buffer)], self._left[len(buffer) :]
        buffer[: len(some)] = some
        return len(some)
