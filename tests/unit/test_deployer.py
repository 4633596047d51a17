"""The deployer's service: who may ask for what, what is asked twice, and that it moves real slots as this process would."""

import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import jwt
import numpy as np
import pandas as pd
import pytest
from starlette.testclient import TestClient

from harness.ledgers import ledger_of
from pipeline.context import Context
from pipeline.deployer import client as clients
from pipeline.deployer import service, tokens
from pipeline.deployer.service import Service
from pipeline.errors import GateError, RolloutError
from pipeline.gates.image_system import ImageSystem, ServingSystem, SystemPackage
from pipeline.ledger.events import DeployerCalled, DeployerRefused
from pipeline.monitoring.live_quality import LoggedPredictions
from pipeline.monitoring.log_profiles import LoggedProfile
from pipeline.monitoring.logged_quality import LoggedQuality
from pipeline.monitoring.profiles.profile import Profile
from pipeline.reliability.counts import Counts
from pipeline.reliability.report import reports
from pipeline.rollout.results import Deployment
from pipeline.settings.environment import Environment
from pipeline.settings.slo import Slo

KEY = "k" * 48
DEPLOY = {"call": "c1", "model": "churn", "version": "1", "reason": "a test", "strategy": None, "wait_s": 0}


# Of a day that has not begun nothing was counted.
LEVELS = reports(Counts(Path("nowhere")), {"churn": Slo(p95_ms=50)}, 24, now=1.0)
SERVING = ServingSystem(
    "docker",
    "docker engine 28",
    "sha256:ab",
    ImageSystem("sha256:cd", "debian", "12", (SystemPackage("libc6", "2.36-9", "amd64", "glibc", "", ("GPL-2+",)),)),
)
QUALITY = LoggedQuality((3, 0, 5), 1.5, (26.25,), {"größe must be at least 0": 2}, {"plan": 1})


class Fake:
    """Remembers what it was asked; `hold` keeps a deployment from ending."""

    def __init__(self):
        self.asked, self.hold = [], threading.Event()
        self.hold.set()
        self.people = []

    def asked_by(self, person):
        self.people.append(person)
        return self

    def deploy(self, run, model, version, reason, strategy, wait_s, accept_schema_change=False):
        self.asked.append((run, model, version))
        assert self.hold.wait(60)
        return Deployment(version, "blue", 0.0)

    def rollback(self, run, model, reason, only=""):
        self.asked.append((run, model, "rollback"))
        self.only = only
        assert self.hold.wait(60)
        raise GateError("a", "b", "c")

    def retire(self, run, model):
        raise ZeroDivisionError("ours")

    def prune_log(self, run, model, dry_run):
        self.asked.append((run, model, dry_run))
        return {"files of predictions": [2, 10]}

    def newest_look(self, model):
        return {"model": model}

    def serving_system(self, model, runtime):
        self.asked.append((model, runtime))
        return SERVING

    def levels(self, model, hours):
        self.asked.append((model, hours))
        return LEVELS

    def predictions(self, model, start, end, share=1.0):
        self.asked.append((model, share))
        return LoggedPredictions(pd.DataFrame({"key": ["a"], "at": [start]}), 7, 2, QUALITY)

    def profile(self, model, version, digest, start, end):
        self.asked.append((model, version, digest, start, end))
        return LoggedProfile(Profile(3, {"x": np.array([1, 2])}), 7, 1)


@pytest.fixture
def served(tmp_path, monkeypatch):
    """(the fake, its ledger, a function that starts the service anew and answers the client's requests with it)."""
    fake, ledger = Fake(), ledger_of(tmp_path)
    at = {}

    def start():
        anew = Service(Context(Environment.read().at(tmp_path, tmp_path), ledger), fake, KEY)
        at["http"] = TestClient(anew.app(), base_url="http://deployer")

    def request(method, url, **more):
        transport = {name: more.pop(name, None) for name in ("timeout", "verify")}
        assert transport["verify"] is False  # plain HTTP: no certificates are read for it
        return at["http"].request(method, url, **more)

    start()
    monkeypatch.setattr(clients.httpx, "request", request)
    fake.restart, fake.http = start, lambda *a, **k: at["http"].request(*a, **k)
    return fake, ledger


def ask(fake, verb, body, token):
    return fake.http("POST", f"/v1/{verb}", json=body, headers={"authorization": f"Bearer {token}"}).status_code


def test_a_worker_has_the_deployer_remove_old_predictions(served):
    """`prune` on a worker asks for the files of the log that the deployer has, and gets their number and bytes."""
    fake, ledger = served
    traffic = clients.RemoteTraffic("http://deployer", KEY)
    assert traffic.prune_log("operate__churn/1", "churn", False) == {"files of predictions": [2, 10]}
    assert fake.asked == [("operate__churn/1", "churn", False)]
    assert ledger.events(DeployerCalled)[0].event.verb == "prune_log"


