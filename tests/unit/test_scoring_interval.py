"""What is said of a scoring before it begins: its interval, and the faults of the section `scoring`."""

from datetime import UTC, datetime

import croniter  # noqa: F401, not in a test: its import starts a process
import pytest

from harness.project import change_params
from pipeline.errors import SettingsError
from pipeline.runs.scoring_interval import Interval
from pipeline.settings.models import load


def test_the_interval_of_the_schedule():
    """Without an interval the last complete one of the schedule is scored."""
    at = datetime(2024, 3, 5, 12, tzinfo=UTC)
    assert str(Interval.last_complete("0 6 * * *", at)) == "2024-03-04T06:00:00Z/2024-03-05T06:00:00Z"
    on_time = datetime(2024, 3, 5, 6, tzinfo=UTC)
    assert str(Interval.last_complete("0 6 * * *", on_time)) == "2024-03-04T06:00:00Z/2024-03-05T06:00:00Z"


@pytest.mark.parametrize("written", ["2024-03-01", "2024-03-02/2024-03-01", "a/b"])
def test_an_interval_that_is_none_is_refused(written):
    """An interval is two times, the later one last."""
    with pytest.raises(SettingsError, match="write it like"):
        Interval.of(written)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"cron": "daily", "destination": {"parquet": "s"}}, "scoring.cron"),
        ({"query": "SELECT 1", "destination": {"parquet": "s"}}, r"must use \$start or \$end"),
        ({"destination": {}}, "give one of parquet, duckdb and sql"),
        ({"destination": {"parquet": "s", "duckdb": "t", "table": "t"}}, "give one of parquet, duckdb and sql"),
        ({"destination": {"duckdb": "t"}}, "duckdb and sql have one"),
        ({"destination": {"parquet": "s3://b"}}, "must be on a disk"),
        ({"destination": {"parquet": "."}}, "is the project's folder, or one around it"),
        ({"destination": {"parquet": "a/../.."}}, "is the project's folder, or one around it"),
        ({"destination": {"duckdb": "~/s.db", "table": "t"}}, "write the path in full"),
        ({"destination": {"sql": "postgresql://me:secret@db/x", "table": "t"}}, "has a password"),
        ({"destination": {"sql": "scores", "table": "t"}}, "must be a URL like"),
        ({"destination": {"duckdb": "t", "table": "a b"}}, "must be a table's name"),
        ({"destination": {"folder": "t"}}, "unknown key models.churn.scoring.destination.folder"),
    ],
)
def test_faults_of_the_section_are_told_at_load(project, given, told):
    """Each fault of `scoring` is told with its key when params.yaml is read, and a password is not repeated."""
    change_params(project, "models.churn.scoring", {"cron": "@daily", **given})
    with pytest.raises(SettingsError, match=told) as refused:
        load(project).model_of_a_run("churn")
    assert "secret" not in str(refused.value)


def test_a_key_called_as_a_column_of_the_output_is_refused(project):
    """The key may not have the name of a column that scoring adds."""
    change_params(project, "models.churn.source.key", "version")
    change_params(project, "models.churn.scoring", {"cron": "@daily", "destination": {"parquet": "s"}})
    with pytest.raises(SettingsError, match=r"models.churn.source.key: version is a column that scoring adds"):
        load(project).model_of_a_run("churn")
