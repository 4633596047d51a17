"""A whole run without Airflow: every step in turn, in this process."""

from __future__ import annotations

import logging
import os
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from pipeline.context import Context
from pipeline.ledger.events import RunSettled
from pipeline.ledger.metering import metered
from pipeline.rollout.results import Deployment, ShadowResult
from pipeline.runs import approval, steps
from pipeline.runs.imports_ahead import imported_meanwhile
from pipeline.runs.settle import settle
from pipeline.workspaces import dvc_graph

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunResult:
    """A run that registered a version; `rollout` is None when the run was not to deploy it, or `waits` for an approval."""

    run: str
    version: str
    rollout: Deployment | ShadowResult | None
    settled: RunSettled
    waits: bool = False

    def as_dict(self) -> dict[str, Any]:
        rollout = self.rollout.as_dict() if self.rollout else None
        waits = {"waits_for_approval": True} if self.waits else {}
        return {"run": self.run, "version": self.version, "rollout": rollout, **waits, **self.settled.body()}


def retrain(
    context: Context,
    run: str,
    name: str,
    as_of: datetime,
    reason: str,
    deploy: bool,
    accept_schema_change: bool = False,
) -> RunResult:
    """Trains and registers a version of the model `name`, and brings it live with `deploy`, or asks for its approval where the model
    wants one. dags/retrain.py has the same order.

    Settles the run also when a step fails. Raises the PerennialError of the step that failed.
    """

    def step(title: str) -> AbstractContextManager[Any]:
        log.info("%s as of %s: %s", name, f"{as_of:%Y-%m-%d}", title)
        return metered(context.ledger, run, name, title)

    os.environ.setdefault("PERENNIAL_PROJECT", str(context.project))
    # A person waits, and would hear it only after all stages. A Dag's run does not ask: MLflow may be back by the time it registers.
    context.registry.check_answers()
    try:
        with step("open_workspace"):
            folder = steps.open_run(context, run, name, as_of, reason)
        first, *others = dvc_graph.order(Path(folder))
        with step(first):
            steps.run_stage(context, folder, first)
        # Not beside the first one, with which DVC imports what it needs: two threads that import may wait for each other.
        with imported_meanwhile():
            for stage in others:
                with step(stage):
                    steps.run_stage(context, folder, stage)
        with step("check_gates"):
            mlflow_run = steps.check_gates(context, folder, accept_schema_change=accept_schema_change)
        with step("register"):
            version = steps.register(context, folder, mlflow_run)
        rollout = None
        waits = deploy and approval.required(context, name)
        if waits:
            with step("approve"):
                approval.ask(context, run, name, version)
        elif deploy:
            with step("roll_out"):
                rollout = steps.roll_out(context, run, name, version, reason, None, accept_schema_change)
    finally:
        settled = settle(context, run, name)
    return RunResult(run, version, rollout, settled, waits)
