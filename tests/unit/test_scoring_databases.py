"""What a destination's database cannot take is said in one line, with what to do instead."""

from types import SimpleNamespace

import pytest
import sqlalchemy as sa

from pipeline.runs.destinations import duckdb_file
from pipeline.runs.destinations.base import DestinationError
from pipeline.runs.destinations.select import destination_of
from pipeline.runs.destinations.sql_table import SqlTable
from pipeline.runs.scoring_interval import Interval
from pipeline.settings.scoring import Destination

KEY = "models.churn.scoring.destination.sql"


def test_a_database_without_its_driver_is_refused_with_what_to_install(tmp_path):
    """Not with its address and rights, which are not wrong."""
    with pytest.raises(
        DestinationError, match=rf"{KEY}: No module named 'MySQLdb'; install SQLAlchemy's driver for mysql"
    ):
        SqlTable("mysql://scores@db/scores", "churn", "churn", tmp_path, KEY)


def test_a_class_whose_column_the_database_would_cut_is_refused_by_name(tmp_path):
    """Postgres cuts names at 63 bytes without an error, and the next run would not find the column."""
    table = SqlTable(f"sqlite:///{tmp_path / 'scores.db'}", "churn", "churn", tmp_path, KEY)
    table._engine.dialect.max_identifier_length = 63
    column = f"probability_{'ö' * 26}"
    with (
        table._engine.begin() as connection,
        pytest.raises(DestinationError, match=rf"column {column} has a name of 64 bytes"),
    ):
        table._table_of(connection, "churn", {column: sa.Float(53)})


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///", "sqlite:///:memory:", "sqlite:///x?mode=memory&uri=true"])
def test_answers_are_not_kept_in_memory(tmp_path, url):
    """A SQLite address without a file is refused: the answers would be gone with the run that says it has written them."""
    context = SimpleNamespace(project=tmp_path, home=tmp_path / "home")
    with pytest.raises(DestinationError, match=rf"{KEY}: names no file of SQLite"):
        destination_of(context, "churn", Destination(sql=url, table="churn"))


@pytest.mark.parametrize("driver", ["sqlite", "sqlite+pysqlite"])
def test_a_file_of_sqlite_starts_at_the_project(tmp_path, driver):
    """With any of its drivers, from whichever folder a task runs in, and its folder is made, as that of a DuckDB file is."""
    context = SimpleNamespace(project=tmp_path, home=tmp_path / "home")
    table = destination_of(context, "churn", Destination(sql=f"{driver}:///new/folder/scores.db", table="churn"))
    with table._engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE t (a INT)"))
    assert (tmp_path / "new" / "folder" / "scores.db").is_file()


def test_only_a_lock_is_waited_for(tmp_path, monkeypatch):
    """A file that is no database is refused at once, also where "lock" is a part of its path."""
    file = tmp_path / "blocks.db"
    file.write_text("no database\n" * 1000)

    def waits(seconds):
        raise AssertionError("it waits")

    monkeypatch.setattr(duckdb_file.time, "sleep", waits)
    with pytest.raises(DestinationError, match="not a valid DuckDB database file"):
        duckdb_file.DuckdbFile(file, "t", "churn", tmp_path, KEY).replace(
            Interval.of("2024-01-01/2024-01-02"), tmp_path
        )
