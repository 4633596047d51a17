"""Slots as containers: hardened, on a network of their own, and replaced by processes where there is no engine."""

from __future__ import annotations

import json
import shutil
import stat
import time
import uuid
from pathlib import Path

import httpx
import psutil
import pyarrow.parquet as pq
import pytest

from harness.project import BODY
from pipeline.errors import RolloutError
from pipeline.gates.bill_of_materials import IMAGE_FILE
from pipeline.ledger.rollout_events import SlotDied
from pipeline.rollout import deploy
from pipeline.rollout.engines.base import EngineSettings, EngineUnavailable
from pipeline.rollout.engines.docker import DockerEngine, home_id
from pipeline.rollout.engines.docker_events import ContainerDeaths
from pipeline.rollout.engines.process import ProcessEngine
from pipeline.rollout.engines.select import LocalEngines
from pipeline.rollout.serving_system import serving_system
from pipeline.rollout.slot_deaths import Death, note
from pipeline.serving import log_files
from pipeline.serving.prediction_log import pseudonym
from pipeline.serving.runtime import Runtime
from tests.support.endpoint import BOOSTED, LIMIT_S, SKOPS
from tests.support.required import skip_or_fail


@pytest.mark.parametrize("endpoint", ["docker"], indirect=True)
def test_the_container_is_hardened(endpoint, tmp_path):
    """A slot's container has no root, no capabilities, a read-only file system, limits, a loopback port only, and a list of what is in it, which is that of the image before it is started."""
    endpoint.deploy("1")
    (container,) = endpoint.containers()
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
    client = endpoint.context.registry.client()
    kept = client.download_artifacts(client.get_model_version("churn", "1").run_id, IMAGE_FILE, str(tmp_path))
    listed = json.loads(Path(kept).read_text())
    asked = "${Package} ${Version} ${source:Package} ${source:Version}\\n"
    code, said = container.exec_run(["dpkg-query", "-W", "-f", asked])
    installed = {tuple(line.split()) for line in said.decode().splitlines()}
    ours = {(part["name"], part["version"]) for part in listed["components"] if part["type"] == "library"}
    assert (code, ours) == (0, {each[:2] for each in installed})
    client = container.client
    before = {each.id for each in client.containers.list(all=True, ignore_removed=True)}
    rollout = endpoint.context.rollout("")
    serving = serving_system(rollout, endpoint.settings(), "onnx")
    assert serving.image == rollout.image_digest("onnx")
    assert {(p.name, p.version, *p.built_from) for p in serving.system.packages} == installed
    left = [each for each in client.containers.list(all=True, ignore_removed=True) if each.id not in before]
    assert not [each for each in left if each.image.id == serving.system.image]


def test_no_secret_of_a_slot_is_where_others_can_read_it(endpoint):
    """The key of pseudonyms is in a file for the server's user alone, which a restarted slot reads again; the log is private too."""
    endpoint.set(serving__personal={"plan": "hash"})
    endpoint.deploy("1")
    key = endpoint.context.registry.key.log_key()
    (settings_file,) = (endpoint.home / "slots").glob("churn-blue.*.settings")
    assert key in settings_file.read_text()
    assert stat.filemode(settings_file.stat().st_mode) == "-rw-------"
    if endpoint.settings().engine == "docker":
        (container,) = endpoint.containers()
        seen = json.dumps(container.attrs)
        assert settings_file.stat().st_uid == int(container.attrs["Config"]["User"].split(":")[0])
        container.restart()
    else:
        process = Path("/proc") / str(json.loads((endpoint.home / "slots" / "churn-blue.json").read_text())["pid"])
        seen = (process / "environ").read_text() + (process / "cmdline").read_text()
    assert key not in seen
    until = time.monotonic() + LIMIT_S
    while (answer := httpx.post(f"{endpoint.address}/invocations", content=BODY)).status_code != 200:
        assert time.monotonic() < until, answer.text
        time.sleep(0.1)
    log = endpoint.home / "predictions" / "churn"
    deploy.stop_all(endpoint.engines)
    assert stat.filemode(log.stat().st_mode) == "drwx------"
    files = log_files.listed(log).files
    assert {stat.filemode(path.stat().st_mode) for path in files} == {"-rw-------"}
    rows = [row for path in files for row in pq.read_table(path).to_pylist()]
    assert {row["features"]["plan"] for row in rows if row["request_id"] == answer.headers["x-request-id"]} == {
        pseudonym(bytes.fromhex(key), "plus")
    }
    assert not settings_file.exists()


