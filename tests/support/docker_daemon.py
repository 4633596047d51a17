"""A Docker daemon of our own that can be restarted, beside the one that everything else uses."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

BRIDGE = "perennial-test0"


def missing() -> str:
    """Why no second daemon can be started here, or ''."""
    if os.getuid() != 0:
        return "a second daemon needs root"
    gone = [name for name in ("dockerd", "ip") if not shutil.which(name)]
    return f"{gone[0]} is not installed" if gone else ""


class Daemon:
    """dockerd with live-restore: its containers go on while it is away."""

    def __init__(self, folder: Path) -> None:
        self._folder, self.url = folder, f"unix://{folder}/docker.sock"
        self._log = (folder / "log").open("ab")
        self.start()

    def start(self) -> None:
        told = {"data-root": "root", "exec-root": "exec", "pidfile": "pid"}
        paths = [f"--{option}={self._folder / name}" for option, name in told.items()]
        fixed = ["--live-restore", f"--bridge={BRIDGE}", "--iptables=false", "--ip6tables=false", f"--host={self.url}"]
        self._process = subprocess.Popen(["dockerd", *paths, *fixed], stdout=self._log, stderr=self._log)
        until = time.monotonic() + 120
        while subprocess.run(["docker", "-H", self.url, "info"], capture_output=True, check=False).returncode:
            assert self._process.poll() is None, (self._folder / "log").read_text()[-500:]
            assert time.monotonic() < until
            time.sleep(0.1)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(60)

    def take_images(self, *names: str) -> None:
        """Copies images from the engine that everything else uses."""
        saving = subprocess.Popen(["docker", "save", *names], stdout=subprocess.PIPE)
        subprocess.run(["docker", "-H", self.url, "load"], stdin=saving.stdout, capture_output=True, check=True)
        assert saving.wait() == 0


@contextmanager
def bridge() -> Iterator[None]:
    """A bridge of its own: with none, dockerd removes docker0 at its start, which is the other engine's."""
    link = ["ip", "link"]
    subprocess.run([*link, "add", BRIDGE, "type", "bridge"], capture_output=True, check=True)
    try:
        subprocess.run(["ip", "address", "add", "172.31.254.1/24", "dev", BRIDGE], check=True)
        yield
    finally:
        subprocess.run([*link, "delete", BRIDGE], check=True)


@contextmanager
def daemon() -> Iterator[Daemon]:
    # A socket's path may have 108 characters only: not below pytest's folder.
    with bridge(), tempfile.TemporaryDirectory(prefix="dockerd", ignore_cleanup_errors=True) as folder:
        running = Daemon(Path(folder))
        try:
            yield running
        finally:
            running.stop()
