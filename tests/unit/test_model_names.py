"""A model's name that params.yaml allows is allowed everywhere, on a server too."""

from __future__ import annotations

import json
import re

import pytest
from mlflow.exceptions import MlflowException

from harness.project import CHURN, change_params
from pipeline.deployer.service import arguments_of
from pipeline.errors import RegistryError, SettingsError
from pipeline.ledger.lease import LEASES
from pipeline.ledger.store import EVENTS
from pipeline.registry import lookups
from pipeline.rollout.engines.base import SLOTS
from pipeline.rollout.engines.docker_network import container_name
from pipeline.settings.models import load

LONGEST = "a" * 39 + "b"
NAMES = ["churn", "2024-churn", "7", "1e5", "a--b", LONGEST, "2024-" + "x" * 35]
HOST = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


@pytest.mark.parametrize("name", NAMES)
def test_a_name_of_params_yaml_is_taken_by_deployer_ledger_and_network(project, name):
    """The deployer takes the name, the ledger's columns hold it, and a slot's host on a server has a valid name."""
    change_params(project, f"models.{name}", CHURN)
    assert name in load(project).models
    call = {"call": "c", "model": name, "reason": "a test"}
    assert arguments_of("rollback", json.dumps(call).encode()) == call
    assert len(name) <= min(EVENTS.c.model.type.length, LEASES.c.model.type.length)
    for slot in SLOTS:
        assert HOST.fullmatch(container_name("0a1b2c3d", name, slot, shared=True))


def test_long_names_that_begin_alike_are_different_hosts():
    """Two models with long names, and the two slots of each, have four different hosts."""
    names = {container_name("0a1b2c3d", model, slot, shared=True) for model in (LONGEST, "a" * 40) for slot in SLOTS}
    assert len(names) == 4


def test_the_names_of_running_containers_stay():
    """A name that fits, and one on a single machine, is what it always was."""
    assert container_name("0a1b2c3d", "a" * 38, "green", shared=True) == f"perennial-0a1b2c3d-{'a' * 38}-green"
    assert container_name("0a1b2c3d", LONGEST, "green", shared=False) == f"perennial-0a1b2c3d-{LONGEST}-green"


@pytest.mark.parametrize("name", ["Churn", "-churn", "churn-", "a" * 41, "a.b", "a/b", "", "churn\n", "flight_delay"])
def test_another_name_is_refused_by_both(project, name):
    """A name that params.yaml refuses is refused by the deployer too."""
    settings = (project / "params.yaml").read_text()
    (project / "params.yaml").write_text(settings + f"  {json.dumps(name)}: {{}}\n")
    assert "model name" in str(load(project).broken[name])
    with pytest.raises(SettingsError, match="its model is not a valid name"):
        arguments_of("rollback", json.dumps({"call": "c", "model": name, "reason": "a test"}).encode())


def test_a_name_with_a_quote_is_no_registered_model():
    """MLflow's filter would end at the quote, or ask for something else; whoever asks is told that there is no such model."""

    class Registered:
        def get_model_version(self, name, version):
            raise MlflowException("there is none")

    with pytest.raises(RegistryError, match="was never trained"):
        lookups.model_version(Registered(), "o'neil", "1")
