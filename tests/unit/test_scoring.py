"""An interval's rows are scored by one version and stand at the destination once, whole, with the refused ones beside them."""

import json
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from harness.ledgers import ledger_of
from harness.project import change_params, customers
from pipeline.context import Context
from pipeline.deployer.status import _newest_scored
from pipeline.errors import DataError, PerennialError, RegistryError, SettingsError
from pipeline.ledger.events import IntervalScored
from pipeline.ledger.rollout_events import RolloutEnded, Undeployed
from pipeline.runs import scoring
from pipeline.runs.scoring_interval import Interval
from pipeline.serving.runtime import Runtime
from pipeline.settings.environment import Environment
from pipeline.settings.models import load
from tests.unit.test_tasks import built, model_of, rows_of

FIRST, SECOND = Interval.of("2024-01-01/2024-01-02"), Interval.of("2024-01-02/2024-01-03")
QUERY = "SELECT * FROM read_parquet('customers/*.parquet') WHERE seen_at >= $start AND seen_at < $end"
WHERE = {
    "parquet": {"parquet": "scores"},
    "duckdb": {"duckdb": "scores.db", "table": "churn"},
    "sql": {"sql": "sqlite:///scores.sqlite", "table": "churn"},
}


class OnePackage:
    """A registry whose every version has that package."""

    def __init__(self, package):
        self.package = package

    def runtime(self, model, version, digest):
        return Runtime.load(self.package)


def read(kind, refused=False):
    """The rows at the destination, in order."""
    if kind == "parquet":
        read_file = (lambda path: pd.read_json(path, lines=True)) if refused else pd.read_parquet
        frame = pd.concat(read_file(path) for path in files("_refused.jsonl" if refused else "scores.parquet"))
    elif kind == "duckdb":
        with duckdb.connect("scores.db") as connection:
            frame = connection.execute(f"SELECT * FROM churn{'_refused' if refused else ''}").df()
    else:
        frame = pd.read_sql(
            f"SELECT * FROM churn{'_refused' if refused else ''}", sa.create_engine("sqlite:///scores.sqlite")
        )
    return frame.sort_values("row" if refused else "customer").reset_index(drop=True) if len(frame) else frame


def files(name):
    return sorted(Path("scores").glob(f"model=churn/*/{name}"))


@pytest.fixture
def scored(project, churn_package, tmp_path):
    """Scores an interval of `project`, of which version 3 is live; and the context, and how to set `scoring`."""
    ledger = ledger_of(tmp_path / "home")
    ledger.append(RolloutEnded(version="3", slot="blue", digest="d"), "churn")

    def score(interval, **more):
        context = Context(Environment.read().at(project, tmp_path / "home"), ledger)
        context.__dict__["registry"] = OnePackage(score.package)
        return scoring.score_interval(context, "run", "churn", interval, **more)

    score.ledger, score.package = ledger, churn_package
    score.set = lambda **given: change_params(project, "models.churn.scoring", {"cron": "@daily", **given})
    return score


@pytest.fixture
def one_kind(scored):
    """For what the destination has no part in."""
    scored.set(query=QUERY, destination=WHERE["parquet"])
    return "parquet"


@pytest.fixture(params=list(WHERE))
def kind(request, scored):
    scored.set(query=QUERY, destination=WHERE[request.param])
    return request.param


def test_each_row_of_the_interval_is_scored_once(scored, kind, churn_package):
    """The answers are those of the version, with the interval and the version in each row, however often it is scored."""
    for interval in (FIRST, SECOND, FIRST, FIRST):
        told = scored(interval)
        assert (told.rows_in, told.scored, told.refused, told.version) == (60, 60, 0, "3")
    rows = read(kind)
    expected = customers().head(120)
    assert rows["customer"].tolist() == expected["customer"].tolist()
    assert np.array_equal(rows["prediction"], Runtime.load(churn_package).predict_frame(expected))
    assert set(rows["version"]) == {"3"}
    starts = pd.to_datetime(rows["interval_start"], utc=True)
    assert starts.value_counts().tolist() == [60, 60]


OTHERS = {
    "classes": {},
    "number": {"task": "regression", "target": "spend", "numeric": ["calls"]},
    "times and words": {"task": "binary", "target": "left", "datetime": ["since"], "text": ["note"]},
}
METRICS = {"classes": "log_loss", "number": "mae", "times and words": "roc_auc"}


