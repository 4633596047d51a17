"""Accidents in MLflow, each made by hand in a real store: `status` and `reconcile` say each in one line, and what is live goes on."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

import httpx
import pytest
from mlflow import MlflowClient

from harness.commands import said
from pipeline.context import Context
from pipeline.deployer.status import models_status
from pipeline.errors import RegistryAwayError, RegistryError
from pipeline.ledger.rollout_events import RolloutEnded, SlotReady
from pipeline.registry.packages import package_digest
from pipeline.registry.versions import PACKAGE_TAG, Registry
from pipeline.rollout.engines.base import Running
from pipeline.rollout.recorded import as_recorded
from pipeline.rollout.routing import route_file
from pipeline.rollout.routing.route import Route, RoutedSlot
from pipeline.workspaces.dvc_graph import Artifacts
from tests.support.accidents import reconcile
from tests.support.versions import registered
from tests.support.world import SETTINGS, lived_in

NEW = "bring a new version live: `perennial retrain churn --deploy`"
IS_LIVE = "version 1, which is live and goes on"


@dataclass
class Live:
    """A project in which version 1 of `churn` is live and its slot answers, and MLflow's client."""

    registry: Registry
    client: MlflowClient
    reconciled: Callable[[], list[str]]
    artifacts: Artifacts
    digest: str

    def status(self) -> list[str]:
        """What `status` says of MLflow."""
        return list(models_status(Context.here(), "churn")[0].registry)

    @property
    def run(self) -> str:
        return self.client.get_model_version("churn", "1").run_id

    def remade(self) -> None:
        """The registered model is deleted and made again: its version 1 is another package now."""
        self.client.delete_registered_model("churn")
        assert registered(self.registry, self.artifacts, "another") == "1"


@pytest.fixture
def live(stored, churn_artifacts):
    context = Context.here()
    registry = context.registry
    assert registered(registry, churn_artifacts, "one") == "1"
    digest = package_digest(registry.deployable_package("churn", "1"))
    registry.promote("churn", "1")
    with lived_in(context.home / "world") as (world, rollout):
        rollout = replace(rollout, home=context.home, ledger=context.ledger, registry=registry)
        world.home = context.home
        routed = RoutedSlot("blue", "1", f"{world.url}/slot/blue/1", digest)
        world.running["blue"] = Running("churn", "blue", "1", routed.address, "world")
        ready = SlotReady(version="1", slot="blue", address=routed.address, settings=as_recorded(SETTINGS))
        context.ledger.append(ready, "churn")
        context.ledger.append(RolloutEnded(version="1", slot="blue", digest=digest), "churn")
        route_file.write(context.home, Route("churn", routed))
        yield Live(registry, registry.client(), lambda: reconcile(rollout), churn_artifacts, digest)
        # Whatever was done in MLflow: the slot that was live is live.
        assert route_file.read(context.home, "churn").live == routed
        assert list(world.running) == ["blue"]


def test_an_mlflow_that_agrees_has_no_line(live):
    """Without an accident `status` says nothing of MLflow, and `reconcile` does nothing."""
    assert (live.status(), live.reconciled()) == ([], [])


@pytest.mark.parametrize("gone", [True, False])
def test_an_alias_that_was_moved_or_deleted_is_put_back(live, gone):
    """`status` names the alias and the command; `reconcile` puts it back on the live version and says so."""
    if gone:
        live.client.delete_registered_model_alias("churn", "champion")
    else:
        assert registered(live.registry, live.artifacts, "two") == "2"
        live.client.set_registered_model_alias("churn", "champion", "2")
    was = "gone" if gone else "on version 2"
    (line,) = live.status()
    assert line == (
        f"churn: MLflow's alias champion is {was}, and version 1 is live; put it back: `perennial reconcile churn`"
    )
    (done,) = live.reconciled()
    assert done == f"churn: MLflow's alias champion was {was}; it is on version 1 again, which is live"
    assert live.registry.champion("churn") == "1"
    assert (live.status(), live.reconciled()) == ([], [])


def test_a_run_that_was_deleted_is_named_with_the_command_that_restores_it(live):
    """The line of a deleted run leads to a store that agrees again."""
    live.client.delete_run(run := live.run)
    uri = live.registry.uri
    line = f"churn: MLflow's run {run} of {IS_LIVE}, was deleted; restore it: `MLFLOW_TRACKING_URI={uri} mlflow runs restore --run-id {run}`"
    assert (live.status(), live.reconciled()) == ([line], [line])
    live.client.restore_run(run)
    assert live.status() == []


def test_an_experiment_that_was_deleted_is_one_line(live):
    """An experiment that was deleted, and its runs with it, is one line with the command that restores both."""
    experiment = live.client.get_experiment_by_name("churn").experiment_id
    live.client.delete_experiment(experiment)
    (line,) = live.status()
    assert line.startswith("churn: MLflow's experiment churn was deleted, so no run of it can begin; restore it: ")
    assert line.endswith(f"mlflow experiments restore -x {experiment}`")
    assert live.reconciled() == [line]
    live.client.restore_experiment(experiment)
    assert live.status() == []


