"""A team's own measure decides within the same budget as ours; what is wrong with one is said by its name, and is never calm."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.errors import SettingsError
from pipeline.monitoring.drift import MEASURES, Window, compare
from pipeline.monitoring.measures.own import own_measures
from pipeline.monitoring.profiles.in_memory import profile_of
from pipeline.monitoring.profiles.reference import reference_of
from pipeline.settings.models import DriftLimits
from tests.support.pages import blocks

PAGE = Path(__file__).resolve().parents[2] / "docs" / "own-measure.md"
FILE = next(block for block in blocks(PAGE) if block.language == "python")
HOOK = next(block for block in blocks(PAGE) if block.language == "yaml").content.split('"')[1].partition(":")
NAMES = [measure.name for measure in MEASURES]


@pytest.fixture
def named(monkeypatch, tmp_path):
    """The measures of a project whose file has this content."""

    def measures(content=FILE.content, hook="team_measures:UpperTail", taken=NAMES):
        monkeypatch.setattr(sys, "path", list(sys.path))
        monkeypatch.delitem(sys.modules, "team_measures", raising=False)
        (tmp_path / "team_measures.py").write_text(content)
        return own_measures([hook], tmp_path, taken)

    return measures


def verdict(own, change=lambda x: x):
    """The verdict with these measures on 2,000 rows of the reference's own kind."""
    before, now = (np.random.default_rng(seed).normal(0, 1, rows) for seed, rows in ((1, 6000), (2, 2000)))
    reference = reference_of(pd.DataFrame({"x": before}), ["x"], [], None)
    window = Window(profile_of(pd.DataFrame({"x": change(now)}), reference.layout))
    return compare(reference, window, DriftLimits(), own=own)


def test_the_pages_measure_has_a_limit_from_the_budget_and_says_what_it_found(named):
    """It is calm where nothing changed, and its figures, its limit and its reason are in the verdict where the tail grew."""
    assert HOOK == ("measures", ":", "UpperTail")
    calm, tail = verdict(named()), verdict(named(), lambda x: np.where(np.arange(len(x)) % 8, x, 9.0))
    assert (calm.verdict, tail.verdict) == ("no drift", "drift")
    assert "upper tail" in tail.reason
    found = tail.as_dict()["features"][0]
    assert found["upper_tail"] > found["upper_tail_limit"] >= 0.02


def test_a_measure_that_never_differed_widens_no_other_limit(named):
    """Distances of 0 in all of the reference's weeks leave our limits as they are, and the first difference is over its own."""
    still = FILE.content.replace("return np.abs(", "return 0 * np.abs(")
    ours = verdict(()).features[0].scores[0].limit
    assert verdict(named(still)).features[0].scores[0].limit == pytest.approx(ours)


@pytest.mark.parametrize(
    "distance, reason",
    [
        ("1 / 0", "ZeroDivisionError"),
        ("np.float64(1)", r"shape \(\)"),
        ("np.nan * now[..., 0]", "negative, infinite or none"),
        ("-1.0 - now[..., 0]", "negative, infinite or none"),
    ],
)
def test_an_error_in_a_measure_fails_the_check_by_its_name(named, distance, reason):
    """The line has the settings key, the measure, the column and what was wrong."""
    head, _, _ = FILE.content.rpartition("        return ")
    with pytest.raises(SettingsError, match=f"monitor.measures upper tail of x.*{reason}"):
        verdict(named(f"{head}        return {distance}\n"))


@pytest.mark.parametrize(
    "hook, taken, reason",
    [
        ("team_measures:Missing", NAMES, "Missing"),
        ("team_measures:np", NAMES, "must be a class of Measure"),
        ("team_measures:OfValues", NAMES, "cannot be made"),
        ("team_measures:UpperTail", ["upper tail"], "its name is 'upper tail'"),
    ],
)
def test_what_is_no_measure_is_refused_by_name(named, hook, taken, reason):
    """A class that is not there, one that is no measure or cannot be made, and a name that is taken."""
    with pytest.raises(SettingsError, match=reason):
        named(hook=hook, taken=taken)