def test_a_call_goes_through_and_is_in_the_ledger(served):
    """A call reaches the deployer, and call and answer are in the ledger."""
    fake, ledger = served
    assert clients.RemoteTraffic("http://deployer", KEY).deploy("run/1", "churn", "3", "why", None, 5) == Deployment(
        "3", "blue", 0.0
    )
    assert fake.asked == [("run/1", "churn", "3")]
    called, answered = ledger.events(model="churn")
    assert (called.kind, called.run, called.body["version"]) == ("deployer_called", "run/1", "3")
    assert (answered.kind, answered.body["outcome"]) == ("deployer_answered", "done")
    assert ledger.verify() == (2, None)


def test_who_asks_is_known_there(served):
    """The name of the person who asks reaches the deployer, cut to a hundred characters, and is in the ledger; a run has none."""
    fake, ledger = served
    traffic = clients.RemoteTraffic("http://deployer", KEY)
    traffic.deploy("run/1", "churn", "3", "why", None, 5)
    traffic.asked_by("anna" * 100).deploy("", "churn", "3", "by hand", None, 0)
    with pytest.raises(GateError):
        traffic.asked_by("bea").rollback("", "churn", "why")
    assert fake.people == ["", "anna" * 25, "bea"]
    assert [e.body.get("asked_by", "")[:4] for e in ledger.events(DeployerCalled)] == ["", "anna", "bea"]


def test_a_worker_asks_what_is_in_the_serving_image(served):
    """The gate runs where no engine is: the deployer answers with the packages of the image's distribution, each with its source and licences."""
    fake, _ = served
    assert clients.RemoteTraffic("http://deployer", KEY).serving_system("churn", "onnx") == SERVING
    assert fake.asked == [("churn", "onnx")]


def test_a_page_reads_the_newest_look_without_an_event(served):
    """Of its own model, with a token of its own; a token for another verb is refused, and a deployer of before is an error at once."""
    fake, ledger = served
    traffic = clients.RemoteTraffic("http://deployer", KEY)
    assert traffic.newest_look("churn") == {"model": "churn"}
    assert ledger.events() == []
    wrong = {"authorization": f"Bearer {tokens.issue(KEY, '', 'status', 'churn')}"}
    assert fake.http("GET", "/v1/newest-look?model=churn", headers=wrong).status_code == 401
    assert [entry.kind for entry in ledger.events()] == ["deployer_refused"]
    with pytest.raises(RolloutError, match="deployer http://deployer: does not tell how the rollout does"):
        clients.RemoteTraffic("http://deployer", "k" * 32).newest_look("churn")


def test_a_rollback_of_one_version_names_it(served):
    """The version alone crosses the wire when it is given."""
    fake, ledger = served
    with pytest.raises(GateError):
        clients.RemoteTraffic("http://deployer", KEY).rollback("r", "churn", "why", "7")
    assert fake.only == "7"
    assert ledger.events(DeployerCalled)[0].body["only"] == "7"


def test_what_was_refused_there_is_raised_here(served):
    """An error in the deployer is raised in the caller with the same type and message."""
    with pytest.raises(GateError, match="a: b; c"):
        clients.RemoteTraffic("http://deployer", KEY).rollback("", "churn", "why")
    with pytest.raises(RolloutError, match="ZeroDivisionError"):
        clients.RemoteTraffic("http://deployer", KEY).retire("", "churn")


def test_service_levels_come_as_they_are_there(served):
    """Service levels come through the deployer unchanged, and only that somebody asked is in the ledger."""
    fake, ledger = served
    assert clients.RemoteTraffic("http://deployer", KEY).levels("churn", 24) == LEVELS
    assert LEVELS[0].objectives and fake.asked == [("churn", 24)]
    assert [entry.kind for entry in ledger.events(model="churn")] == ["deployer_called"]


def test_the_log_comes_as_it_is_there(served):
    """The prediction log comes through the deployer unchanged."""
    start = datetime(2024, 1, 1, tzinfo=UTC)
    log = clients.RemoteTraffic("http://deployer", KEY).predictions("churn", start, start)
    assert list(log.rows["key"]) == ["a"] and log.rows["at"][0] == start
    assert (log.logged, log.damaged_files, log.quality) == (7, 2, QUALITY)


def test_a_share_of_the_log_and_its_profile_come_as_they_are_there(served):
    """The counts of a span, and a share of its rows, come through the deployer unchanged; the ledger has both calls."""
    fake, ledger = served
    start, traffic = datetime(2024, 1, 1, tzinfo=UTC), clients.RemoteTraffic("http://deployer", KEY)
    found = traffic.profile("churn", "3", "d3", start, start)
    assert found.as_dict() == {"rows": 3, "cells": {"x": [1, 2]}, "logged": 7, "untimed": 1, "answers": 0.0}
    traffic.predictions("churn", start, start, 0.25)
    assert fake.asked == [("churn", "3", "d3", start, start), ("churn", 0.25)]
    assert [e.body["verb"] for e in ledger.events(DeployerCalled)] == ["profile", "predictions"]


