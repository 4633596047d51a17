"""Which numbers float32 cannot hold, and what a request may say of them."""

import duckdb
import numpy as np
import pandas as pd
import pytest

from harness.project import churn_rows
from pipeline.data import drawn_precision
from pipeline.errors import StageError
from pipeline.serving import forms
from pipeline.serving.errors import BadRequest
from pipeline.serving.identity import Identity
from pipeline.serving.schema import Column, Reader, Schema
from pipeline.training import fit

ROWS = 20_000
SOME = np.random.default_rng(3)
WHOLE = SOME.integers(0, 10**6, ROWS)
FRACTION = SOME.random(ROWS)
# 3 % of the rows.
FEW = SOME.random(ROWS) < 0.03
HELD = {
    "fractions": FRACTION,
    "normal": SOME.normal(size=ROWS),
    "up to 2^24": WHOLE.astype(float) * 16,
    "bytes of files": np.floor(np.exp(SOME.normal(18, 1.5, ROWS))),
    "cents up to 50 million": FRACTION.round(2) * 5e7,
    "ids all over 1e9 to 2e9": 1e9 + WHOLE * 1000.0,
    "999999999 for a missing value": np.where(FEW, 999_999_999, WHOLE % 10),
    "one value": np.full(ROWS, 0.1),
    "seconds since 1970, 90 days": 1.7e9 + WHOLE * 7.0,
    "longitude within 10 km": 151.2 + FRACTION / 10,
    "pressure": np.round(101_325 + FRACTION * 100, 2),
    "missing": np.full(ROWS, np.nan),
    "one row beyond float32": np.where(np.arange(ROWS) == 5, 1e39, WHOLE),
}
LOST = {
    "ids from 1e9": 1e9 + WHOLE % 2000,
    "ids from -1e9": -1e9 - WHOLE % 2000,
    "ids from 17 million": 17e6 + WHOLE % 40,
    "ids of 3 % of the rows": np.where(FEW, 1e9 + WHOLE % 100, 0),
    "a shop and a code": WHOLE % 20 * 1e8 + WHOLE // 20 % 100,
    "days as 20240131": pd.Series(pd.Timestamp("2024-01-01") + pd.to_timedelta(WHOLE % 90, "D"))
    .dt.strftime("%Y%m%d")
    .astype(float)
    .to_numpy(),
    "1e6 +- 1": 1e6 + FRACTION * 2 - 1,
    "1e6 +- 1 in tenths, which float32 moves and does not merge": 1e6 + np.round(FRACTION * 2 - 1, 1),
    "all beyond float32": 1e39 * (1 + FRACTION),
}


@pytest.fixture(scope="module")
def drawn():
    """The precision that is drawn from a column of these values; one connection does for all, which takes longer to open than to ask."""
    with duckdb.connect() as connection:

        def of(values, threads=1):
            connection.execute(f"SET threads = {threads}")
            frame = pd.DataFrame({"the x": np.asarray(values, "float64")}).reset_index(names="key")
            connection.register("given", frame)
            connection.execute("CREATE OR REPLACE TABLE landing AS SELECT * FROM given")
            return drawn_precision.precisions(connection, [Column("the x")])["the x"]

        yield of


@pytest.mark.parametrize("name", [*HELD, *LOST])
def test_a_column_is_float64_where_float32_loses_what_a_model_could_learn(name, drawn, monkeypatch):
    """Codes that become one number and fractions that move against their neighbours are seen, and ordinary columns stay float32."""
    values = {**HELD, **LOST}[name]
    assert drawn(values) == ("float32" if name in HELD else "float64")
    # Neither the order of rows nor threads nor how many of the rows are looked at decide.
    monkeypatch.setattr(drawn_precision, "SOME_ROWS", 4000)
    assert drawn(values[::-1], threads=4) == drawn(values)


@pytest.mark.parametrize(("days", "precision"), [(30, "float32"), (7, "float32"), (0.5, "float64")])
def test_times_are_float64_where_a_minute_and_a_half_counts(days, precision):
    """A model gets a time as days since 2000, which float32 has to 84 seconds: enough for a week, not for half a day."""
    times = pd.Timestamp("2024-02-01", tz="UTC") + pd.to_timedelta(FRACTION * days, "D")
    with duckdb.connect() as connection:
        connection.register("given", pd.DataFrame({"seen": times.as_unit("us")}).reset_index(names="key"))
        connection.execute("CREATE TABLE landing AS SELECT * FROM given")
        assert drawn_precision.precisions(connection, [Column("seen", "datetime")]) == {"seen": precision}


