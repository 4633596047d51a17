"""Of postcodes and hashes some are new each week; that is no drift."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from pipeline.monitoring import drift_reference
from pipeline.monitoring.drift import Window, compare
from pipeline.monitoring.profiles.in_memory import profile_of
from pipeline.monitoring.profiles.reference import Reference, reference_of
from pipeline.settings.models import DriftLimits

KNOWN = {"kind": frozenset(f"k{i}" for i in range(100))}


def sample(seed):
    return pd.DataFrame({"kind": np.random.default_rng(seed).choice(sorted(KNOWN["kind"]), 5000)})


@pytest.mark.parametrize(("every", "found"), [(5, "no drift"), (2, "drift")])
def test_new_categories_are_usual_where_the_held_out_days_had_them(every, found):
    """A fifth was new there, and is no alarm, also from the file that keeps it; half of them is."""
    now = sample(2)
    new = now.assign(kind=now["kind"].where(now.index % every > 0, now["kind"].str.upper()))
    kept = replace(reference_of(sample(1), [], ["kind"], None), newcomers={"kind": 0.19}).as_text()
    reference = Reference.read_text(kept)
    window = Window(profile_of(new, reference.layout, KNOWN))
    assert compare(reference, window, DriftLimits(psi_limit=9), learnt=KNOWN).verdict == found


def test_the_share_of_new_categories_is_that_of_held_out_values(settings):
    """Missing values are none, and a column without new ones has no share."""
    model = settings.model("churn")
    day = pd.to_timedelta([-2, -2, -1, 1, 1, 1, 2, 2], unit="D")
    rows = pd.DataFrame({"plan": ["a", "b", "", "a", "c", "", "d", "b"], "seen_at": model.held_out_from + day})
    assert drift_reference.newcomers(rows, model) == {"plan": 0.5}
    assert drift_reference.newcomers(rows.replace({"plan": {"c": "a", "d": ""}}), model) == {}
