"""Serves the exported version that `current` names, and takes a newer export over without losing a request.

    python serve.py [--host 127.0.0.1] [--port 8000] [--key PUBLIC_KEY]

It needs Python, and the worker onnxruntime and numpy. Each file of a version must have the digest that the version's signed list has,
and the signature must be of the key in `key.pub`, or of --key; else the version is refused, and the one before goes on.
From Python: `import serve; serve.load().predict([{"spend": 10.0}])`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
LIST, SIGNATURE, KEY, CURRENT = "export.json", "export.signature", "key.pub", "current"
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
        if not path.is_dir() and path not in known:
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

    def __init__(self, version: Path, listening: socket.socket, key: str) -> None:
        self.version, self.exported = version, checked(version, key)
        command = [sys.executable, "-B", "-m", "pipeline.edge.worker", str(version), str(listening.fileno())]
        # Where onnxruntime and numpy are in a folder of PYTHONPATH, they stay there.
        paths = [str(version / "code"), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
        self.process = subprocess.Popen(
            command, env=environment, cwd=HERE, pass_fds=[listening.fileno()], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        if self.process.stdout.readline().strip() != "ready":
            self.process.kill()
            raise Refused(
                f"{version}: its worker did not start (exit code {self.process.wait()}); its last lines say why"
            )

    def end(self) -> None:
        """It answers what it has, and ends."""
        self.process.send_signal(signal.SIGTERM)


def say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)


def serve(host: str, port: int, key: str) -> int:
    listening = socket.create_server((host, port), backlog=1024)
    # Two workers wait for a connection, and one gets it.
    listening.setblocking(False)
    stopped: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, frame: stopped.append(number))
    served: Served | None = None
    leaving: list[Served] = []
    refused: Path | None = None
    while not stopped:
        try:
            version = current()
        except OSError:
            version = served.version if served else HERE / CURRENT
        if served is not None and served.process.poll() is not None:
            say(f"the worker of version {served.exported['version']} died; it is started again")
            served, refused = None, None
        if (served is None or version != served.version) and version != refused:
            try:
                newer = Served(version, listening, key)
            except Refused as error:
                say(f"refused: {error}")
                refused = version
                if served is None:
                    return 1
            else:
                if served is not None:
                    served.end()
                    leaving.append(served)
                served, refused = newer, None
                say(
                    f"{newer.exported['model']} version {newer.exported['version']} on http://{host}:{listening.getsockname()[1]}"
                )
        leaving = [one for one in leaving if one.process.poll() is None]
        time.sleep(LOOK_S)
    for one in [*leaving, *([served] if served else [])]:
        one.end()
        one.process.wait()
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--key", default="", help="the public key, hexadecimal (default: the one in key.pub)")
    given = parser.parse_args()
    trusted = given.key or (HERE / KEY).read_text().strip()
    say(f"trusts the key {trusted[:16]}… of {'--key' if given.key else HERE / KEY}")
    sys.exit(serve(given.host, given.port, trusted))