@pytest.mark.parametrize("endpoint", ["docker"], indirect=True)
def test_when_all_slots_have_ended_their_network_is_gone_too(endpoint):
    """The slots' network is removed with the last slot, and made again by reconcile."""
    import docker

    endpoint.deploy("1")
    (container,) = endpoint.containers()
    (name,) = container.attrs["NetworkSettings"]["Networks"]
    deploy.stop_all(endpoint.engines)
    assert docker.from_env().networks.list(names=[name]) == []
    deploy.stop_all(endpoint.engines)
    endpoint.reconcile()
    assert endpoint.live() == ("1", "blue")


def test_what_onnx_cannot_hold_is_served_by_the_second_image(endpoint):
    """A skops package is deployed on the same engine and gives the ONNX predictions; a booster's needs no image of its own."""
    endpoint.deploy("1")
    result = endpoint.deploy(SKOPS)
    assert result.engine == [e.name for e in endpoint.engines.all() for r in e.all() if r.version == SKOPS][0]
    answer = httpx.post(f"{endpoint.address}/invocations", content=BODY)
    assert answer.headers["x-model-version"] == SKOPS
    assert httpx.get(f"{endpoint.address}/v2/models/churn").json()["platform"] == "sklearn_skops"
    onnx = Runtime.load(endpoint.context.registry.package_folder("churn", "3"))
    rows = onnx.reader.of_records(json.loads(BODY)["dataframe_records"])
    assert answer.json()["predictions"] == pytest.approx(onnx.predict(rows).tolist(), abs=1e-5)
    endpoint.deploy(BOOSTED)
    answer = httpx.post(f"{endpoint.address}/invocations", content=BODY)
    boosted = Runtime.load(endpoint.context.registry.package_folder("churn", BOOSTED))
    assert answer.headers["x-model-version"] == BOOSTED
    assert answer.json()["predictions"] == boosted.predict(rows).tolist() != onnx.predict(rows).tolist()


def test_without_an_engine_the_process_engine_serves_and_says_why(trained, monkeypatch):
    """Where no Docker engine answers, `auto` takes the process engine and says why, and `docker` fails."""
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent.sock")
    engine, why = LocalEngines(EngineSettings(trained / "home", trained)).choose("auto")
    assert isinstance(engine, ProcessEngine)
    assert why.startswith("process engine, because no Docker engine answers")
    assert "\n" not in why
    with pytest.raises(RolloutError, match="no Docker engine answers"):
        LocalEngines(EngineSettings(trained / "home", trained)).choose("docker")


def test_without_the_base_image_the_process_engine_serves_and_says_why(trained, tmp_path, monkeypatch):
    """Where the base image cannot be pulled, `auto` takes the process engine and says why in one line."""
    try:
        DockerEngine(EngineSettings(trained / "home", trained), prepare=False)
    except EngineUnavailable as reason:
        skip_or_fail("docker", str(reason))
    monkeypatch.setattr("pipeline.rollout.engines.docker_images.LOCAL_BASE", "perennial/none:here")
    monkeypatch.setattr("pipeline.rollout.engines.docker_images.PUBLIC_BASE", "127.0.0.1:9/none:here")
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


@pytest.mark.parametrize("endpoint", ["docker"], indirect=True)
def test_a_container_that_dies_leaves_an_event_and_one_that_is_ended_none(endpoint):
    """The event names the exit code and what the server printed last; Docker starts the container again."""
    endpoint.deploy("1")
    deaths = ContainerDeaths(home_id(EngineSettings.of(endpoint.context.environment)), time.time())
    (container,) = endpoint.containers()
    (server,) = psutil.Process(container.attrs["State"]["Pid"]).children()
    server.kill()
    found, until = [], time.monotonic() + LIMIT_S
    while not found:
        assert time.monotonic() < until
        time.sleep(0.2)
        found = deaths.look()
    (death,) = found
    assert (death.model, death.slot, death.version, death.cause) == ("churn", "blue", "1", "ended with 137")
    note(endpoint.context.environment, [Death.of_container(death, 1)])
    (entry,) = endpoint.context.ledger.events(SlotDied, model="churn")
    assert (entry.event.engine, entry.event.cause) == ("docker", "ended with 137")
    deploy.stop_all(endpoint.engines)
    time.sleep(2)
    assert deaths.look() == []