def with_more(rows):
    """The rows with a time, one of them missing, and a text."""
    since = pd.Timestamp("2023-03-26 01:30", tz="UTC") + pd.to_timedelta(np.arange(len(rows)), unit="h")
    return rows.assign(
        since=since.to_series(index=rows.index).where(rows.index != 3),
        note=np.where(rows["calls"] > 4, "an angry ä", "fine"),
    )


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    """The package of each of the models OTHERS."""
    folder, made = tmp_path_factory.mktemp("others"), {}
    for number, (name, training) in enumerate(OTHERS.items()):
        model = model_of(METRICS[name], options={"max_iter": 4}, **training)
        (folder / str(number)).mkdir()
        built(folder / str(number), model, with_more(rows_of(model)))
        made[name] = folder / str(number) / "package"
    return made


@pytest.mark.parametrize(
    ("other", "kind"),
    [*(("classes", kind) for kind in WHERE), ("number", "duckdb"), ("times and words", "sql")],
    indirect=["kind"],
)
def test_a_model_of_another_kind_is_scored_as_its_package_says(scored, kind, others, other, project):
    """The likeliest class and a column for each class, a number, and what times and words are worth; in = scored + refused."""
    frame = with_more(customers().head(60)).astype({"calls": object})
    expected = Runtime.load(others[other]).predict_frame(frame.drop(index=5).astype({"calls": float}))
    frame.loc[5, "calls"] = "many"
    frame.assign(calls=frame["calls"].astype(str).replace("nan", None)).to_parquet(
        project / "customers" / "all.parquet"
    )
    scored.package = others[other]
    told = scored(FIRST)
    assert (told.rows_in, told.scored, told.refused) == (60, 59, 1)
    assert told.first_reason.startswith("row 5: column calls must be a number; got")
    rows = read(kind)
    assert rows["customer"].tolist() == frame["customer"].drop(index=5).tolist()
    if other != "classes":
        assert np.array_equal(rows["prediction"], expected)
        return
    names = ["high", "low", "mid"]
    assert np.array_equal(rows[[f"probability_{name}" for name in names]].to_numpy(), expected)
    assert rows["prediction"].tolist() == [names[place] for place in expected.argmax(axis=1)]


def test_refused_rows_are_kept_with_their_reasons(scored, kind, project):
    """A row that the slot would refuse stands beside the output with its number, its reason and its cells: in = scored + refused."""
    frame = customers().head(60).astype({"plan": object})
    frame.loc[5, "spend"], frame.loc[7, "plan"], frame.loc[59, "spend"] = -1.0, "gold", np.inf
    frame.to_parquet(project / "customers" / "all.parquet")
    for _ in range(2):
        told = scored(FIRST)
        assert (told.rows_in, told.scored, told.refused) == (60, 57, 3)
    assert told.first_reason.startswith("row 5: column spend ")
    assert len(read(kind)) == 57
    refused = read(kind, refused=True)
    assert refused["row"].tolist() == [5, 7, 59]
    assert [reason.split()[1] for reason in refused["reason"]] == ["spend", "plan", "spend"]
    assert [json.loads(cells)["customer"] for cells in refused["cells"]] == ["c000005", "c000007", "c000059"]


def test_rows_that_left_the_source_leave_the_output(scored, kind, project):
    """A second run replaces the interval: a row that is no longer in the source is no longer in the output, other intervals stay."""
    scored(FIRST), scored(SECOND)
    customers().iloc[10:].to_parquet(project / "customers" / "all.parquet")
    scored(FIRST)
    assert read(kind)["customer"].tolist() == customers()["customer"][10:120].tolist()


def test_an_empty_interval_has_no_rows_and_says_so(scored, kind):
    """Of an interval without rows the output has none, in the columns of the others, and the event says so."""
    empty = Interval.of("2030-01-01/2030-01-02")
    told = scored(empty)
    assert (told.rows_in, told.scored) == (0, 0)
    assert "no rows to score" in told.sentence()
    assert len(read(kind)) == 0
    scored(FIRST)
    assert len(read(kind)) == 60


def test_all_rows_refused_is_no_crash(scored, one_kind, project):
    """An interval of nothing but refused rows is scored: all of them are kept, and the output has none."""
    customers().head(60).assign(spend=-1.0).to_parquet(project / "customers" / "all.parquet")
    told = scored(FIRST)
    assert (told.rows_in, told.scored, told.refused) == (60, 0, 60)
    assert (len(read(one_kind)), len(read(one_kind, refused=True))) == (0, 60)


