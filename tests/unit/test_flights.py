"""The demo's warehouse: only what was known before departure, and labels that know when they became known."""

import pandas as pd
import pytest

from demo import flights
from harness.project import ROOT
from pipeline.settings.models import load


@pytest.fixture(scope="module")
def raw():
    return pd.read_csv(flights.source_folder() / "flights.csv.zip", usecols=["arr_delay"])


@pytest.fixture(scope="module")
def made():
    return flights.flights_of_2013(flights.source_folder())


def test_every_flight_is_there_once(raw, made):
    """Each flight of 2013 is in the warehouse once, ordered by departure."""
    assert len(made) == len(raw) == 336_776
    assert made.flight_id.is_unique
    assert made.scheduled_departure.is_monotonic_increasing


def test_late_is_more_than_fifteen_minutes_and_null_without_an_arrival(raw, made):
    """The label is an arrival delay over 15 minutes, and missing without an arrival."""
    assert made.late.isna().sum() == raw.arr_delay.isna().sum()
    assert made.late.sum() == (raw.arr_delay > 15).sum()
    assert made.landed_at.isna().equals(made.late.isna())


def test_nothing_known_only_after_departure_is_a_column(made):
    """No column or feature holds what is known only after departure."""
    assert not {"dep_delay", "dep_time", "air_time", "arr_time", "arr_delay", "tailnum"} & set(made.columns)
    features = load(ROOT).models["flight-delay"].training.features
    assert not {"late", "landed_at"} & set(features)


def test_weather_is_that_of_the_last_full_hour_before(made):
    """A 06:00 flight gets the weather of 05:00, and a 06:01 flight that of 06:00."""
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
    """Landing times follow timetable, time zones and delay."""
    took = (made.landed_at - made.scheduled_departure).dt.total_seconds().dropna() / 60
    assert took.min() > 10
    assert 100 < took.median() < 250
    first = made[made.flight_id == "20130101-UA1545-EWR0515"].iloc[0]
    assert first.landed_at == pd.Timestamp("2013-01-01 14:30", tz="UTC")  # 8:30 in Houston


def test_one_file_a_utc_day(made, tmp_path):
    """Flights are landed as one file for each UTC day."""
    some = made[made.scheduled_departure < "2013-01-04"]
    assert flights.land(some, tmp_path) == 3
    for file in tmp_path.glob("*.parquet"):
        assert set(pd.read_parquet(file).scheduled_departure.dt.strftime("%Y-%m-%d")) == {file.stem}
