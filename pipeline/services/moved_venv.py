"""Makes `.venv` fit the folder that it is in now: its programs and the project's own import name both by their paths.

    python -m pipeline.services.moved_venv

`make` calls it once after the project's folder was moved or copied, which `.venv/.installed` tells. It needs no network.
"""

from __future__ import annotations

import ast
import os
import re
import sys
from pathlib import Path

STAMP = ".installed"
# The first line of a program, or the first two where the path is too long or too odd for one.
PLAIN = re.compile(rb"\A#!(?P<python>/[^\n]*/bin/python[\d.]*)\n")
BY_SHELL = re.compile(rb"\A#!/bin/sh\n'''exec' (?P<python>[^\n]*/bin/python[\d.]*['\"]?) \"\$0\" \"\$@\"\n' '''\n")
TEXT = re.compile(r"'(?:[^'\\\n]|\\.)*'|\"(?:[^\"\\\n]|\\.)*\"")
# The kernel reads no more of a first line.
LONGEST = 127


def follow(venv: Path) -> int:
    """Writes the programs of another place again, and where the project is imported from; returns how many files it wrote."""
    written, old = 0, ""
    for program in sorted((venv / "bin").iterdir()):
        if not program.is_file() or program.is_symlink():
            continue
        content = program.read_bytes()
        found = PLAIN.match(content) or BY_SHELL.match(content)
        if found is None:
            continue
        before = Path(_unquoted(found["python"].decode()))
        python = venv / "bin" / before.name
        if before == python or before.parent.parent.name != venv.name:
            continue
        old = str(before.parents[2])
        program.write_bytes(_first_lines(python) + content[found.end() :])
        written += 1
    if old:
        for file in (venv / "bin").glob("activate*"):
            text = file.read_text(encoding="utf-8")
            file.write_text(text.replace(f"{old}/{venv.name}", str(venv)), encoding="utf-8")
        written += _follow_import(venv, old)
    stamp = venv / STAMP
    made = stamp.stat() if stamp.exists() else None
    stamp.write_text(f"{venv.parent}\n", encoding="utf-8")
    if made is not None:
        # Its time says which requirements are installed.
        os.utime(stamp, ns=(made.st_atime_ns, made.st_mtime_ns))
    return written


def _follow_import(venv: Path, old: str) -> int:
    """The same for the files by which the project itself is imported from its folder."""
    written = 0

    def named(path: str) -> str:
        return f"{venv.parent}{path[len(old) :]}" if path == old or path.startswith(f"{old}/") else path

    for file in venv.glob("lib/python*/site-packages/__editable__*"):
        if not file.is_file():
            continue
        text = file.read_text(encoding="utf-8")
        # A path stands there as a whole line, or in the mapping of a finder.
        moved = "\n".join(
            TEXT.sub(lambda found: repr(named(ast.literal_eval(found[0]))), line)
            if line.startswith("MAPPING")
            else named(line)
            for line in text.split("\n")
        )
        if moved != text:
            file.write_text(moved, encoding="utf-8")
            written += 1
    return written


def _first_lines(python: Path) -> bytes:
    plain = f"#!{python}\n"
    if len(plain.encode()) <= LONGEST and not re.search(r"\s", str(python)):
        return plain.encode()
    quoted = "'" + str(python).replace("'", "'\"'\"'") + "'"
    return f"#!/bin/sh\n'''exec' {quoted} \"$0\" \"$@\"\n' '''\n".encode()


def _unquoted(path: str) -> str:
    return path.replace("'\"'\"'", "\0").strip("'\"").replace("\0", "'")


def main() -> None:
    venv = (Path.cwd() / ".venv").resolve()
    if count := follow(venv):
        print(f"this folder was moved: {count} files of .venv name it again", file=sys.stderr)


if __name__ == "__main__":
    main()
