"""The supervisor keeps each service up by itself: none ends another, a full disk stops nothing, and its own death neither."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from pipeline.services import processes
from pipeline.services.supervisor import Supervisor
from pipeline.settings.net import free_port
from pipeline.settings.process_identity import ProcessIdentity

SUPERVISOR = [sys.executable, "-m", "pipeline.services.supervisor"]
LIMIT_S = 120


class Supervised:
    """Services in a home of their own; each is a shell command, and `starts` counts the lines that one wrote."""

    def __init__(self, home: Path) -> None:
        self.home, self.log = home, home / "services.log"
        self._started: list[subprocess.Popen] = []

    def start(self, log: str | None = None, preexec=None, **services: str) -> subprocess.Popen:
        (self.home / "Procfile").write_text("".join(f"{name}: {command}\n" for name, command in services.items()))
        return self.again(log, preexec)

    def again(self, log: str | None = None, preexec=None) -> subprocess.Popen:
        command = [*SUPERVISOR, str(self.home), str(self.home / "Procfile")]
        mark = {"PERENNIAL_SERVICE_OF": str(self.home)}
        with open(log or self.log, "a") as out:
            process = subprocess.Popen(
                command, stdout=out, stderr=out, preexec_fn=preexec, start_new_session=True, env=os.environ | mark
            )
        self._started.append(process)
        return process

    def counting(self, name: str, then: str) -> str:
        """A command that notes its start and then does `then`."""
        return f"echo $$ >> {self.home / name}; {then}"

    def starts(self, name: str) -> list[int]:
        file = self.home / name
        return [int(line) for line in file.read_text().splitlines()] if file.is_file() else []

    def end(self) -> None:
        for process in self._started:
            process.kill()
            process.wait()
        for process in processes.family(self.home):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


@pytest.fixture
def supervised(tmp_path):
    supervised = Supervised(tmp_path)
    yield supervised
    supervised.end()


def wait_for(condition):
    until = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_one_that_fails_is_started_again_and_all_stop_when_told(supervised):
    """A service that fails is started again, and a stop signal ends the services and the supervisor."""
    fails_once = supervised.counting(
        "starts", f"test $(wc -l < {supervised.home / 'starts'}) -gt 1 && exec sleep 60; exit 3"
    )
    process = supervised.start(fails=fails_once)
    wait_for(lambda: len(supervised.starts("starts")) == 2)
    process.send_signal(signal.SIGTERM)
    assert process.wait(LIMIT_S) == 0
    said = supervised.log.read_text()
    assert re.search(r"^\d{4}-\d\d-\d\dT\S+Z WARNING fails ended with 3; starting it again$", said, re.M)
    assert len(supervised.starts("starts")) == 2
    assert not any(map(ProcessIdentity.of, supervised.starts("starts")))


def test_one_that_ends_before_its_identity_is_read_has_a_pause_too(tmp_path, monkeypatch):
    """On a busy machine a command may end before anybody looks: its end is noted, and it is not started again at once."""
    monkeypatch.setattr(ProcessIdentity, "of", lambda _pid: None)
    supervisor = Supervisor(tmp_path, {"quick": "exit 3"})
    (quick,) = supervisor._services
    supervisor._keep(quick)
    first = quick.child
    first.wait(LIMIT_S)
    supervisor._keep(quick)
    assert (quick.code, quick.early_ends, quick.child) == (3, 1, None)


def test_one_that_cannot_stay_up_ends_no_other_and_is_tried_for_ever_after_longer_pauses(supervised):
    """A service that ends at once is named as down and tried again; the others run on, and one that was killed comes back."""
    process = supervised.start(
        broken=supervised.counting("broken", "echo 'no such table: what'; exit 4"),
        router=supervised.counting("router", "exec sleep 60"),
    )
    wait_for(
        lambda: "broken is down: ended with 4, 5 times in a row; the next try is in 8 s" in supervised.log.read_text()
    )
    assert len(supervised.starts("router")) == 1
    (recorded,) = [s for s in processes.read(supervised.home).services.items() if s[1].is_down]
    assert (recorded[0], recorded[1].code) == ("broken", 4)
    (line,) = processes.trouble(supervised.home)
    assert re.fullmatch(
        r"service broken: is down since 20\S+Z, it ended with 4 \d times in a row; the last line of \S+/services\.log before "
        r"that: no such table: what; mend that, then `make up` tries it at once",
        line,
    )
    os.kill(supervised.starts("router")[0], signal.SIGKILL)
    wait_for(lambda: len(supervised.starts("router")) == 2)
    tried = len(supervised.starts("broken"))
    process.send_signal(signal.SIGUSR1)
    wait_for(lambda: len(supervised.starts("broken")) > tried)
    assert process.poll() is None


def test_a_next_supervisor_takes_over_what_a_killed_one_left(supervised):
    """It starts nothing twice, starts a service of other settings anew, and keeps those that it took over running."""
    router, mlflow = (supervised.counting(name, "exec sleep 60") for name in ("router", "mlflow"))
    process = supervised.start(router=router, mlflow=mlflow)
    wait_for(
        lambda: (
            {"router", "mlflow"}
            == set(processes.read(supervised.home).services if processes.read(supervised.home) else {})
        )
    )
    wait_for(lambda: supervised.starts("router") and supervised.starts("mlflow"))
    process.kill()
    process.wait()
    (line,) = processes.trouble(supervised.home)
    assert line.startswith(
        "services: their supervisor ended, and none that dies comes back; `make up` starts it; read "
    )
    supervised.start(router=router, mlflow=f"true; {mlflow}")
    wait_for(lambda: len(supervised.starts("mlflow")) == 2)
    assert len(supervised.starts("router")) == 1
    assert psutil.pid_exists(supervised.starts("router")[0])
    assert ProcessIdentity.of(supervised.starts("mlflow")[0]) is None
    os.kill(supervised.starts("router")[0], signal.SIGKILL)
    wait_for(lambda: len(supervised.starts("router")) == 2)


def test_a_child_that_its_service_left_behind_does_not_keep_the_port(supervised):
    """The rest of a killed service's session is ended before the service starts again."""
    port = free_port()
    server = f"{sys.executable} -m http.server --bind 127.0.0.1 {port}"
    supervised.start(mlflow=supervised.counting("mlflow", f"{server} & echo $! >> {supervised.home / 'workers'}; wait"))

    def listens():
        return [c.pid for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN and c.laddr.port == port]

    wait_for(listens)
    os.kill(supervised.starts("mlflow")[0], signal.SIGKILL)
    wait_for(lambda: len(supervised.starts("workers")) == 2 and listens() == supervised.starts("workers")[1:])


