"""A workspace starts with the project's bytecode, so that its stages do not each compile the project's modules anew.

    python -m pipeline.workspaces.bytecode

compiles the modules of the project in the working folder; `make setup` calls it. Such bytecode names its source by a hash (PEP 552):
it holds for the same file in any folder, whatever time git gives it. Python compiles a file that differs, and keeps to that kind.
"""

from __future__ import annotations

import importlib.util
import py_compile
from collections.abc import Iterator
from pathlib import Path

# The kind of file, and its flags: by a hash, and always checked. The hash follows.
CHECKED_HASH = importlib.util.MAGIC_NUMBER + (3).to_bytes(4, "little")


def write(project: Path) -> None:
    """Compiles the modules of the project that have no bytecode by their hash."""
    for source, compiled in _modules(project):
        if not _is_of(compiled, source):
            py_compile.compile(
                str(source), str(compiled), doraise=True, invalidation_mode=py_compile.PycInvalidationMode.CHECKED_HASH
            )


def share(project: Path, folder: Path) -> None:
    """Copies the project's bytecode to those of its modules that are the same in `folder`."""
    for source, compiled in _modules(folder):
        theirs = project / compiled.relative_to(folder)
        if _is_of(theirs, source):
            compiled.parent.mkdir(exist_ok=True)
            compiled.write_bytes(theirs.read_bytes())


def _modules(project: Path) -> Iterator[tuple[Path, Path]]:
    """Each module of the stages and the place of its bytecode."""
    for source in (project / "pipeline").rglob("*.py"):
        yield source, Path(importlib.util.cache_from_source(str(source)))


def _is_of(compiled: Path, source: Path) -> bool:
    try:
        with compiled.open("rb") as file:
            head = file.read(16)
    except OSError:
        return False
    return head == CHECKED_HASH + importlib.util.source_hash(source.read_bytes())


if __name__ == "__main__":
    write(Path.cwd())
