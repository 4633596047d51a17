"""Blue-green against a real Traefik and real slots, the same story for each engine."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
import uuid
from contextlib import contextmanager

import httpx
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from pipeline.errors import RegistryError, RolloutError, StageError
from pipeline.ledger.lease import HELD_S, LEASES
from pipeline.ledger.rollout_events import RouteMoved, SlotStarted
from pipeline.ledger.timeline import live_at
from pipeline.registry import versions as registry
from pipeline.rollout import deploy, evidence, probe
from pipeline.rollout.engines.base import EngineSettings, EngineUnavailable
from pipeline.rollout.engines.docker import DockerEngine
from pipeline.rollout.engines.process import ProcessEngine
from pipeline.rollout.engines.select import LocalEngines
from pipeline.rollout.routing import route_file
from pipeline.rollout.routing.traefik import RETRIED_BYTES
from pipeline.runs import steps
from pipeline.serving.runtime import Runtime
from tests import conftest
from tests.conftest import skip_or_fail
from tests.support.load import steady_load
from tests.support.rollouts import BODY, one_engine

pytestmark = pytest.mark.slow


def test_versions_go_live_in_turn_and_no_request_is_dropped(site):
    """first → second under load → back → forward: blue, green, blue, green, and 0 failed."""
    first = site.deploy("1")
    assert (first["slot"], site.live()) == ("blue", ("1", "blue"))
    assert site.context.registry.champion("churn") == "1"
    with steady_load(site.address, BODY) as tally:
        time.sleep(0.5)
        assert site.deploy("2").slot == "green"
        assert site.live() == ("2", "green")
        assert site.rollback().version == "1"
        assert site.live() == ("1", "blue")
        assert site.rollback().version == "2"
        site.deploy("3")
        time.sleep(0.3)
    assert (tally.failed, tally.failures) == (0, [])
    assert set(tally.versions) == {"1", "2", "3"}
    assert tally.sent > 100
    assert site.slots() == [("blue", "3"), ("green", "2")]
    assert site.context.registry.champion("churn") == "3"
    assert site.context.ledger.verify()[1] is None


@one_engine
def test_deploying_what_is_live_changes_nothing(site):
    site.deploy("1")
    assert site.deploy("1").already_live
    assert site.slots() == [("blue", "1")]


def test_a_package_that_answers_otherwise_gets_no_user_request(site):
    """Golden answers of another model: the slot is healthy, and still nothing moves."""
    site.deploy("1")
    folder = site.context.registry.package_folder("churn", "2")
    golden, manifest = folder / "golden.json", folder / "manifest.json"
    kept = golden.read_bytes(), manifest.read_bytes()
    told = json.loads(kept[0])
    told["predictions"][0] += 0.5
    client = site.context.registry.client()
    signed = client.get_model_version("churn", "2").tags[registry.SIGNATURE_TAG]
    try:
        _repackage(folder, json.dumps(told).encode())
        with pytest.raises(RegistryError, match="not signed as one that passed its gates"):
            site.deploy("2")
        forged = site.context.registry.key.sign(manifest.read_bytes())
        client.set_model_version_tag("churn", "2", registry.SIGNATURE_TAG, forged)
        with (
            steady_load(site.address, BODY) as tally,
            pytest.raises(RolloutError, match="1 of 10 golden answers are wrong"),
        ):
            site.deploy("2")
        assert (tally.failed, set(tally.versions)) == (0, {"1"})
        assert site.live() == ("1", "blue")
        assert site.slots() == [("blue", "1")]
        assert site.context.registry.champion("churn") == "1"
    finally:
        golden.write_bytes(kept[0])
        manifest.write_bytes(kept[1])
        client.set_model_version_tag("churn", "2", registry.SIGNATURE_TAG, signed)


def _repackage(folder, golden, rename=None):
    (folder / "golden.json").write_bytes(golden)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["golden.json"] = hashlib.sha256(golden).hexdigest()
    for feature in manifest["features"]:
        feature["name"] = (rename or {}).get(feature["name"], feature["name"])
    (folder / "manifest.json").write_text(json.dumps(manifest))


@contextmanager
def repackaged(site, change):
    """Version 2 with its files changed by `change(folder)`, and signed as if it had passed its gates so."""
    folder = site.context.registry.package_folder("churn", "2")
    kept = [(path, path.read_bytes()) for path in folder.iterdir()]
    client = site.context.registry.client()
    signed = client.get_model_version("churn", "2").tags[registry.SIGNATURE_TAG]
    try:
        change(folder)
        forged = site.context.registry.key.sign((folder / "manifest.json").read_bytes())
        client.set_model_version_tag("churn", "2", registry.SIGNATURE_TAG, forged)
        yield
    finally:
        for path, content in kept:
            path.write_bytes(content)
        client.set_model_version_tag("churn", "2", registry.SIGNATURE_TAG, signed)


def other_features(folder):
    """Another name than its users send: it is healthy, answers its golden requests, and refuses all others."""
    golden = (folder / "golden.json").read_bytes().replace(b'"calls"', b'"minutes"')
    _repackage(folder, golden, {"calls": "minutes"})


def answering_always(number):
    """A change to a model that says the same to everything."""

    def change(folder):
        model = onnx.load(folder / "model.onnx")
        last = model.graph.output[-1].name
        for node in model.graph.node:
            node.output[:] = ["what_it_means" if name == last else name for name in node.output]
            node.input[:] = ["what_it_means" if name == last else name for name in node.input]
        nothing, always = (
            numpy_helper.from_array(np.float32(n), name) for n, name in ((0, "nothing"), (number, "always"))
        )
        model.graph.initializer.extend([nothing, always])
        model.graph.node.append(helper.make_node("Mul", ["what_it_means", "nothing"], ["silent"]))
        model.graph.node.append(helper.make_node("Add", ["silent", "always"], [last]))
        (folder / "model.onnx").write_bytes(model.SerializeToString())
        manifest = json.loads((folder / "manifest.json").read_text())
        manifest["files"]["model.onnx"] = hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest()
        (folder / "manifest.json").write_text(json.dumps(manifest))

    return change


@one_engine
@pytest.mark.parametrize("said", [0.5, float("nan")])
def test_a_slot_that_answers_nonsense_gets_no_user_request(site, said):
    """The real server with a real model that says the same, or no number, to everything: golden requests find it."""
    site.deploy("1")
    wrong = "10 of 10 golden answers are wrong|failed its golden requests"
    with (
        repackaged(site, answering_always(said)),
        steady_load(site.address, BODY) as tally,
        pytest.raises(RolloutError, match=wrong),
    ):
        site.deploy("2")
    assert (tally.failed, set(tally.versions)) == (0, {"1"})
    assert site.slots() == [("blue", "1")]
    assert site.context.ledger.events(SlotStarted)[-1].body["version"] == "2"
    assert [e.body["to"] for e in site.context.ledger.events(RouteMoved)] == ["1"]


@one_engine
@pytest.mark.parametrize("strategy", ["all-at-once", "canary"])
def test_a_version_that_refuses_what_the_champion_answers_is_undone(site, strategy):
    site.deploy("1")
    site.set(bake_s=5, canary_percent=50, limits__p99_ms=5000)
    with repackaged(site, other_features), steady_load(site.address, BODY):
        time.sleep(1)
        with pytest.raises(RolloutError, match=r"[\d.]+% of [\d,]+ requests were refused, 0.00% of the champion's"):
            site.deploy("2", strategy)
    assert site.live() == ("1", "blue")


def test_a_slot_that_dies_in_its_bake_gives_the_route_back(site, monkeypatch):
    """The old version answers again, stays champion, and no request fails."""
    site.deploy("1")

    look = evidence.Observer.look

    def end_the_slot(observer):
        for engine in site.engines.all():
            engine.stop("churn", "green", 0)
        return look(observer)

    with monkeypatch.context() as during, steady_load(site.address, BODY) as tally:
        during.setattr(evidence.Observer, "look", end_the_slot)
        # Either watcher may be the first to see it: the probe of the slot, or Traefik's count of failed answers.
        with pytest.raises(RolloutError, match="stopped answering during its bake|answers failed"):
            site.deploy("2")
        time.sleep(0.5)
    assert (tally.failed, tally.failures) == (0, [])
    assert site.live() == ("1", "blue")
    assert site.slots() == [("blue", "1")]
    assert site.context.registry.champion("churn") == "1"


@one_engine
def test_a_registry_that_fails_after_the_move_undoes_the_rollout(site, monkeypatch):
    """Route, alias and ledger keep saying the same: the old version is live, and the next rollout goes through."""
    site.deploy("1")
    with monkeypatch.context() as during, steady_load(site.address, BODY) as tally:
        during.setattr(
            registry, "promote", lambda *_: (_ for _ in ()).throw(RegistryError("mlflow", "is away", "wait"))
        )
        with pytest.raises(RegistryError):
            site.deploy("2")
    assert (tally.failed, tally.failures) == (0, [])
    assert site.live() == ("1", "blue")
    assert site.context.registry.champion("churn") == "1"
    assert live_at(site.context.ledger, "churn")["version"] == "1"
    assert site.deploy("2").previous == "1"


@one_engine
def test_a_changed_package_is_refused_before_anything_starts(site):
    site.deploy("1")
    model = site.context.registry.package_folder("churn", "3") / "model.onnx"
    kept = model.read_bytes()
    try:
        model.write_bytes(kept[:-1] + b"x")
        with pytest.raises(StageError, match=r"model\.onnx is not what was packaged"):
            site.deploy("3")
        assert site.slots() == [("blue", "1")]
    finally:
        model.write_bytes(kept)


def test_a_dead_live_slot_is_covered_by_its_warm_predecessor_and_reconcile_brings_it_back(site):
    site.deploy("1")
    site.deploy("2")
    for engine in site.engines.all():
        engine.stop("churn", "green", 0)
    until = time.monotonic() + 10
    while httpx.post(f"{site.address}/invocations", content=BODY).status_code != 200:
        assert time.monotonic() < until
    done = site.reconcile()
    assert any("started version 2 again" in line for line in done)
    assert site.live() == ("2", "green")
    assert site.reconcile() == []


@one_engine
def test_a_rollout_that_was_overtaken_touches_nothing(site, monkeypatch):
    """It slept while another took its lease and went live; when it wakes up it is refused, and the other stays live."""
    site.deploy("1")
    waited = probe.wait_ready

    def sleep_and_lose(engine, running, limit_s):
        ready_s = waited(engine, running, limit_s)
        with site.context.ledger.writing() as connection:
            connection.execute(LEASES.update().values(token=LEASES.c.token + 1, holder="another"))
        return ready_s

    with monkeypatch.context() as during:
        during.setattr(probe, "wait_ready", sleep_and_lose)
        with pytest.raises(RolloutError, match="this rollout was overtaken by another"):
            site.deploy("2")
    assert site.live() == ("1", "blue")
    assert site.context.registry.champion("churn") == "1"
    time.sleep(HELD_S)
    site.deploy("2")
    assert site.live() == ("2", "green")


@one_engine
def test_a_route_is_not_moved_back_by_an_older_rollout(site):
    site.deploy("1")
    current = route_file.read(site.home, "churn")
    token = route_file.token_of(site.home, "churn")
    with pytest.raises(RolloutError, match="was moved by a younger rollout"):
        route_file.write(site.home, current, token - 1)
    with site.context.ledger.writing() as connection:
        connection.execute(LEASES.delete())
    site.deploy("2")  # a ledger that was restored has forgotten the number; the route has not
    assert route_file.token_of(site.home, "churn") == token + 1


@one_engine
def test_refusals_are_one_line_and_change_nothing(site):
    with pytest.raises(RegistryError, match="has no version 99; its versions are: 1, 2, 3"):
        site.deploy("99")
    with pytest.raises(RolloutError, match="is not live"):
        site.rollback()
    site.deploy("1")
    with pytest.raises(RolloutError, match="has no predecessor to go back to"):
        site.rollback()
    with (
        site.context.rollout("test").alone("churn"),
        pytest.raises(RolloutError, match="another rollout of it is going on"),
    ):
        site.deploy("2")
    assert site.live() == ("1", "blue")


@pytest.mark.parametrize("site", ["docker"], indirect=True)
def test_the_container_is_hardened(site):
    site.deploy("1")
    (container,) = site.containers()
    host, config = container.attrs["HostConfig"], container.attrs["Config"]
    assert host["ReadonlyRootfs"]
    assert host["CapDrop"] == ["ALL"]
    assert host["CapAdd"] in (None, [])
    assert not host["Privileged"]
    assert "no-new-privileges:true" in host["SecurityOpt"]
    assert config["User"].split(":")[0] not in ("", "0", "root")
    assert host["PidsLimit"] == 128
    assert host["Memory"] == 512 * 1024**2
    assert host["NanoCpus"] == 1_000_000_000
    assert host["Init"]
    assert set(host["Tmpfs"]) == {"/tmp"}
    assert host["NetworkMode"].startswith("perennial-")
    assert host["RestartPolicy"]["Name"] == "unless-stopped"
    assert [b["HostIp"] for bound in host["PortBindings"].values() for b in bound] == ["127.0.0.1"]
    assert all("docker.sock" not in m["Source"] for m in container.attrs["Mounts"])
    look = "import importlib.util as u; print([n for n in ('sklearn', 'pandas', 'joblib', 'cloudpickle', 'skops') if u.find_spec(n)])"
    code, who = container.exec_run(["id", "-u"])
    assert (code, who.decode().strip()) == (0, config["User"].split(":")[0])
    code, _ = container.exec_run(["touch", "/package/more"])
    assert code != 0
    code, found = container.exec_run(["python3", "-c", look])
    assert (code, found.decode().strip()) == (0, "[]")


@pytest.mark.parametrize("site", ["docker"], indirect=True)
def test_when_all_slots_have_ended_their_network_is_gone_too(site):
    import docker

    site.deploy("1")
    (container,) = site.containers()
    (name,) = container.attrs["NetworkSettings"]["Networks"]
    deploy.stop_all(site.engines)
    assert docker.from_env().networks.list(names=[name]) == []
    deploy.stop_all(site.engines)
    site.reconcile()
    assert site.live() == ("1", "blue")


def test_what_onnx_cannot_hold_is_served_by_the_second_image(site):
    """The same rollout, golden requests and answers; the ledger's engine is the same too."""
    site.deploy("1")
    conftest.change_params(site.project, "models.churn.training.runtime", "skops")
    as_of = site.context.params.model("churn").as_of.replace(month=2, day=22)
    context = type(site.context).here()
    version = steps.retrain(
        context, f"run/skops-{uuid.uuid4().hex[:6]}", "churn", as_of, "a test", False, lambda _: None
    )["version"]
    told = site.deploy(version)
    assert told.engine == [e.name for e in site.engines.all() for r in e.all() if r.version == version][0]
    answer = httpx.post(f"{site.address}/invocations", content=BODY)
    assert answer.headers["x-model-version"] == version
    assert httpx.get(f"{site.address}/v2/models/churn").json()["platform"] == "sklearn_skops"
    onnx = Runtime.load(site.context.registry.package_folder("churn", "3"))
    rows = onnx.signature.of_records(json.loads(BODY)["dataframe_records"])
    assert answer.json()["predictions"] == pytest.approx(onnx.predict(rows).tolist(), abs=1e-5)


