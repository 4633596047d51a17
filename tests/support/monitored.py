"""A model whose version answered its customers, with a home, a ledger and a registry of its own, and no process."""

from __future__ import annotations

import functools
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness.project import change_params, customers
from pipeline.ledger.events import DataLanded
from pipeline.ledger.rollout_events import RolloutEnded
from pipeline.monitoring import drift_reference
from pipeline.rollout.slots import predictions_folder
from pipeline.runs import drift_report
from pipeline.runs.drift_check import check_drift
from pipeline.serving import contents, log_files
from pipeline.serving.runtime import schema_of
from pipeline.settings.models import load

AS_OF = datetime(2024, 3, 1, tzinfo=UTC)
FEATURES = {"spend": 1.0, "calls": 2.0, "plan": "plus"}


def at(day: int) -> datetime:
    """The start of a day of February 2024."""
    return datetime(2024, 2, day, tzinfo=UTC)


class Monitored:
    """The model churn, version 1 of which answered each customer but the newest, with labels after `late_days`. All requests are alike, and so
    are the source's rows."""

    def __init__(self, project, ledger, artifacts, home, late_days):
        self.project, self.ledger, self.home, self._artifacts = project, ledger, home, artifacts
        rows = customers()
        rows["decided_at"] = (rows["seen_at"] + pd.Timedelta(days=late_days)).dt.as_unit("us")
        self.source = rows
        self.land(rows.assign(**FEATURES))
        self._log()
        self.live("1", "2024-01-01T00:00:00+00:00")
        change_params(project, "models.churn.monitor.window_days", 7)
        change_params(project, "models.churn.evaluation.holdout_days", 12)

    def land(self, rows):
        """The source has these rows from now on."""
        rows.to_parquet(self.project / "customers" / "all.parquet")

    def _log(self):
        folder = predictions_folder(self.home, "churn")
        folder.mkdir(parents=True)
        (folder / log_files.file_name("blue-v1-1", 0, 0)).write_bytes(self._logged())

    @staticmethod
    @functools.cache
    def _logged():
        """The log's file, which is the same for each."""
        rows = customers()
        rows = rows[rows["seen_at"] < AS_OF - timedelta(days=7)]
        received = pa.array([AS_OF] * len(rows), pa.timestamp("ms", tz="UTC"))
        columns = {"request_id": rows["customer"], "key": rows["customer"], "prediction": rows["left"] * 0.8 + 0.1}
        table = pa.table({name: pa.array(column) for name, column in columns.items()})
        table = table.append_column("received_at", received)
        table = table.append_column("event_time", pa.array([time.isoformat() for time in rows["seen_at"]]))
        for name, value in (("version", "1"), ("slot", "blue")):
            table = table.append_column(name, pa.array([value] * len(rows)))
        features = [FEATURES] * len(rows)
        file = pa.BufferOutputStream()
        pq.write_table(table.append_column("features", pa.array(features)), file)
        return file.getvalue().to_pybytes()

    def live(self, version, at):
        ended = RolloutEnded.read({"version": version, "slot": "blue", "engine": "process", "digest": f"d{version}"})
        self.ledger.append(ended, "churn", at=at)

    def landed(self, as_of, median_s, p95_s):
        delay = {"median": median_s, "p95": p95_s}
        self.ledger.append(
            DataLanded(data_version="d", as_of=as_of.isoformat(), partitions=1, label_delay_s=delay), "churn"
        )

    @property
    def context(self):
        registry = SimpleNamespace(
            reference_file=lambda *_: self._artifacts.reference,
            package_folder=lambda *_: self._artifacts.package,
            version_facts=lambda *_: SimpleNamespace(metrics={"roc_auc": 0.9}),
            key=SimpleNamespace(log_key=lambda: ""),
        )
        return SimpleNamespace(
            params=load(self.project),
            project=self.project,
            home=self.home,
            ledger=self.ledger,
            registry=registry,
            environment=SimpleNamespace(deployer=None),
            server_mode=False,
            clock=lambda: AS_OF,
        )

    @property
    def schema(self):
        return schema_of(contents.read(self._artifacts.package))

    @property
    def reference(self):
        settings = self.context.params.model("churn")
        whole = drift_reference.whole_of(self._artifacts.reference, settings, self.schema.doubles)
        return drift_reference.watched(whole, settings)

    def check(self, as_of=AS_OF, evidently=False):
        """A look; the page that Evidently draws beside ours takes most of an alarm's time, and is drawn only with `evidently`."""
        with pytest.MonkeyPatch.context() as during:
            if not evidently:
                during.setattr(drift_report, "_evidently", lambda *_: None)
            return check_drift(self.context, "r", "churn", as_of)
