"""Slices of a look: their counts are profiles' as any others, their verdicts share the budget, and a small one has none."""

import duckdb
import numpy as np
import pandas as pd
import pytest

from harness.project import change_params
from pipeline.cli import tables
from pipeline.errors import SettingsError
from pipeline.monitoring import skew
from pipeline.monitoring.drift import Window, compare
from pipeline.monitoring.drift_page import Sides, drift_page
from pipeline.monitoring.profiles.counting import profiles
from pipeline.monitoring.profiles.in_memory import profile_of
from pipeline.monitoring.profiles.profile import total
from pipeline.monitoring.profiles.reference import Reference, reference_of
from pipeline.monitoring.profiles.slicing import MOST_COLUMNS
from pipeline.settings.models import DriftLimits, load

NUMBERS, BY = ["x", "y", "few"], ["plan", "few"]


def rows_of(rows, seed, moved=0.0, where="basic"):
    """Rows of three plans, the last of which is rare. `x` is moved in one of them alone, and as a whole it has the same values as ever."""
    random = np.random.default_rng(seed)
    table = pd.DataFrame({name: random.normal(size=rows) for name in ("x", "y")})
    table["few"] = random.integers(0, 3, rows).astype(float)
    table["plan"] = random.choice(["basic", "plus", "o'hara", None], rows, p=[0.55, 0.28, 0.15, 0.02])
    table.loc[random.random(rows) < 0.01, ["x", "few"]] = np.nan
    rank = (random.normal(size=rows) + moved * (table["plan"] == where)).argsort().argsort()
    return table.assign(x=np.sort(table["x"])[rank]) if moved else table


def reference(rows=30_000, by=BY):
    table = rows_of(rows, 1)
    times = pd.Series(pd.date_range("2023-01-01", periods=rows, freq="12min"))
    return reference_of(table, NUMBERS, ["plan"], times, by)


KNOWN = reference()


def look(table, known=KNOWN, **limits):
    return compare(known, Window(profile_of(table, known.layout), 7.0), DriftLimits(**limits))