@one_engine
def test_the_router_lets_no_client_through_faster_than_the_limit(site):
    """A rollout asks whether its route is followed as often as it likes."""
    site.set(serving__rate_limit=5)
    site.deploy("1")
    with httpx.Client() as client:
        codes = [client.post(f"{site.address}/invocations", content=BODY).status_code for _ in range(40)]
    assert set(codes) == {200, 429}
    assert site.deploy("2").slot == "green"
    site.set(serving__rate_limit=0)
    site.deploy("3")
    with httpx.Client() as client:
        codes = [client.post(f"{site.address}/invocations", content=BODY).status_code for _ in range(40)]
    assert set(codes) == {200}


@one_engine
def test_a_request_larger_than_is_kept_for_another_try_is_answered(site):
    site.deploy("1")
    body = json.dumps({"dataframe_records": json.loads(BODY)["dataframe_records"] * 5000}).encode()
    assert len(body) > RETRIED_BYTES
    assert len(httpx.post(f"{site.address}/invocations", content=body).json()["predictions"]) == 5000


@one_engine
def test_with_keys_a_rollout_proves_its_slot_and_strangers_are_refused(site):
    site.set(serving__api_keys=[hashlib.sha256(b"mine").hexdigest()])
    site.deploy("1")
    assert httpx.post(f"{site.address}/invocations", content=BODY).status_code == 401
    assert httpx.post(f"{site.address}/invocations", content=BODY, headers={"x-api-key": "mine"}).status_code == 200