def test_a_registered_model_or_version_that_was_deleted_leaves_what_is_live(live):
    """The line of a deleted version, then of a deleted model, says that the live version goes on, and what brings a new one."""
    live.client.delete_model_version("churn", "1")
    line = f"churn: MLflow no longer has {IS_LIVE}; {NEW}"
    assert (live.status(), live.reconciled()) == ([line], [line])
    live.client.delete_registered_model("churn")
    line = f"churn: MLflow's registered model churn was deleted, with {IS_LIVE}; {NEW}"
    assert (live.status(), live.reconciled()) == ([line], [line])


@pytest.mark.parametrize("tagged", [True, False])
def test_a_number_that_names_another_package_is_said_and_gets_no_alias(live, tagged):
    """After the model was made again, its version 1 is not taken for the live one, also where no tag has the package's digest."""
    live.remade()
    if not tagged:
        live.client.delete_model_version_tag("churn", "1", PACKAGE_TAG)
    (line,) = live.status()
    assert line == (
        f"churn: MLflow's version 1 is another package than {IS_LIVE}: the registered model was made again; "
        f"bring MLflow's live: `perennial deploy churn 1`, or {NEW}"
    )
    assert live.reconciled() == [line]
    assert live.registry.champion("churn") is None


def test_what_is_live_is_started_again_whatever_became_of_its_version(live):
    """The live package and its signature are kept here: they are there when the model was made again, or is gone altogether."""
    registry, old = live.registry, live.digest
    signature = registry.signature("churn", "1", old)
    live.remade()
    new = package_digest(registry.deployable_package("churn", "1"))
    assert new != old
    live.client.delete_registered_model("churn")
    for digest in (old, new):
        assert package_digest(registry.deployable_package("churn", "1", digest)) == digest
    assert registry.signature("churn", "1", old) == signature
    assert registry.runtime("churn", "1", old).features == ["spend", "calls", "plan"]
    with pytest.raises(RegistryError, match="was never trained"):
        registry.deployable_package("churn", "1")


def test_the_training_sample_is_the_one_that_was_registered(live):
    """A changed copy of the sample is fetched again; one that is changed in MLflow too, or another package's, is refused."""
    registry, digest = live.registry, live.digest
    sample = registry.reference_file("churn", "1", digest)
    whole = sample.read_bytes()
    sample.write_bytes(b"another")
    assert registry.reference_file("churn", "1", digest).read_bytes() == whole
    sample.write_bytes(b"another")
    live.client.log_artifact(live.run, str(sample))
    with pytest.raises(RegistryError, match=r"its reference\.parquet is damaged, here and in MLflow") as refused:
        registry.reference_file("churn", "1", digest)
    assert "\n" not in str(refused.value)
    live.remade()
    for read in (registry.reference_file, registry.version_facts):
        with pytest.raises(RegistryError, match="in MLflow is another package than the one that went live"):
            read("churn", "1", digest)


def test_the_command_says_each_accident_as_text_and_as_json(live):
    """`status` and `status --json` have the same line."""
    live.client.delete_registered_model_alias("churn", "champion")
    (line,) = live.status()
    assert line in said(["status"]).stdout.replace("\n", "")
    assert json.loads(said(["status", "--json"]).stdout)[0]["registry"] == [line]


@contextmanager
def mute(closes: bool) -> Iterator[tuple[str, list[socket.socket]]]:
    """The address of a server that accepts each connection, and then closes it or is silent; and those that it accepted."""
    came: list[socket.socket] = []

    def accept() -> None:
        with suppress(OSError):
            while True:
                came.append(listener.accept()[0])
                if closes:
                    came[-1].close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        waiting = threading.Thread(target=accept)
        waiting.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", came
        listener.shutdown(socket.SHUT_RDWR)
        waiting.join()
    for connection in came:
        connection.close()


@pytest.mark.parametrize("closes", [True, False])
def test_an_mlflow_that_does_not_answer_is_one_line_and_asked_once(live, closes):
    """`status` asks an MLflow that breaks off or is silent a single time, and says in one line that nothing was compared."""
    with mute(closes) as (url, asked):
        done = said(["status"], MLFLOW_TRACKING_URI=url)
    lines = [line for line in done.stdout.splitlines() if line.startswith(f"mlflow {url}: does not answer")]
    assert len(lines) == 1, done
    assert lines[0].endswith(", so it was not compared with what is live; start it: `make up`")
    assert closes or "timed out" in lines[0]
    assert len(asked) == 1


def test_an_mlflow_that_is_silent_is_given_up_after_the_limit(live, monkeypatch):
    """The only question to a silent MLflow has the limit of two seconds."""
    limits, get = [], httpx.get

    def noted(url, timeout, **more):
        limits.append(timeout)
        return get(url, timeout=0.1, **more)

    monkeypatch.setattr(httpx, "get", noted)
    with mute(closes=False) as (url, asked), pytest.raises(RegistryAwayError, match="timed out"):
        replace(live.registry, uri=url).held("churn", "1", live.digest)
    assert (limits, len(asked)) == ([2.0], 1)
