"""A backtest on several processes, its rows beside those of the stages, and what workers that share no disk hand each other."""

from __future__ import annotations

import logging
import os
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd

from harness.project import CHURN, customers
from pipeline.context import Context
from pipeline.data import contract, snapshot
from pipeline.ledger.backtest_events import BacktestKept
from pipeline.runs.backtest import past as pasts
from pipeline.runs.backtest import shared
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


def test_workers_hand_each_other_what_they_made(project, caplog):
    """A worker takes what it lacks or knows less of, with its model; a training window has one pack, and a pack that is gone is told."""
    context, first, second = Context.here(), project / "first", project / "second"

    def version(folder, name, record, model, used=True):
        (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / name / "record.json").write_text(record)
        (folder / name / "model.skops").write_text(model)
        if not used:
            os.utime(folder / name / "record.json", (0, 0))

    version(first, "a", "a few windows", "model of the first")
    version(first, "other", "of another training window", "m", used=False)
    shared.share(context, "churn", "30", first, 1.0)
    version(second, "a", "a", "model of the second")
    shared.take(context, "churn", second)
    assert sorted(path.name for path in second.iterdir()) == ["a"]
    assert (second / "a" / "record.json").read_text() == "a few windows"
    assert (second / "a" / "model.skops").read_text() == "model of the first"
    version(second, "a", "a few windows and one more", "model of the first")
    version(second, "b", "new", "m")
    shared.share(context, "churn", "30", second, 1.0)
    packs = [entry.event for entry in context.ledger.events(BacktestKept, model="churn")]
    assert [event.versions for event in packs] == [1, 2]
    remote = project / ".perennial" / "remote" / "files" / "md5"
    assert [path.parent.name + path.name for path in remote.rglob("*") if path.is_file()] == [packs[1].pack]
    shared.take(context, "churn", first)
    assert (first / "a" / "record.json").read_text() == "a few windows and one more" and (first / "b").is_dir()
    for folder in (remote, project / ".dvc" / "cache"):
        for file in [path for path in folder.rglob("*") if path.name == packs[1].pack[2:]]:
            file.unlink()
    with caplog.at_level(logging.WARNING):
        shared.take(context, "churn", project / "third")
    assert "its versions are made again" in caplog.text and not (project / "third").exists()
