"""Rows whose columns no longer go together are told from the reference's, though each column is as it was."""

import numpy as np
import pandas as pd
import pytest

from pipeline.cli.tables import drift as told
from pipeline.monitoring import domain_classifier, drift_together, null_distribution
from pipeline.monitoring.drift import Window, compare
from pipeline.monitoring.drift_page import Sides, drift_page
from pipeline.monitoring.profiles.in_memory import profile_of
from pipeline.monitoring.profiles.reference import reference_of
from pipeline.settings.models import DriftLimits
from tests.support.monitored import Monitored, at

COLUMNS = ["x", "y", "z"]
SHARE = 1 / 182


@pytest.fixture(autouse=True)
def few_trees(monkeypatch):
    """So a null takes a second."""
    monkeypatch.setattr(domain_classifier, "TREES", 6)


def rows(weeks, seed, each=120):
    """y goes with x and with x's square; each week has a level of its own."""
    random = np.random.default_rng(seed)
    count = weeks * each
    x = np.repeat(random.normal(0, 0.3, weeks), each) + random.normal(0, 1, count)
    times = pd.Timestamp("2024-01-01", tz="UTC") + pd.to_timedelta(np.arange(count) * 7 / each, "D")
    y = x + 0.3 * x**2 + random.normal(0, 0.3, count)
    return pd.DataFrame({"x": x, "y": y, "z": random.normal(0, 1, count), "event_time": times})


@pytest.fixture(scope="module")
def learnt():
    return rows(26, 1)


def parted(now):
    """Each column has the values that it had, of other rows."""
    return now.assign(y=np.random.default_rng(9).permutation(now["y"]))


def judged(learnt, now, folder, digest="d1"):
    return drift_together.together(learnt, now, "event_time", COLUMNS, SHARE, folder / "churn.json", digest)


def test_a_change_that_no_single_column_shows_is_found(learnt, tmp_path):
    """It is an alarm that names the columns; a window like those before is none, and the null is made once for a reference."""
    now = rows(1, 2, 400)
    quiet = judged(learnt, now, tmp_path)
    made = (tmp_path / "churn.json").stat().st_mtime_ns
    found = judged(learnt, parted(now), tmp_path)
    assert (quiet.moved, found.moved) == (False, True)
    assert {*found.features} == {"x", "y"}
    assert (tmp_path / "churn.json").stat().st_mtime_ns == made

    reference = reference_of(learnt, COLUMNS, [], learnt["event_time"])
    window = Window(profile_of(parted(now), reference.layout.only(COLUMNS)), 7)
    alone = compare(reference.only(["x", "z"]), window, DriftLimits(), 182)
    verdict = drift_together.with_together(alone, found, DriftLimits())
    assert (alone.verdict, verdict.verdict) == ("no drift", "drift")
    assert [feature.feature for feature in verdict.moved] == [domain_classifier.NAME]
    assert "how the numbers go together changed (AUC 0." in verdict.reason
    assert drift_together.with_together(alone, quiet, DriftLimits()).verdict == "no drift"
    assert drift_together.with_together(alone, found, DriftLimits(features_limit=2)).verdict == "no drift"
    assert f"{domain_classifier.NAME} " in told(verdict)
    assert domain_classifier.NAME in drift_page(verdict, Sides(reference, window.profile, "then", "now"))


def test_too_little_is_no_verdict(learnt, tmp_path):
    """Too few weeks, one column, and a window of few rows or of one day have none."""
    now = rows(1, 2, 400)
    assert judged(rows(20, 1), now, tmp_path) is None
    assert judged(learnt, now.head(50), tmp_path) is None
    assert judged(learnt, now.assign(event_time=now["event_time"].min()), tmp_path) is None
    assert judged(learnt, now.head(0), tmp_path) is None
    one = drift_together.together(learnt, now, "event_time", ["x"], SHARE, tmp_path / "churn.json", "d1")
    assert one is None


def test_odd_columns_are_told_apart_too(tmp_path):
    """A column without values, of one value, or with infinities ends nothing, and a week of a single day neither."""
    odd = {"x": np.inf, "z": np.nan}
    some = [frame.assign(constant=1.0) for frame in (rows(27, 1, 101), rows(1, 2, 400))]
    before, now = (
        frame.assign(**{c: frame[c].where(frame.index % 7 > 0, v) for c, v in odd.items()}) for frame in some
    )
    before["empty"] = now["empty"] = np.nan
    # A first week of a single day.
    before["event_time"] = before["event_time"].where(before.index >= 101, before["event_time"].iloc[100])
    columns = [*COLUMNS, "constant", "empty"]
    found = drift_together.together(before, now, "event_time", columns, SHARE, tmp_path / "churn.json", "d1")
    assert found is not None and not found.moved


def test_the_numbers_that_matter_most_are_taken():
    """At most so many, by importance, then as the model lists them."""
    names = [f"n{i}" for i in range(30)]
    taken = drift_together.columns_of(names, {"n29": 0.5, "n7": 0.2})
    assert taken[:3] == ["n29", "n7", "n0"] and len(taken) == domain_classifier.MOST_COLUMNS


def test_a_look_at_a_model_has_it(project, monkeypatch, ledger, churn_artifacts, tmp_path):
    """As one more feature, by the rows that the version learnt from and the log's, where these are enough; else the look has none."""
    monitored = Monitored(project, ledger, churn_artifacts, tmp_path / "home", 2)
    assert domain_classifier.NAME not in [f.feature for f in monitored.check(at(15)).drift.features]
    monkeypatch.setattr(null_distribution, "PROVEN_WEEKS", 3)
    for name, few in (("LEAST_WEEKS", 3), ("NEAREST", 2), ("FEWEST_ROWS", 20)):
        monkeypatch.setattr(domain_classifier, name, few)
    check = monitored.check(at(15))
    assert check.drift.features[-1].feature == domain_classifier.NAME
    assert domain_classifier.NAME in check.report.read_text()
