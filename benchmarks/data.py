"""One more day of data after 10 days and after 365: bytes hashed, copied and pushed, and seconds.

The alternative is an export of the whole window into one file, `dvc add` and `dvc push`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import duckdb
import yaml

from benchmarks.limits import within_limit
from pipeline.settings.environment import Environment

ROWS_A_DAY = 5_000
COUNTING = Path(__file__).parent / "counting"
LAND = """
import json, sys
from datetime import datetime
from pipeline.context import Context
from pipeline.ledger.events import DataLanded
from pipeline.runs import steps
context = Context.here()
folder = steps.open_run(context, sys.argv[1], "sales", datetime.fromisoformat(sys.argv[1]), "a benchmark")
steps.run_stage(context, folder, "snapshot")
print("@@" + json.dumps(context.ledger.events(DataLanded, run=sys.argv[1])[-1].body))
"""


def main() -> bool:
    measured = {}
    for days in (10, 365):
        with tempfile.TemporaryDirectory() as folder:
            project = _project(Path(folder), days)
            _landed(project, days)
            measured[days] = {"perennial": _landed(project, days + 1), "one file": _one_file(project, days)}
    print(f"one more day of {ROWS_A_DAY:,} rows:")
    print(f"{'':12}{'days there':>11}{'partitions new':>15}{'bytes read':>12}{'bytes pushed':>14}{'seconds':>9}")
    for way in ("perennial", "one file"):
        for days, by_way in measured.items():
            row = by_way[way]
            print(f"{way:12}{days:>11}{row['new']:>15}{row['read']:>12,}{row['pushed']:>14,}{row['seconds']:>9.1f}")
        few, many = measured[10][way], measured[365][way]
        ratios = ", ".join(f"{figure} {many[figure] / few[figure]:.2f}" for figure in ("read", "pushed", "seconds"))
        print(f"{way}: 365 days against 10: {ratios}")
    few, many = measured[10]["perennial"], measured[365]["perennial"]
    compared = "one partition more, 365 days against 10"
    counted = {"new": "partitions written", "read": "bytes read", "pushed": "bytes pushed"}
    within = [within_limit(f"{compared}, {name}", many[key] / few[key], 2) for key, name in counted.items()]
    within_limit(f"{compared}, seconds", many["seconds"] / few["seconds"], 2, binding=False)
    return all(within)


def _project(folder: Path, days: int) -> Path:
    """A clone with the model `sales` and a window of `days` and one more."""
    project = folder / "project"
    subprocess.run(["git", "clone", "-q", str(Environment.read().project), str(project)], check=True)
    settings = yaml.safe_load((project / "params.yaml").read_text(encoding="utf-8"))
    block = next(iter(settings["models"].values()))
    numbers = [f"n{i}" for i in range(8)]
    block |= {"schedule": {"cron": "0 0 * * *", "start": "2024-01-01T00:00:00Z"}}
    block["source"] = {
        "query": "SELECT * FROM read_parquet('sales/*.parquet') WHERE sold_at >= $start AND sold_at < $end",
        "key": "sale",
        "event_time": "sold_at",
        "window_days": days + 1,
    }
    block["training"] |= {"target": "big", "numeric": numbers, "categorical": ["shop"]}
    block["evaluation"]["holdout_days"] = 1
    block["gates"]["contract"] = {"min_rows": 1}
    settings["models"] = {"sales": block}
    (project / "params.yaml").write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
    (project / "sales").mkdir()
    columns = ", ".join(f"random() AS {n}" for n in numbers)
    for day in range(days + 1):
        duckdb.execute(
            f"COPY (SELECT 's' || ({day} * {ROWS_A_DAY} + i) AS sale, TIMESTAMPTZ '2024-01-01 00:00:00+00' + INTERVAL ({day}) DAY"
            f" + INTERVAL (i) SECOND AS sold_at, {columns}, 'shop' || i % 20 AS shop, (random() > 0.5)::INT AS big"
            f" FROM range({ROWS_A_DAY}) r(i)) TO '{project}/sales/{day:03d}.parquet'"
        )
    (project / ".gitignore").open("a").write("/sales/\n/window.parquet\n")
    return project


def _landed(project: Path, days: int) -> dict[str, Any]:
    """Takes the snapshot as of `days` after the start, as a run does, with its workspace and its push."""
    as_of = duckdb.execute(f"SELECT TIMESTAMP '2024-01-01' + INTERVAL ({days}) DAY").fetchall()[0][0]
    printed, read, seconds = _counted(project, [sys.executable, "-c", LAND, f"{as_of:%Y-%m-%d}T00:00:00+00:00"])
    body = json.loads(printed.rpartition("@@")[2])
    return {"new": len(body["landed"]), "read": read, "pushed": body["pushed_bytes"], "seconds": seconds}


def _one_file(project: Path, days: int) -> dict[str, Any]:
    """The cost of a window of one day more as one file in DVC, after the window of `days`."""
    read = pushed = 0
    seconds = 0.0
    for until in (days, days + 1):
        window = f"SELECT * FROM read_parquet('{project}/sales/*.parquet') WHERE sold_at < TIMESTAMPTZ '2024-01-01 00:00:00+00' + INTERVAL ({until}) DAY ORDER BY sold_at"
        duckdb.execute(f"COPY ({window}) TO '{project}/window.parquet' (COMPRESSION zstd)")
        added = _counted(project, [sys.executable, "-m", "dvc", "add", "-q", "window.parquet"])
        sent = _counted(project, [sys.executable, "-m", "dvc", "push", "-q", "window.parquet.dvc"])
        read, seconds = added[1] + sent[1], added[2] + sent[2]
        pushed = (project / "window.parquet").stat().st_size
    return {"new": 1, "read": read, "pushed": pushed, "seconds": seconds}


def _counted(project: Path, command: list[str]) -> tuple[str, int, float]:
    """(standard output, bytes of partitions and cache that were opened for reading, seconds) of a command."""
    log = project.parent / "opens"
    log.unlink(missing_ok=True)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = os.environ | {"PYTHONPATH": f"{project}{os.pathsep}{COUNTING}", "COUNT_OPENS": str(log), "PATH": path}
    env["DVC_SITE_CACHE_DIR"] = str(project.parent / "dvc-site")
    start = time.monotonic()
    process = subprocess.run(command, cwd=project, env=env, stdout=subprocess.PIPE, text=True, check=True)
    seconds = time.monotonic() - start
    opened = log.read_text().splitlines() if log.exists() else []
    return process.stdout, sum(int(line.partition("\t")[0]) for line in opened), seconds
