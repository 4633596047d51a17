"""A process is known by its pid and start time, whatever happens to the clock, and in every form that a file has held."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from pipeline.rollout.engines.base import EngineSettings
from pipeline.rollout.engines.process import OWNER, SLOT, ProcessEngine
from pipeline.services import control, processes
from pipeline.services.processes import Record, ServiceRecord
from pipeline.settings.process_identity import ProcessIdentity, this_process


@pytest.fixture
def sleeper():
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
    yield process
    process.kill()
    process.wait()


def test_a_process_has_an_identity_until_it_ends(sleeper):
    """A zombie, which its parent has not waited for yet, has ended too."""
    identity = ProcessIdentity.of(sleeper.pid)
    assert identity is not None and identity.is_running() and identity.is_local()
    sleeper.kill()
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
    assert psutil.pid_exists(sleeper.pid)
    assert ProcessIdentity.of(sleeper.pid) is None
    assert not identity.is_running()


def test_the_same_pid_with_another_start_is_another_process():
    """A pid with another start time or another boot is another process."""
    mine = this_process()
    assert not ProcessIdentity(mine.pid, str(int(mine.started) + 1), mine.boot, mine.namespace).is_running()
    assert not ProcessIdentity(mine.pid, mine.started, "another-boot", mine.namespace).is_running()


def test_a_clock_that_is_set_moves_psutils_start_time_and_not_ours(tmp_path, monkeypatch):
    """psutil adds btime of /proc/stat, the time of day at boot, which the kernel moves with the clock."""
    mine, before = this_process(), psutil.Process().create_time()
    (tmp_path / str(mine.pid)).symlink_to(f"/proc/{mine.pid}")
    stat = [line for line in Path("/proc/stat").read_text().splitlines(True) if not line.startswith("btime")]
    (tmp_path / "stat").write_text("".join([*stat, f"btime {int(psutil.boot_time()) + 3600}\n"]))
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(tmp_path))
    assert psutil.Process().create_time() == pytest.approx(before + 3600, abs=1)
    assert mine.is_running() and this_process() == mine


@pytest.mark.parametrize("step_s", [-172_800, 3600])
def test_a_clock_step_hides_no_service_and_no_slot(tmp_path, sleeper, monkeypatch, step_s):
    """After the clock was set, `make up` and `make down` still find supervisor, services and slots, and can signal them."""
    home, proc = tmp_path / "home", tmp_path / "proc"
    (home / "slots").mkdir(parents=True)
    proc.mkdir()
    identity = ProcessIdentity.of(sleeper.pid)
    processes.write(home, Record(identity, str(home), {"api": ServiceRecord(identity)}))
    address = "http://127.0.0.1:1"
    slot = {"version": "1", "address": address, "options": {}, "pid": sleeper.pid, "born": identity.stamp}
    (home / "slots" / "churn-blue.json").write_text(json.dumps(slot))
    for entry in Path("/proc").iterdir():
        if entry.name != "stat":
            (proc / entry.name).symlink_to(entry)
    stat = [line for line in Path("/proc/stat").read_text().splitlines(True) if not line.startswith("btime")]
    (proc / "stat").write_text("".join([*stat, f"btime {int(psutil.boot_time()) + step_s}\n"]))
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(proc))
    supervisor = processes.supervisor(home)
    assert supervisor is not None and supervisor.pid == sleeper.pid
    assert [leader.pid for leader in processes.service_sessions(home)] == [sleeper.pid]
    assert sleeper.pid in {process.pid for process in processes.family(home)}
    assert processes.trouble(home) == []
    engine = ProcessEngine(EngineSettings(home, tmp_path))
    assert [(running.slot, running.version) for running in engine.all()] == [("blue", "1")]
    assert engine.dead() == []
    supervisor.terminate()
    assert sleeper.wait(60) == -signal.SIGTERM
    assert processes.supervisor(home) is None


def test_a_copy_of_a_project_ends_nothing_of_the_one_that_runs(tmp_path, monkeypatch):
    """In a folder that was copied while its services ran, `make down` finds none of them; in one that was moved `make up` ends all."""
    home, copy = tmp_path / "home", tmp_path / "copy"
    (home / "slots").mkdir(parents=True)
    marks = os.environ | {OWNER: str(home), SLOT: "churn-blue"}
    sleep = [sys.executable, "-c", "import time; time.sleep(60)"]
    process = subprocess.Popen(sleep, start_new_session=True, env=marks)
    try:
        until = time.monotonic() + 60
        while psutil.Process(process.pid).environ().get(OWNER) != str(home):  # the new program has its environment
            assert time.monotonic() < until
            time.sleep(0.01)
        identity = ProcessIdentity.of(process.pid)
        slot = {"version": "1", "address": "http://a", "options": {}, "pid": process.pid, "born": identity.stamp}
        (home / "slots" / "churn-blue.json").write_text(json.dumps(slot))
        processes.write(home, Record(identity, str(home), {"api": ServiceRecord(identity)}))
        shutil.copytree(home, copy)
        engine = ProcessEngine(EngineSettings(copy, tmp_path))
        assert (processes.supervisor(copy), processes.family(copy), engine.all()) == (None, [], [])
        assert engine.stop("churn", "blue", 0) == 0
        assert process.poll() is None
        assert ProcessEngine(EngineSettings(home, tmp_path)).find("churn", "blue") is not None
        shutil.rmtree(copy)
        home.rename(copy)
        assert processes.supervisor(copy).pid == process.pid
        assert ProcessEngine(EngineSettings(copy, tmp_path)).find("churn", "blue") is not None
        only_processes = SimpleNamespace(all=lambda: [ProcessEngine(EngineSettings(copy, tmp_path))])
        monkeypatch.setattr(control, "LocalEngines", lambda settings: only_processes)
        said: list[str] = []
        control._end_moved(tmp_path, copy, home, said.append)
        assert ProcessIdentity.of(process.pid) is None
        assert said == [f"this folder was moved from {home}: what ran there is ended (1 slots), and is started here"]
    finally:
        process.kill()
        process.wait()


def test_what_is_written_is_read_again():
    """An identity that was written is read back equal."""
    mine = this_process()
    assert ProcessIdentity.parse(mine.describe()) == mine
    assert ProcessIdentity.recorded(mine.pid, mine.stamp).is_running()


@pytest.mark.parametrize(
    ("text", "identity"),
    [
        (
            "process 12 from 345 on box (b0-07 pid:[4026531836])",
            ProcessIdentity(12, "345", "b0-07", "pid:[4026531836]"),
        ),
        ("process 12 from 1700000000.25 on mac (elsewhere)", ProcessIdentity(12, "1700000000.25")),
        ("another", None),
        ("", None),
    ],
)
def test_holders_of_earlier_versions_are_read(text, identity):
    """Holders that earlier versions wrote are still read."""
    assert ProcessIdentity.parse(text) == identity
    assert identity is None or not identity.is_local()


@pytest.mark.parametrize("form", ["seconds since 1970", "ticks and boot"])
def test_services_of_this_and_earlier_versions_are_found(tmp_path, sleeper, form):
    """services.pid held seconds since 1970; those of a version that runs during an upgrade must be found and ended."""
    started = psutil.Process(sleeper.pid).create_time()
    if form == "ticks and boot":
        identity = ProcessIdentity.of(sleeper.pid)
        processes.write(tmp_path, Record(identity, str(tmp_path), {"api": ServiceRecord(identity)}))
    else:
        state = {"pid": sleeper.pid, "started": started, "sessions": {str(sleeper.pid): started}}
        (tmp_path / "services.pid").write_text(json.dumps(state))
    found = processes.supervisor(tmp_path)
    assert found is not None and found.pid == sleeper.pid
    assert sleeper.pid in {process.pid for process in processes.family(tmp_path)}
    state = json.loads((tmp_path / "services.pid").read_text())
    moved = started - 2 if form == "seconds since 1970" else "1@" + state["started"].partition("@")[2]
    (tmp_path / "services.pid").write_text(json.dumps(state | {"started": moved, "sessions": {}, "services": {}}))
    assert processes.supervisor(tmp_path) is None
    assert processes.family(tmp_path) == []


def test_a_service_is_found_after_its_supervisor_was_killed(tmp_path):
    """By its session, though no mark is left in its environment; a session whose number another process has is not ours."""
    code = "import subprocess, sys, time; p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'], start_new_session=True); print(p.pid, flush=True); time.sleep(60)"
    supervisor = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    service = int(supervisor.stdout.readline())
    try:
        of = ProcessIdentity.of
        record = Record(of(supervisor.pid), str(tmp_path), {"api": ServiceRecord(of(service))})
        processes.write(tmp_path, record)
        supervisor.kill()
        supervisor.wait()
        assert processes.supervisor(tmp_path) is None
        assert [process.pid for process in processes.family(tmp_path)] == [service]
        state = json.loads((tmp_path / "services.pid").read_text())
        state["services"]["api"]["started"] = "1@" + state["started"].partition("@")[2]
        (tmp_path / "services.pid").write_text(json.dumps(state))
        assert processes.family(tmp_path) == []
    finally:
        psutil.Process(service).kill()
