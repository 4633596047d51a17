"""What a person on call chooses for one model is done to that model and to no other."""

from __future__ import annotations

import json

import pytest

from pipeline.deployer import client
from pipeline.errors import RolloutError
from pipeline.rollout.results import Rollback, Undeployment
from pipeline.runs import steps


class Asked:
    """Traffic that remembers what it was asked."""

    def __init__(self):
        self.reconciled = []

    def reconcile(self, run, models):
        self.reconciled.append((run, models))
        return ["done"]


def test_operate_reconciles_its_own_model_only(monkeypatch):
    """The default action of a model's operate Dag leaves the other models alone."""
    asked = Asked()
    monkeypatch.setattr(steps, "traffic", lambda context: asked)
    assert steps.operate(None, "operate__churn/1", "churn", "reconcile", "by hand") == ["done"]
    assert asked.reconciled == [("operate__churn/1", ["churn"])]


def test_a_model_that_cannot_be_reconciled_by_the_deployer_does_not_keep_the_next_one_from_it(monkeypatch):
    """Of the models that a command names each is reconciled; then the first error is raised."""
    remote, asked = client.RemoteTraffic("http://deployer", "k" * 48), []

    def result(verb, run, model, arguments):
        asked.append(model)
        if model == "broken":
            raise RolloutError("model broken", "cannot be recovered", "look at it")
        return [f"{model}: done"]

    monkeypatch.setattr(remote, "_result", result)
    with pytest.raises(RolloutError, match="model broken: cannot be recovered"):
        remote.reconcile("r", ["broken", "churn"])
    assert asked == ["broken", "churn"]


def test_a_rollback_of_one_version_leaves_that_one_alone(monkeypatch):
    """The form's version is handed on; without one the rollback leaves whichever version it is."""
    asked = []

    class RollingBack:
        def rollback(self, run, model, reason, **only):
            asked.append((model, reason, only))
            return Rollback("1", "blue", "2", 0.1)

    monkeypatch.setattr(steps, "traffic", lambda context: RollingBack())
    for version in ("2", ""):
        steps.operate(None, "operate__churn/1", "churn", "rollback", "it harms", version)
    assert asked == [("churn", "it harms", {"only": "2"}), ("churn", "it harms", {})]


def test_operate_takes_its_model_off_the_router(monkeypatch):
    """The action undeploy ends this model with the form's reason, and its result is JSON for Airflow."""
    asked = []

    class Undeploying:
        def undeploy(self, run, model, reason):
            asked.append((run, model, reason))
            return Undeployment("2", ["blue: 2"], reason)

    monkeypatch.setattr(steps, "traffic", lambda context: Undeploying())
    result = steps.operate(None, "operate__churn/1", "churn", "undeploy", "its season is over")
    assert asked == [("operate__churn/1", "churn", "its season is over")]
    assert json.loads(json.dumps(result)) == {"version": "2", "ended": ["blue: 2"], "reason": "its season is over"}