def test_cells_that_are_no_value_are_refused_row_by_row(scored, one_kind, project, monkeypatch):
    """Of a column of texts only the rows whose text is no number are refused, in blocks of any size, and the others have their answers."""
    monkeypatch.setattr(scoring, "BLOCK_ROWS", 16)
    texts = [str(v) if i % 7 else "many" for i, v in enumerate(customers().head(60)["spend"])]
    customers().head(60).assign(spend=texts).to_parquet(project / "customers" / "all.parquet")
    told = scored(FIRST)
    assert (told.rows_in, told.refused) == (60, 9)
    assert read(one_kind, refused=True)["row"].tolist() == list(range(0, 60, 7))
    assert read(one_kind)["prediction"].notna().all()


def test_the_champion_of_the_moment_scores_and_is_named(scored, one_kind):
    """The next interval is scored by the version that is live then, and both are told apart."""
    scored(FIRST)
    scored.ledger.append(RolloutEnded(version="4", slot="green", digest="e"), "churn")
    scored(SECOND)
    assert read(one_kind).groupby("version").size().to_dict() == {"3": 60, "4": 60}


def test_an_interval_that_is_scored_late_may_have_the_champion_of_its_end(scored, one_kind):
    """With `of_interval`; before anything was live it is the version that is live now, as it is everywhere by default."""
    ended = Interval(datetime(2026, 1, 1, tzinfo=UTC), datetime.now(UTC))
    scored.ledger.append(RolloutEnded(version="4", slot="green", digest="e"), "churn")
    assert scored(ended).version == "4"
    scored.set(query=QUERY, destination=WHERE[one_kind], champion="of_interval")
    assert (scored(ended).version, scored(FIRST).version) == ("3", "4")


def test_without_a_query_the_models_own_rows_are_scored(scored, project):
    """Without scoring.query the rows are the source's in the interval, read as training reads them; labels play no part."""
    scored.set(destination=WHERE["parquet"])
    change_params(
        project, "models.churn.source.query", "SELECT * FROM read_parquet('customers/*.parquet') WHERE $start < $end"
    )
    frame = customers().head(120).assign(left=np.nan)
    frame["decided_at"] = frame["decided_at"].where(frame["left"].notna())
    texts = frame["spend"].astype(str)
    texts[61] = "much"
    frame.assign(spend=texts).to_parquet(project / "customers" / "all.parquet")
    told = scored(SECOND)
    assert (told.rows_in, told.refused, told.first_reason) == (
        60,
        1,
        "row 1: column spend must be a number; got 'much'",
    )
    assert set(read("parquet").columns) == {
        "interval_start",
        "interval_end",
        "customer",
        "seen_at",
        "prediction",
        "version",
    }


def test_rows_without_a_key_are_numbered(scored):
    """Rows without key and time are told apart by their number in the interval."""
    scored.set(query=f"SELECT spend, calls, plan FROM ({QUERY})", destination=WHERE["parquet"])
    scored(FIRST)
    assert pd.read_parquet(files("scores.parquet")[0])["row"].tolist() == list(range(60))


def test_breaches_are_flagged_where_the_slot_flags_them(scored, project):
    """With rollout.serving.on_breach: flag a row that breaks a rule is scored, and the output names the rule."""
    scored.set(
        query=QUERY.replace("*", "* REPLACE (if(customer = 'c000003', -1, spend) AS spend)", 1),
        destination=WHERE["parquet"],
    )
    change_params(project, "models.churn.rollout.serving", {"on_breach": "flag"})
    assert scored(FIRST).refused == 0
    breaches = read("parquet").set_index("customer")["breaches"]
    assert breaches.notna().sum() == 1 and "spend" in breaches["c000003"]


def test_it_needs_a_champion(scored, one_kind):
    """Without a live version it fails in one line, and the destination stays as it is."""
    scored(FIRST)
    scored.ledger.append(Undeployed(version="3"), "churn")
    with pytest.raises(RegistryError, match="model churn: has no live version to score with; deploy one"):
        scored(FIRST)
    assert len(read(one_kind)) == 60


def test_a_fault_leaves_what_was_there(scored, kind, monkeypatch):
    """A source that fails in the middle leaves the interval's earlier answers."""
    scored(FIRST)
    monkeypatch.setattr(scoring, "BLOCK_ROWS", 7)
    broken = QUERY.replace("*", "* REPLACE (if(customer = 'c000040', error('torn'), spend) AS spend)", 1)
    scored.set(query=broken, destination=WHERE[kind])
    with pytest.raises(DataError, match=r"models\.churn\.scoring\.query: .*torn"):
        scored(FIRST)
    assert len(read(kind)) == 60