def test_whole_numbers_that_a_double_merges_are_refused_by_name():
    """Of a BIGINT, or its texts, even float64 may lose the last digits; ids that only look so large are taken."""
    with duckdb.connect() as connection:
        connection.execute(
            "CREATE TABLE rows AS SELECT 1000000000000000000 + i % 100 AS code, i * 1000000000000000 AS hash, i AS small FROM range(1000) t(i)"
        )
        lost = {c: drawn_precision.lost_in_double(connection, c, "BIGINT") for c in ("code", "hash", "small")}
        texts = "(SELECT code || '' AS code, ' +' || hash AS hash, small / 3 || 'e' AS small FROM rows)"
        as_texts = {c: drawn_precision.lost_in_double(connection, c, "VARCHAR", texts) for c in lost}
    assert lost == as_texts == {"code": True, "hash": False, "small": False}


DOUBLE = Schema(
    (
        Column("id", precision="float64", min=1e9, max=1e9 + 40),
        Column("share", allowed=(0.1, 0.5)),
        Column("plan", "category"),
    ),
    "customer",
)
ROW = {"id": 1_000_000_001, "share": 0.1, "plan": "a"}


def infer(datatype, value, schema=DOUBLE):
    tensors = [
        {"name": "id", "datatype": datatype, "shape": [1], "data": [value]},
        {"name": "share", "datatype": "FP32", "shape": [1], "data": [float(np.float32(0.1))]},
        {"name": "plan", "datatype": "BYTES", "shape": [1], "data": ["a"]},
    ]
    body = forms.orjson.dumps({"inputs": tensors})
    return forms.infer(body, Reader(schema), 10, None, Identity("m", "1", "blue")).rows


def test_a_column_of_float64_is_read_as_it_is_and_any_other_as_before():
    """One matrix of float64: the other columns are rounded to float32 in it, so that a client's float32 0.1 is 0.1."""
    reader = Reader(DOUBLE)
    csv = forms.invocations(b"id,share,plan\n1000000001,0.1,a\n", reader, 10, b"text/csv").rows
    for rows in (
        reader.of_records([ROW]),
        reader.of_columns({k: [v] for k, v in ROW.items()}),
        csv,
        infer("INT64", 1_000_000_001),
    ):
        assert rows.numbers.dtype == "float64"
        assert rows.numbers.tolist() == [[1_000_000_001.0, float(np.float32(0.1))]]
    with pytest.raises(BadRequest, match="row 0: column id must be at most 1e"):
        reader.of_records([ROW | {"id": 1_000_000_041}])
    assert Reader(DOUBLE, "flag").of_records([ROW | {"id": 1_000_000_041}]).breaches.keys() == {0}


def test_a_float32_that_has_lost_digits_is_refused_by_name():
    """A v2 tensor of FP32 holds no id of ten digits; what it does hold is taken by its text."""
    with pytest.raises(
        BadRequest, match="row 0: column id must be sent as FP64, or as a whole number: digits of the 32 bit float"
    ):
        infer("FP32", 1e9)
    free = Schema((Column("id", precision="float64"), *DOUBLE.columns[1:]))
    assert infer("FP32", float(np.float32(1000000.3)), free).numbers[0, 0] == 1000000.3
    assert infer("FP64", 1e39, free).numbers[0, 0] == 1e39
    assert {c.name: c.datatype for c in DOUBLE.columns} == {"id": "FP64", "share": "FP32", "plan": "BYTES"}


def test_what_no_column_of_the_model_holds_is_refused():
    """A number beyond float32 is refused in a column of float32, also beside one of float64."""
    for schema in (DOUBLE, Schema((Column("id"), Column("share"), Column("plan", "category")))):
        with pytest.raises(BadRequest, match="row 0: column share must be a finite number"):
            Reader(schema).of_records([ROW | {"share": 1e39}])


def test_a_schema_says_float64_only_where_it_is():
    """The file of a schema without such a column is the one of before, and a file from before is float32."""
    assert Schema.from_json(DOUBLE.as_json()) == DOUBLE
    single = Schema((Column("spend"),))
    assert "precision" not in str(single.as_json())
    assert (single.precision, Schema.from_json(single.as_json()).precision, DOUBLE.precision) == (
        "float32",
        "float32",
        "float64",
    )


def test_a_forest_refuses_such_a_column_before_it_learns(settings):
    """scikit-learn's forests round to float32 themselves; the line names the column and what to do."""
    churn = settings.model("churn")
    forest = churn.model_copy(update={"training": churn.training.model_copy(update={"estimator": "random_forest"})})
    with pytest.raises(
        StageError,
        match="train: random_forest rounds its numbers to float32, which cannot hold spend; subtract an offset",
    ):
        fit.fit(churn_rows(churn), forest, ["spend"])


@pytest.mark.parametrize("row", [3, -1])
def test_a_number_that_is_too_large_is_named_before_the_fit(settings, row):
    """One row beyond float32, held out or not, does not make a column float64: it is named, with the rule that keeps it out."""
    churn = settings.model("churn")
    rows = churn_rows(churn)
    rows.loc[rows.index[row], "spend"] = -1e39
    with pytest.raises(
        StageError, match=r"spend is too large for float32, e.g. 1e\+39, in 1 of [\d,]+ rows; .*columns.spend.max"
    ):
        fit.fit(rows, churn)
