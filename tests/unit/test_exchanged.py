"""Two columns that were exchanged are named, whatever each of them is alone."""

import json
from datetime import timedelta

import numpy as np
import pandas as pd
import pytest

from pipeline.monitoring import drift_exchanged, exchanged
from pipeline.monitoring.domain_classifier import Block
from pipeline.monitoring.drift import DriftVerdict
from pipeline.monitoring.exchanged import Exchanges
from pipeline.monitoring.file_drift import compare_files
from pipeline.monitoring.skew import looked_for
from pipeline.settings.models import DriftLimits

COLUMNS = ["gross", "net", "rate", "noise"]


def rows(count, seed):
    """The net is a part of the gross, told by the rate; gross and noise have the same values on either side of a level that wanders."""
    random = np.random.default_rng(seed)
    level = np.repeat(random.normal(0, 0.3, 26), -(-count // 26))[:count]
    gross = random.normal(0, 1, count) + level
    rate = random.uniform(0.2, 0.9, count)
    net = gross * rate + random.normal(0, 0.05, count)
    return pd.DataFrame({"gross": gross, "net": net, "rate": rate, "noise": random.normal(0, 1, count)})


def swapped(table, first, second):
    return table.rename(columns={first: second, second: first})[list(table.columns)]


@pytest.fixture(scope="module")
def learnt():
    return drift_exchanged.of_table(rows(2_600, 1), None, COLUMNS)


def test_two_exchanged_columns_are_named_and_a_quiet_window_names_none(learnt):
    """Each two of three columns that say something of each other, in few rows."""
    quiet = rows(300, 2)
    assert learnt.judged(quiet).told == []
    for pair in (("gross", "net"), ("gross", "rate"), ("net", "rate")):
        found = learnt.judged(swapped(quiet, *pair)).told
        assert [e.columns for e in found] == [pair]
        assert found[0].probability > 0.5 and found[0].reason.startswith(
            "they look exchanged: a row has them exchanged"
        )


def test_a_season_that_was_not_learnt_from_is_no_exchange():
    """After a winter a summer's temperatures fit the humidity's place better, but its humidity was never in that of the temperature."""
    winter, summer = weather(2_600, 35, 1), weather(600, 78, 2)
    learnt = drift_exchanged.of_table(winter, None, ["temp", "humid"])
    assert learnt.judged(summer).told == []
    (told,) = learnt.judged(swapped(weather(600, 35, 3), "temp", "humid")).told
    assert told.columns == ("temp", "humid")


def weather(count, degrees, seed):
    """The temperature's level wanders from block to block; it is damper when it is colder than usual."""
    random = np.random.default_rng(seed)
    temp = degrees + np.repeat(random.normal(0, 7, 26), -(-count // 26))[:count] + random.normal(0, 6, count)
    return pd.DataFrame({"temp": temp, "humid": 65 - (temp - degrees) + random.normal(0, 10, count)})


def test_a_column_that_is_stuck_is_no_exchange():
    """A value that fits another column better is no value of it when all rows have it; one that most rows have anyway still is."""
    random = np.random.default_rng(4)
    table = pd.DataFrame({"level": random.normal(10, 2, 3_000), "count": random.gamma(2, 3, 3_000)})
    rain = np.where(random.random(3_000) < 0.9, 0.0, random.gamma(2, 3, 3_000))
    learnt = drift_exchanged.of_table(table.assign(rain=rain), None, ["level", "count", "rain"])
    now = table[:600].assign(rain=0.0)
    found = learnt.judged(now.assign(level=0.0))
    assert found.told == [] and "put back they are not where the reference was" in "".join(
        e.reason for e in found.found
    )
    assert [fault.columns for fault in learnt.judged(swapped(now, "level", "rain")).told] == [("level", "rain")]


def test_a_column_with_one_value_where_the_other_has_any_is_not_stuck():
    """Gusts of one hour, in which the other column has one value, are put back as those of any hour."""
    random = np.random.default_rng(5)
    learnt = pd.DataFrame({"dew": np.repeat(random.normal(45, 19, 300), 10)})
    learnt["gust"] = np.where(learnt.index % 100 < 30, np.repeat(random.normal(25, 3, 300), 10), np.nan)
    now = learnt[:600].assign(gust=np.nan)
    now.loc[:29, "dew"], now.loc[:29, "gust"] = 41.0, random.normal(20, 3, 30)
    found = drift_exchanged.of_table(learnt, None, ["dew", "gust"])
    assert found.judged(now).told == []
    assert [fault.columns for fault in found.judged(swapped(now, "dew", "gust")).told] == [("dew", "gust")]


def test_two_columns_of_one_law_have_no_verdict_and_are_said_so():
    """Nobody can tell them apart: no exchange of them is named, and the reason says which pairs these are."""
    random = np.random.default_rng(3)
    table = pd.DataFrame(random.normal(size=(2_600, 5)), columns=list("abcde"))
    found = drift_exchanged.of_table(table, None, list("abcde"))
    now = swapped(table.head(500), "a", "b")
    assert len(found.exchanges.alike) == 10
    calm = DriftVerdict("no drift", "0 of 5 features moved", 900, 900)
    said = drift_exchanged.with_named(calm, found.judged(now), DriftLimits(), {})
    assert said.verdict == "no drift"
    assert said.reason == (
        "0 of 5 features moved; no verdict on an exchange of a and b, of a and c, of a and d, of 7 more pairs: "
        "rows fit about as well either way"
    )


def test_the_verdict_has_one_more_feature_for_two_that_were_exchanged(learnt):
    """It is drift, or what features_limit makes of it; its importance is that of the one that matters more, and other columns are not judged."""
    looked = learnt.judged(swapped(rows(300, 2), "gross", "net"))
    calm = DriftVerdict("no drift", "0 of 4 features moved", 900, 900)
    verdict = drift_exchanged.with_named(calm, looked, DriftLimits(), {"gross": 0.1, "net": 0.4})
    assert (verdict.verdict, [f.feature for f in verdict.moved]) == ("drift", ["the places of gross and net"])
    assert verdict.moved[0].importance == 0.4 and verdict.moved[0].judged
    assert verdict.reason.startswith(
        "0 of 4 features moved; the places of gross and net changed (they look exchanged: "
    )
    two = DriftLimits(features_limit=2)
    assert drift_exchanged.with_named(calm, looked, two, {}).verdict == "no drift"
    # What the source's rows show of the same two, for the question on which side the change is.
    quiet = learnt.judged(rows(300, 2))
    there = drift_exchanged.with_named(calm, quiet, DriftLimits(), {}, ["the places of gross and net"])
    assert [(f.feature, f.moved, f.judged) for f in there.features] == [("the places of gross and net", False, True)]


def test_an_exchange_that_the_source_does_not_show_is_on_the_serving_side(learnt):
    """The source's rows of the same days are asked for the same two columns."""
    source = rows(300, 2).assign(event_time=pd.date_range("2024-07-01", periods=300, freq="20min", tz="UTC"))
    calm = DriftVerdict("no drift", "0 of 4 features moved", 900, 900)
    place = "the places of gross and net"

    def compare(table):
        return drift_exchanged.with_named(calm, learnt.judged(table), DriftLimits(), {}, [place])

    requests = swapped(source, "gross", "net")
    given = compare, timedelta(0), 200
    assert looked_for(compare(requests), requests, source, *given).serving == (place,)
    assert looked_for(compare(requests), requests, requests, *given).source == (place,)


def test_what_was_learnt_is_kept_by_the_digest_of_the_rows(tmp_path):
    """A second look takes it from the file; another version, another span of days and a damaged file are learnt anew."""
    table = rows(1_300, 1).assign(at=pd.date_range("2024-01-01", periods=1_300, freq="3h", tz="UTC"))
    kept, week = tmp_path / "profiles" / "churn.exchanged.json", table["at"].tail(60)
    given = table, "at", COLUMNS

    def learnt_for(now, digest):
        found = drift_exchanged.of_reference(*given, now, kept, digest)
        return found, kept.stat().st_mtime_ns

    first, made = learnt_for(week, "d1")
    again, same = learnt_for(week, "d1")
    looks = [[fault.probability for fault in of.judged(table.tail(200)).found] for of in (first, again)]
    assert made == same and looks[0] == pytest.approx(looks[1], abs=1e-4)
    _, by_day = learnt_for(week.tail(3), "d1")
    _, other = learnt_for(week, "d2")
    kept.write_text(kept.read_text()[:-40])
    _, anew = learnt_for(week, "d2")
    assert made < by_day < other < anew
    assert json.loads(kept.read_text())["of"]["days"] == exchanged.WEEK


def test_odd_columns_end_nothing():
    """Columns without values, of one value, with infinities, and too few rows or blocks have no pair; the others have."""
    table = rows(2_600, 1).assign(empty=np.nan, same=1.0)
    table["noise"] = table["noise"].where(table.index % 7 > 0, np.inf)
    found = drift_exchanged.of_table(table, None, list(table.columns))
    assert not any("empty" in pair for pair in found.exchanges.pairs)
    now = swapped(table.tail(400), "gross", "net")
    assert ("gross", "net") in [fault.columns for fault in found.judged(now).told]
    assert found.judged(now.head(10)).found == []
    values = table[COLUMNS].to_numpy()
    few = Exchanges(Block(values, np.zeros(len(values), int)), COLUMNS)
    assert not few.pairs and not few.alike


def rain(count, seed):
    """In most rows it is dry."""
    random = np.random.default_rng(seed)
    wet = random.random(count) < 0.05
    amount = random.exponential(0.2, count).round(2) + 0.01
    return pd.DataFrame({"rain": np.where(wet, amount, 0.0), "heat": random.normal(50, 9, count)})


@pytest.mark.parametrize(
    ("column", "factor", "said"),
    [("rain", 60, "multiplied by 60"), ("heat", 1 / 1000, "divided by 1000"), ("heat", 60, "multiplied by 60")],
)
def test_another_unit_is_named_with_its_factor(column, factor, said):
    """Though most rows are 0, which no factor changes; a quiet window names none."""
    found, now = drift_exchanged.of_table(rain(5_200, 1), None, ["rain", "heat"]), rain(1_500, 2)
    assert found.judged(now).told == []
    (told,) = found.judged(now.assign(**{column: now[column] * factor})).told
    assert told.feature == f"the unit of {column}" and told.columns == (column,)
    assert told.reason.startswith("it looks ") and said in told.reason


def test_a_window_without_enough_values_has_no_verdict_on_their_unit():
    """A dry one says nothing of how rain is measured, and neither does one shower; nor a column as wide as all factors."""
    table = rain(5_200, 1).assign(wide=10 ** np.random.default_rng(4).uniform(-30, 30, 5_200))
    found = drift_exchanged.of_table(table, None, ["rain", "wide"])
    now = table.tail(900)
    for dry in (now.assign(rain=0.0), now.assign(rain=np.where(np.arange(900) < 40, 0.7, 0.0))):
        looked = found.judged(dry)
        assert looked.told == []
        assert "no verdict on the unit of wide, of rain: too few values tell of it" in looked.unjudged


def test_two_tables_have_it_too(tmp_path):
    """The command on two files names the two columns."""
    before = rows(2_600, 1)
    before.to_parquet(tmp_path / "a.parquet")
    swapped(rows(600, 2), "gross", "noise").to_parquet(tmp_path / "b.parquet")
    verdict = compare_files(tmp_path / "a.parquet", tmp_path / "b.parquet").drift
    assert verdict.verdict == "drift" and "the places of gross and noise changed" in verdict.reason
