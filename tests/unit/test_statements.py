"""A query may attach a database before it reads, for `init`, for a run's source and for scoring."""

import duckdb
import pandas as pd
import pytest

from pipeline.data import source, statements
from pipeline.data.sql import connect
from pipeline.errors import DataError
from pipeline.init.request import Request
from pipeline.init.run import init
from pipeline.settings.models import load
from tests.unit.test_init import PARAMS

ROWS = 400


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project with the database `shop.duckdb`, from another folder than its own."""
    (tmp_path / "params.yaml").write_text(PARAMS)
    (tmp_path / "elsewhere").mkdir()
    frame = pd.DataFrame(
        {
            "seen_at": pd.date_range("2024-01-01", periods=ROWS, freq="h", tz="UTC").as_unit("us"),
            "spend": [float(i % 37) for i in range(ROWS)],
            "left": [i % 37 + i * 31 % 23 > 30 for i in range(ROWS)],
        }
    )
    with duckdb.connect(str(tmp_path / "shop.duckdb")) as database:
        database.register("frame", frame)
        database.execute("CREATE TABLE orders AS SELECT * FROM frame")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def rows_of(model, project):
    with connect(project) as connection:
        for _ in range(2):
            source.load(
                connection, model.source, model.training, pd.Timestamp("2024-01-03", tz="UTC"), model.as_of, "shop"
            )
        return connection.execute("SELECT count(*) FROM rows").fetchone()[0]


@pytest.mark.parametrize(
    "data",
    [
        "shop.duckdb",
        "ATTACH 'shop.duckdb' AS s (READ_ONLY); SELECT * FROM s.orders;",
        "attach 'shop.duckdb' as s (read_only); use s; from orders",
    ],
)
def test_a_table_of_a_database_becomes_a_source_that_can_be_asked_again(project, monkeypatch, data):
    """Of a file with one table, or after ATTACH and USE: the block's query gives the window's rows, from any folder, each time."""
    init(Request("shop", data, "left"), project, False)
    monkeypatch.chdir(project / "elsewhere")
    assert rows_of(load(project).models["shop"], project) == ROWS - 48


def test_a_database_with_several_tables_is_refused_with_their_names(project):
    """The message has the statement that says which."""
    with duckdb.connect("shop.duckdb") as database:
        database.execute("CREATE TABLE refunds (x INTEGER)")
    with pytest.raises(DataError, match=r"2 tables: orders, refunds; say which: --data \"ATTACH 'shop.duckdb' AS d"):
        init(Request("shop", "shop.duckdb", "left"), project, True)


@pytest.mark.parametrize(
    ("query", "before", "last"),
    [
        ("SELECT 1;", "", "SELECT 1"),
        ("SELECT ';' AS x", "", "SELECT ';' AS x"),
        ("ATTACH 'a;b' AS t; SELECT 1", "ATTACH IF NOT EXISTS 'a;b' AS t", "SELECT 1"),
        ("ATTACH IF NOT EXISTS 'a' AS t; LOAD x; SELECT 1", "ATTACH IF NOT EXISTS 'a' AS t;\nLOAD x", "SELECT 1"),
        ("SELEC 1; SELECT 2", "", "SELEC 1; SELECT 2"),
    ],
)
def test_the_last_statement_is_the_query(query, before, last):
    """What is before it can be done again; what DuckDB cannot parse is left to DuckDB's own message."""
    assert statements.split(query, "k") == (before, last)


def test_a_query_changes_nothing():
    """A statement that would is refused by its kind before any is run."""
    with pytest.raises(DataError, match="k: has DROP before its last statement"):
        statements.split("ATTACH 'a' AS t; DROP TABLE t.x; SELECT 1", "k")
