"""What is neither tracked nor ignored by git goes into a run's own commit. Code belongs there; data would be stored again at each change
and checked out again in each run, so that much of it is refused by name."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from pipeline.errors import StageError

# Characters that have a meaning in .gitignore.
SPECIAL = "\\*?[]!# "


def refuse_much(top: Path, inner: str, limit_mb: float) -> None:
    """Raises StageError, which names the largest file or folder and the line for .gitignore, when untracked files below
    `top`/`inner` take more than `limit_mb` in all."""
    sizes = _sizes(top / inner)
    total = sum(sizes.values())
    if total <= limit_mb * 1e6:
        return
    path, size = largest(sizes)
    in_all = f" ({total / 1e6:,.1f} MB with others)" if size < total else ""
    raise StageError(
        path,
        f"is {size / 1e6:,.1f} MB that git neither tracks nor ignores{in_all}; each run would commit it and check it out again, and "
        f"workspaces.max_untracked_mb is {limit_mb:g}",
        f'add "{ignore_line(path)}" to .gitignore, or track it with `dvc add`',
    )


def _sizes(folder: Path) -> dict[str, int]:
    """The sizes in bytes of the files that git would add, by their path in `folder`."""
    command = ["git", "-C", str(folder), "ls-files", "--others", "--exclude-standard", "-z", "--", "."]
    listed = subprocess.run(command, capture_output=True, check=False).stdout
    sizes: dict[str, int] = {}
    for name in os.fsdecode(listed).split("\0"):
        if name:
            try:
                sizes[name] = (folder / name).lstat().st_size
            except OSError:
                continue  # gone since it was listed
    return sizes


def largest(sizes: Mapping[str, int]) -> tuple[str, int]:
    """(the file or folder to name, its bytes): the deepest that still holds most of what its own folder holds.

    A folder ends with a slash.
    """
    at, held = "", sum(sizes.values())
    while True:
        inside: dict[str, int] = {}
        for name, size in sizes.items():
            if name.startswith(at):
                first, slash, _ = name[len(at) :].partition("/")
                inside[f"{at}{first}{slash}"] = inside.get(f"{at}{first}{slash}", 0) + size
        name, size = max(inside.items(), key=lambda item: item[1])
        if at and size <= held / 2:
            return at, held
        if not name.endswith("/"):
            return name, size
        at, held = name, size


def ignore_line(path: str) -> str:
    """The line for the .gitignore of the project's folder that ignores exactly this path."""
    folder = "/" if path.endswith("/") else ""
    return "/" + "".join(f"\\{c}" if c in SPECIAL else c for c in str(PurePosixPath(path))) + folder
