"""Serves the exported version that `current` names, and takes a newer export over without losing a request.

    python serve.py [--host 127.0.0.1] [--port 8000] [--key PUBLIC_KEY]

It needs Python, and the worker onnxruntime and numpy. Each file of a version must have the digest that the version's signed list has,
and the signature must be of the key in `key.pub`, or of --key; else the version is refused, and the one before goes on.
From Python: `import serve; serve.load().predict([{"spend": 10.0}])`.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
LIST, SIGNATURE, KEY, CURRENT = "export.json", "export.signature", "key.pub", "current"
READY_S = 60
LOOK_S = 0.2
# Ed25519 (RFC 8032, section 5.1): the field, the curve's constant, the order of the base point.
P = 2**255 - 19
D = -121665 * pow(121666, -1, P) % P
ORDER = 2**252 + 27742317777372353535851937790883648493
Point = tuple[int, int, int, int]


class Refused(Exception):
    """A version that must not be served; str() says which file and why."""


def _add(one: Point, other: Point) -> Point:
    a, b = (one[1] - one[0]) * (other[1] - other[0]) % P, (one[1] + one[0]) * (other[1] + other[0]) % P
    c, d = 2 * one[3] * other[3] * D % P, 2 * one[2] * other[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def _times(number: int, point: Point) -> Point:
    result: Point = (0, 1, 1, 0)
    while number:
        if number & 1:
            result = _add(result, point)
        point, number = _add(point, point), number >> 1
    return result


def _point(encoded: bytes) -> Point | None:
    """The point that 32 bytes stand for; None when they stand for none."""
    y = int.from_bytes(encoded, "little")
    sign, y = y >> 255, y & (2**255 - 1)
    if y >= P:
        return None
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    if (x * x - square) % P or (x == 0 and sign):
        return None
    x = P - x if x & 1 != sign else x
    return x, y, 1, x * y % P


def _same(one: Point, other: Point) -> bool:
    return (one[0] * other[2] - other[0] * one[2]) % P == 0 and (one[1] * other[2] - other[1] * one[2]) % P == 0


BASE = _point(bytes.fromhex("58" + "66" * 31))


def verified(key: bytes, signature: bytes, message: bytes) -> bool:
    """Whether the Ed25519 `key` has signed the message. In time that depends on the input, all of which is public."""
    if len(key) != 32 or len(signature) != 64:
        return False
    public, r, s = _point(key), _point(signature[:32]), int.from_bytes(signature[32:], "little")
    # Of a key of small order anything is a signature, as libsodium says too.
    if BASE is None or public is None or r is None or s >= ORDER or _same(_times(8, public), (0, 1, 1, 0)):
        return False
    hashed = int.from_bytes(hashlib.sha512(signature[:32] + key + message).digest(), "little") % ORDER
    return _same(_times(s, BASE), _add(r, _times(hashed, public)))


def checked(version: Path, key: str) -> dict[str, Any]:
    """The signed list of a version whose files are all what was exported. Raises Refused with the first file that is not."""
    try:
        content = (version / LIST).read_bytes()
        signature = bytes.fromhex((version / SIGNATURE).read_text().strip())
        signed = verified(bytes.fromhex(key), signature, content)
    except (OSError, ValueError) as error:
        raise Refused(f"{version}: cannot be checked ({error}); export it again") from error
    if not signed:
        raise Refused(f"{version / LIST}: is not what the key {key[:8]}… signed; export it again")
    exported: dict[str, Any] = json.loads(content)
    for name, digest in exported["files"].items():
        try:
            same = hashlib.sha256((version / name).read_bytes()).hexdigest() == digest
        except OSError:
            same = False
        if not same:
            raise Refused(f"{version / name}: is not what was exported; export it again")
    known = {version / name for name in (*exported["files"], LIST, SIGNATURE)}
    for path in sorted(version.rglob("*")):
        # A link to a folder is followed by an import, and not by rglob.
        if (path.is_symlink() or not path.is_dir()) and path not in known:
            raise Refused(f"{path}: is not in the export; remove it")
    return exported


def current() -> Path:
    """The folder of the version that the last export named."""
    return (HERE / os.readlink(HERE / CURRENT)).resolve()


def load(key: str = "") -> Any:
    """The current version in this process: an object with `predict(records)`. Raises Refused."""
    version = current()
    checked(version, key or (HERE / KEY).read_text().strip())
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(version / "code"))
    from pipeline.edge.worker import Edge

    return Edge(version)


class Served:
    """The worker of one version. All workers accept on one socket, so no connection is lost between two of them."""

    def __init__(self, version: Path, listening: socket.socket, key: str, stopped: Callable[[], bool]) -> None:
        self.version, self.exported = version, checked(version, key)
        command = [sys.executable, "-B", "-m", "pipeline.edge.worker", str(version), str(listening.fileno())]
        # Where onnxruntime and numpy are in a folder of PYTHONPATH, they stay there.
        paths = [str(version / "code"), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
        self.process = subprocess.Popen(
            command, env=environment, cwd=HERE, pass_fds=[listening.fileno()], stdout=subprocess.PIPE, text=True
        )
        if not self._ready(stopped):
            self.process.kill()
            code = self.process.wait()
            raise Refused(f"{version}: its worker did not start (exit code {code}); its last lines say why")

    def _ready(self, stopped: Callable[[], bool]) -> bool:
        """Whether it says so, within READY_S and before a person or a service manager stops it."""
        assert self.process.stdout is not None
        until = time.monotonic() + READY_S
        while time.monotonic() < until and not stopped():
            if select.select([self.process.stdout], [], [], LOOK_S)[0]:
                return self.process.stdout.readline().strip() == "ready"
        return False

    def end(self) -> None:
        """It answers what it has, and ends."""
        self.process.send_signal(signal.SIGTERM)


def say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)


class Runner:
    """Serves the version that `current` names, and where that one is refused, the last one that was served."""

    def __init__(self, listening: socket.socket, host: str, key: str, stopped: Callable[[], bool]) -> None:
        self._listening, self._key, self._stopped = listening, key, stopped
        self._address = f"http://{host}:{listening.getsockname()[1]}"
        self.served: Served | None = None
        self._good: Path | None = None
        self._leaving: list[Served] = []
        # Of the version that was refused last: what its folder looked like, and why. A copy may still be under way.
        self._refused: tuple[Path, Any, str] | None = None

    def look(self) -> None:
        """Once: takes over a newer version, and starts a worker again that died."""
        self._leaving = [one for one in self._leaving if one.process.poll() is None]
        try:
            version = current()
        except OSError:
            version = self._good or HERE / CURRENT
        if self.served is not None and self.served.process.poll() is not None:
            say(f"the worker of version {self.served.exported['version']} died; it is started again")
            self.served = None
        if self.served is None or version != self.served.version:
            self._take(version)
        if self.served is None and self._good not in (None, version):
            self._take(self._good)

    def _take(self, version: Path) -> None:
        looks = _looks(version)
        before = self._refused
        if before is not None and before[:2] == (version, looks):
            return
        try:
            newer = Served(version, self._listening, self._key, self._stopped)
        except Refused as error:
            if before is None or (before[0], before[2]) != (version, str(error)):
                say(f"refused: {error}")
            self._refused = version, looks, str(error)
            return
        if self.served is not None:
            self.served.end()
            self._leaving.append(self.served)
        self.served, self._good, self._refused = newer, version, None
        say(f"{newer.exported['model']} version {newer.exported['version']} on {self._address}")

    def end(self) -> None:
        ending = [*self._leaving, *([self.served] if self.served else [])]
        for one in ending:
            one.end()
        for one in ending:
            one.process.wait()


def _looks(version: Path) -> list[tuple[str, int, int]]:
    """Each file of a version with its size and the time of its last change: another list, and it is worth another look."""
    found = []
    for path in sorted(version.rglob("*")):
        with contextlib.suppress(OSError):
            status = path.lstat()
            found.append((str(path), status.st_size, status.st_mtime_ns))
    return found


def serve(host: str, port: int, key: str) -> int:
    """Serves until SIGTERM or ctrl-c. Returns the exit code: 1 where the port or the first version cannot be served."""
    try:
        listening = socket.create_server((host, port), backlog=1024)
    except OSError as error:
        say(f"{host}:{port} cannot be served ({error.strerror or error}); choose another --port or --host")
        return 1
    # Two workers wait for a connection, and one gets it.
    listening.setblocking(False)
    stopped: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, frame: stopped.append(number))
    runner = Runner(listening, host, key, lambda: bool(stopped))
    while not stopped:
        runner.look()
        if runner.served is None:
            break
        time.sleep(LOOK_S)
    runner.end()
    return 0 if stopped else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--key", default="", help="the public key, hexadecimal (default: the one in key.pub)")
    given = parser.parse_args()
    try:
        trusted = given.key or (HERE / KEY).read_text().strip()
    except OSError as failed:
        sys.exit(f"{HERE / KEY}: cannot be read ({failed.strerror}); export again, or give --key")
    say(f"trusts the key {trusted[:16]}… of {'--key' if given.key else HERE / KEY}")
    sys.exit(serve(given.host, given.port, trusted))