def test_what_stands_below_the_databases_waits_until_they_are_made(supervised):
    """The router starts at once; what needs the databases starts when they are made, also after failed tries."""
    ready = supervised.home / "room"
    supervised.start(
        router=supervised.counting("router", "exec sleep 60"),
        databases=supervised.counting("databases", f"test -e {ready}"),
        mlflow=supervised.counting("mlflow", "exec sleep 60"),
    )
    wait_for(lambda: supervised.starts("router") and len(supervised.starts("databases")) >= 2)
    assert supervised.starts("mlflow") == []
    ready.touch()
    wait_for(lambda: supervised.starts("mlflow"))
    done = len(supervised.starts("databases"))
    time.sleep(1)
    assert len(supervised.starts("databases")) == done


@pytest.mark.parametrize("full", ["log", "home"])
def test_a_full_disk_stops_neither_the_supervisor_nor_a_service(supervised, full):
    """A service that ends is started again though the log, or no file of the home, takes another byte."""
    import resource

    (supervised.home / "services.pid").write_text("{}")
    counting = f"mkdir {supervised.home}/run-$$; exec sleep 60"
    nothing = (
        (lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))) if full == "home" else None
    )

    def runs():
        return [int(folder.name[4:]) for folder in supervised.home.glob("run-*")]

    process = supervised.start("/dev/full" if full == "log" else None, nothing, service=counting)
    wait_for(runs)
    for count in (2, 3, 4):
        (pid,) = [pid for pid in runs() if psutil.pid_exists(pid)]
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda count=count: len(runs()) == count)
    if full == "home":
        assert processes.read(supervised.home) is None
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    wait_for(lambda: processes.read(supervised.home) is not None)
    assert process.poll() is None
