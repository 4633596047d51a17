"""Two values of a category that were exchanged with each other are found by what goes with them."""

import numpy as np
import pandas as pd

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
