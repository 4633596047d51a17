"""A file is scored with the numbers that the live endpoint gives."""

import json

import httpx
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness.commands import said
from harness.project import customers
from pipeline.ledger.timeline import live_at
from pipeline.rollout.slots import predictions_folder
from pipeline.runs import batch_scoring


@pytest.fixture
def rows():
    return customers(days=12).drop(columns=["left", "decided_at"])


@pytest.mark.parametrize("endpoint", ["process"], indirect=True)
def test_it_gives_the_live_endpoints_numbers_and_reads_its_log(endpoint, rows, tmp_path):
    """The same rows get the same predictions through the router, from a file, and from the prediction log."""
    endpoint.deploy("1")
    asked = rows.head(50).astype(object).assign(seen_at=[t.isoformat() for t in rows["seen_at"].head(50)])
    records = asked.where(asked.notna(), None).to_dict("records")
    live = httpx.post(f"{endpoint.address}/invocations", json={"dataframe_records": records}).json()["predictions"]
    rows.head(50).to_parquet(tmp_path / "in.parquet")
    command = [
        "predict",
        "churn",
        "--input",
        str(tmp_path / "in.parquet"),
        "--output",
        str(tmp_path / "out.csv"),
        "--json",
    ]
    done = said(command)
    assert (done.returncode, json.loads(done.stdout)["rows"]) == (0, 50)
    assert pd.read_csv(tmp_path / "out.csv", float_precision="round_trip")["prediction"].tolist() == live
    endpoint.engines.all()[0].stop("churn", "blue", 1)
    log = pa.concat_tables(
        [pq.read_table(path) for path in predictions_folder(endpoint.home, "churn").glob("*.parquet")]
    )
    pq.write_table(log, tmp_path / "log.parquet")
    result = batch_scoring.score(
        endpoint.context.registry,
        "churn",
        tmp_path / "log.parquet",
        tmp_path / "again.parquet",
        live_at(endpoint.context.ledger, "churn"),
    )
    again = pd.read_parquet(tmp_path / "again.parquet")
    assert result.rows == len(log) > 50
    assert again["prediction"].tolist() == log["prediction"].to_pylist()
    assert set(asked["customer"]) <= set(again["customer"])
