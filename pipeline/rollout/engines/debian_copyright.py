"""The licences that a Debian package names in its file `copyright`, where that is written for machines.

Source: Machine-readable debian/copyright 1.0 (DEP-5), https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/.
"""

from __future__ import annotations

import re

FORMAT = re.compile(r"^Format(?:-Specification)?:.*(?:copyright-format|dep5|dep-5|dep\.debian\.net)", re.IGNORECASE)


def licences(text: str) -> tuple[str, ...]:
    """Those of the package and of its files, in the order in which they are named, each once; () for a text in a form of its own."""
    lines = [line.rstrip() for line in text.splitlines()]
    first = next((line for line in lines if line), "")
    if not FORMAT.match(first):
        return ()
    found: dict[str, str] = {}
    for number, paragraph in enumerate(_paragraphs(lines)):
        names = {line.partition(":")[0].lower(): line.partition(":")[2].strip() for line in paragraph}
        # A paragraph without files is the text of a licence, except for the first one, which is about the whole package.
        if (number == 0 or "files" in names) and (name := " ".join(names.get("license", "").split())):
            found.setdefault(name.lower(), name)
    return tuple(found.values())


def _paragraphs(lines: list[str]) -> list[list[str]]:
    """The first line of each field, by paragraph."""
    found: list[list[str]] = [[]]
    for line in lines:
        if not line:
            found.append([])
        elif not line.startswith((" ", "\t", "#")):
            found[-1].append(line)
    return [paragraph for paragraph in found if paragraph]
