"""A backtest on several processes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np

from harness.project import CHURN
from pipeline.runs.backtest.matrix import FEWEST_FOR_PROCESSES, build
from pipeline.runs.backtest.past import Span
from pipeline.settings.models import Model

START = datetime(2024, 2, 10, tzinfo=UTC)


def test_processes_make_what_one_makes(project):
    """The matrix is the same to the last bit, and what they kept is found by the next backtest in one process."""
    quick = {**CHURN["training"], "estimator": "linear", "options": {}, "encoding": "one_hot"}
    model = Model.model_validate({**CHURN, "training": quick})
    span = Span(START, START + timedelta(days=FEWEST_FOR_PROCESSES + 2), 1)
    several = build("churn", model, project, project / "several", span, processes=2)
    assert several.trained == several.history.windows >= FEWEST_FOR_PROCESSES
    one = build("churn", model, project, project / "one", span, processes=1)
    again = build("churn", model, project, project / "several", span, processes=1)
    assert np.array_equal(several.history.losses, one.history.losses, equal_nan=True)
    assert again.trained == 0
    assert np.array_equal(several.history.drifted, again.history.drifted)
