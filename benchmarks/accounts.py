"""What commands and pages take with a ledger of 350,000 events of 200 models, and of one: processor time.

A command's time has the start of Python in it. It may take a second, a page 200 ms at every look (benchmarks/page_looks.py), a file 200 ms
until it begins, verifying the chain 10 s; 1,000 events are appended in a second. The first reader of a ledger without roll-ups makes them, and
its time is shown by itself. MLflow's store has each version; no slot answers. Every command of the parser and every page of the plugin is
measured, or stands in WORKS or FILES.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks import long_backtests, long_ledger, long_store
from pipeline.cli.parser import parser
from pipeline.ledger.events import DataLanded, StepEnded, VersionRegistered
from pipeline.ledger.prune_events import Pruned
from pipeline.ledger.store import Ledger

EVENTS_IN_ALL = int(os.environ.get("PERENNIAL_BENCH_EVENTS", "350000"))
MODELS = (200, 1)
COMMAND_S, PAGE_S, VERIFY_S, APPENDED = 1.0, 0.2, 10.0, 1000
MODEL = "model-0"
# In the windows of a thousand versions.
TRACED = "2026-01-05"
COMMANDS = (
    *("costs", "costs --json", f"costs {MODEL}", "costs --month 2026-10", f"account {MODEL}", "roi", "roi --json"),
    *(f"roi {MODEL}", "status", "status --json", f"status {MODEL}", f"timeline {MODEL}", f"timeline {MODEL} --json"),
    *(f"timeline {MODEL} --at 2026-06-01", f"audit {MODEL}", f"audit {MODEL} --json", "slo", f"slo {MODEL}", "notify"),
    *(f"freeze {MODEL}", f"unfreeze {MODEL}", "prune --dry-run", f"prune --dry-run {MODEL}", f"card {MODEL}"),
    f"card {MODEL} --json",
)
RULES = {"versions": 10, "refused_days": 90, "predictions_days": 400, "reports_days": 90, "logs_days": 400}
# Measured with what the ledger has at that time.
MEASURED_APART = ("costs", "trace", "verify", "search")
# They train, score, read a source's rows or move slots, and take as long as that does, whatever the ledger has.
WORKS = (
    *("stage", "init", "retrain", "reproduce", "predict", "export", "score", "deploy", "rollback", "undeploy", "watch"),
    *("reconcile", "decide", "drift", "backtest", "approve", "reject"),
)


def not_measured() -> list[str]:
    """The commands that are neither measured here nor said to work."""
    known = {command.split()[0] for command in COMMANDS} | {*MEASURED_APART, *WORKS}
    (commands,) = (each for each in parser()._actions if isinstance(each, argparse._SubParsersAction))
    return sorted(commands.choices.keys() - known)


def main() -> bool:
    if forgotten := not_measured():
        raise SystemExit(f"commands that are not measured: {', '.join(forgotten)}; add them to COMMANDS or to WORKS")
    fine = True
    for models in MODELS:
        with tempfile.TemporaryDirectory() as folder:
            project = long_ledger.project(Path(folder), models)
            ledger = Ledger(f"sqlite:///{project / 'home' / 'ledger.db'}")
            long_ledger.fill(ledger, models, EVENTS_IN_ALL)
            long_backtests.add(ledger, MODEL)
            long_ledger.write_routes(ledger, project / "home")
            long_ledger.write_lists(ledger, project)
            _make_mlflows_store(project)
            long_store.fill(ledger, project / "home")
            print(f"{EVENTS_IN_ALL:,} events, models: {models}")
            for what, taken, limit in (*_commands(project, ledger), *_pages(project), *_writes(ledger)):
                over = limit is not None and taken > limit
                fine = fine and not over
                print(f"  {what:64} {taken:6.2f} s" + (f", OVER its {limit:g} s" if over else ""))
    return fine


Measured = Iterator[tuple[str, float, float | None]]


def _environment(project: Path) -> dict[str, str]:
    """Of a process that works in the project; nothing of this machine's own settings."""
    named = {"PERENNIAL_PROJECT": str(project), "PERENNIAL_HOME": str(project / "home")}
    left_out = ("PERENNIAL_LEDGER_URL", "MLFLOW_TRACKING_URI")
    return {name: value for name, value in os.environ.items() if name not in left_out} | named


def _make_mlflows_store(project: Path) -> None:
    """As it is once a model was trained: without it nobody asks MLflow anything."""
    made = "from pipeline.context import Context; Context.here().registry.client()"
    subprocess.run([sys.executable, "-c", made], env=_environment(project), check=True, capture_output=True)


def _commands(project: Path, ledger: Ledger) -> Measured:
    yield "costs, which makes the roll-ups", _command_s(project, "costs"), None
    for command in COMMANDS:
        yield command, _command_s(project, command), COMMAND_S
    landed = ledger.latest(DataLanded, count=1)[0]
    yield f"costs --run {landed.run}"[:60], _command_s(project, f"costs --run {landed.run}"), COMMAND_S
    registered = ledger.last(VersionRegistered, model=MODEL)[0].event
    search = f"search {MODEL} {registered.version}"
    yield search, _command_s(project, search), COMMAND_S
    yield f"trace {TRACED}", _command_s(project, f"trace {TRACED}"), COMMAND_S
    yield "trace of a data version", _command_s(project, f"trace {landed.event.data_version}"), COMMAND_S
    yield "verify", _command_s(project, "verify"), VERIFY_S
    yield from _prunes(project, ledger)


def _prunes(project: Path, ledger: Ledger) -> Measured:
    """With rules: where years of versions would go at once, which takes as long as that does, and once they are gone."""
    with (project / "params.yaml").open("a", encoding="utf-8") as params:
        params.write(f"keep: {json.dumps(RULES)}\n")
    yield "prune --dry-run, with rules for the first time", _command_s(project, "prune --dry-run"), None
    command = [sys.executable, "-m", "pipeline", "prune", "--dry-run", "--json"]
    told = subprocess.run(command, env=_environment(project), capture_output=True, text=True, check=True)
    for each in json.loads(told.stdout)["models"]:
        registered = [entry.event for entry in ledger.events(VersionRegistered, model=each["model"])]
        data = [event.data_version for event in registered if event.version in each["versions"]]
        gone = Pruned(removed={}, bytes=0, versions=each["versions"], rules={}, data_versions=data)
        ledger.append(gone, each["model"])
    yield "prune --dry-run, once they are gone", _command_s(project, "prune --dry-run"), COMMAND_S


def _command_s(project: Path, command: str) -> float:
    before = os.times()
    told = subprocess.run(
        [sys.executable, "-m", "pipeline", *command.split()],
        env=_environment(project),
        capture_output=True,
        text=True,
    )
    after = os.times()
    assert told.returncode == 0, told.stderr
    return after.children_user - before.children_user + after.children_system - before.children_system


def _pages(project: Path) -> Measured:
    """Each look at each page in a fresh API server."""
    command = [sys.executable, "-m", "benchmarks.page_looks"]
    told = subprocess.run(command, env=_environment(project), capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    for line in told.stdout.splitlines():
        if line.startswith('["'):
            page, look, taken = json.loads(line)
            yield (f"/{page[:40]}, {look}" if look else page), taken, PAGE_S if look else None


def _writes(ledger: Ledger) -> Measured:
    step = StepEnded(state="success", wall_s=1.0, cpu_s=1.0, peak_mb=1.0)
    yield (
        f"{APPENDED} events, one by one",
        _taken_s(lambda: [ledger.append(step, MODEL, "r", "s") for _ in range(APPENDED)]),
        1.0,
    )


def _taken_s(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
