"""The demo's warehouse: only what was known before departure, and labels that know when they became known."""

from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest
import yaml

from demo import flights
from pipeline.data import contract, snapshot
from pipeline.errors import StageError
from pipeline.gates import run
from pipeline.settings.models import load
from pipeline.training import fit
from pipeline.workspaces.dvc_graph import Artifacts, read_json
from tests.conftest import ROOT, make_project


@pytest.fixture(scope="module")
def raw():
    return pd.read_csv(flights.source_folder() / "flights.csv.zip")


@pytest.fixture(scope="module")
def made():
    return flights.flights_of_2013(flights.source_folder())


def test_every_flight_is_there_once(raw, made):
    assert len(made) == len(raw) == 336_776
    assert made.flight_id.is_unique
    assert made.scheduled_departure.is_monotonic_increasing


def test_late_is_more_than_fifteen_minutes_and_null_without_an_arrival(raw, made):
    assert made.late.isna().sum() == raw.arr_delay.isna().sum()
    assert made.late.sum() == (raw.arr_delay > 15).sum()
    assert made.landed_at.isna().equals(made.late.isna())


def test_nothing_known_only_after_departure_is_a_column(made):
    assert not {"dep_delay", "dep_time", "air_time", "arr_time", "arr_delay", "tailnum"} & set(made.columns)
    features = load(ROOT).models["flight-delay"].training.features
    assert not {"late", "landed_at"} & set(features)


def test_weather_is_that_of_the_last_full_hour_before(made):
    """A 06:00 flight gets the weather of 05:00, a 06:01 flight that of 06:00."""
    weather = pd.read_csv(flights.source_folder() / "weather.csv")
    weather["at"] = pd.to_datetime(weather.time_hour, utc=True)
    temp = weather.drop_duplicates(["origin", "at"]).set_index(["origin", "at"]).temp
    for minute, hours_back in ((0, 1), (1, 0), (30, 0)):
        some = made[made.scheduled_departure.dt.minute == minute].head(200)
        hour = some.scheduled_departure.dt.floor("h") - pd.Timedelta(hours=hours_back)
        expected = temp.reindex(pd.MultiIndex.from_arrays([some.origin, hour])).to_numpy()
        pd.testing.assert_series_equal(some.temp.reset_index(drop=True), pd.Series(expected), check_names=False)
    assert made.temp.notna().mean() > 0.99


def test_a_flight_lands_after_it_was_in_the_air(raw, made):
    """By timetable, time zones and delay; never sooner than take-off plus air time."""
    took = (made.landed_at - made.scheduled_departure).dt.total_seconds().dropna() / 60
    assert took.min() > 10
    assert 100 < took.median() < 250
    first = made[made.flight_id == "20130101-UA1545-EWR0515"].iloc[0]
    assert first.landed_at == pd.Timestamp("2013-01-01 14:30", tz="UTC")  # 8:30 in Houston


def test_one_file_a_utc_day(made, tmp_path):
    some = made[made.scheduled_departure < "2013-01-04"]
    assert flights.land(some, tmp_path) == 3
    for file in tmp_path.glob("*.parquet"):
        assert set(pd.read_parquet(file).scheduled_departure.dt.strftime("%Y-%m-%d")) == {file.stem}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project with the demo's own model and warehouse."""
    flights.main([str(ROOT / "warehouse" / "flights")])
    models = yaml.safe_load((ROOT / "params.yaml").read_text())["models"]
    made = make_project(tmp_path_factory.mktemp("flights") / "project", models)
    (made / "warehouse").symlink_to(ROOT / "warehouse")
    return made


def landed(project, as_of):
    """The model and its artifacts as of then, after the stages that make the data."""
    model = load(project).model("flight-delay").model_copy(update={"as_of": as_of})
    files = Artifacts(project, "flight-delay")
    files.folder.mkdir(parents=True, exist_ok=True)
    snapshot.take("flight-delay", model, project, files.snapshot, files.counts, project / "partitions.db")
    contract.check("flight-delay", model, files.snapshot, files.counts, files.quarantine, files.validation)
    return model, files


def monday(day):
    return datetime.fromisoformat(day).replace(tzinfo=UTC)


@pytest.mark.slow
@pytest.mark.parametrize(
    "day",
    ["2013-01-21", "2013-01-28", "2013-02-11", "2013-02-18", "2013-04-01", "2013-05-13", "2013-09-16", "2013-12-30"],
)
def test_every_week_of_the_year_can_be_backfilled(project, day):
    """The first week that leaves something to learn, blizzard and holes in the weather, the last one: right windows, gates passed."""
    as_of = monday(day)
    model, files = landed(project, as_of)
    days = sorted(file.stem for file in files.snapshot.iterdir())
    first = max(as_of - timedelta(days=90), monday("2013-01-01"))
    assert (days[0], days[-1]) == (f"{first:%Y-%m-%d}", f"{as_of - timedelta(days=1):%Y-%m-%d}")
    assert len(days) == (as_of - first).days
    told = run.data_verdicts(model, files)
    assert [str(v) for v in told if not v.passed] == []
    assert any("no verdict" in v.reason for v in told) == (day == "2013-01-21")
    if day == "2013-01-21":
        fit.fit(contract.kept_rows(files.snapshot, files.quarantine), model)


@pytest.mark.slow
@pytest.mark.parametrize("day", ["2013-01-07", "2013-01-14"])
def test_the_weeks_before_anything_can_be_learnt_are_refused_in_one_line(project, day):
    """All rows are in the held-out days: such a run of a backfill ends here, the others do not wait for it."""
    model, files = landed(project, monday(day))
    with pytest.raises(StageError, match=f"begins on 2013-01-01, so all .* in the 14 days held out before {day}"):
        fit.fit(contract.kept_rows(files.snapshot, files.quarantine), model)


@pytest.mark.slow
def test_the_day_that_the_weather_does_not_cover_is_refused_by_name(project):
    """The schedule has ended by then: only a run by hand gets here."""
    model, files = landed(project, monday("2014-01-01"))
    (failed,) = [v for v in run.data_verdicts(model, files) if not v.passed]
    assert "temp on 2013-12-31: 99% of 844 rows lack it" in failed.reason
    assert {gone["day"] for gone in read_json(files.validation)["missing"]} == {"2013-12-31"}