def test_the_ledger_and_status_have_the_interval(scored, one_kind):
    """The event has interval, version, counts and cost; status tells the newest interval."""
    scored(SECOND), scored(FIRST)
    entries = scored.ledger.events(IntervalScored, model="churn")
    event = entries[-1].event
    assert (entries[-1].run, event.interval_start, event.interval_end) == (
        "run",
        "2024-01-01T00:00:00Z",
        "2024-01-02T00:00:00Z",
    )
    assert event.cost > 0 and event.currency == "USD" and event.digest == "d"
    newest = _newest_scored(scored.ledger, ["churn"])["churn"]
    assert newest.startswith(
        "interval 2024-01-02T00:00:00Z to 2024-01-03T00:00:00Z: 60 rows in = 60 scored with version 3 + 0 refused"
    )
    assert newest.endswith(" USD")


def test_a_table_of_another_program_is_left_alone(scored):
    """A table without scoring's own columns is refused by name, and keeps its rows."""
    with duckdb.connect("scores.db") as connection:
        connection.execute("CREATE TABLE churn AS SELECT 1 AS mine")
    scored.set(query=QUERY, destination=WHERE["duckdb"])
    with pytest.raises(PerennialError, match="table churn is another program's"):
        scored(FIRST)
    with duckdb.connect("scores.db") as connection:
        assert connection.execute("SELECT * FROM churn").fetchall() == [(1,)]


@pytest.mark.parametrize("kind", ["duckdb", "sql"])
def test_columns_that_come_later_are_added(scored, kind):
    """A version that gives more columns than the table has gets them; older rows have none there."""
    scored.set(query=f"SELECT spend, calls, plan, customer FROM ({QUERY})", destination=WHERE[kind])
    scored(FIRST)
    scored.set(query=QUERY, destination=WHERE[kind])
    scored(SECOND)
    assert read(kind)["seen_at"].notna().sum() == 60


def test_two_models_share_a_destination(scored, kind, project, churn_package):
    """The rows of another model with the same interval stay."""
    block = load(project).models["churn"].model_dump(mode="json", exclude_unset=True)
    change_params(project, "models.other", block)
    scored(FIRST)
    context = Context(Environment.read().at(project, project / "home"), scored.ledger)
    context.__dict__["registry"] = OnePackage(churn_package)
    scored.ledger.append(RolloutEnded(version="9", slot="blue", digest="d"), "other")
    scoring.score_interval(context, "run", "other", FIRST)
    assert len(read(kind)) == (60 if kind == "parquet" else 120)


def test_without_the_section_there_is_nothing_to_score(scored):
    """A model without `scoring` is told what to add."""
    with pytest.raises(SettingsError, match=r"models.churn.scoring: is not set.*cron: .*destination: "):
        scored(FIRST)


def test_a_databases_address_may_be_in_the_environment(scored, monkeypatch, tmp_path):
    """$NAME is the environment's variable, airflow:ID the connection that Airflow or AIRFLOW_CONN_ID has."""
    scored.set(query=QUERY, destination={"sql": "$SCORES_URL", "table": "churn"})
    with pytest.raises(PerennialError, match="the environment has no variable SCORES_URL"):
        scored(FIRST)
    monkeypatch.setenv("SCORES_URL", "sqlite:///scores.sqlite")
    scored(FIRST)
    scored.set(query=QUERY, destination={"sql": "airflow:scores", "table": "churn"})
    with pytest.raises(PerennialError, match="the environment has no variable AIRFLOW_CONN_SCORES"):
        scored(SECOND)
    scored(SECOND, connection_url={"scores": "sqlite:///scores.sqlite"}.get)
    assert len(read("sql")) == 120


def test_parquet_readers_find_the_scores_alone(scored):
    """pandas and DuckDB read the folder as one data set, with the interval as a column, and no part or refused row is in their way."""
    scored.set(query=QUERY, destination=WHERE["parquet"])
    scored(FIRST), scored(SECOND)
    assert len(pd.read_parquet("scores")) == 120
    ((rows,),) = duckdb.sql("SELECT count(*) FROM read_parquet('scores/**/*.parquet')").fetchall()
    assert rows == 120
    assert set(pq.read_table("scores").column_names) >= {"model", "interval", "version"}
