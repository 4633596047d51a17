"""A candidate that is wrong gets no user request, and the champion stays."""

from __future__ import annotations

import hashlib
import json
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from harness.load import steady_load
from harness.project import BODY
from pipeline.errors import RegistryError, RolloutError
from pipeline.ledger.rollout_events import RolloutStarted, RouteMoved, SlotStarted
from pipeline.registry.versions import SIGNATURE_TAG
from pipeline.rollout import evidence
from tests.support.endpoint import one_engine


@one_engine
def test_a_package_that_answers_otherwise_gets_no_user_request(endpoint):
    """A candidate with wrong golden answers is refused before any user request reaches it."""
    endpoint.deploy("1")
    folder = endpoint.context.registry.package_folder("churn", "2")
    golden, manifest = folder / "golden.json", folder / "manifest.json"
    kept = golden.read_bytes(), manifest.read_bytes()
    told = json.loads(kept[0])
    told["predictions"][0] += 0.5
    client = endpoint.context.registry.client()
    signed = client.get_model_version("churn", "2").tags[SIGNATURE_TAG]
    try:
        _repackage(folder, json.dumps(told).encode())
        client.set_model_version_tag("churn", "2", SIGNATURE_TAG, "00" * 64)
        with pytest.raises(RegistryError, match="not signed as one that passed its gates"):
            endpoint.deploy("2")
        forged = endpoint.context.registry.key.sign(manifest.read_bytes())
        client.set_model_version_tag("churn", "2", SIGNATURE_TAG, forged)
        with (
            steady_load(endpoint.address, BODY, pace=100) as tally,
            pytest.raises(RolloutError, match="1 of 10 golden answers are wrong"),
        ):
            endpoint.deploy("2")
        assert (tally.failed, set(tally.versions)) == (0, {"1"})
        assert endpoint.live() == ("1", "blue")
        assert endpoint.slots() == [("blue", "1")]
        assert endpoint.context.registry.champion("churn") == "1"
    finally:
        golden.write_bytes(kept[0])
        manifest.write_bytes(kept[1])
        client.set_model_version_tag("churn", "2", SIGNATURE_TAG, signed)


def _repackage(folder, golden, rename=None):
    (folder / "golden.json").write_bytes(golden)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["golden.json"] = hashlib.sha256(golden).hexdigest()
    for feature in manifest["schema"]["columns"]:
        feature["name"] = (rename or {}).get(feature["name"], feature["name"])
    (folder / "manifest.json").write_text(json.dumps(manifest))


@contextmanager
def repackaged(endpoint, change):
    """Version 2 with its files changed by `change(folder)`, and signed as if it had passed its gates so."""
    folder = endpoint.context.registry.package_folder("churn", "2")
    kept = [(path, path.read_bytes()) for path in folder.iterdir()]
    client = endpoint.context.registry.client()
    signed = client.get_model_version("churn", "2").tags[SIGNATURE_TAG]
    try:
        change(folder)
        forged = endpoint.context.registry.key.sign((folder / "manifest.json").read_bytes())
        client.set_model_version_tag("churn", "2", SIGNATURE_TAG, forged)
        yield
    finally:
        for path, content in kept:
            path.write_bytes(content)
        client.set_model_version_tag("churn", "2", SIGNATURE_TAG, signed)


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
def test_a_slot_that_answers_nonsense_gets_no_user_request(endpoint, said):
    """A candidate that answers a constant or no number is refused by its golden requests."""
    endpoint.deploy("1")
    wrong = "10 of 10 golden answers are wrong|failed its golden requests"
    with (
        repackaged(endpoint, answering_always(said)),
        steady_load(endpoint.address, BODY, pace=100) as tally,
        pytest.raises(RolloutError, match=wrong),
    ):
        endpoint.deploy("2")
    assert (tally.failed, set(tally.versions)) == (0, {"1"})
    assert endpoint.slots() == [("blue", "1")]
    assert endpoint.context.ledger.events(SlotStarted)[-1].body["version"] == "2"
    assert [e.body["to"] for e in endpoint.context.ledger.events(RouteMoved)] == ["1"]


