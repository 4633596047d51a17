"""Windows that are drawn from the reference's own weeks: added up by whole blocks, they have what their days have."""

from datetime import date, timedelta

import numpy as np
import pytest

from pipeline.monitoring import null_distribution

DAYS = [date(2024, 1, 1) + timedelta(days=day) for day in range(61)]
BY_DAY = np.random.default_rng(0).integers(0, 900, (61, 7)).astype(float)


@pytest.mark.parametrize("span_days", [1, 3, 7, 21])
@pytest.mark.parametrize("season", [False, True])
@pytest.mark.parametrize("most", [1, 2, 9])
def test_what_a_draw_counts_is_the_sum_of_its_days(span_days, season, most):
    """And what it is compared with that of all others, or of those of its season, or of all where none is left; of each span."""
    random, blocks = (
        np.random.default_rng(most),
        null_distribution._blocks(DAYS, null_distribution._run(DAYS, span_days)),
    )
    times = np.zeros((40, len(blocks)))
    np.add.at(times, (np.arange(40)[:, None], random.integers(0, len(blocks), (40, most))), 1)
    some = null_distribution._some_weeks(random, times, 0.3) if season else None
    sums = null_distribution._Sums(times, some, blocks)
    before, window = sums.of(sums.parts(BY_DAY)[:, 2:6])
    for draw in range(40):
        days = times[draw] @ blocks
        others = (days == 0) & (some[draw] @ blocks > 0 if season else True)
        others = others if others.any() else np.ones(61, bool)
        assert (window[draw] == BY_DAY[:, 2:6].T @ days).all()
        assert (before[draw] == BY_DAY[others, 2:6].sum(axis=0)).all()
