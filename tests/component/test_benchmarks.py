"""The benchmarks' own checks, run as a command: tests import no benchmark."""

import subprocess
import sys

from harness.project import ROOT


def test_a_broken_limit_fails_the_command():
    """`python -m benchmarks` ends with 1 when a limit on counts or ratios is broken, and with 0 otherwise."""
    command = [sys.executable, "-m", "benchmarks", "self_check"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