@one_engine
@pytest.mark.parametrize("strategy", ["all-at-once", "canary"])
def test_a_version_that_refuses_what_the_champion_answers_is_undone(endpoint, strategy):
    """A candidate that refuses requests which the champion answers is rolled back."""
    endpoint.deploy("1")
    endpoint.set(bake_s=5, canary_percent=50, limits__p99_ms=5000)
    with repackaged(endpoint, other_features), steady_load(endpoint.address, BODY, pace=100):
        time.sleep(1)
        with pytest.raises(RolloutError, match=r"[\d.]+% of [\d,]+ requests were refused, 0.00% of the champion's"):
            endpoint.deploy("2", strategy, accept_schema_change=True)
    assert endpoint.live() == ("1", "blue")


@one_engine
def test_the_fourth_refused_request_undoes_a_version_that_wants_another_column(endpoint):
    """Four refused requests undo a version in its last bake, however many min_requests are wanted."""
    endpoint.deploy("1")
    for _ in range(300):
        httpx.post(f"{endpoint.address}/invocations", content=BODY).raise_for_status()
    endpoint.set(bake_s=0.2, hold_s=60)
    answers = []

    def ask_slowly():
        while "400" not in answers[-4:-3]:
            answers.append(str(httpx.post(f"{endpoint.address}/invocations", content=BODY).status_code))
            time.sleep(0.1)

    with repackaged(endpoint, other_features), ThreadPoolExecutor() as pool:
        asking = pool.submit(ask_slowly)
        with pytest.raises(RolloutError, match="requests were refused, 0.00% of the champion's"):
            endpoint.deploy("2", accept_schema_change=True)
        asking.result(60)
    assert endpoint.live() == ("1", "blue")


@one_engine
def test_other_columns_than_the_live_version_has_are_refused_before_a_slot_starts(endpoint):
    """A version that takes other columns than the live one starts no slot, unless that is accepted; the ledger says so."""
    endpoint.deploy("1")
    with repackaged(endpoint, other_features):
        with pytest.raises(
            RolloutError, match="column minutes is added, column calls is dropped.*--accept-schema-change"
        ):
            endpoint.deploy("2")
        assert [e.body["version"] for e in endpoint.context.ledger.events(SlotStarted)] == ["1"]
        endpoint.deploy("2", accept_schema_change=True)
    opened = endpoint.context.ledger.events(RolloutStarted)[-1].event
    assert "schema change accepted: column minutes is added, column calls is dropped" in opened.reason


def test_a_slot_that_dies_in_its_bake_gives_the_route_back(endpoint, monkeypatch):
    """A candidate that dies in its bake gives the route back to the champion, without a failed request."""
    endpoint.deploy("1")

    look = evidence.Observer.look

    def end_the_slot(observer):
        for engine in endpoint.engines.all():
            engine.stop("churn", "green", 0)
        return look(observer)

    with monkeypatch.context() as during, steady_load(endpoint.address, BODY, pace=100) as tally:
        during.setattr(evidence.Observer, "look", end_the_slot)
        # Either watcher may be the first to see it: the probe of the slot, or Traefik's count of failed answers.
        with pytest.raises(RolloutError, match="stopped answering during its bake|answers failed"):
            endpoint.deploy("2")
        time.sleep(0.5)
    assert (tally.failed, tally.failures) == (0, [])
    assert endpoint.live() == ("1", "blue")
    assert endpoint.slots() == [("blue", "1")]
    assert endpoint.context.registry.champion("churn") == "1"


@one_engine
def test_a_changed_copy_of_a_package_is_fetched_again(endpoint):
    """A copy with a changed file never starts: the good package is fetched again from MLflow."""
    endpoint.deploy("1")
    model = endpoint.context.registry.package_folder("churn", "3") / "model.onnx"
    kept = model.read_bytes()
    try:
        model.write_bytes(kept[:-1] + b"x")
        endpoint.deploy("3")
        assert model.read_bytes() == kept
        assert endpoint.live()[0] == "3"
    finally:
        model.write_bytes(kept)
