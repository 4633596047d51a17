"""Stages without the wait for their libraries: a server that has imported them forks a process for each.

A stage spends seconds of processor time on importing scikit-learn and skops, many times what a small model's fit takes.
The server holds libraries and none of our code: a fork of it runs `python -m pipeline stage …` with the arguments, the
environment, the folder and the open files of the process that asks, so with the code of that folder, as it is then.

$PERENNIAL_FORKSERVER names its socket, an abstract one (unix(7)), which leaves no file behind however the server ends; each
side makes sure that the other has its own user. Who cannot be served (no server, another Python, packages that have changed
since it began) does the work itself. When who asked is gone, its stage is ended; the server itself ends with the last process
that holds the other end of its pipe.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import logging
import os
import runpy
import secrets
import select
import signal
import socket
import struct
import subprocess
import sys
import sysconfig
import time
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

log = logging.getLogger("pipeline.workspaces.stage_server")

VARIABLE = "PERENNIAL_FORKSERVER"
USAGE_VARIABLE = "PERENNIAL_STAGE_USAGE"
# What Airflow's tasks share with stages. None of these starts a thread of its own that a fork would miss.
LIBRARIES = (
    "pydantic.main",
    "yaml",
    "pandas",
    "pyarrow.dataset",
    "pyarrow.parquet",
    "dvc.repo",
    # What DVC imports only when it is used.
    "dvc.scm",
    "dvc.cachemgr",
    "dvc.data_cloud",
    "dvc.lock",
    "dvc.rwlock",
    "dvc.repo.artifacts",
    "dvc.repo.datasets",
    "dvc.repo.metrics",
    "dvc.repo.params",
    "dvc.repo.plots",
    "dvc.repo.stage",
    "dvc.utils.strictyaml",
    "dvc.dirs",
    "dvc_data.index",
    "dulwich.ignore",
    "dulwich.index",
    "pyparsing",
    "ruamel.yaml",
    # From here on nothing that the first stage needs.
    "pandera.pandas",
    "pandera.backends.pandas.register",
    "pandera.strategies.pandas_strategies",
    "sklearn.compose",
    "sklearn.ensemble",
    "sklearn.linear_model",
    "sklearn.pipeline",
    "skops.io",
    "skl2onnx",
    "onnxruntime",
)
# At a process's own end it prints a page about leaks, and Airflow's processes end by themselves.
ONLY_STAGES = ("duckdb",)
LENGTH = struct.Struct("!I")
UCRED = struct.Struct("3i")  # process, user, group
BEGAN = "began\n"
# So many new objects before Python looks for cycles among them; 700 where nothing is said. Imports alone make 300,000, none of which is
# rubbish: to look among them takes a fifth of a short command's time, and of the server's own imports.
LOOK_EVERY = 100_000


@dataclass
class Spent:
    """Processor seconds, and the largest one's resident KiB."""

    cpu_s: float = 0.0
    peak_kib: int = 0


# By stages that this process asked for: getrusage(2) does not tell, as they are not its children.
ELSEWHERE = Spent()


def ask(argv: list[str]) -> int | None:
    """Has the server run `python -m pipeline ARGV[1:]…` and returns its exit code; None when there is no server for us."""
    name = os.environ.get(VARIABLE)
    if not name or sys.platform != "linux":
        return None
    # A stage would ask again.
    env = {key: value for key, value in os.environ.items() if key != VARIABLE or argv[1:2] != ["stage"]}
    umask = os.umask(0)
    os.umask(umask)
    request = {"key": _key(), "argv": argv, "env": env, "cwd": os.getcwd(), "umask": umask, "path": sys.path}
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(f"\0{name}")
            if not _is_ours(connection):
                return None
            body = json.dumps(request).encode()
            socket.send_fds(connection, [LENGTH.pack(len(body))], [0, 1, 2])
            connection.sendall(body)
            answers = connection.makefile(encoding="utf-8")
            if answers.readline() != BEGAN:
                return None
        except OSError:
            return None
        report = answers.readline()
    if not report:
        print(f"{' '.join(argv)}: the server that ran it ended; run it again", file=sys.stderr)
        return 1
    if USAGE_VARIABLE in os.environ:
        Path(os.environ[USAGE_VARIABLE]).write_text(report, encoding="utf-8")
    code = json.loads(report)["exit"]
    return code if code >= 0 else 128 - code


