"""The process of a team's own gates: each has its time, and one that takes longer is ended with all that it started.

The process writes a line when it calls a gate and one when the gate has answered, so that who waits knows whose time it is. Where a gate
takes the process along, the gates after it are for another one. The process ends with who waits for it, whatever that dies of.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import StageError

LOOK_S = 0.1
PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Said:
    """What became of a gate: its verdict as a dict, None where it does not apply; or `late` when its time was over; or the exit `code` of
    the process that ended in it."""

    hook: str
    verdict: dict[str, Any] | None = None
    late: bool = False
    code: int | None = None


def said(
    module: str, question: dict[str, Any], hooks: list[str], lines: Path, root: Path, limit_s: float
) -> tuple[list[Said], list[str]]:
    """(what became of the gates that one process called, those that it did not come to).

    The process is `module`, in the folder `root`; it gets the question with the hooks, and tells in the file `lines`. Each gate has
    `limit_s` seconds; to load the model is not of its time. Raises StageError when the process ends before it has called a gate.
    """
    lines.unlink(missing_ok=True)
    asked = json.dumps({**question, "hooks": hooks, "asked_by": os.getpid()})
    # A session of its own: whatever a gate has started is ended with it.
    process = subprocess.Popen(
        [sys.executable, "-m", module, asked],
        cwd=root,
        stdout=sys.stderr.fileno(),
        start_new_session=True,
    )
    try:
        late = _late(process, lines, limit_s, len(hooks))
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        code = process.wait()
    answers, called = _read(lines)
    # One that was called as another's time was over has not had its own: it is for the next process.
    if called is not None and late in (None, called):
        answers.append(Said(called, late=True) if late else Said(called, code=code))
    if not answers:
        raise StageError(
            f"gates.own {', '.join(hooks)}",
            f"their process ended with code {code} before it called one",
            "see its output above",
        )
    return answers, hooks[len(answers) :]


def _late(process: subprocess.Popen[bytes], lines: Path, limit_s: float, hooks: int) -> str | None:
    """Waits for the process, and leaves it to be reaped, or until all `hooks` have answered: a thread that a gate left would keep it for
    as long as it runs. Returns a gate as soon as it has had its time, None when none has."""
    of, until = 0, float("inf")
    while os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        answers, called = _read(lines)
        if len(answers) == hooks:
            return None
        if called is None:
            until = float("inf")
        elif until == float("inf") or of != len(answers):
            of, until = len(answers), time.monotonic() + limit_s
        if time.monotonic() >= until:
            return called
        time.sleep(min(LOOK_S, max(0.0, until - time.monotonic())))
    return None


def _read(lines: Path) -> tuple[list[Said], str | None]:
    """(the gates that have answered, the one that is called now)."""
    answers: list[Said] = []
    called = None
    text = lines.read_text(encoding="utf-8") if lines.is_file() else ""
    for line in text.splitlines(keepends=True):
        if not line.endswith("\n"):
            break  # is being written
        told = json.loads(line)
        called = told["hook"] if "verdict" not in told else None
        if called is None:
            answers.append(Said(told["hook"], told["verdict"]))
    return answers, called


@contextlib.contextmanager
def called(lines: Path, hook: str) -> Iterator[Callable[[dict[str, Any] | None], None]]:
    """In the process of the gates: says that `hook` is called inside the block, which gets the function that says its verdict."""

    def tell(**told: Any) -> None:
        with lines.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"hook": hook, **told}) + "\n")

    tell()
    yield lambda verdict: tell(verdict=verdict)


def end_with(parent: int) -> None:
    """In the process of the gates: ends it when `parent`, who waits for it, is gone."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
