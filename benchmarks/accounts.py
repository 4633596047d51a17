"""What commands and pages take with a ledger of 350,000 events of 200 models, and of one: processor time.

A command's time has the start of Python in it. It may take a second, a page 200 ms, verifying the chain 10 s; 1,000 events are appended in a
second. The first reader of a ledger without roll-ups makes them, and its time is shown by itself. No slot answers.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

from benchmarks import long_ledger
from pipeline.ledger.events import DataLanded, GatesChecked, StepEnded
from pipeline.ledger.store import Ledger

EVENTS_IN_ALL = int(os.environ.get("PERENNIAL_BENCH_EVENTS", "350000"))
MODELS = (200, 1)
COMMAND_S, PAGE_S, VERIFY_S, APPENDED = 1.0, 0.2, 10.0, 1000
COMMANDS = (
    *("costs", "costs --json", "costs model-0", "costs --month 2026-10", "account model-0", "roi", "roi model-0"),
    *("status", "status model-0", "timeline model-0", "audit model-0", "slo", "notify", "freeze model-0"),
    *("unfreeze model-0", "prune --dry-run"),
)
PAGES = (
    "",
    "portfolio",
    "portfolio.csv",
    "portfolio.json",
    "audit/model-0",
    "receipts/model-0",
    "model/model-0",
    "roi",
    "roi/model-0",
)
FIRST_LOOKS = ("", "portfolio", "roi", "model/model-0", "audit/model-0", "receipts/model-0")


def main() -> bool:
    fine = True
    for models in MODELS:
        with tempfile.TemporaryDirectory() as folder:
            project = long_ledger.project(Path(folder), models)
            ledger = Ledger(f"sqlite:///{project / 'home' / 'ledger.db'}")
            long_ledger.fill(ledger, models, EVENTS_IN_ALL)
            long_ledger.write_routes(ledger, project / "home")
            print(f"{EVENTS_IN_ALL:,} events, models: {models}")
            for what, taken, limit in (
                *_commands(project, ledger),
                *_first_looks(project),
                *_pages(project, ledger),
                *_writes(project, ledger),
            ):
                over = limit is not None and taken > limit
                fine = fine and not over
                print(f"  {what:34} {taken:6.2f} s" + (f", OVER its {limit:g} s" if over else ""))
    return fine


Measured = Iterator[tuple[str, float, float | None]]


def _commands(project: Path, ledger: Ledger) -> Measured:
    yield "costs, which makes the roll-ups", _command_s(project, "costs"), None
    for command in COMMANDS:
        yield command, _command_s(project, command), COMMAND_S
    landed = ledger.latest(DataLanded, count=1)[0].event.data_version
    yield "trace of a data version", _command_s(project, f"trace {landed}"), COMMAND_S
    yield "verify", _command_s(project, "verify"), VERIFY_S


def _command_s(project: Path, command: str) -> float:
    environment = os.environ | {"PERENNIAL_PROJECT": str(project), "PERENNIAL_HOME": str(project / "home")}
    environment.pop("PERENNIAL_LEDGER_URL", None)
    before = os.times()
    told = subprocess.run(
        [sys.executable, "-m", "pipeline", *command.split()], env=environment, capture_output=True, text=True
    )
    after = os.times()
    assert told.returncode == 0, told.stderr
    return after.children_user - before.children_user + after.children_system - before.children_system


def _first_looks(project: Path) -> Measured:
    """The first look at a page in an API server that was started some seconds ago."""
    environment = os.environ | {"PERENNIAL_PROJECT": str(project), "PERENNIAL_HOME": str(project / "home")}
    for page in FIRST_LOOKS:
        command = [sys.executable, "-m", "benchmarks.first_look", page]
        told = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert told.returncode == 0, told.stderr
        yield f"page /{page[:22]}, server is fresh", float(told.stdout.split()[-1]), PAGE_S


def _pages(project: Path, ledger: Ledger) -> Measured:
    """The pages of the plugin with nobody logged in: the first request, which imports, and the second one."""
    os.environ |= {"PERENNIAL_PROJECT": str(project), "PERENNIAL_HOME": str(project / "home")}
    sys.path[:0] = [str(long_ledger.ROOT / "plugins")]
    import perennial
    from airflow.api_fastapi.core_api.security import get_user
    from starlette.testclient import TestClient

    app = perennial.create_page()
    app.dependency_overrides[get_user] = lambda: None
    client = TestClient(app)
    gates = ledger.latest(GatesChecked, count=1)[0].run
    for page in (*PAGES, f"gates/{quote(gates)}"):
        for which, limit in (("first", None), ("second", PAGE_S)):
            yield f"page /{page[:22]}, {which}", _taken_s(lambda page=page: client.get(f"/{page}")), limit


def _writes(project: Path, ledger: Ledger) -> Measured:
    step = StepEnded(state="success", wall_s=1.0, cpu_s=1.0, peak_mb=1.0)
    yield (
        f"{APPENDED} events, one by one",
        _taken_s(lambda: [ledger.append(step, "model-0", "r", "s") for _ in range(APPENDED)]),
        1.0,
    )


def _taken_s(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
