"""`predict` on one and on ten million flights: rows a minute, and memory that does not grow with the file."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import flights
from benchmarks.flights import MODEL
from benchmarks.limits import within_limit
from pipeline.settings.environment import Environment
from pipeline.settings.models import load

MILLION = 1_000_000
GROUP_ROWS = 100_000


@dataclass(frozen=True)
class Scored:
    """One run of the command, from its start to its end."""

    rows: int
    wall_s: float
    peak_mb: float

    @property
    def a_minute(self) -> float:
        return 60 * self.rows / self.wall_s


def main() -> bool:
    flights.trained()
    with tempfile.TemporaryDirectory() as folder:
        one, ten = (_scored(Path(folder), rows) for rows in (MILLION, 10 * MILLION))
    for scored in (one, ten):
        speed = f"{scored.wall_s:6.1f} s, {scored.a_minute:,.0f} rows a minute"
        print(f"{scored.rows:>10,} rows: {speed}, peak {scored.peak_mb:.0f} MB")
    fast = [
        within_limit(f"million rows a minute, of {scored.rows:,}", scored.a_minute / MILLION, 1, at_least=True)
        for scored in (one, ten)
    ]
    return all(
        [*fast, within_limit("peak memory of ten million rows, times that of one", ten.peak_mb / one.peak_mb, 1.15)]
    )


def _scored(folder: Path, rows: int) -> Scored:
    source, output = folder / f"{rows}.parquet", folder / f"{rows}-scored.parquet"
    _write_flights(source, rows)
    command = [sys.executable, "-m", "pipeline", "predict", MODEL, "--input", str(source), "--output", str(output)]
    start = time.monotonic()
    running = subprocess.Popen(
        command, cwd=Environment.read().project, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    peak_kb = 0
    while running.poll() is None:
        peak_kb = max(peak_kb, _peak_kb(running.pid))
        time.sleep(0.02)
    wall_s = time.monotonic() - start
    if running.returncode:
        raise SystemExit(f"predict failed: {running.stderr.read() if running.stderr else ''}")
    assert pq.ParquetFile(output).metadata.num_rows == rows
    for file in (source, output):
        file.unlink()
    return Scored(rows, wall_s, peak_kb / 1024)


def _peak_kb(pid: int) -> int:
    """The peak of the process's memory, as the kernel counts it since the process started this program."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")), 0)


def _write_flights(path: Path, rows: int) -> None:
    """Writes the year's flights, repeated up to `rows`, a row group at a time."""
    model = load(Environment.read().project).model(MODEL)
    columns = [*model.training.features, model.source.key, model.source.event_time]
    days = sorted((Environment.read().project / "warehouse" / "flights").glob("*.parquet"))
    tables = [pq.read_table(day, columns=columns) for day in days[: 1 + GROUP_ROWS // 500]]
    group = pa.concat_tables(tables, promote_options="permissive").slice(0, GROUP_ROWS).combine_chunks()
    with pq.ParquetWriter(path, group.schema) as writer:
        for first in range(0, rows, GROUP_ROWS):
            writer.write_table(group.slice(0, min(GROUP_ROWS, rows - first)))
