"""Who changed params.yaml last, as git has it."""

from __future__ import annotations

import subprocess
from pathlib import Path

FILE = "params.yaml"


def params_author(project: Path) -> tuple[str, str]:
    """(author, commit) of the last commit of params.yaml; '' for both while it is not committed as it is, or there is no git."""
    if _git(project, "status", "--porcelain", "--", FILE) != "":
        return "", ""
    author, _, commit = (_git(project, "log", "-1", "--format=%an <%ae>%x09%H", "--", FILE) or "").partition("\t")
    return author, commit


def _git(project: Path, *arguments: str) -> str | None:
    """What git says; None when it cannot."""
    try:
        done = subprocess.run(["git", "-C", str(project), *arguments], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