def test_a_slices_profile_is_that_of_its_rows():
    """By SQL and in memory, day by day, and its sum is the profile of the slice's rows alone."""
    table = rows_of(3000, 5)
    in_memory = profile_of(table, KNOWN.layout)
    connection = duckdb.connect()
    connection.register("requests", table.assign(day=np.arange(3000) // 1000))
    by_day = profiles(connection, "requests", KNOWN.layout, None, "day")
    summed = total(by_day.values(), KNOWN.layout)
    assert len(by_day) == 3 and {*summed.cells} == {*in_memory.cells}
    assert all((summed.cells[name] == in_memory.cells[name]).all() for name in in_memory.cells)
    own = {column.name: column for column in KNOWN.layout.columns}
    assert own["x where plan is o'hara"].base == "x" and own["plan where few is 2"].kind == "category"
    alone = profile_of(table[table["plan"] == "plus"], KNOWN.layout)
    assert (in_memory.cells["x where plan is plus"] == alone.cells["x"]).all()


def test_a_change_in_one_slice_is_found_and_named():
    """The rows as a whole hide it; the look names the feature and the slice, and the page, the table and the event have it."""
    table = rows_of(900, 7, 1.5, "o'hara")
    found = look(table, min_rows=100)
    assert found.verdict == "drift" and found.moved[0].feature == "x where plan is o'hara"
    assert "; in slices alone x where plan is o'hara (PSI" in found.reason
    told = {of["slice"]: of for of in found.as_dict()["slices"]}
    assert [*told["plan is o'hara"]["moved"]] == ["x"] and told["few is 0"]["verdict"] == "not moved"
    now = profile_of(table, KNOWN.layout)
    page = drift_page(found, Sides(KNOWN, now, "what it learnt from", "now"))
    assert "plan is o&#39;hara" in page and '<h2 id="slices">' in page
    assert "plan is o'hara" in tables.drift(found)
    assert look(table, reference(by=())).verdict == "no drift"


def test_a_small_slice_has_no_verdict():
    """Below monitor.min_rows, now or before, it is shown as such and never as calm."""
    found = look(rows_of(900, 8, 3.0, "o'hara"))
    assert "no verdict where plan is o'hara, 1 of 6 slices" in found.reason
    assert {str(of.where): of.verdict for of in found.slices}["plan is o'hara"] == "no verdict"


def test_quiet_slices_keep_the_budget():
    """At a budget of one look in ten, slices and all."""
    profiled = [profile_of(rows_of(1500, 100 + seed), KNOWN.layout) for seed in range(8)]
    alarms = [compare(KNOWN, Window(now, 7.0), DriftLimits(min_rows=40), 10).changed for now in profiled]
    assert sum(alarms) <= 2


def test_a_change_of_all_rows_is_named_once():
    """What moves everywhere is not named again slice by slice."""
    found = look(rows_of(4000, 9).assign(x=lambda rows: rows["x"] + 1))
    assert [feature.feature for feature in found.moved] == ["x"]
    assert sum(of.verdict == "moved" for of in found.slices) >= 4


def test_a_slices_change_is_skew_where_the_source_lacks_it():
    """The source's rows are cut into the same slices; of the other plans `x` is lower, as all rows together have the same values."""
    requests, source = (rows_of(900, seed, by, "o'hara") for seed, by in ((10, 1.5), (11, 0.0)))
    for table in (requests, source):
        table["event_time"] = pd.Timestamp("2024-01-01", tz="UTC")

    def judged(table):
        return look(table, min_rows=90)

    found = skew.looked_for(judged(requests), requests, source, judged, pd.Timedelta("60s"), 90)
    assert found.only_serving and found.serving[0] == "x where plan is o'hara"
    assert all(name.startswith("x where plan is ") for name in found.serving)


def test_a_reference_from_before_the_setting_has_the_slices_of_its_sample():
    """Kept and read again it has the same; slices that no setting names any more are left out."""
    before, sample = reference(2000, ["few"]), reference(1000)
    assert Reference.read_text(KNOWN.as_text()).layout == KNOWN.layout
    found = before.sliced_by(BY, lambda: sample)
    assert {str(column.where) for column in found.layout.columns if column.where} >= {"plan is plus", "few is 1"}
    of_sample = sample.whole.cells["y where plan is plus"]
    assert (found.whole.cells["y where plan is plus"] == of_sample).all()
    assert (found.whole.cells["y where few is 1"] == before.whole.cells["y where few is 1"]).all()
    assert not any(column.where for column in found.sliced_by([], lambda: sample).layout.columns)


def test_there_are_so_many_slices_as_a_look_can_judge():
    """The smallest give way, so that a wide table with many values takes no longer."""
    random = np.random.default_rng(3)
    table = pd.DataFrame({f"x{i}": random.normal(size=2000) for i in range(60)})
    table["plan"] = random.choice([f"p{i}" for i in range(25)], 2000, p=np.arange(25, 0, -1) / 325)
    found = reference_of(table, [f"x{i}" for i in range(60)], ["plan"], None, ["plan"])
    slices = [column for column in found.layout.columns if column.where]
    assert len(slices) <= MOST_COLUMNS and {str(column.where) for column in slices} >= {"plan is p0", "plan is p1"}


def test_a_deployer_that_counts_no_slices_is_said():
    """Its profile has none: each slice is without a verdict, and the look stands."""
    table = rows_of(2000, 12)
    plain = profile_of(table, KNOWN.layout.sliced_by([]))
    found = compare(KNOWN, Window(plain, 7.0), DriftLimits())
    assert found.verdict == "no drift" and {of.verdict for of in found.slices} == {"no verdict"}
    assert {of.rows_now for of in found.slices} == {None}


@pytest.mark.parametrize(
    ("slices", "fault"),
    [
        (["plan", "plan"], "named twice: plan"),
        (["region"], "region is no feature, and the prediction log has features only"),
        (["plan"], "plan is personal (rollout.serving.personal)"),
    ],
)
def test_slices_are_of_features_that_the_log_has(project, slices, fault):
    """Any other column is refused by name."""
    if "personal" in fault:
        change_params(project, "models.churn.rollout", {"serving": {"personal": {"plan": "hash"}}})
    change_params(project, "models.churn.monitor.slices", slices)
    with pytest.raises(SettingsError) as error:
        load(project).model("churn")
    assert f"models.churn.monitor.slices: {fault}" in str(error.value)