@pytest.mark.parametrize(
    "verb, change",
    [
        ("run", {}),
        ("deploy", {"image": "debian"}),
        ("deploy", {"version": "../1"}),
        ("deploy", {"version": 1}),
        ("deploy", {"model": "a/../b"}),
        ("deploy", {"model": ""}),
        ("deploy", {"wait_s": True}),
        ("deploy", {"asked_by": 7}),
    ],
)
def test_what_is_no_verb_or_argument_is_refused(served, verb, change):
    """A call with an unknown verb, an unknown argument or a wrong type is refused and not carried out."""
    fake, ledger = served
    body = DEPLOY | change
    assert ask(fake, verb, body, tokens.issue(KEY, "r", verb, str(body["model"]))) == 400
    assert fake.asked == [] and [e.kind for e in ledger.events()] == ["deployer_refused"]


def test_a_token_is_for_one_call(served):
    """A token is valid for one verb, one model, a short time, and one use."""
    fake, ledger = served
    now = int(time.time())
    claims = {
        "aud": tokens.AUDIENCE,
        "sub": "r",
        "verb": "deploy",
        "model": "churn",
        "iat": now,
        "exp": now + 60,
        "jti": "1",
    }

    def own(**change):
        return jwt.encode(claims | change, KEY, algorithm="HS256")

    refused = [
        "",
        tokens.issue("x" * 48, "r", "deploy", "churn"),
        tokens.issue(KEY, "r", "retire", "churn"),
        tokens.issue(KEY, "r", "deploy", "other"),
        own(exp=now - 60, iat=now - 120),
        own(exp=now + 3600),
        own(aud="another"),
        jwt.encode(claims, "", algorithm="none"),
    ]
    assert [ask(fake, "deploy", DEPLOY, token) for token in refused] == [401] * len(refused)
    assert fake.asked == []
    once = tokens.issue(KEY, "r", "deploy", "churn")
    assert [ask(fake, "deploy", DEPLOY, once) for _ in range(2)] == [202, 401]
    assert len(ledger.events(DeployerRefused)) == len(refused) + 1


def test_a_token_is_taken_once_by_however_many_threads(monkeypatch):
    """Of eight threads with the same token, one is let in."""
    checker, interval = tokens.Checker(KEY), sys.getswitchinterval()

    def taken(token):
        try:
            return checker.check(token, "deploy", "churn") == "r"
        except tokens.TokenRefused:
            return False

    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as threads:
            for _ in range(40):
                token = tokens.issue(KEY, "r", "deploy", "churn")
                assert sum(threads.map(taken, [token] * 8)) == 1
    finally:
        sys.setswitchinterval(interval)


def test_a_flood_of_refused_calls_is_counted_and_does_not_fill_the_ledger(served, monkeypatch):
    """Refused calls beyond the limit a minute are counted and not written to the ledger."""
    fake, ledger = served
    now = time.monotonic()
    monkeypatch.setattr(service.time, "monotonic", lambda: now)
    assert {ask(fake, "deploy", DEPLOY, "none") for _ in range(3 * service.REFUSALS_A_MINUTE)} == {401}
    assert len(ledger.events(DeployerRefused)) == service.REFUSALS_A_MINUTE
    now += 61
    ask(fake, "deploy", DEPLOY, "none")
    last = ledger.events(DeployerRefused)[-1]
    assert last.body["unwritten_before"] == 2 * service.REFUSALS_A_MINUTE


def test_a_short_key_is_none():
    """A deployer key of fewer than 32 characters is refused."""
    with pytest.raises(RolloutError, match="fewer than 32"):
        tokens.key(Environment.read({"PERENNIAL_DEPLOYER_KEY": "short"}))


def in_the_middle(fake, ask):
    """Restarts the service while `ask` waits for its answer; what `ask` returned or raised."""
    fake.hold.clear()
    came = []

    def call():
        try:
            came.append(ask())
        except RolloutError as error:
            came.append(error)

    asking = threading.Thread(target=call)
    asking.start()
    while not fake.asked:
        time.sleep(0.01)
    fake.restart()
    # Until the new service has been asked: a request that is on its way to the old one would have its answer.
    while asking.is_alive() and len(fake.asked) < 2:
        time.sleep(0.01)
    fake.hold.set()
    asking.join(60)
    return came[0]


def test_a_deployment_that_a_restart_forgot_is_asked_for_again(served, monkeypatch):
    """A client repeats a deployment that the deployer lost in a restart."""
    fake, _ = served
    monkeypatch.setattr(clients, "WAIT_S", 0)
    deployer = clients.RemoteTraffic("http://deployer", KEY)
    assert in_the_middle(fake, lambda: deployer.deploy("r", "churn", "3", "", None, 0)) == Deployment("3", "blue", 0.0)
    assert fake.asked == [("r", "churn", "3")] * 2


def test_a_rollback_that_a_restart_forgot_is_not(served, monkeypatch):
    """A client does not repeat a rollback that the deployer lost in a restart."""
    fake, _ = served
    monkeypatch.setattr(clients, "WAIT_S", 0)
    error = in_the_middle(fake, lambda: clients.RemoteTraffic("http://deployer", KEY).rollback("r", "churn", ""))
    assert "restarted in the middle" in str(error) and len(fake.asked) == 1
