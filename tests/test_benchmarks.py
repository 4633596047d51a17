"""A benchmark that has a limit says how it stands to it, and `make bench` fails when one is broken."""

import runpy
import sys

import pytest

from benchmarks import repro
from benchmarks.limits import kept


def test_a_limit_on_counts_and_ratios_binds_and_one_on_seconds_does_not(capsys):
    assert kept("runs, times the ideal", 1.29, 1.3)
    assert not kept("bytes", 2.01, 2)
    assert kept("seconds", 9.0, 3, binding=False)
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "limit: runs, times the ideal at most 1.3: 1.29, kept"
    assert said[1].endswith("2.01, BROKEN")
    assert "the machine's fault" in said[2]


@pytest.mark.parametrize("told", [True, False])
def test_a_broken_limit_fails_them_all(monkeypatch, told):
    monkeypatch.setattr(repro, "main", lambda: told)
    monkeypatch.setattr(sys, "argv", ["benchmarks", "repro"])
    if told:
        runpy.run_module("benchmarks", run_name="__main__")
    else:
        with pytest.raises(SystemExit, match="limits broken: repro"):
            runpy.run_module("benchmarks", run_name="__main__")
