"""`dvc` as it is installed here: DVC's own command, but for the one that would empty the remote of all versions.

`dvc gc` keeps what the checked-out dvc.lock names. No version's dvc.lock is there: each is in its MLflow run.
"""

from __future__ import annotations

import sys

REFUSED = (
    "dvc gc: would remove the data of every version from cache and remote, for it knows none of them; "
    "`perennial prune` removes what the section keep of params.yaml lets go"
)


def main() -> int:
    """Runs DVC's command line with this process's arguments; exit code 1 for `dvc gc`."""
    if _command(sys.argv[1:]) == "gc" and not {"-h", "--help", "--dry"} & set(sys.argv):
        print(REFUSED, file=sys.stderr)
        return 1
    from dvc.cli import main as dvc

    return int(dvc())


def _command(arguments: list[str]) -> str:
    """DVC's command among its arguments; '' without one. Only --cd, of what may stand before it, has a value of its own."""
    before = ""
    for word in arguments:
        if not word.startswith("-") and before != "--cd":
            return word
        before = word
    return ""
