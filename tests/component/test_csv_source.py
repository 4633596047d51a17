"""A CSV source through the stages: the same snapshot as from Parquet, and nothing unreadable becomes a missing value."""

import json

import numpy as np
import pandas as pd
import pytest

from harness.project import change_params, customers
from pipeline.data import contract
from pipeline.data.contract import read_snapshot
from pipeline.data.csv_files import CsvReader
from pipeline.errors import DataError
from pipeline.gates import data_contract
from pipeline.gates.base import ValidatedData
from pipeline.runs.batch_scoring import Source
from pipeline.runs.block_columns import rows_of
from pipeline.serving.schema import Column, Reader, Schema
from pipeline.settings.models import load
from pipeline.settings.source import Csv
from tests.component.test_snapshot import digests, take


@pytest.fixture
def as_csv(project):
    """The project, whose model reads CSV files: writes a frame as customers/NAME.csv."""
    change_params(project, "models.churn.source.query", None)
    change_params(project, "models.churn.source.files", ["customers/*.csv"])
    return lambda frame, name="all": frame.to_csv(project / "customers" / f"{name}.csv", index=False)


def validated(project, name="one"):
    """(the report of validate, the kept rows, the quarantine, the counts) of the snapshot `name`."""
    model, files = load(project).model("churn"), [project / f"{name}.{end}" for end in ("json", "quarantine", "report")]
    report = contract.check("churn", model, project / name, *files)
    kept = contract.kept_rows(project / name, files[1])
    return report, kept, pd.read_parquet(files[1]), json.loads(files[0].read_text())


def test_a_csv_gives_the_bytes_of_the_same_parquet(project, as_csv):
    """The same rows as CSV, in one file or in one a day, give the snapshot that Parquet gives."""
    change_params(project, "models.churn.source.files", None)
    change_params(
        project,
        "models.churn.source.query",
        "SELECT * FROM 'customers/all.parquet' WHERE seen_at >= $start AND seen_at < $end",
    )
    before, counts = take(project, "parquet")
    change_params(project, "models.churn.source.query", None)
    change_params(project, "models.churn.source.files", ["customers/*.csv"])
    as_csv(customers())
    folder, by_file = take(project, "csv")
    assert (digests(folder), by_file.as_dict()["rows"]) == (digests(before), counts.rows)
    (project / "customers" / "all.csv").unlink()
    for day, rows in customers().groupby(customers().seen_at.dt.date):
        as_csv(rows, str(day))
    assert digests(take(project, "days")[0]) == digests(before)


def test_what_is_unreadable_is_counted_and_quarantined(project, as_csv):
    """Cells that are no number or time put their rows into quarantine, with the text as example, and are judged as bad rows."""
    frame = customers().astype(object).astype({"seen_at": str, "decided_at": str})
    in_window = frame.index[pd.to_datetime(frame.seen_at).between("2024-02-05", "2024-02-20")]
    a, b, c, d, e = in_window[:5]
    frame.loc[a, "spend"], frame.loc[b, "calls"], frame.loc[c, "left"] = "1,000", "four", "maybe"
    frame.loc[d, "decided_at"], frame.loc[e, "seen_at"] = "31.02.2024", "soon"
    as_csv(frame)
    counts = take(project)[1]
    report, kept, quarantine, _ = validated(project)
    found = {(f["column"], f["check"]): (f["rows"], f["examples"]) for f in report["faults"]}
    assert found == {
        ("spend", "number"): (1, ["1,000"]),
        ("calls", "number"): (1, ["four"]),
        ("left", "number"): (1, ["maybe"]),
        ("decided_at", "time"): (1, ["31.02.2024"]),
        ("seen_at", "time"): (1, ["soon"]),
    }
    assert (report["quarantined"], len(quarantine)) == (5, 4), "the row without a day is in no partition"
    assert report["in"] == report["kept"] + report["quarantined"] == counts.rows + 1
    assert not set(kept.customer) & set(frame.customer[[a, b, c, d, e]])
    assert "unread" not in kept
    assert "spend: number" in set(quarantine.reason)
    change_params(project, "models.churn.gates.contract.max_bad_share", 0.001)
    verdict = data_contract.verdict(ValidatedData(load(project).model("churn"), report))
    assert not verdict.passed
    assert "5 of" in verdict.reason


def test_an_unread_cell_changes_its_own_partition_only(project, as_csv):
    """An unreadable cell of one day changes no byte of another day."""
    frame = customers()
    as_csv(frame)
    before = digests(take(project, "one")[0])
    frame = frame.astype({"spend": object})
    frame.loc[2500, "spend"] = "?"
    as_csv(frame)
    after = digests(take(project, "two")[0])
    assert [name for name in after if after[name] != before[name]] == [f"{frame.seen_at[2500]:%Y-%m-%d}.parquet"]


def test_files_of_the_future_change_no_earlier_snapshot(project, as_csv):
    """A file of a later month, with other columns and with unreadable cells, changes nothing of an earlier as-of."""
    as_csv(customers())
    before = digests(take(project, "one")[0])
    later = (
        customers()
        .tail(100)
        .assign(
            customer=[f"x{i}" for i in range(100)], spend="?", calls="?", more=1, seen_at=["2024-03-09"] * 99 + ["?"]
        )
    )
    as_csv(later.drop(columns="plan"), "later")
    assert digests(take(project, "two")[0]) == before
    assert (project / "one.json").read_text() == (project / "two.json").read_text()


