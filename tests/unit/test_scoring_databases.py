"""What a destination's database cannot take is said in one line, with what to do instead."""

import pytest
import sqlalchemy as sa

from pipeline.runs.destinations.base import DestinationError
from pipeline.runs.destinations.sql_table import SqlTable

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
