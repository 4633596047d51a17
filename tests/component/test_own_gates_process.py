"""The process of a team's own gates: one that does not end, or takes the process along, is a failed gate, and the others report."""

from __future__ import annotations

import time

import psutil
import pytest

from pipeline.errors import StageError
from pipeline.gates import own
from pipeline.gates.own_process import said

# Calls gates as pipeline.gates.own does, and loads no model.
PROCESS = """
import json, os, subprocess, sys, threading, time
from pathlib import Path
from pipeline.gates.own_process import called, end_with

asked = json.loads(sys.argv[1])
end_with(asked["asked_by"])
if asked["fails"]:
    raise SystemExit(3)
for hook in asked["hooks"]:
    with called(Path("told.jsonl"), hook) as tell:
        if hook == "endless":
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
            Path("child").write_text(str(child.pid))
            time.sleep(600)
        if hook == "ends all":
            os._exit(9)
        if hook == "leaves a thread":
            threading.Thread(target=time.sleep, args=(600,)).start()
        tell(None if hook == "does not apply" else {"gate": hook})
"""


def asked(tmp_path, *hooks, limit_s=60.0, fails=False):
    (tmp_path / "their_process.py").write_text(PROCESS)
    found, left = [], list(hooks)
    while left:
        some, left = said("their_process", {"fails": fails}, left, tmp_path / "told.jsonl", tmp_path, limit_s)
        found += some
    return found


def runs(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_gate_that_does_not_end_is_ended_and_the_others_report(tmp_path):
    """What it started ends with it; its line names the settings key, and the gates before and after it have their verdicts."""
    found = asked(tmp_path, "first", "endless", "does not apply", "last", limit_s=0.5)
    assert [(each.hook, each.verdict, each.late) for each in found] == [
        ("first", {"gate": "first"}, False),
        ("endless", None, True),
        ("does not apply", None, False),
        ("last", {"gate": "last"}, False),
    ]
    child, until = int((tmp_path / "child").read_text()), time.monotonic() + 60
    while runs(child):
        assert time.monotonic() < until
        time.sleep(0.05)
    verdict = own._heard(found[1], 0.5)
    assert verdict.stops and verdict.gate == "endless"
    assert (
        verdict.reason.startswith("did not end within 0.5 min and was ended") and "gates.own_minutes" in verdict.reason
    )


def test_a_gate_that_ends_its_process_is_a_failed_gate(tmp_path):
    """A crash in compiled code is one: its line has the exit code, and the gate after it reports."""
    found = asked(tmp_path, "ends all", "last")
    assert [(each.hook, each.code) for each in found] == [("ends all", 9), ("last", None)]
    assert own._heard(found[0], 10).reason.startswith("its process ended with code 9 and without a verdict")


def test_a_thread_that_a_gate_leaves_keeps_nobody_waiting(tmp_path):
    """All have answered, so their process is ended with what still runs in it."""
    begun = time.monotonic()
    found = asked(tmp_path, "leaves a thread", "last")
    assert [each.verdict for each in found] == [{"gate": "leaves a thread"}, {"gate": "last"}]
    assert time.monotonic() - begun < 300


def test_a_process_that_calls_no_gate_is_an_error(tmp_path):
    """A model that cannot be loaded is no gate's fault: the run ends with the exit code."""
    with pytest.raises(StageError, match="ended with code 3 before it called one"):
        asked(tmp_path, "first", fails=True)
