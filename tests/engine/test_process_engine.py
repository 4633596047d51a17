"""Slots as processes: each is found again after its starter was killed, and no other process is taken for it."""

from __future__ import annotations

import json
import os
import time

import psutil
import pytest

from harness.project import ROOT
from pipeline.errors import RolloutError
from pipeline.ledger import lease
from pipeline.rollout.engines.base import EngineSettings, SlotSpec
from pipeline.rollout.engines.process import ProcessEngine
from pipeline.rollout.engines.select import LocalEngines
from tests.support.endpoint import LIMIT_S
from tests.support.world import killed_at


@pytest.fixture
def engine(tmp_path):
    engine = ProcessEngine(EngineSettings(tmp_path / "home", ROOT))
    yield engine
    (tmp_path / "home" / "slots" / "churn-blue.json").touch()
    engine.stop("churn", "blue", 0)


@pytest.fixture
def spec(churn_package, tmp_path):
    return SlotSpec("churn", "blue", "3", churn_package, tmp_path / "log", 0)


def test_one_whose_starter_was_killed_before_it_could_write_it_down_is_found_and_ended(engine, spec):
    """A slot whose starter was killed right after the start is found and can be ended."""
    with killed_at("after start process") as outcome:
        engine.start(spec)
    assert outcome.killed
    # The kernel shows the environment of a process a moment after it has begun.
    until = time.monotonic() + LIMIT_S
    while not (slots := engine.all()):
        assert time.monotonic() < until
        time.sleep(0.01)
    (running,) = slots
    assert (running.model, running.slot, running.version) == ("churn", "blue", "3")
    assert running == engine.find("churn", "blue")
    engine.stop("churn", "blue", 0)
    assert engine.all() == []
    assert engine.start(spec).version == "3"


def test_one_that_was_to_start_and_never_did_is_nobody(engine, spec):
    """A slot whose starter was killed before the start does not exist."""
    with killed_at("before start process") as outcome:
        engine.start(spec)
    assert outcome.killed
    assert (engine.all(), engine.find("churn", "blue")) == ([], None)
    assert engine.start(spec).version == "3"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1'])
def test_a_torn_file_hides_no_process(engine, spec, tmp_path, text):
    """A damaged state file does not hide its slot's process."""
    started = engine.start(spec)
    (tmp_path / "home" / "slots" / "churn-blue.json").write_text(text)
    assert engine.all() == [started]
    engine.stop("churn", "blue", 0)
    assert engine.all() == []


def test_a_clock_that_is_set_makes_no_process_another(engine, spec, ledger, monkeypatch):
    """A clock that is set makes neither a slot nor a lease's holder another process."""
    started = engine.start(spec)
    with lease.held(ledger, "churn"):
        create_time = psutil.Process.create_time
        monkeypatch.setattr(psutil.Process, "create_time", lambda process: create_time(process) + 3600)
        assert engine.find("churn", "blue") == started
        assert lease.take(ledger, "churn", "another") is None


def test_a_process_that_got_the_number_of_a_dead_one_is_another(engine, spec, tmp_path):
    """A process that got a dead slot's pid is not taken for the slot."""
    engine.start(spec)
    path = tmp_path / "home" / "slots" / "churn-blue.json"
    state = path.read_text()
    engine.stop("churn", "blue", 0)
    path.write_text(json.dumps(json.loads(state) | {"pid": os.getpid()}))
    assert engine.find("churn", "blue") is None
    engine.stop("churn", "blue", 0)
    assert psutil.pid_exists(os.getpid())


@pytest.mark.parametrize("engine_name", ["auto", "process"])
def test_on_a_server_no_other_engine_stands_in_for_docker(tmp_path, monkeypatch, engine_name):
    """On a server a Docker engine that does not answer is an error, and no process engine takes its place."""
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent.sock")
    settings = EngineSettings(tmp_path, tmp_path, server_mode=True, network="perennial_edge")
    with pytest.raises(RolloutError, match="no Docker engine answers"):
        LocalEngines(settings).choose(engine_name)
