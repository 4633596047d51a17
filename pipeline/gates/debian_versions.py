"""The order of versions of Debian and of what comes of it, as dpkg has it.

`[epoch:]upstream[-revision]`: the epoch is a number; the two others are compared part by part, a part without digits and then a number, in
turn. In a part without digits `~` is before everything, the end of the part too, and letters are before all else.
Source: Debian Policy 5.6.12, https://www.debian.org/doc/debian-policy/ch-controlfields.html#version.
"""

from __future__ import annotations

import re

PARTS = re.compile(r"([^0-9]*)([0-9]*)")
VERSION = re.compile(r"(?:([0-9]+):)?([A-Za-z0-9.+~:-]+?)(?:-([A-Za-z0-9.+~]+))?")

Part = tuple[tuple[int, ...], int]
END: Part = ((0,), 0)


def key(version: str) -> tuple[int, tuple[Part, ...], tuple[Part, ...]]:
    """A value that is in the order of versions; equal for versions that dpkg takes for one (1.0 and 0:1.0-0). Raises ValueError for what is
    no version."""
    found = VERSION.fullmatch(version)
    if found is None or version.endswith("-") or (found[1] is None and ":" in found[2]):
        raise ValueError(f"{version!r} is no version of Debian's form")
    epoch, upstream, revision = found.groups()
    return int(epoch or 0), _parts(upstream), _parts(revision or "")


def _parts(text: str) -> tuple[Part, ...]:
    parts = [((*map(_weight, other), 0), int(number or 0)) for other, number in PARTS.findall(text)]
    while parts and parts[-1] == END:
        parts.pop()
    # Two of them: "" and "0" are the same and come after "0~".
    return (*parts, END, END)


def _weight(character: str) -> int:
    """Against 0, which is the end of a part."""
    if character == "~":
        return -1
    return ord(character) if character.isalpha() else ord(character) + 256
