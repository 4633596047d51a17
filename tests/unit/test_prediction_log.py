"""The prediction log holds each answered request once, whatever happens to the process or the disk."""

import hashlib
import json
import stat

import numpy as np
import pyarrow.parquet as pq
import pytest
from starlette.testclient import TestClient

from pipeline.serving import log_files, prediction_log
from pipeline.serving.app import App
from pipeline.serving.identity import Identity
from pipeline.serving.metrics import LOG_ROWS_LOST, PREDICTIONS, Metrics
from pipeline.serving.prediction_log import AnsweredRequest, LogSchema, PredictionLog, pseudonym
from pipeline.serving.runtime import Runtime
from pipeline.serving.settings import Settings

GOOD = {"spend": 10.0, "calls": None, "plan": "plus"}
KEY = bytes(range(32))


@pytest.fixture(scope="module")
def runtime(churn_package):
    return Runtime.load(churn_package)


def opened(runtime, folder, on_lost=lambda rows: None, personal=None):
    return PredictionLog(folder, "blue", "3", LogSchema(runtime.reader, "3", "blue", personal, KEY), on_lost)


def answered(runtime, number, rows=1):
    parsed = runtime.reader.of_records([GOOD | {"customer": f"c{number}"}] * rows)
    return AnsweredRequest(f"r{number}", 1.7e9 + number, parsed, np.full(rows, number / 100))


def logged(folder):
    return [row for path in log_files.listed(folder).files for row in pq.read_table(path).to_pylist()]


def test_only_the_slots_own_key_makes_a_request_golden(runtime, tmp_path):
    """A request is golden by the slot's key, whatever its id says; a golden one is logged as such and not counted."""
    log, metrics = opened(runtime, tmp_path), Metrics({})
    settings = Settings(golden_key=hashlib.sha256(b"drawn").hexdigest())
    client = TestClient(App(runtime, log, Identity("churn", "3", "blue"), settings, metrics))
    for key in ("drawn", "guessed", ""):
        headers = {"x-request-id": f"golden-{key}", "x-golden-key": key}
        client.post("/invocations", json={"dataframe_records": [GOOD]}, headers=headers)
    log.close()
    assert {row["request_id"]: row["golden"] for row in logged(tmp_path)} == {
        **{"golden-drawn": True, "golden-guessed": False, "golden-": False}
    }
    assert metrics.total(PREDICTIONS) == 2


def test_an_answered_request_is_logged(runtime, tmp_path):
    """With its key, event time, features, prediction, version, slot and id."""
    log = opened(runtime, tmp_path)
    client = TestClient(App(runtime, log, Identity("churn", "3", "blue")))
    record = GOOD | {"customer": "c1", "seen_at": "2024-02-01T00:00:00Z"}
    answer = client.post("/invocations", json={"dataframe_records": [record]})
    log.close()
    (row,) = logged(tmp_path)
    assert (row["key"], row["event_time"]) == ("c1", "2024-02-01T00:00:00Z")
    assert {**row["features"], "calls": None} == GOOD
    assert np.isnan(row["features"]["calls"])
    assert row["prediction"] == answer.json()["predictions"][0]
    assert (row["version"], row["slot"], row["request_id"]) == ("3", "blue", answer.headers["x-request-id"])


def test_the_log_is_its_owners_alone(runtime, tmp_path):
    """Folder and files, also those that an older server left readable."""
    folder = tmp_path / "log"
    folder.mkdir(mode=0o755)
    old = folder / log_files.file_name("green-v2-1.1", 0, 0)
    old.touch(mode=0o644)
    log = opened(runtime, folder)
    log.add(answered(runtime, 1))
    log.close()
    assert len(list(folder.iterdir())) == 2
    assert {stat.filemode(path.stat().st_mode) for path in folder.iterdir()} == {"-rw-------"}
    assert stat.filemode(folder.stat().st_mode) == "drwx------"


def test_parts_are_merged_and_every_row_is_there_once(runtime, tmp_path, monkeypatch):
    """In the order of writing, after every write; the parts of a merged file are deleted only at the next merge."""
    monkeypatch.setattr(prediction_log, "MERGE_COUNT", 4)
    log = opened(runtime, tmp_path)
    log.close()
    for number in range(70):
        log._write_part([answered(runtime, number, rows=2)])
        expected = [f"r{n}" for n in range(number + 1) for _ in range(2)]
        assert [row["request_id"] for row in logged(tmp_path)] == expected
    assert len(log_files.listed(tmp_path).files) < 10
    assert len(list(tmp_path.iterdir())) < 20


def test_a_large_part_is_written_in_groups(runtime, tmp_path):
    """Other threads run between two groups, so that requests are answered meanwhile."""
    log = opened(runtime, tmp_path)
    log.close()
    log._write_part([answered(runtime, number, rows=1000) for number in range(30)])
    (path,) = tmp_path.iterdir()
    metadata = pq.ParquetFile(path).metadata
    assert metadata.num_rows == 30_000
    assert max(metadata.row_group(n).num_rows for n in range(metadata.num_row_groups)) == log_files.GROUP_ROWS


def test_a_part_that_a_kill_interrupted_is_not_read(runtime, tmp_path):
    """Until it is complete it has a name that no reader opens."""
    log = opened(runtime, tmp_path)
    log.close()
    log._write_part([answered(runtime, 1)])
    (complete,) = tmp_path.iterdir()
    (tmp_path / "blue-v3-9-000000000-000000000.part").write_bytes(complete.read_bytes()[:100])
    assert [row["request_id"] for row in logged(tmp_path)] == ["r1"]


def test_rows_that_cannot_be_written_are_counted(runtime, tmp_path):
    """The request is answered; health page and metrics give the number of lost rows."""
    (tmp_path / "file").write_text("in the way")
    metrics = Metrics({"model": "churn"})
    log = opened(runtime, tmp_path / "file" / "log", lambda rows: metrics.add(LOG_ROWS_LOST, rows))
    client = TestClient(App(runtime, log, Identity("churn", "3", "blue"), metrics=metrics))
    assert client.post("/invocations", json={"dataframe_records": [GOOD] * 3}).status_code == 200
    log.close()
    assert client.get("/v2/health/live").json()["log_rows_lost"] == 3
    assert 'perennial_log_rows_lost{model="churn"} 3.0' in client.get("/metrics").text


def test_rows_beyond_the_queue_are_lost_and_counted(runtime, tmp_path, monkeypatch):
    """A request never waits for a log that falls behind."""
    monkeypatch.setattr(prediction_log, "MAX_QUEUED_ROWS", 10)
    lost = []
    log = opened(runtime, tmp_path, lost.append)
    for number in range(4):
        log.add(answered(runtime, number, rows=4))
    log.close()
    assert lost == [4, 4]
    assert len(logged(tmp_path)) == 8


def test_personal_columns_are_hashed_or_left_out(runtime, tmp_path):
    """The same value has the same pseudonym, so that labels join; a number is hashed as its text."""
    log = opened(runtime, tmp_path, personal={"customer": "hash", "spend": "hash", "plan": "drop"})
    log.close()
    log._write_part([answered(runtime, 1)])
    (row,) = logged(tmp_path)
    assert row["key"] == pseudonym(KEY, "c1") != pseudonym(KEY[::-1], "c1")
    assert row["features"]["spend"] == pseudonym(KEY, "10.0")
    assert "plan" not in row["features"]
    assert "c1" not in json.dumps(row, default=str)
    assert b"plus" not in next(iter(tmp_path.iterdir())).read_bytes()
