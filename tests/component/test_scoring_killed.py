"""A scoring that is killed leaves the interval's old answers or the new ones; two at once come one after the other."""

import multiprocessing
import os
import time
from pathlib import Path

import duckdb
import pandas as pd
import psycopg2
import pytest

from harness.project import change_params
from pipeline.context import Context
from pipeline.ledger.rollout_events import RolloutEnded
from pipeline.runs import scoring
from pipeline.runs.scoring_interval import Interval
from pipeline.serving.runtime import Runtime

INTERVAL, ROWS = "2024-01-01/2024-01-02", 6_000
QUERY = """
SELECT customer || '-' || copy AS customer, seen_at, spend, calls, plan
FROM read_parquet('customers/*.parquet'), range(100) AS copies(copy) WHERE seen_at >= $start AND seen_at < $end
"""


class OnePackage:
    """A registry whose every version has that package."""

    def __init__(self, package):
        self.package = package

    def runtime(self, model, version, digest):
        return Runtime.load(self.package)


class Told:
    """A destination that says when it begins to replace."""

    def __init__(self, destination, begun):
        self.folder, self._replace, self._begun = destination.folder, destination.replace, begun

    def replace(self, interval, files):
        self._begun.set()
        self._replace(interval, files)


def scores(project, environment, package, version, interval, begun, counts):
    """In a process of its own: scores the interval with that version."""
    os.chdir(project)
    # The server's environment is that of whichever test started it, with that test's project.
    os.environ.clear()
    os.environ.update(environment)
    context = Context.here()
    context.ledger.append(RolloutEnded(version=version, slot="blue", digest="d"), "churn")
    context.__dict__["registry"] = OnePackage(package)
    made = scoring.destination_of
    scoring.destination_of = lambda *arguments: Told(made(*arguments), begun)
    counts.put(scoring.score_interval(context, version, "churn", Interval.of(interval)).scored)


class Run:
    """A scoring that is going on."""

    # From a process without threads: a fork of one with Arrow's threads hangs.
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload([__name__])

    def __init__(self, project, package, version, interval=INTERVAL):
        self.begun, self._counts = self.server.Event(), self.server.Queue()
        given = (project, dict(os.environ), package, version, interval, self.begun, self._counts)
        self.process = self.server.Process(target=scores, args=given)
        self.process.start()

    def scored(self):
        count = self._counts.get(timeout=60)
        self.process.join(120)
        assert self.process.exitcode == 0
        return count


@pytest.fixture(params=["parquet", "duckdb", "postgres"])
def rows_by_version(request, project, monkeypatch):
    """A project with that destination; how many rows of each version it has."""
    if request.param == "postgres":
        url = request.getfixturevalue("postgres").url
        monkeypatch.setenv("SCORES_URL", url)
        with psycopg2.connect(url) as connection:
            connection.cursor().execute("DROP TABLE IF EXISTS churn, churn_refused")
        connection.close()
    where = {
        "parquet": {"parquet": "scores"},
        "duckdb": {"duckdb": "scores.db", "table": "churn"},
        "postgres": {"sql": "$SCORES_URL", "table": "churn"},
    }
    given = {"cron": "@daily", "query": QUERY, "destination": where[request.param]}
    change_params(project, "models.churn.scoring", given)
    counted = "SELECT version, count(*) FROM {} GROUP BY version"

    def read():
        if request.param == "parquet":
            frames = [pd.read_parquet(path) for path in Path("scores").glob("*/*/scores.parquet")]
            return pd.concat(frames).groupby("version").size().to_dict()
        if request.param == "duckdb":
            with duckdb.connect("scores.db") as connection:
                return dict(connection.execute(counted.format("churn")).fetchall())
        with psycopg2.connect(os.environ["SCORES_URL"]) as connection, connection.cursor() as cursor:
            cursor.execute(counted.format("churn"))
            found = dict(cursor.fetchall())
        connection.close()
        return found

    return read


def test_a_kill_leaves_the_old_answers_or_the_new(rows_by_version, project, churn_package):
    """Killed at moments all over the replacement, the interval has all rows of one version; the next run makes it whole."""
    assert Run(project, churn_package, "1").scored() == ROWS
    newest = {"1"}
    for number, delay in enumerate((0.0, 0.005, 0.02, 0.05, 0.2), start=2):
        run = Run(project, churn_package, str(number))
        assert run.begun.wait(120)
        time.sleep(delay)
        run.process.kill()
        run.process.join()
        newest.add(str(number))
        found = rows_by_version()
        assert list(found.values()) == [ROWS] and set(found) <= newest, (delay, found)
    assert Run(project, churn_package, "9").scored() == ROWS
    assert rows_by_version() == {"9": ROWS}


def test_two_at_once_leave_each_row_once(rows_by_version, project, churn_package):
    """Two runs of one interval and one of the next, at the same time: each interval has its rows once."""
    runs = [Run(project, churn_package, "1", interval) for interval in (INTERVAL, INTERVAL, "2024-01-02/2024-01-03")]
    assert [run.scored() for run in runs] == [ROWS] * 3
    assert rows_by_version() == {"1": 2 * ROWS}