def collect(usage: Path) -> None:
    """Counts what a stage has left in $PERENNIAL_STAGE_USAGE as spent ELSEWHERE."""
    with contextlib.suppress(FileNotFoundError):
        report = json.loads(usage.read_text(encoding="utf-8"))
        ELSEWHERE.cpu_s += report["cpu_s"]
        ELSEWHERE.peak_kib = max(ELSEWHERE.peak_kib, report["peak_kib"])
        usage.unlink()


@contextlib.contextmanager
def running(*, at_once: bool, libraries: Iterable[str] = ()) -> Iterator[None]:
    """Has stages served inside the block, where no server is named yet. Without `at_once` it imports when first asked.

    `libraries` are imported too, for what other commands it is asked for.
    """
    if VARIABLE in os.environ or sys.platform != "linux":
        yield
        return
    listener = _listen()
    # A session of its own: Ctrl-C is for who asks. And OpenMP reads its variable when it is loaded.
    server = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "pipeline.workspaces.stage_server",
            str(listener.fileno()),
            "now" if at_once else "later",
            *libraries,
        ],
        stdin=subprocess.PIPE,
        pass_fds=[listener.fileno()],
        start_new_session=True,
        env={"OMP_WAIT_POLICY": "PASSIVE", **os.environ},
    )
    os.environ[VARIABLE] = _name(listener)
    listener.close()
    try:
        yield
    finally:
        del os.environ[VARIABLE]
        assert server.stdin is not None
        server.stdin.close()
        server.wait()


def fork() -> None:
    """Forks a server from this process, which has imported what it wants to, and names it to all that come of it."""
    if sys.platform != "linux":
        return
    listener = _listen()
    ours, theirs = os.pipe()
    if os.fork() == 0:
        os.close(theirs)
        try:
            serve(listener, ours)
        finally:
            os._exit(0)
    os.close(ours)
    os.environ[VARIABLE] = _name(listener)
    listener.close()


def import_all(libraries: Iterable[str]) -> None:
    """Imports them; one that cannot be imported is a warning: whoever needs it meets its error."""
    for library in libraries:
        try:
            importlib.import_module(library)
        except Exception as error:  # a broken library raises anything, and none may stop a scheduler or a worker
            log.warning("preload: %s is not imported: %s: %s", library, type(error).__name__, error)


def _listen() -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"\0perennial-{secrets.token_hex(8)}")
    listener.listen(128)
    return listener


def _name(listener: socket.socket) -> str:
    return listener.getsockname().decode().removeprefix("\0")


def _is_ours(connection: socket.socket) -> bool:
    """Whether this user has the other end: any process of the machine can find an abstract socket."""
    _, user, _ = UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, UCRED.size))
    return user == os.geteuid()


def serve(listener: socket.socket, alive: int, at_once: bool = True, libraries: Iterable[str] = ()) -> None:
    """Serves until the pipe `alive` is closed at its other end, with LIBRARIES and `libraries` imported.

    Who asks while it still imports is served at once, with what is there: the rest a fork imports itself, beside the server.
    """
    key = _key()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    wanted = [*ONLY_STAGES, *LIBRARIES, *libraries]
    owed = 0.0
    while True:
        ready = _first_of(listener.fileno(), alive, wait=not (at_once and wanted))
        if alive in ready:
            return
        if not ready:
            owed += _load(wanted, 1)
            continue
        connection, _ = listener.accept()
        if not at_once:
            owed += _load(wanted, len(wanted))
        if os.fork() == 0:
            listener.close()
            os.close(alive)
            try:
                _answer(connection, key, owed)
            finally:
                os._exit(0)
        connection.close()
        owed = 0.0


