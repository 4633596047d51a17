"""What we write into the project's folder, such as scores, is no code: a line in `.git/info/exclude` keeps it out of each run's commit.

Without it each run would commit the scores of all intervals before it, a file that is there for a moment would stop a run, and so would at
last `workspaces.max_untracked_mb`, of every model. The file .gitignore belongs to the person, and stays as it is.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from pipeline.workspaces.untracked import ignore_line

log = logging.getLogger(__name__)


def keep_out(project: Path, written: Sequence[Path]) -> None:
    """Makes git ignore each of `written`, absolute paths, that is below the repository of `project`; does nothing outside of one."""
    top = next((folder for folder in (project, *project.parents) if (folder / ".git").exists()), None)
    if top is None:
        return
    root = top.resolve()
    inside = [path.resolve() for path in written if path.resolve().is_relative_to(root) and path.resolve() != root]
    file = _shared(top / ".git") / "info" / "exclude"
    try:
        text = file.read_text(encoding="utf-8", errors="surrogateescape") if file.is_file() else ""
        lines = [ignore_line(str(path.relative_to(root))) for path in inside]
        if new := [line for line in lines if line not in text.splitlines()]:
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("a", encoding="utf-8") as exclude:
                exclude.write(("\n" if text and not text.endswith("\n") else "") + "".join(f"{line}\n" for line in new))
    except OSError as error:
        log.warning(
            "runs will commit what is written to %s: %s cannot be written (%s)",
            ", ".join(map(str, written)),
            file,
            error.strerror,
        )


def _shared(git: Path) -> Path:
    """The folder that all worktrees share: of a worktree `.git` is a file that names its own."""
    if git.is_dir():
        return git
    own = git.parent / git.read_text(encoding="utf-8").removeprefix("gitdir:").strip()
    common = own / "commondir"
    return own / common.read_text(encoding="utf-8").strip() if common.is_file() else own
