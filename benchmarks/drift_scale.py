"""Drift of large tables: 1,000,000 rows x 20 beside Evidently's preset, and 100,000,000 x 20 in bounded memory.

Each side runs in a process of its own, which reads both files, or takes the reference that is kept; its processor time is that of all
its threads, and its memory the most that it had beyond what its libraries take.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.limits import within_limit

MILLION, LARGE, COLUMNS = 1_000_000, 100_000_000, 20
TIMES_FASTER, SHARE_OF_MEMORY, MOST_MB = 20, 0.2, 2000


def main() -> bool:
    with tempfile.TemporaryDirectory() as folder:
        before, now = (_written(Path(folder) / f"{name}.parquet", seed) for name, seed in (("before", 1), ("now", 2)))
        theirs, ours, anew = (_measured(side, before, now) for side in ("evidently", "look", "files"))
    for name, found in (("Evidently's preset", theirs), ("our look", ours), ("ours with a new reference", anew)):
        print(
            f"{name}, {MILLION:,} x {COLUMNS}: {found['cpu_s']:.2f} processor s, {found['mb']:.0f} MB, {found['said']}"
        )
    large = _measured("large", before, now)
    print(f"{LARGE:,} x {COLUMNS}: {large['cpu_s']:.0f} processor s, {large['peak_mb']:.0f} MB in all, {large['said']}")
    return all(
        [
            within_limit(
                "times faster than Evidently's preset", theirs["cpu_s"] / ours["cpu_s"], TIMES_FASTER, at_least=True
            ),
            within_limit(
                "times faster, with the reference made anew",
                theirs["cpu_s"] / anew["cpu_s"],
                TIMES_FASTER,
                at_least=True,
            ),
            within_limit("share of its memory", ours["mb"] / theirs["mb"], SHARE_OF_MEMORY),
            within_limit(
                "share of its memory, with the reference made anew", anew["mb"] / theirs["mb"], SHARE_OF_MEMORY
            ),
            within_limit(f"MB for {LARGE:,} rows", large["peak_mb"], MOST_MB),
        ]
    )


def _written(file: Path, seed: int) -> Path:
    import duckdb

    connection = duckdb.connect()
    connection.execute("SELECT setseed(?)", [seed / 10])
    connection.execute(f"COPY ({_made(MILLION)}) TO '{file}' (FORMAT parquet)")
    return file


def _made(rows: int) -> str:
    """SQL for rows of 18 numbers, each the mean of three that are uniform, and two categories."""
    numbers = ", ".join(f"(random() + random() + random()) / 3 AS x{i}" for i in range(COLUMNS - 2))
    return f"SELECT {numbers}, 'a' || (random() * 8)::INT AS a, 'b' || (random() * 30)::INT AS b FROM range({rows})"


def _measured(side: str, before: Path, now: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.drift_scale", side, str(before), str(now)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])


def _evidently(before: Path, now: Path) -> Callable[[], str]:
    warnings.simplefilter("ignore")
    import pandas as pd
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    def run() -> str:
        tables = [
            Dataset.from_pandas(pd.read_parquet(file), data_definition=DataDefinition()) for file in (now, before)
        ]
        found = Report([DataDriftPreset()]).run(*tables).dict()
        return f"{len(found['metrics'])} metrics"

    return run


def _ours(before: Path, now: Path, anew: bool) -> Callable[[], str]:
    import duckdb

    from pipeline.monitoring.drift import Window, compare
    from pipeline.monitoring.profiles.counting import profiles
    from pipeline.monitoring.profiles.file_columns import FileColumns
    from pipeline.monitoring.profiles.in_memory import profile_of
    from pipeline.monitoring.profiles.reference import Reference, reference_of
    from pipeline.settings.models import DriftLimits

    def reference(rows: FileColumns) -> Reference:
        return reference_of(rows, [f"x{i}" for i in range(COLUMNS - 2)], ["a", "b"], None)

    kept = before.with_suffix(".json")
    if not anew:
        # What a version brings along, made once by its evaluation, in a process of its own for its memory's sake.
        subprocess.run([sys.executable, "-m", "benchmarks.drift_scale", "keep", str(before), str(kept)], check=True)

    def run() -> str:
        if anew:
            # As the command on two files has it.
            made = reference(FileColumns([before]))
            return compare(made, Window(profile_of(FileColumns([now]), made.layout)), DriftLimits()).verdict
        of = Reference.read_text(kept.read_text())
        assert of is not None
        with duckdb.connect() as connection:
            (counted,) = profiles(connection, f"read_parquet('{now}')", of.layout).values()
        return compare(of, Window(counted), DriftLimits()).verdict

    return run


def _keep(before: Path, kept: Path) -> None:
    import pandas as pd

    from pipeline.monitoring.profiles.reference import reference_of

    found = reference_of(pd.read_parquet(before), [f"x{i}" for i in range(COLUMNS - 2)], ["a", "b"], None)
    kept.write_text(found.as_text())


def _large(before: Path, now: Path) -> Callable[[], str]:
    import duckdb
    import numpy as np

    from pipeline.monitoring.profiles.counting import profiles
    from pipeline.monitoring.profiles.layout import layout_of

    with duckdb.connect() as connection:
        some = connection.execute(_made(100_000)).df()
    layout = layout_of(some, [f"x{i}" for i in range(COLUMNS - 2)], ["a", "b"])

    def run() -> str:
        with duckdb.connect() as connection:
            (counted,) = profiles(connection, f"({_made(LARGE)})", layout).values()
        assert all(int(np.sum(cells)) == LARGE for cells in counted.cells.values())
        return f"{counted.rows:,} rows counted"

    return run


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    what, first, second = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    if what == "keep":
        _keep(first, second)
        sys.exit()
    sides: dict[str, Callable[[], Callable[[], str]]] = {
        "evidently": lambda: _evidently(first, second),
        "look": lambda: _ours(first, second, False),
        "files": lambda: _ours(first, second, True),
        "large": lambda: _large(first, second),
    }
    side = sides[what]()
    libraries, began = _peak_mb(), time.process_time()
    said = side()
    took = time.process_time() - began
    print(json.dumps({"cpu_s": took, "mb": _peak_mb() - libraries, "peak_mb": _peak_mb(), "said": said}))
