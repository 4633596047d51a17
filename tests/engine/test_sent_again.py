"""A request that crashes the model costs one slot, once, while a slot that is killed from outside still costs no request."""

from __future__ import annotations

import io
import tarfile
import time

import docker
import httpx
import pytest

from harness.load import steady_load, wait_for_answers
from harness.project import BODY
from pipeline.rollout import probe
from pipeline.rollout.engines.base import EngineSettings
from pipeline.rollout.engines.docker import DockerEngine
from pipeline.rollout.routing import route_file
from pipeline.services.slot_keeper import SlotKeeper
from pipeline.settings.environment import Environment
from tests.support import crashing
from tests.support.endpoint import kill_slot

SERVER = "pipeline/serving/onnx_model.py"
CRASHING = "perennial/serving-onnx:crashing"
LIMIT_S = 120


@pytest.fixture
def crashes(endpoint, monkeypatch):
    """Slots that start now have a model that can crash: their code is changed, in the project or in the serving image."""
    file = endpoint.project / SERVER
    code = file.read_text()
    changed = f"{code}\n\n{crashing.CODE}"
    if endpoint.settings().engine == "docker":
        monkeypatch.setenv("PERENNIAL_SERVING_IMAGES", f"onnx={image_with(endpoint, changed.encode())}")
        yield
        docker.from_env().images.remove(CRASHING, force=True)
    else:
        file.write_text(changed)
        yield
        file.write_text(code)


def image_with(endpoint, code):
    """The id of the serving image with this code in place of its own."""
    engine = DockerEngine(EngineSettings(endpoint.home, endpoint.project))
    made = io.BytesIO()
    dockerfile = f"FROM {engine.images.serving_base('onnx')}\nCOPY onnx_model.py /app/{SERVER}\n".encode()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for name, content in (("Dockerfile", dockerfile), ("onnx_model.py", code)):
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o644
            archive.addfile(member, io.BytesIO(content))
    made.seek(0)
    image, _ = engine._client.images.build(fileobj=made, custom_context=True, tag=CRASHING, rm=True)
    return image.id


def starts(endpoint):
    """By slot, what changes when it is started anew."""
    if endpoint.settings().engine == "docker":
        return {c.labels["perennial.slot"]: c.attrs["State"]["StartedAt"] for c in endpoint.containers()}
    (engine,) = [engine for engine in endpoint.engines.all() if engine.name == "process"]
    return {slot: engine.identity("churn", slot) for slot, _ in endpoint.slots()}


def until_both_answer(endpoint, keeper):
    """The slots' keeper does what it does beside them after `make up`."""
    route = route_file.read(endpoint.home, "churn")
    until = time.monotonic() + LIMIT_S
    while any(probe.answering_version(slot.address) != slot.version for slot in (route.live, route.previous)):
        assert time.monotonic() < until
        keeper.look()
        time.sleep(0.1)
    while not is_routed_to_both(endpoint):
        assert time.monotonic() < until
        time.sleep(0.1)


def is_routed_to_both(endpoint):
    """Whether the router has seen that both slots are well: its look comes after ours, and until then there is one slot to send to."""
    services = httpx.get(f"{endpoint.at.router_api}/api/http/services").json()
    states = [state for service in services for state in (service.get("serverStatus") or {}).values()]
    return len(states) >= 2 and set(states) == {"UP"}


def test_what_crashes_the_model_takes_one_slot_down_and_a_kill_fails_no_request(endpoint, crashes):
    """The killer gets a last word, its slot comes back by itself, the other one never ends, and all other requests are answered."""
    endpoint.deploy("1")
    endpoint.deploy("2")
    keeper = SlotKeeper(Environment.read().at(endpoint.project, endpoint.home))
    in_docker = endpoint.settings().engine == "docker"
    killer = crashing.FILLS if in_docker else crashing.ABORTS
    with steady_load(endpoint.address, BODY) as tally:
        before = starts(endpoint)
        answer = httpx.post(f"{endpoint.address}/invocations", content=crashing.body(killer), timeout=120)
        assert answer.status_code == 500, answer.text
        assert "is not sent again" in answer.json()["error"]
        until_both_answer(endpoint, keeper)
        after = starts(endpoint)
        # The live one, unless it missed a health check on a busy machine just then.
        assert len([slot for slot in before if before[slot] != after[slot]]) == 1
        kill_slot(endpoint, "green")
        time.sleep(1.5)
        wait_for_answers(tally, "1")
    assert (tally.failed, tally.failures) == (0, [])
    assert set(tally.versions) == {"1", "2"}
