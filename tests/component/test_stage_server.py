"""The server that forks stages: what it runs is as good as a process of its own, and ends with who asked for it."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import yaml

from pipeline.ledger import metering
from pipeline.settings.models import load
from pipeline.workspaces import dvc_graph, stage_server, workspace

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="stages are forked on Linux only")

# What the first stage does here, at the end of the project's own pipeline/runs/stages.py.
INSTEAD = """
import os, signal, subprocess, sys, time

def _linger():
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    open("pids.part", "w").write(f"{os.getpid()} {os.getppid()} {child.pid}")
    os.rename("pids.part", "pids")
    time.sleep(600)

def _burn():
    until = time.process_time() + 0.5
    while time.process_time() < until:
        pass
    return "burnt " + os.environ.get("OF_THE_CALLER", "")

def _new():
    import random, numpy
    mask = os.umask(0)
    return f"{numpy.random.random()} {random.random()} {mask:o} {time.tzname[0]} {sys.stdin.read()}"

def _orphan():
    os.kill(os.getppid(), signal.SIGKILL)

def _killed():
    os.kill(os.getpid(), signal.SIGKILL)

STAGES["snapshot"] = lambda *_: globals()["_" + os.environ["DO"]]()
"""


def command(stage: str = "snapshot") -> list[str]:
    return [sys.executable, "-m", "pipeline", "stage", stage, "churn"]


def run(do: str, stage: str = "snapshot", **more: str) -> subprocess.CompletedProcess:
    env = {**os.environ, "DO": do, **more}
    return subprocess.run(command(stage), capture_output=True, text=True, env=env, check=False)


@pytest.fixture
def instead(project: Path) -> Path:
    with (project / "pipeline" / "runs" / "stages.py").open("a") as file:
        file.write(INSTEAD)
    return project


def served(usage: Path) -> bool:
    return usage.is_file()


def test_it_runs_the_code_of_the_folder_as_it_is_then(instead, tmp_path):
    """The stage server runs the project's code as it is at the time of the call."""
    usage = tmp_path / "usage"
    told = {stage_server.USAGE_VARIABLE: str(usage)}
    done = run("burn", OF_THE_CALLER="here", **told)
    assert (done.returncode, done.stdout, served(usage)) == (0, "burnt here\n", True)
    stages = instead / "pipeline" / "runs" / "stages.py"
    stages.write_text(stages.read_text().replace('"burnt "', '"scorched "'))
    assert run("burn", OF_THE_CALLER="here", **told).stdout == "scorched here\n"
    usage.unlink()
    assert run("burn", **{**told, stage_server.VARIABLE: ""}).stdout == "scorched \n"
    assert not served(usage)


def test_it_is_like_a_new_process(instead):
    """A stage in the stage server draws its own random numbers and has its caller's umask, time zone and input."""
    under_mask = f"umask 027; exec {shlex.join(command())}"
    env = {**os.environ, "DO": "new", "TZ": "Asia/Tokyo"}
    one, two = (
        subprocess.run(
            ["sh", "-c", under_mask], input="asked", capture_output=True, text=True, env=env, check=True
        ).stdout.split()
        for _ in range(2)
    )
    assert one[0] != two[0] and one[1] != two[1]
    assert one[2:] == ["27", "JST", "asked"]


def test_failures_come_back_as_they_are(instead):
    """Messages and exit codes of a stage come back through the stage server unchanged."""
    done = run("nothing", "nonsense")
    assert done.returncode == 1
    assert done.stderr.startswith("stage nonsense: does not exist; use one of: snapshot, ")
    usage = subprocess.run([*command(), "too much"], capture_output=True, text=True, check=False)
    assert (usage.returncode, usage.stdout) == (2, "")
    assert run("killed").returncode == 128 + signal.SIGKILL


def test_a_server_that_ends_under_a_stage_is_one_line(instead):
    """A stage server that ends while a stage runs gives one line."""
    done = run("orphan")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.endswith("the server that ran it ended; run it again\n")
    assert done.stderr.count("\n") == 1


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen]]:
    """subprocess.Popen, for what ends with the test at the latest."""
    begun: list[subprocess.Popen] = []

    def popen(*arguments, **more) -> subprocess.Popen:
        begun.append(subprocess.Popen(*arguments, **more))
        return begun[-1]

    yield popen
    for process in begun:
        process.kill()
        process.wait()


def test_a_stage_ends_with_who_asked_for_it(instead, start):
    """A stage and its child processes end when their caller is killed."""
    asked = start(command(), env={**os.environ, "DO": "linger"})
    started = pids(instead)
    asked.kill()
    asked.wait()
    gone, alive = psutil.wait_procs(started, timeout=120)
    assert not alive, alive


def pids(project: Path) -> list[psutil.Process]:
    until = time.monotonic() + 120
    while not (project / "pids").is_file():
        assert time.monotonic() < until, "it does not begin"
        time.sleep(0.05)
    stage, handler, child = map(int, (project / "pids").read_text().split())
    assert psutil.Process(handler).cmdline()[1:3] == ["-m", "pipeline.workspaces.stage_server"]
    return [psutil.Process(pid) for pid in (stage, handler, child)]


