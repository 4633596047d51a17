"""Are the files of a run, after its gates, the ones that the gates have judged?

A team's own gate is any code, and may write where it runs. What it changes there nobody has judged: the run would register another model
or other figures than its verdicts are about.
"""

from __future__ import annotations

from pathlib import Path

from pipeline.errors import GateError
from pipeline.gates.own import REPORT
from pipeline.workspaces.dvc_graph import Artifacts

# What the record of a run is made of, beside its artifacts.
BESIDE = ("params.yaml", "dvc.yaml", "dvc.lock", "run.yaml")
NAMED = 3

Stamp = tuple[int, int, int]


def stamps(files: Artifacts) -> dict[str, Stamp]:
    """From each file of the run, by its path from the run's folder, to what tells whether it was written since."""
    root = files.folder.parents[1]
    found = [path for path in files.folder.rglob("*") if path.is_file()] + [root / name for name in BESIDE]
    return {str(path.relative_to(root)): _stamp(path) for path in found if path.is_file() and path.name != REPORT}


def refuse_changed(name: str, before: dict[str, Stamp], files: Artifacts) -> None:
    """Raises GateError where a file is gone or was written since `before`, or the package has one more. Any other new file is the
    gate's own."""
    now, package = stamps(files), f"{files.package.relative_to(files.folder.parents[1])}/"
    changed = [path for path, stamp in before.items() if now.get(path) != stamp]
    changed += [path for path in now if path.startswith(package) and path not in before]
    if changed:
        more = f" and {len(changed) - NAMED:,} more" if len(changed) > NAMED else ""
        raise GateError(
            f"{name} gates",
            f"an own gate (gates.own) has changed what the gates judged: {', '.join(sorted(changed)[:NAMED])}{more}",
            "let it write elsewhere; nothing was registered and what is live stays live",
        )


def _stamp(path: Path) -> Stamp:
    status = path.stat()
    return status.st_mtime_ns, status.st_size, status.st_ino
