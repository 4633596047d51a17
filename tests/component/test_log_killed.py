"""A server that is killed while it writes its prediction log: all that was written before is read, and the next server goes on."""

import os
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline.serving import log_files
from pipeline.serving.prediction_log import AnsweredRequest, LogSchema, PredictionLog
from pipeline.serving.runtime import Runtime

# Writes parts with one row each, and dies in the third: in the middle of its bytes, when all are written, or when it has its name.
WRITER = """
import os, resource, signal, sys
from pathlib import Path
import numpy as np
from pipeline.serving import log_files
from pipeline.serving.prediction_log import AnsweredRequest, LogSchema, PredictionLog
from pipeline.serving.runtime import Runtime

package, folder, moment = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
runtime = Runtime.load(package)
log = PredictionLog(folder, "blue", "3", LogSchema(runtime.reader, "3", "blue"), print)
log.close()
record = {"spend": 10.0, "calls": 4, "plan": "plus"}

def write(number):
    rows = runtime.reader.of_records([record])
    log._write_part([AnsweredRequest(f"r{number}", 1.7e9 + number, rows, np.full(1, 0.5))])

write(0)
write(1)
syncs = {"all bytes": 1, "the name": 2}.get(moment, 0)
sync = os.fsync

def last_sync(file):
    global syncs
    syncs -= 1
    if syncs == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    sync(file)

os.fsync = last_sync
if moment == "some bytes":
    # The kernel kills a process that writes beyond this.
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
write(2)
"""


@pytest.mark.parametrize(
    ("moment", "kept", "set_aside"), [("some bytes", 2, 1), ("all bytes", 3, 0), ("the name", 3, 0)]
)
def test_a_kill_in_a_write_loses_no_earlier_row_and_stops_no_later_one(
    churn_package, tmp_path, moment, kept, set_aside
):
    """A part that was not whole is set aside and counted; one that was whole is kept."""
    folder = tmp_path / "log"
    killed = subprocess.run(
        [sys.executable, "-c", WRITER, churn_package, folder, moment], capture_output=True, text=True
    )
    assert killed.returncode < 0, killed.stderr
    left = log_files.listed(folder)
    assert (rows(left.files), left.damaged) == (["r0", "r1", "r2"][: 3 if moment == "the name" else 2], [])
    for path in folder.iterdir():
        os.utime(path, (0, 0))
    runtime, damaged = Runtime.load(churn_package), []
    schema = LogSchema(runtime.reader, "3", "blue")
    log = PredictionLog(folder, "blue", "3", schema, on_lost=lambda rows: None, on_damaged=damaged.append)
    parsed = runtime.reader.of_records([{"spend": 10.0, "calls": 4, "plan": "plus"}])
    log.add(AnsweredRequest("later", 1.8e9, parsed, np.full(1, 0.5)))
    log.close()
    now = log_files.listed(folder)
    assert rows(now.files) == ["later", *["r0", "r1", "r2"][:kept]]
    assert (len(now.damaged), sum(damaged)) == (set_aside, set_aside)
    assert not list(folder.glob("*.part"))


def rows(paths):
    return sorted(row["request_id"] for path in paths for row in pq.read_table(path).to_pylist())
