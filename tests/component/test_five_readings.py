"""One table, read by snapshot and training, by the endpoint, by `predict` and by the monitor: each cell is one value everywhere."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import duckdb
import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import csv as arrow_csv

from harness.project import CHURN
from pipeline.data import drawn_schema, neutral_sql, sql
from pipeline.data import snapshot as snapshots
from pipeline.data import source as source_rows
from pipeline.data.contract import read_snapshot
from pipeline.monitoring import live_quality
from pipeline.runs import batch_scoring, block_columns
from pipeline.serving import forms, log_files
from pipeline.serving.identity import Identity
from pipeline.serving.prediction_log import AnsweredRequest, LogSchema
from pipeline.serving.schema import Reader
from pipeline.settings.models import Model
from pipeline.training import frames, pipelines

NUMERIC = ["double", "whole", "large", "decimal", "flag"]
DATETIME = ["naive", "aware", "date", "time_text"]
# Beside the days of each, in the zone of the source.
CALENDAR = ["hour", "age"]
FREE = ["note"]
CATEGORICAL = ["text", "code", "code_null", "code_text", "size", "truth", "day", "dictionary"]
TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), min_size=1, max_size=6)
ODD = st.sampled_from(["NA", "nan", "null", "007", " a ", "TRUE", "2.0", "ä", "1e5", "a,b", 'say "x"', "None"])


MOMENTS = st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1))
# Spaces and line ends count too.
NOTES = st.lists(st.one_of(TEXTS, ODD, st.sampled_from([" ", "  ", "\n", "\u2003", "a b c"])), min_size=1, max_size=9)
# A zone with summer time, in which an hour comes twice.
ZONE = "Europe/Berlin"


def or_none(values):
    return st.one_of(st.none(), values)


ROW = st.fixed_dictionaries(
    {
        "double": or_none(st.floats(-1e6, 1e6, width=32)),
        "whole": st.integers(-(10**6), 10**6),
        # float32 holds none of them but the first.
        "large": st.integers(10**9, 10**9 + 50),
        "decimal": or_none(st.decimals(-1000, 1000, places=2)),
        "flag": or_none(st.booleans()),
        "naive": or_none(MOMENTS),
        "aware": or_none(MOMENTS),
        "date": or_none(st.dates(datetime(1900, 1, 1).date(), datetime(2100, 1, 1).date())),
        "time_text": or_none(MOMENTS.map(lambda time: time.isoformat(" ", "seconds"))),
        "note": or_none(NOTES.map("".join)),
        "text": or_none(st.one_of(TEXTS, ODD)),
        "code": st.integers(-50, 10**12),
        "code_null": or_none(st.integers(0, 9)),
        "code_text": or_none(st.integers(0, 9).map(str)),
        "size": or_none(st.sampled_from([0.5, 1.0, 1.5, 2.0])),
        "truth": or_none(st.booleans()),
        "day": or_none(st.dates(datetime(1990, 1, 1).date(), datetime(2030, 1, 1).date())),
        "dictionary": or_none(st.sampled_from(["red", "green"])),
    }
)
TYPES = {
    "double": pa.float64(),
    "whole": pa.int32(),
    "large": pa.int64(),
    "decimal": pa.decimal128(9, 2),
    "flag": pa.bool_(),
    "naive": pa.timestamp("us"),
    "aware": pa.timestamp("us", tz=ZONE),
    "date": pa.date32(),
    "time_text": pa.string(),
    "note": pa.string(),
    "text": pa.string(),
    "code": pa.int64(),
    # What pandas makes of integers with a missing value.
    "code_null": pa.float64(),
    "code_text": pa.string(),
    "size": pa.float32(),
    "truth": pa.bool_(),
    "day": pa.date32(),
    "dictionary": pa.dictionary(pa.int8(), pa.string()),
}


@pytest.fixture(scope="module")
def model():
    lists = {"numeric": NUMERIC, "datetime": DATETIME, "text": FREE, "categorical": CATEGORICAL, "calendar": CALENDAR}
    training = {**CHURN["training"], **lists}
    source = {**CHURN["source"], "query": "SELECT * FROM given WHERE $start < $end", "timezone": ZONE}
    contract = {"min_rows": 1, "max_bad_share": 0.01}
    gates = {**CHURN["gates"], "contract": contract}
    return Model.model_validate({**CHURN, "source": source, "training": training, "gates": gates})


def trained_on(table, model, folder):
    """(the reader of a model that learnt from the table, the features as training took them)."""
    table = table.append_column("customer", pa.array(range(len(table)))).append_column("decided_at", table["seen_at"])
    start = datetime(2024, 2, 20, tzinfo=UTC)
    table = table.append_column("left", pa.array([float(i % 2) for i in range(len(table))]))
    with sql.connect(folder.parent) as connection:
        connection.register("given", table)
        source_rows.load(connection, model.source, model.training, start, start + timedelta(days=1), "churn")
        assert connection.sql("SELECT count(unread) FROM rows").fetchall() == [(0,)]
        types = source_rows.column_types(connection)
        drawn_schema.refuse_unfit(connection, "churn", model, types)
        select = snapshots.columns_sql(model.source, model.training, types)
        connection.execute(f"CREATE TABLE landing AS SELECT {select} FROM rows")
        schema = drawn_schema.draw(connection, "churn", model, types)
        landed = connection.sql("SELECT * FROM landing ORDER BY seen_at").to_arrow_table()
    folder.mkdir(exist_ok=True)
    pq.write_table(landed, folder / "2024-02-20.parquet")
    schema.write(folder)
    features = frames.features_of(read_snapshot(folder), model, schema.doubles)
    return Reader(
        pipelines.with_learnt(
            schema, pipelines.pipeline_for(model.training, features).fit(features, np.arange(len(features)) % 2)
        )
    ), features


def plain(value):
    return float(value) if isinstance(value, Decimal) else value


def requested(table, reader):
    """The table as a client sends it, read in each form of a request."""
    records = [{name: plain(value) for name, value in row.items()} for row in table.to_pylist()]
    for name in ("size",):
        for record in records:
            # orjson writes a float32 as what it is.
            record[name] = None if record[name] is None else float(np.format_float_positional(np.float32(record[name])))
    yield "records", reader.of_records(orjson.loads(orjson.dumps(records)))
    columns = {name: [record[name] for record in records] for name in table.column_names}
    yield "inputs", reader.of_columns(orjson.loads(orjson.dumps(columns)))
    text = table.to_pandas().to_csv(index=False, na_rep="")
    yield "pandas' CSV", forms.invocations(text.encode(), reader, 10_000, b"text/csv").rows
    out = io.BytesIO()
    arrow_csv.write_csv(table, out)
    yield "Arrow's CSV", forms.invocations(out.getvalue(), reader, 10_000, b"text/csv").rows
    tensors = [
        {"name": name, "datatype": datatype(table, name), "shape": [len(records)], "data": columns[name]}
        for name in table.column_names
    ]
    body = orjson.dumps({"inputs": tensors})
    yield "v2", forms.infer(body, reader, 10_000, None, Identity("churn", "1", "blue")).rows


def datatype(table, name):
    held = table.schema.field(name).type
    known = {pa.float64(): "FP64", pa.float32(): "FP32", pa.int32(): "INT32", pa.int64(): "INT64", pa.bool_(): "BOOL"}
    return "FP64" if pa.types.is_decimal(held) else known.get(held, "BYTES")


def scored(table, reader, folder):
    """The table as `predict` reads it from a file."""
    runtime = type("OfReader", (), {"reader": reader, "features": reader.names})
    pq.write_table(table, folder / "in.parquet")
    table.to_pandas().to_csv(folder / "in.csv", index=False)
    for name in ("in.parquet", "in.csv"):
        (block,) = batch_scoring.Source(folder / name).blocks(runtime, 0)
        yield name, block_columns.rows_of(block, reader, block_columns.event_days(block, reader))


def monitored(readings, reader, model, folder):
    """What the monitor reads of the requests, by form, from the prediction log of a slot that answered them."""
    now = datetime(2024, 3, 2, tzinfo=UTC)
    answered = [
        AnsweredRequest(form, now.timestamp() + i, read, np.zeros(len(read)))
        for i, (form, read) in enumerate(readings.items())
    ]
    log_files.make_private(folder)
    schema = LogSchema(reader, "1", "blue", {}, b"")
    log_files.write(folder / log_files.file_name("blue-v1-1.1", 0, 0), schema.table(answered))
    rows = live_quality.predictions(folder, model, now - timedelta(days=30), now + timedelta(days=1))
    start = 0
    for form, read in readings.items():
        yield form, rows.iloc[start : start + len(read)]
        start += len(read)
    assert start == len(rows)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(rows=st.lists(ROW, min_size=2, max_size=12), weights=st.sampled_from(["counts", "tf_idf"]))
def test_each_reading_of_a_table_gives_the_same_values(rows, weights, model, tmp_path_factory):
    """The very table that a model learnt from is the same to training, to the endpoint in each form, to `predict` and to the monitor."""
    # Weights are the model's own, behind what is read: to all of these a text's words are counts.
    linear = {"estimator": "linear", "options": {}, "word_weights": "tf_idf"} if weights == "tf_idf" else {}
    model = model.model_copy(update={"training": model.training.model_copy(update=linear)})
    # A column that is empty in all rows is refused, and every category has to have been seen.
    full = {"double": 1.0, "decimal": Decimal("1.00"), "flag": True, "text": "a", "code_null": 1, "code_text": "1"}
    full |= {
        "naive": datetime(2024, 3, 31, 2, 30),
        "aware": datetime(2024, 10, 27, 0, 30),
        "time_text": "2024-10-27 02:30",
    }
    full |= {"date": datetime(2024, 10, 27).date(), "note": " a note\n of 2 lines"}
    full |= {"size": 1.0, "truth": True, "day": datetime(2024, 2, 1).date(), "dictionary": "red"}
    rows = [rows[0] | full, *rows]
    table = pa.table({name: pa.array([row[name] for row in rows], kind) for name, kind in TYPES.items()})
    # Without a zone, so in that of the source.
    seen = [datetime(2024, 2, 20, 1) + timedelta(minutes=i, microseconds=7 * i) for i in range(len(rows))]
    table = table.append_column("seen_at", pa.array(seen, pa.timestamp("us")))
    folder = tmp_path_factory.mktemp("readings")
    reader, features = trained_on(table, model, folder / "snapshot")
    numbers, texts = features[reader.numbers].to_numpy("float64"), features[CATEGORICAL].to_numpy(object)
    readings = dict((*requested(table, reader), *scored(table, reader, folder)))
    for form, read in readings.items():
        assert np.array_equal(read.numbers, numbers, equal_nan=True), form
        assert read.texts.tolist() == texts.tolist(), form
        assert not read.unknown, form
    for form, rows in monitored(readings, reader, model, folder / "predictions"):
        assert np.array_equal(rows[reader.numbers].to_numpy("float64"), numbers.astype("float64"), equal_nan=True), form
        assert rows[CATEGORICAL].astype(object).fillna("").to_numpy().tolist() == texts.tolist(), form


@pytest.mark.parametrize(
    ("written", "duckdb_type"),
    [("'2'", "VARCHAR"), ("2", "BIGINT"), ("2", "DOUBLE"), ("2", "FLOAT"), ("2", "DECIMAL(9,2)"), ("2", "UTINYINT")],
)
def test_a_category_has_one_neutral_form_whatever_its_column_holds(written, duckdb_type):
    """catboost 482: a later file that turns a column into another type, or has a NaN, changes no cell of an earlier one."""
    query = f"SELECT {neutral_sql.category('c', duckdb_type)}, {neutral_sql.key('c', duckdb_type)}"
    with duckdb.connect() as connection:
        assert connection.execute(f"{query} FROM (SELECT {written}::{duckdb_type} AS c)").fetchall() == [("2", "2")]
        empty = {"VARCHAR": "''", "DOUBLE": "'nan'", "FLOAT": "'nan'"}.get(duckdb_type, "NULL")
        assert connection.execute(f"{query} FROM (SELECT {empty}::{duckdb_type} AS c)").fetchall() == [(None, None)]