def test_its_processor_time_is_the_runs(instead, ledger, monkeypatch):
    """Processor time that a stage uses in the stage server is metered for the run."""
    stages = {"snapshot": {"foreach": ["churn"], "do": {"cmd": " ".join(command())}}}
    (instead / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    monkeypatch.setenv("DO", "burn")
    made = workspace.Workspace(instead, instead, "run/1", "churn", "2024-03-01T00:00:00Z", "", "", False)
    with metering.metered(ledger, "run/1", "churn", "snapshot"):
        workspace.run_stage(made, "snapshot")
    ended = ledger.events(run="run/1")[-1].body
    assert ended["cpu_s"] >= 0.5
    assert stage_server.ELSEWHERE.cpu_s >= 0.5
    assert not (instead / workspace.USAGE_FILE).exists()


@pytest.mark.parametrize("change", ["the packages", "nothing"])
def test_another_environment_is_not_served(change, project):
    """The stage server refuses a caller whose installed packages differ from its own."""
    key = stage_server._key()
    if change == "the packages":
        key[-1] += 1
    request = {
        "key": key,
        "argv": ["x", "nonsense"],
        "env": dict(os.environ),
        "cwd": str(project),
        "umask": 0o22,
        "path": sys.path,
    }
    with socket.socket(socket.AF_UNIX) as connection, open(os.devnull, "w") as null:
        connection.connect("\0" + os.environ[stage_server.VARIABLE])
        body = json.dumps(request).encode()
        socket.send_fds(connection, [stage_server.LENGTH.pack(len(body))], [null.fileno()] * 3)
        connection.sendall(body)
        said = connection.makefile().readlines()
    assert len(said) == (0 if change == "the packages" else 2)


def test_without_its_server_a_stage_runs_by_itself(instead):
    """A stage runs in its own process when the stage server does not answer."""
    done = run("burn", **{stage_server.VARIABLE: "gone"})
    assert (done.returncode, done.stdout) == (0, "burnt \n")


def test_the_server_ends_with_the_process_that_wanted_it(instead, start):
    """The stage server ends when its owner is killed, and stages under way run on until their callers end."""
    holder = (
        "import os, time\n"
        "from pipeline.workspaces import stage_server\n"
        "with stage_server.running(at_once=False):\n"
        f"    print(os.environ['{stage_server.VARIABLE}'], flush=True)\n"
        "    time.sleep(600)\n"
    )
    env = {name: value for name, value in os.environ.items() if name != stage_server.VARIABLE}
    wanted = start([sys.executable, "-c", holder], stdout=subprocess.PIPE, text=True, env=env)
    assert wanted.stdout is not None
    name = wanted.stdout.readline().strip()
    server = psutil.Process(wanted.pid).children()[0]
    asked = start(command(), env={**env, "DO": "linger", stage_server.VARIABLE: name})
    started = pids(instead)
    wanted.kill()
    wanted.wait()
    server.wait(60)
    assert all(p.is_running() for p in started)
    asked.kill()
    asked.wait()
    assert not psutil.wait_procs(started, timeout=120)[1]


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_another_user_is_not_served_and_serves_nobody(instead):
    """The stage server and its callers refuse a peer that runs as another user."""
    ask = (
        "import os, socket, sys\n"
        "os.setuid(65534)\n"
        "with socket.socket(socket.AF_UNIX) as there:\n"
        "    there.connect('\\0' + sys.argv[1])\n"
        "    sys.exit(there.recv(1) != b'')\n"
    )
    asked = subprocess.run([sys.executable, "-c", ask, os.environ[stage_server.VARIABLE]], check=False)
    assert asked.returncode == 0
    # All processes of the machine share these names, those of another test run too.
    of_another = f"perennial-of-another-{os.getpid()}"
    listen = (
        "import os, socket\n"
        "os.setuid(65534)\n"
        "with socket.socket(socket.AF_UNIX) as here:\n"
        f"    here.bind('\\0{of_another}')\n"
        "    here.listen()\n"
        "    print(flush=True)\n"
        "    print(here.accept()[0].recv(100))\n"
    )
    with subprocess.Popen([sys.executable, "-c", listen], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "\n"
        done = run("burn", **{stage_server.VARIABLE: of_another})
        assert (done.returncode, done.stdout, other.stdout.readline()) == (0, "burnt \n", "b''\n")


def test_what_is_made_is_the_same_to_the_byte(project):
    """Stages make the same bytes with and without the stage server."""
    made = {}
    for name, server in (("served", os.environ[stage_server.VARIABLE]), ("alone", "")):
        for stage in dvc_graph.order(project):
            done = run("", stage, **{stage_server.VARIABLE: server})
            assert done.returncode == 0, done.stderr
        files = sorted(p for p in (project / "artifacts" / "churn").rglob("*") if p.is_file())
        made[name] = {str(f): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}
    assert len(made["served"]) > 20
    assert made["served"] == made["alone"]
    assert load(project).model("churn")
