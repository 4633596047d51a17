"""The comparison with a limit prints the right line, and a broken limit fails the command."""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.limits import within_limit
from pipeline.settings.environment import Environment


def main() -> bool:
    _check_limits()
    _check_exit_codes()
    print("limits bind on counts and ratios, not on seconds; a broken one fails the command")
    return True


def _check_limits() -> None:
    """Counts and ratios bind, seconds do not; a limit is an upper or a lower one."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert within_limit("runs, times the ideal", 1.29, 1.3)
        assert not within_limit("bytes", 2.01, 2)
        assert within_limit("seconds", 9.0, 3, binding=False)
        assert within_limit("times theirs", 50.1, 50, at_least=True)
        assert not within_limit("times theirs", 49.9, 50, at_least=True)
    lines = printed.getvalue().splitlines()
    assert lines[0] == "limit: runs, times the ideal at most 1.3: 1.29, kept", lines[0]
    assert lines[1].endswith("2.01, BROKEN"), lines[1]
    assert "the machine's fault" in lines[2], lines[2]
    assert lines[3:] == [
        "limit: times theirs at least 50: 50.10, kept",
        "limit: times theirs at least 50: 49.90, BROKEN",
    ], lines[3:]


def _check_exit_codes() -> None:
    """`python -m benchmarks` with one benchmark in a folder of its own, whose limit is kept or broken."""
    root = Environment.read().project
    for result, code, message in (("True", 0, ""), ("False", 1, "limits broken: repro\n")):
        with tempfile.TemporaryDirectory() as folder:
            package = Path(folder) / "benchmarks"
            package.mkdir()
            (package / "__init__.py").touch()
            (package / "__main__.py").write_text((root / "benchmarks" / "__main__.py").read_text())
            (package / "repro.py").write_text(f'"""One that ends at once."""\n\n\ndef main():\n    return {result}\n')
            command = [sys.executable, "-m", "benchmarks", "repro"]
            ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        assert (ended.returncode, ended.stderr) == (code, message), ended
