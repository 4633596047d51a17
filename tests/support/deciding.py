"""The model churn with an economics and a version that gets worse by the week: what looks at whether to retrain are tried on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np

from harness.project import change_params
from pipeline.ledger.events import VersionRegistered
from pipeline.runs import logged_answers, retrain_decision
from pipeline.training.tasks import Answers
from tests.support.monitored import AS_OF, Monitored

YEAR = datetime(2024, 1, 1, tzinfo=UTC)


def getting_worse(project, ledger, churn_artifacts, tmp_path, monkeypatch):
    """Version 1 of 1 January answered January and February ever worse; labels come after 2 days."""
    world = Monitored(project, ledger, churn_artifacts, tmp_path / "home", late_days=2)
    change_params(project, "models.churn.economics", {"loss": "log_loss", "value": 10, "retrain_minutes": 1})
    event = VersionRegistered(version="1", mlflow_run="m", data_version="d", as_of=YEAR.isoformat())
    ledger.append(event, "churn", at="2024-01-01T00:00:00+00:00")
    world.landed(YEAR, 86_400, 2 * 86_400)
    world.live("1", "2024-01-02T00:00:00+00:00")

    def answers_of(context, name, package, rows, champion, loaded=None):
        weeks = ((rows["event_time"] - YEAR) // timedelta(days=7)).to_numpy()
        right = np.array([world.right[package.version](week) for week in weeks])
        return Answers(np.where(rows["target"] == 1, right, 1 - right))

    monkeypatch.setattr(logged_answers, "answers_of", answers_of)
    world.right = {"1": lambda weeks: 0.9 - 0.08 * weeks}
    return world


def rule(world, name, **more):
    change_params(world.project, "models.churn.policy", {"rule": name, **more})


def decide(world, as_of=AS_OF, look=None, run="r"):
    return retrain_decision.decide(world.context, run, "churn", as_of, look)


def retrained(world, version, as_of, live=True):
    """That version was trained as of then, and is live."""
    event = VersionRegistered(version=version, mlflow_run="m", data_version="d", as_of=as_of.isoformat())
    world.ledger.append(event, "churn")
    if live:
        world.live(version, as_of.isoformat())
