"""A backtest on several processes, and its rows beside those of the stages."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd

from harness.project import CHURN, customers
from pipeline.data import contract, snapshot
from pipeline.runs.backtest import past as pasts
from pipeline.runs.backtest.matrix import FEWEST_FOR_PROCESSES, build
from pipeline.runs.backtest.past import Span
from pipeline.runs.backtest.versions import VersionMaker
from pipeline.serving.schema import Schema
from pipeline.settings.models import Model

START = datetime(2024, 2, 10, tzinfo=UTC)


def test_processes_make_what_one_makes(project):
    """A version's losses are the same to the last bit, and what they kept is found by the next backtest in one process."""
    quick = {**CHURN["training"], "estimator": "linear", "options": {}, "encoding": "one_hot"}
    model = Model.model_validate({**CHURN, "training": quick})
    span = Span(START, START + timedelta(days=FEWEST_FOR_PROCESSES + 2), 1)
    several = build("churn", model, project, project / "several", span, processes=2)
    assert several.trained == several.history.windows >= FEWEST_FOR_PROCESSES
    one = VersionMaker("churn", model, project, project / "one", pasts.read("churn", model, project, span)).version(3)
    again = build("churn", model, project, project / "several", span, processes=1)
    assert one.losses == tuple(several.history.losses[3, 3:])
    assert np.array_equal(several.history.losses, again.history.losses, equal_nan=True)
    assert again.trained == 0
    assert np.array_equal(several.history.drifted, again.history.drifted)


def test_a_version_learns_from_the_rows_of_the_stages(project):
    """They are those that `snapshot` and `validate` leave, cell by cell and in their order."""
    file = project / "customers" / "all.parquet"
    customers().assign(spend=lambda rows: rows.spend.where(rows.index % 50 > 0, -1.0)).to_parquet(file)
    model, folder, counts = Model.model_validate(CHURN), project / "snapshot", project / "snapshot.json"
    snapshot.take("churn", model, project, folder, counts, project / "partitions.db")
    quarantine = project / "quarantine.parquet"
    report = contract.check("churn", model, folder, counts, quarantine, project / "validation.json")
    assert report["quarantined"] > 0
    window = snapshot.window(model.source, model.as_of)
    table, schema = snapshot.known_rows("churn", model, project, *window, model.as_of)
    rows = contract.spelt(table, schema)
    rows = rows[contract.keeps(rows, model, schema)].reset_index(drop=True)
    pd.testing.assert_frame_equal(rows, contract.kept_rows(folder, quarantine))
    assert schema == Schema.of_snapshot(folder)