def test_without_an_engine_the_process_engine_serves_and_says_why(trained, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent.sock")
    engine, why = LocalEngines(EngineSettings(trained / "home", trained)).choose("auto")
    assert isinstance(engine, ProcessEngine)
    assert why.startswith("process engine, because no Docker engine answers")
    assert "\n" not in why
    with pytest.raises(RolloutError, match="no Docker engine answers"):
        LocalEngines(EngineSettings(trained / "home", trained)).choose("docker")


def test_without_the_base_image_the_process_engine_serves_and_says_why(trained, tmp_path, monkeypatch):
    """An engine that answers but cannot pull: the reason is one line."""
    try:
        DockerEngine(EngineSettings(trained / "home", trained), prepare=False)
    except EngineUnavailable as reason:
        skip_or_fail("docker", str(reason))
    monkeypatch.setattr("pipeline.rollout.engines.docker.LOCAL_BASE", "perennial/none:here")
    monkeypatch.setattr("pipeline.rollout.engines.docker.PUBLIC_BASE", "127.0.0.1:9/none:here")
    monkeypatch.delenv("PERENNIAL_BASE_IMAGE", raising=False)
    # Its tag follows its requirements, and an engine keeps images from one test run to the next.
    project = tmp_path / "project"
    for folder in ("docker", "pipeline", "requirements"):
        shutil.copytree(trained / folder, project / folder)
    with (project / "requirements" / "serving.txt").open("a") as serving:
        serving.write(f"# {uuid.uuid4()}\n")
    engine, why = LocalEngines(EngineSettings(trained / "home", project)).choose("auto")
    assert isinstance(engine, ProcessEngine)
    assert "it cannot get the base image 127.0.0.1:9/none:here" in why
    assert "\n" not in why
