"""A table in S3: `init` proposes a source that a run reads, from the addresses and keys of the environment."""

from __future__ import annotations

import pandas as pd
import pytest

from harness.project import customers
from pipeline.errors import DataError
from pipeline.init.request import Request
from pipeline.init.run import init
from pipeline.runs import stages
from pipeline.settings.models import load
from pipeline.workspaces.dvc_graph import Artifacts


@pytest.fixture
def bucket(s3, tmp_path, monkeypatch):
    """Writes files into the bucket `data`; the test is in the folder of a project."""
    import fsspec

    keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "eu-west-1"}
    for name, value in ({"AWS_ENDPOINT_URL": s3} | keys).items():
        monkeypatch.setenv(name, value)
    (tmp_path / "params.yaml").write_text("models:\n")
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config").write_text("[core]\n    no_scm = true\n")
    monkeypatch.setenv("PERENNIAL_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    store = fsspec.filesystem("s3", skip_instance_cache=True, use_listings_cache=False)
    return tmp_path, store


CSV = {"index": False, "sep": ";", "encoding": "latin-1"}
HOW = {
    "a Parquet glob": ("glob/part-1.parquet", "s3://data/glob/part-*.parquet"),
    "a folder of CSV": ("folder/one/a.csv", "s3://data/folder"),
    "a packed CSV": ("packed/a.csv.gz", "s3://data/packed/a.csv.gz"),
}


@pytest.mark.parametrize("how", HOW)
def test_a_table_in_s3_becomes_a_block_whose_runs_read_it(bucket, how):
    """A file, a folder and a glob in S3 become a query with which the snapshot has each row, with its letters and line breaks."""
    project, store = bucket
    name, data = HOW[how]
    table = customers(days=40, a_day=20).assign(plan=lambda t: t.plan.replace("plus", 'größer; "als"\nzuvor'))
    with store.open(f"s3://data/{name}", "wb", **({"compression": "gzip"} if name.endswith(".gz") else {})) as file:
        table.to_parquet(file) if name.endswith(".parquet") else table.to_csv(file, **CSV)
    assert init(Request("churn", data, "left", "seen_at"), project, False).written
    model, files = load(project).model("churn"), Artifacts(project, "churn")
    assert model.source.query is not None and (model.source.key, model.training.numeric) == (
        "customer",
        ("spend", "calls"),
    )
    files.folder.mkdir(parents=True)
    stages.STAGES["snapshot"]("churn", model, files)
    landed = pd.concat(pd.read_parquet(file) for file in files.snapshot.glob("*.parquet"))
    assert len(landed) == len(table) and set(landed.plan) == {"basic", 'größer; "als"\nzuvor'}
    assert landed.spend.sum() == pytest.approx(table.spend.sum())


@pytest.mark.parametrize(
    ("data", "line"),
    [
        ("s3://data/nothing/*.csv", "names no file"),
        ("https://example.org/customers.csv", "is no address of S3"),
        ("SELECT * FROM read_parquet('s3://data/nothing.parquet')", "No files found"),
    ],
)
def test_what_is_not_in_s3_is_refused_in_one_line(bucket, data, line):
    """An address that names nothing, and one that is not S3's, is refused in one line that says so."""
    with pytest.raises(DataError, match=line) as refused:
        init(Request("churn", data, "left"), bucket[0], False)
    assert "\n" not in str(refused.value)


def test_keys_that_are_missing_are_named(bucket, monkeypatch):
    """Without keys the line is not a traceback, and names the variables."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(DataError, match="AWS_ACCESS_KEY_ID") as refused:
        init(Request("churn", "s3://data/a.parquet", "left"), bucket[0], False)
    assert "Traceback" not in str(refused.value) and "\n" not in str(refused.value)
