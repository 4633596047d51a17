"""Projects without git, and a guard: a unit test that starts a process fails."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

# A package that registers itself with it asks ldconfig for a library as it is imported: a process, which no test may start.
import hypothesis  # noqa: F401
import pytest

from pipeline.ledger.store import Ledger

# A set: the hook is asked at each import, each file that is opened and each statement of SQLite.
STARTS = frozenset(("subprocess.Popen", "os.posix_spawn", "os.fork", "os.forkpty"))
_guard = {"on": False}


def _refuse_processes(event: str, arguments: tuple) -> None:
    if event in STARTS and _guard["on"]:
        raise AssertionError(f"a unit test starts a process ({event} {arguments[:2]}); move it to tests/component")


sys.addaudithook(_refuse_processes)


@pytest.fixture(autouse=True)
def _no_processes() -> Iterator[None]:
    _guard["on"] = True
    yield
    _guard["on"] = False


@pytest.fixture
def ledger(ledger: Ledger) -> Iterator[Ledger]:
    """One whose reads share a connection, as those of a command do: to open one for each is two thirds of their time."""
    with ledger.reading():
        yield ledger


@pytest.fixture
def project(plain_project: Path) -> Path:
    """The settings and data of a project with the model `churn`, as the current folder; it is no git repository."""
    return plain_project