def test_texts_of_a_query_are_read_by_the_same_rule(project, as_csv):
    """A query that reads a CSV as text gives the numbers that source.files gives."""
    frame = customers().astype({"spend": object})
    frame.loc[2500, "spend"] = "?"
    as_csv(frame)
    before = digests(take(project, "one")[0])
    change_params(project, "models.churn.source.files", None)
    change_params(
        project,
        "models.churn.source.query",
        "SELECT * FROM read_csv('customers/all.csv', all_varchar = true)"
        " WHERE seen_at::TIMESTAMPTZ >= $start AND seen_at::TIMESTAMPTZ < $end",
    )
    assert digests(take(project, "two")[0]) == before


def test_live_quality_reads_the_labels_of_a_csv(project, as_csv):
    """Labels of a CSV source join live answers; a label that is unreadable is none."""
    from pipeline.monitoring.live_quality import labels

    frame = customers().astype({"left": object})
    frame.loc[2500, "left"] = "maybe"
    as_csv(frame)
    model = load(project).model("churn")
    start = pd.Timestamp("2024-02-01", tz="UTC").to_pydatetime()
    known = labels(model, project, start, model.as_of, "churn").set_index("key")
    in_window = frame[(frame.seen_at >= start) & (frame.decided_at <= model.as_of) & (frame.index != 2500)]
    assert list(known.target[in_window.customer]) == list(in_window.left)
    assert frame.customer[2500] not in known.index


def test_truth_values_and_codes_are_what_they_are_in_parquet(project, as_csv):
    """Truth values, integers that pandas writes as 2.0, and codes with leading zeros train the same from CSV and Parquet."""
    rng = np.random.default_rng(5)
    frame = customers().assign(
        flag=lambda rows: rng.random(len(rows)) < 0.5,
        size=lambda rows: rng.choice([1.0, 2.0, np.nan], len(rows)),
        zip=lambda rows: rng.choice(["040", "10115", "NA"], len(rows)),
        left=lambda rows: rows.left.astype(bool),
    )
    change_params(project, "models.churn.training.numeric", ["spend", "calls", "flag"])
    change_params(project, "models.churn.training.categorical", ["plan", "size", "zip"])
    as_csv(frame)
    by_csv = read_snapshot(take(project, "csv")[0])
    frame.to_parquet(project / "customers" / "all.parquet")
    change_params(project, "models.churn.source.files", ["customers/*.parquet"])
    pd.testing.assert_frame_equal(by_csv, read_snapshot(take(project, "parquet")[0]))
    assert set(by_csv["size"].dropna()) == {"1", "2"}
    assert set(by_csv.zip) == {"040", "10115", "NA"}
    assert (project / "csv" / "schema.json").exists()
    assert (project / "csv" / "schema.json").read_text() == (project / "parquet" / "schema.json").read_text()


def test_a_decimal_comma_in_a_category_or_a_key_is_a_point(project, as_csv):
    """2,0 is the category 2 and the key 2 where the files have decimal commas, as 2.0 is elsewhere; so it is in `predict`."""
    frame = customers().assign(
        plan=lambda rows: [i % 3 + 1 for i in range(len(rows))], customer=lambda rows: range(len(rows))
    )
    change_params(project, "models.churn.source.csv", {"delimiter": ";", "decimal": ","})
    change_params(project, "models.churn.gates.contract.columns", {})
    commas = {"index": False, "sep": ";", "decimal": ","}
    first, second = frame.iloc[:2000], frame.iloc[2000:].astype({"plan": "float64", "customer": "float64"})
    first.to_csv(project / "customers" / "1.csv", **commas)
    second.to_csv(project / "customers" / "2.csv", **commas)
    landed = read_snapshot(take(project)[0])
    assert set(landed.plan) == {"1", "2", "3"}
    assert set(landed.customer) <= set(map(str, range(len(frame))))
    assert '"spelling": "number"' in (project / "one" / "schema.json").read_text()
    reader = Reader(Schema((Column("spend"), Column("plan", "category", spelling="number")), "customer", "seen_at"))
    runtime = type("OfReader", (), {"reader": reader, "features": ["spend", "plan"]})
    file = project / "customers" / "2.csv"
    (block,) = Source(file, CsvReader(Csv(delimiter=";", decimal=","))).blocks(runtime, 0)
    assert set(rows_of(block, reader).texts.ravel()) == {"1", "2", "3"}
    assert block["customer"][0].as_py() == "2000,0", "the output has the file's own text"


def test_a_category_with_decimal_commas_is_told_the_setting(project, as_csv):
    """A column of numbers with decimal commas, listed as a category, is refused with the keys to set."""
    as_csv(customers().assign(plan=lambda rows: [f"{i},5" for i in range(len(rows))]))
    with pytest.raises(
        DataError, match="list it in models.churn.training.numeric, and set models.churn.source.csv.decimal"
    ):
        take(project)
