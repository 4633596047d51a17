"""A real Postgres of its own, on loopback, that can be stopped and started again."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest

from pipeline.settings.net import free_port
from tests.support.required import skip_or_fail

# Debian's programs are not on the path.
PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)


class Postgres:
    """A cluster in a folder; it refuses to run as root, so root runs it as `postgres`."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self._programs, self._folder, self._port = programs, folder, free_port()
        self._as = {}
        if os.geteuid() == 0:
            owner = pwd.getpwnam("postgres")
            self._as = {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}
            os.chown(folder, owner.pw_uid, owner.pw_gid)
        self.url = f"postgresql://perennial:unused@127.0.0.1:{self._port}/postgres"
        made = [str(programs / "initdb"), "-D", str(folder / "data"), "-U", "perennial", "-A", "trust", "--no-sync"]
        subprocess.run(made, check=True, capture_output=True, cwd=folder, **self._as)
        self.start()

    def start(self) -> None:
        command = [str(self._programs / "postgres"), "-D", str(self._folder / "data"), "-p", str(self._port)]
        command += ["-c", "listen_addresses=127.0.0.1", "-k", str(self._folder)]
        log = (self._folder / "log").open("ab")
        self._process = subprocess.Popen(command, cwd=self._folder, stdout=log, stderr=log, **self._as)
        until = time.monotonic() + 120
        while True:
            try:
                psycopg2.connect(self.url).close()
                return
            except psycopg2.OperationalError:
                assert time.monotonic() < until, (self._folder / "log").read_text()
                time.sleep(0.1)

    def stop(self) -> None:
        """Ends at once whoever is connected."""
        self._process.send_signal(signal.SIGINT)
        self._process.wait(60)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One for all tests of a process."""
    if not PROGRAMS:
        skip_or_fail("postgres", "its server is not installed (Debian: postgresql)")
    # Not pytest's own folder, which is closed to whoever is not the user.
    folder = Path(tempfile.mkdtemp(prefix="perennial-postgres-"))
    running = Postgres(PROGRAMS[0], folder)
    try:
        yield running
    finally:
        running.stop()
        shutil.rmtree(folder)


@pytest.fixture
def shared(postgres, monkeypatch):
    """The URL of an empty ledger there, as the environment names it."""
    with psycopg2.connect(postgres.url) as connection:
        connection.cursor().execute("DROP TABLE IF EXISTS events, leases, rollups")
    connection.close()
    monkeypatch.setenv("PERENNIAL_LEDGER_URL", postgres.url)
    return postgres.url
