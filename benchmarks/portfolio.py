"""What one more model costs: processor time of parsing all Dag files, as Airflow does each half minute, and of `status`.

`status` is measured with a ledger of so many events of each model too: no read may grow with history.

Beside it the same number of Dags that are written by hand, with the same tasks: what a user without Perennial would have.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from harness.project import ROOT, make_project
from pipeline.ledger.events import DataLanded
from pipeline.ledger.store import EVENTS, Ledger

MODELS = (1, 100, 200)
LIMIT_S, LIMIT_MS, STATUS_LIMIT_S = 2.0, 10.0, 1.0
EVENTS_A_MODEL = 200
# Prints the processor seconds of each file's parse and of its Dags' form for the database, in a fork each.
PARSE = """
import json, os, sys, time
sys.path[:0] = [f"{sys.argv[1]}/dags", f"{sys.argv[1]}/plugins"]
from airflow.dag_processing.dagbag import DagBag
from airflow.serialization.serialized_objects import DagSerialization
for file in sys.argv[2:]:
    for _ in range(2):  # the second time the settings are remembered
        if (child := os.fork()) == 0:
            began = time.process_time()
            bag = DagBag(dag_folder=file)
            parsed = time.process_time()
            for dag in bag.dags.values():
                DagSerialization.to_dict(dag)
            told = {"file": file, "dags": len(bag.dags), "errors": len(bag.import_errors), "parse_s": parsed - began,
                    "written_s": time.process_time() - parsed}
            print("@@" + json.dumps(told), flush=True)
            os._exit(0)
        os.waitpid(child, 0)
"""
BY_HAND = """
from airflow.sdk import DAG, Param, task

@task
def step(name): ...

for i in range({models}):
    with DAG(f"by_hand_{{i}}", schedule="0 0 * * 1", params={{"as_of": Param(None, type=["null", "string"])}}):
        before = None
        for name in {steps}:
            now = step.override(task_id=name)(name)
            if before is not None:
                before >> now
            before = now
"""
STEPS = [
    "open",
    "snapshot",
    "validate",
    "train",
    "evaluate",
    "refit",
    "package",
    "gates",
    "register",
    "roll_out",
    "settle",
]


def main() -> bool:
    parse_s: dict[int, float] = {}
    status_s: dict[int, float] = {}
    for models in MODELS:
        with tempfile.TemporaryDirectory() as folder:
            project = _project(Path(folder), models)
            (project / "dags" / "by_hand.py").write_text(BY_HAND.format(models=models, steps=STEPS))
            told = _parsed(project)
            own = [each for name, each in told.items() if name != "by_hand.py"]
            parse_s[models] = sum(each["parse_s"] for each in own)
            by_hand = told["by_hand.py"]["parse_s"]
            dags = sum(each["dags"] for each in own)
            print(
                f"{models:4} models: {dags} Dags parsed in {parse_s[models]:.2f} s and written in {sum(e['written_s'] for e in own):.2f} s "
                f"of processor time; {told['by_hand.py']['dags']} by hand in {by_hand:.2f} s, {parse_s[models] / by_hand:.1f} times; "
                f"status {_status_s(project):.2f} s"
            )
            _fill_ledger(project, models)
            status_s[models] = _status_s(project)
            print(f"     with {models * EVENTS_A_MODEL:,} events in the ledger status takes {status_s[models]:.2f} s")
            assert not any(each["errors"] for each in told.values())
    last_ms = (parse_s[200] - parse_s[100]) / 100 * 1000
    print(f"the 200th model adds {last_ms:.1f} ms, at most {LIMIT_MS:g}; all {parse_s[200]:.2f} s, at most {LIMIT_S:g}")
    print(f"status of 200 models: {status_s[200]:.2f} s of processor time, at most {STATUS_LIMIT_S:g}")
    return parse_s[200] <= LIMIT_S and last_ms <= LIMIT_MS and status_s[200] <= STATUS_LIMIT_S


def _project(folder: Path, models: int) -> Path:
    project = make_project(folder, {})
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    before, _, block = text.partition("  flight-delay:\n")
    blocks = "".join(f"  model-{i}:\n{block}" for i in range(models))
    (project / "params.yaml").write_text(before + blocks, encoding="utf-8")
    return project


def _environment(project: Path) -> dict[str, str]:
    return os.environ | {
        "AIRFLOW_HOME": str(project / "airflow"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(project / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(project / "plugins"),
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
        "PERENNIAL_PROJECT": str(project),
        "PERENNIAL_HOME": str(project / ".perennial"),
    }


def _parsed(project: Path) -> dict[str, dict]:
    files = [str(project / "dags" / f"{name}.py") for name in ("retrain", "monitor", "operate", "by_hand")]
    command = [sys.executable, "-c", PARSE, str(project), *files]
    done = subprocess.run(command, env=_environment(project), capture_output=True, text=True, check=True)
    lines = [json.loads(line[2:]) for line in done.stdout.splitlines() if line.startswith("@@")]
    return {Path(line["file"]).name: line for line in lines}


def _fill_ledger(project: Path, models: int) -> None:
    """EVENTS_A_MODEL landings of each model, written past the chain: what is measured reads them and verifies none."""
    ledger = Ledger(f"sqlite:///{project / '.perennial' / 'ledger.db'}")
    landed = DataLanded(
        data_version="0" * 32,
        as_of="2024-01-01T00:00:00Z",
        partitions=30,
        landed={},
        remote="",
        pushed_files=0,
        pushed_bytes=0,
        label_delay_s={"median_s": 60, "p95_s": 120},
    )
    body, at = json.dumps(landed.body()), "2024-01-01T00:00:00.000Z"
    rows = (
        {"seq": 1_000_000 + number, "at": at, "run": "r", "model": f"model-{number % models}", "kind": landed.KIND, "step": "",
         "body": body, "previous": "", "hash": ""}
        for number in range(models * EVENTS_A_MODEL)
    )  # fmt: skip
    with ledger.writing() as connection:
        connection.execute(EVENTS.insert(), list(rows))


def _status_s(project: Path) -> float:
    before = os.times()
    command = [sys.executable, "-m", "pipeline", "status"]
    subprocess.run(command, env=_environment(project), cwd=project, capture_output=True, check=True)
    after = os.times()
    return after.children_user - before.children_user + after.children_system - before.children_system


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
