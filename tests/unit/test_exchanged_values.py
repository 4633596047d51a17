"""Two values of a category that were exchanged with each other are found by what goes with them."""

import json
from copy import copy
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from pipeline.monitoring import drift_exchanged, exchanged_values
from pipeline.monitoring.drift import Window, compare
from pipeline.monitoring.profiles.in_memory import profile_of
from pipeline.monitoring.profiles.reference import reference_of
from pipeline.settings.models import DriftLimits


def test_slices_find_what_the_shares_cannot_show():
    """Of two airports with as many flights: the shares of both stay, and the numbers of each are the other's."""
    random = np.random.default_rng(0)
    origin = random.choice(["EWR", "JFK", "LGA"], 13_000)
    rows = pd.DataFrame({"origin": origin, "miles": random.normal(size=13_000) + (origin == "JFK")})
    times = pd.Series(pd.Timestamp("2024-01-01", tz="UTC") + pd.to_timedelta(np.arange(13_000) * 0.014, "D"))
    quiet = rows.sample(2_000, random_state=1)
    exchanged = quiet.assign(origin=quiet["origin"].replace({"EWR": "JFK", "JFK": "EWR"}))
    for by, verdict in (([], "no drift"), (["origin"], "drift")):
        reference = reference_of(rows, ["miles"], ["origin"], times, by)
        windows = [Window(profile_of(of, reference.layout), 7) for of in (quiet, exchanged)]
        calm, found = (compare(reference, window, DriftLimits()) for window in windows)
        assert (calm.verdict, found.verdict) == ("no drift", verdict)
        assert {f.feature for f in found.moved} == (
            {f"miles where origin is {a}" for a in ("EWR", "JFK")} if by else set()
        )


def flights(count, seed):
    """JFK's flights go further, UA flies from EWR, and nothing goes with the colour."""
    random = np.random.default_rng(seed)
    origin = random.choice(["EWR", "JFK", "LGA"], count)
    united = (origin == "EWR") & (random.random(count) < 0.7)
    carrier = np.where(united, "UA", random.choice(["B6", "DL", None], count))
    miles = random.normal(size=count) + (origin == "JFK")
    return pd.DataFrame(
        {"origin": origin, "carrier": carrier, "colour": random.choice(["a", "b"], count), "miles": miles}
    )


CATEGORIES = ("origin", "carrier", "colour")


@pytest.fixture(scope="module")
def learnt():
    return drift_exchanged.of_table(flights(5_200, 1), None, ["miles"], CATEGORIES)


def test_a_category_that_is_stuck_is_no_exchange():
    """All rows have the highest level, and fit the one below it better: it was put for none."""
    random = np.random.default_rng(0)
    level = random.choice(["low", "middle", "high"], 6_000)
    miles = pd.Series(level).map({"low": 0, "middle": 2, "high": 4}) + random.normal(size=6_000)
    rows = pd.DataFrame({"level": level, "miles": miles})
    learnt = drift_exchanged.of_table(rows[:5_200], None, ["miles"], ["level"])
    assert learnt.judged(put_for_each_other(rows[5_200:], "level", "middle", "high")).told
    assert learnt.judged(rows[5_200:].assign(level="high")).told == []


def put_for_each_other(rows, column, one, other):
    return rows.assign(**{column: rows[column].replace({one: other, other: one})})


@pytest.mark.parametrize(
    ("column", "one", "other", "told"),
    [
        ("origin", "EWR", "JFK", ["the values JFK and EWR of origin"]),
        ("origin", "JFK", "LGA", ["the values JFK and LGA of origin"]),
        ("carrier", "B6", "UA", ["the values UA and B6 of carrier"]),
        ("colour", "a", "b", []),
    ],
)
@pytest.mark.parametrize("count", [200, 2_000])
def test_two_values_are_named_by_what_goes_with_them(learnt, column, one, other, told, count):
    """Without slices; what goes with the values that were exchanged is not named beside them, and where nothing does, nothing is."""
    now = flights(count, 2)
    assert learnt.judged(now).told == []
    found = learnt.judged(put_for_each_other(now, column, one, other)).told
    assert [{*fault.feature.split()} for fault in found] == [{*name.split()} for name in told]
    assert all("look exchanged: a row has them exchanged with probability" in fault.reason for fault in found)


def test_other_shares_and_another_mixture_are_no_exchange(learnt):
    """A window with hardly any of one value, and one in which what went with the values goes with neither, name nothing."""
    now = flights(4_000, 3)
    few = now[(now["origin"] != "EWR") | (np.arange(4_000) % 20 == 0)]
    mixed = now.assign(miles=np.random.default_rng(4).permutation(now["miles"]))
    assert learnt.judged(few).told == [] and learnt.judged(mixed.assign(carrier=None)).told == []


def test_what_was_learnt_is_kept_and_read_again(learnt):
    """As JSON, with six digits, and it names the same."""
    pairs = learnt.values.pairs
    read = exchanged_values.of_lists(json.loads(json.dumps(exchanged_values.as_lists(pairs))))
    assert [pair.values for pair in read] == [pair.values for pair in pairs]
    again = drift_exchanged.NamedFaults(learnt.exchanges, learnt.scales, copy(learnt.values), learnt.texts)
    again.values.pairs = read
    now = put_for_each_other(flights(2_000, 2), "origin", "EWR", "JFK")
    one, two = (of.judged(now).told[0] for of in (learnt, again))
    assert (one.feature, one.probability) == (two.feature, pytest.approx(two.probability, abs=1e-4))


def test_the_reason_is_that_of_the_limit_before_that_of_what_is_put_back():
    """Where the probability is within its limit nothing looks exchanged, and nothing need be put back."""
    pair = exchanged_values.ValueExchange("plan", ("a", "b"), 0.4, 0.7, usual=False)
    assert pair.reason == "a row has them exchanged with probability 0.40, within 0.70"
    over = replace(pair, probability=0.9)
    assert not over.moved and over.reason.endswith("0.90, but put back they do not fit either")
    assert replace(over, usual=True).reason.startswith("they look exchanged: ")
