"""`perennial init`: of which dates the age is a feature."""

import numpy as np
import pandas as pd

from pipeline.init.request import Request
from pipeline.init.run import init
from pipeline.settings.models import load
from tests.unit.test_init import ROWS, SEEN, TABLE, drafted, left_out, project

__all__ = ["project"]
DAYS = np.random.default_rng(9).exponential(30, ROWS)


def test_the_age_of_a_date_before_the_event_time_is_proposed(project):
    """A signup that goes on with the event time has its age alone and is no drift, an old date has parts too, and the line says why."""
    signup = SEEN - pd.to_timedelta(DAYS, unit="D")
    table = TABLE.assign(**{"signed: up": signup}, born=signup - pd.to_timedelta(DAYS * 300, unit="D"))
    result = drafted(project, table, "a.parquet", time="seen_at", dry_run=False)
    model = load(project).models["churn"]
    assert not load(project).faults and not left_out(result)
    assert model.training.datetime == ("signed: up", "born")
    assert model.training.calendar_of("signed: up") == ("age",)
    assert model.training.calendar_of("born") == ("hour", "weekday", "month", "age")
    assert model.calendar == ["signed: up"]
    said = [str(each) for each in result.draft.assumptions if each.what in ("calendar", "age")]
    why = "it lies before seen_at in all but 0.1% of the rows: the days between are a feature"
    assert said == [
        "calendar: hour, weekday, month, beside the days of born",
        f"age: signed: up, {why}; drift leaves it out, because it goes on with it (--leave-out 'signed: up')",
        f"age: born, {why} (--leave-out born)",
    ]


def test_no_age_is_proposed_where_it_says_nothing(project):
    """Neither of a date that may be later, nor of one that is always as old, nor where the event time is a number."""
    table = TABLE.assign(
        started=SEEN - pd.Timedelta(minutes=5),
        due=SEEN + pd.to_timedelta(DAYS - 30, unit="D"),
        seen_at=SEEN.astype("datetime64[s]").astype("int64"),
        born="1990-01-01",
    )
    table.loc[::2, "born"] = "1970-01-01"
    table.to_parquet(project / "a.parquet", index=False)
    numbered = init(Request("churn", "a.parquet", "churned", "seen_at", datetime=("born",)), project, True)
    assert numbered.draft.settings["training"]["calendar"] == ["weekday", "month"]
    dated = drafted(project, table.assign(seen_at=TABLE.seen_at).drop(columns="born"), "b.parquet", time="seen_at")
    assert set(left_out(dated)) == {"started", "due"} and "calendar" not in dated.draft.settings["training"]
