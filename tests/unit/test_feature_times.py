"""Features that are times: each type that a source may have becomes an instant."""

from datetime import UTC, datetime

import pandas as pd
import pytest

from pipeline.data import feature_times, sql
from pipeline.settings.source import Source
from pipeline.settings.training import Training

SOURCE = Source(files=["rows.parquet"], event_time="at", window_days=1)
TRAINING = Training(task="binary", target="y", datetime=["since"])


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Berlin"])
def test_times_of_parquet_are_instants_in_any_precision(tmp_path, unit, zone):
    """pandas writes nanoseconds: with a zone DuckDB has a type of its own for them, and what is finer than a microsecond is cut."""
    times = pd.Series(pd.to_datetime(["2024-02-01 10:00:00.0000009", "1969-12-31 23:59:59", None], format="ISO8601"))
    times = times.dt.as_unit(unit) if zone is None else times.dt.tz_localize("UTC").dt.tz_convert(zone).dt.as_unit(unit)
    pd.DataFrame({"since": times}).to_parquet(tmp_path / "rows.parquet")
    with sql.connect(tmp_path) as connection:
        connection.execute("CREATE TEMP TABLE rows AS SELECT * FROM 'rows.parquet'")
        feature_times.read(connection, SOURCE, TRAINING, "churn")
        found = [instant for (instant,) in connection.execute("SELECT since FROM rows").fetchall()]
    assert found == [datetime(2024, 2, 1, 10, tzinfo=UTC), datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC), None]