def _first_of(*files: int, wait: bool = True) -> list[int]:
    """Those that can be read; with `wait` as soon as there is one."""
    return select.select(files, [], [], None if wait else 0)[0]


def _load(wanted: list[str], many: int) -> float:
    """Imports the first of the `wanted` and takes them off; the processor seconds that took: whoever is served next has to pay for it."""
    before = time.process_time()
    some, wanted[:many] = wanted[:many], []
    import_all(some)
    if some and not wanted:
        # A collection in a fork would write to every page that it shares: a third of a second each time.
        gc.collect()
        gc.freeze()
    return time.process_time() - before


def _answer(connection: socket.socket, key: list[Any], owed: float) -> None:
    """In a process of its own: runs what is asked for in another, and tells how that ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if not _is_ours(connection):
        return
    request, files = _receive(connection)
    if request is None or request["key"] != key or _key() != key:
        return
    connection.sendall(BEGAN.encode())
    stage = os.fork()
    if stage == 0:
        connection.close()
        _become(request, files)
    for file in files:
        os.close(file)
    # As the stage does itself, and whoever is first: it has to be there to be ended.
    with contextlib.suppress(ProcessLookupError):
        os.setpgid(stage, stage)
    ended = os.pidfd_open(stage)
    if ended not in _first_of(connection.fileno(), ended):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(stage, signal.SIGKILL)
    _, status, used = os.wait4(stage, 0)
    report = {
        "exit": os.waitstatus_to_exitcode(status),
        "cpu_s": round(used.ru_utime + used.ru_stime + owed, 3),
        "peak_kib": used.ru_maxrss,
    }
    with contextlib.suppress(OSError):
        connection.sendall(json.dumps(report).encode() + b"\n")


def _receive(connection: socket.socket) -> tuple[dict[str, Any] | None, list[int]]:
    head, files, _, _ = socket.recv_fds(connection, LENGTH.size, 3)
    if len(head) != LENGTH.size or len(files) != 3:
        return None, []
    with connection.makefile("rb") as stream:
        body = stream.read(LENGTH.unpack(head)[0])
    return json.loads(body), files


def _become(request: dict[str, Any], files: list[int]) -> None:
    """Turns this fork into the process that was asked for; does not return."""
    try:
        # What it starts belongs to it, and is ended with it.
        os.setpgid(0, 0)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for number, file in enumerate(files):
            os.dup2(file, number)
        for file in files:
            if file > 2:  # the server's own stdin was its pipe, and a caller's may have come in its place
                os.close(file)
        os.environ.clear()
        os.environ.update(request["env"])
        time.tzset()
        os.umask(request["umask"])
        os.chdir(request["cwd"])
        sys.path[:] = request["path"]
        sys.argv = request["argv"]
        # numpy drew its seed when the server began, and would give every fork the same numbers; Python's own random does not.
        if "numpy" in sys.modules:
            sys.modules["numpy"].random.seed()
        forget_our_code()
        runpy.run_module("pipeline", run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else bool(ended.code)
    except BaseException:
        traceback.print_exc()
        code = 1
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def forget_our_code() -> None:
    """So that it is imported as it is, and from where it is, when it is next asked for."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "pipeline"]:
        del sys.modules[name]
    importlib.invalidate_caches()


def _key() -> list[Any]:
    """What must be the same for a fork to be as good as a new process; installing a package changes its folder."""
    packages = sysconfig.get_path("purelib")
    return [1, sys.version, sys.prefix, os.stat(packages).st_mtime_ns]


if __name__ == "__main__":
    gc.set_threshold(LOOK_EVERY)
    with socket.socket(fileno=int(sys.argv[1])) as asked:
        serve(asked, sys.stdin.fileno(), sys.argv[2] == "now", sys.argv[3:])
    os._exit(0)
