"""A request that a slot broke off at is sent again only to a process that serves nobody else."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest

from harness.project import BODY, ROOT
from harness.router import router
from harness.slot_server import server
from pipeline.rollout import probe
from pipeline.rollout.routing import route_file
from pipeline.rollout.routing.route import Route, RoutedSlot
from pipeline.rollout.routing.traefik import SENT_AGAIN
from pipeline.serving import expendable, log_files
from pipeline.serving.errors import EndedItsProcess, RequestRefused
from pipeline.serving.expendable import Expendable
from pipeline.serving.settings import Settings
from tests.support import crashing
from tests.support.fake_slot import listening

AGAIN = {"x-perennial-sent-again": "1"}
LIMIT_S = 120


@pytest.fixture
def crashes(tmp_path, monkeypatch):
    """Servers that start now have a model that can crash."""
    (tmp_path / "sitecustomize.py").write_text(crashing.CODE)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{ROOT}")


def ask(running, body, headers=AGAIN, path="/invocations"):
    return httpx.post(f"{running.url}{path}", content=body, headers=headers, timeout=120)


def figure(running, name):
    page = httpx.get(f"{running.url}/metrics").text
    return [float(line.split()[-1]) for line in page.splitlines() if line.startswith(f"perennial_{name}{{")]


def test_one_that_crashes_the_model_ends_its_own_process_only(churn_package, tmp_path, crashes):
    """It gets a last word; those that wait for their turn, and all other requests, are answered by the same server as before."""
    with server(churn_package, tmp_path, Settings(request_s=1)) as running, ThreadPoolExecutor(8) as clients:
        bodies = [crashing.body(value) for value in (1.0, 2.0, crashing.ABORTS, 3.0, crashing.HANGS, 4.0)]
        sent = [clients.submit(ask, running, body) for body in bodies]
        ordinary = [ask(running, BODY, {}) for _ in range(20)]
        answers = [each.result() for each in sent]
        assert {answer.status_code for answer in ordinary} == {200}
        assert [answer.status_code for answer in answers] == [200, 200, 500, 200, 500, 200]
        for answer, seen in ((answers[2], "ended the process that answered it"), (answers[4], "took longer than 1 s")):
            assert seen in answer.json()["error"] and "is not sent again" in answer.json()["error"]
            assert answer.headers["x-perennial-final"] == "1"
        assert running.process.poll() is None
        assert figure(running, "requests_sent_again_total") == [6]
        assert figure(running, "requests_crashed_total") == [2]
        assert running.output().count("ended its process (-") == 2


def test_its_answer_is_the_slots_own(churn_package, tmp_path, crashes):
    """Status, body and headers are the same as for a request that comes once, on each path, and each answer is logged once."""
    invocations, infer = "/invocations", "/v2/models/churn/infer"
    tensors = b'{"id":"x","inputs":[{"name":"spend","datatype":"FP32","shape":[1],"data":[10]},'
    tensors += b'{"name":"calls","datatype":"FP32","shape":[1],"data":[4]},'
    tensors += b'{"name":"plan","datatype":"BYTES","shape":[1],"data":["plus"]}]}'
    many = b'{"dataframe_records": [%b]}' % b",".join([b'{"spend": 10.0, "calls": 4, "plan": "plus"}'] * 1500)
    requests = [
        (invocations, BODY, 200),
        (invocations, many, 200),
        (invocations, b"spend,calls,plan\n1,2,plus\n", 200),
        (infer, tensors, 200),
        (invocations, b"{", 400),
        (invocations, crashing.body(crashing.FAILS), 500),
    ]
    with server(churn_package, tmp_path) as running:
        for number, (path, body, code) in enumerate(requests):
            kind = {"content-type": "text/csv" if body.startswith(b"spend") else "application/json"}
            once, again = (
                ask(running, body, {**kind, **more, "x-request-id": f"{number} {name}"}, path)
                for name, more in (("once", {}), ("again", AGAIN))
            )
            assert (again.status_code, again.content) == (once.status_code, once.content) and again.status_code == code
            differ = ("x-request-id", "date")
            assert [h for h in again.headers.items() if h[0] not in differ] == [
                h for h in once.headers.items() if h[0] not in differ
            ]
        assert figure(running, "predictions_total") == [2 * 1503]
        assert len(running.output().split("ValueError: this row fails")) == 3
    logged = [row for path in log_files.listed(running.log).files for row in pq.read_table(path).to_pylist()]
    for number, rows in enumerate((1, 1500, 1, 1)):
        for name in ("once", "again"):
            assert len([row for row in logged if row["request_id"] == f"{number} {name}"]) == rows
    assert len(logged) == 2 * 1503


def test_the_processes_for_them_end_with_the_slot_and_hold_nothing_of_it(churn_package, tmp_path):
    """The kernel takes that process first; after a kill of the slot neither runs, and its port is free at once."""
    with server(churn_package, tmp_path) as running:
        assert ask(running, BODY).status_code == 200
        forked = psutil.Process(running.process.pid).children(recursive=True)
        scores = [Path(f"/proc/{process.pid}/oom_score_adj").read_text().strip() for process in forked]
        assert sorted(scores)[-1] == "1000" and len(scores) == 2
        running.process.kill()
        running.process.wait()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", running.port))
        until = time.monotonic() + LIMIT_S
        while any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in forked):
            assert time.monotonic() < until
            time.sleep(0.02)


def answer(path, headers, body):
    """The rows' number: a body of so many bytes. `kill` ends the process, `slow` takes a while."""
    if body == b"kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if body == b"slow":
        time.sleep(1)
    if body == b"refused":
        raise RequestRefused(400, headers[b"x-why"].decode())
    return np.array([len(body), os.getpid()])


def in_turn(work, crashes=None):
    """What `work` returns for an Expendable, whose nursery is forked for it."""
    with socket.socket() as listening:
        forked = Expendable.fork(
            lambda: answer, 30, lambda: (crashes if crashes is not None else []).append(1), listening
        )
    try:
        return asyncio.run(work(forked))
    finally:
        forked._nursery.close()


def test_a_process_for_them_ends_when_none_came_for_a_while(monkeypatch):
    """The next request gets a new one, and an end on purpose is no crash."""
    monkeypatch.setattr(expendable, "IDLE_S", 1.0)
    crashes = []

    async def work(forked):
        first = [(await forked.predictions("/", {}, b"abc")).tolist() for _ in range(2)]
        until = time.monotonic() + LIMIT_S
        while forked._streams is not None:
            assert time.monotonic() < until
            await asyncio.sleep(0.02)
        return [*first, (await forked.predictions("/", {}, b"abc")).tolist()]

    (size, first), (_, second), (_, third) = in_turn(work, crashes)
    assert size == 3 and first == second != third
    assert crashes == []


def test_without_its_nursery_a_slot_says_so():
    """No request is blamed for that, and the router may try another slot."""
    crashes = []

    async def work(forked):
        (nursery,) = [process for process in psutil.Process().children() if process.pid not in before]
        nursery.kill()
        nursery.wait()
        return await asyncio.gather(forked.predictions("/", {}, b"1"), return_exceptions=True)

    before = {process.pid for process in psutil.Process().children()}
    (refusal,) = in_turn(work, crashes)
    assert (type(refusal), refusal.status, crashes) == (RequestRefused, 503, [])


def test_an_answer_that_nobody_waits_for_is_nobody_elses(monkeypatch):
    """A request that was given up does not shift the answers of those after it."""

    async def work(forked):
        given_up = asyncio.create_task(forked.predictions("/", {}, b"slow"))
        await asyncio.sleep(0.2)
        given_up.cancel()
        return [(await forked.predictions("/", {}, b"x" * size))[0] for size in (1, 2, 100_000)]

    assert in_turn(work) == [1, 2, 100_000]


def test_each_gets_its_own_answer_in_its_turn():
    """One that ends the process, and one that is refused, leave all others their answers."""
    crashes = []

    async def work(forked):
        bodies = [b"1", b"kill", b"333", b"refused", b"55555", b"kill", b"7777777"]
        asked = [forked.predictions("/", {b"x-why": b"caf\xc3\xa9"}, body) for body in bodies]
        return await asyncio.gather(*asked, return_exceptions=True)

    answers = in_turn(work, crashes)
    assert [answers[i][0] for i in (0, 2, 4, 6)] == [1, 3, 5, 7]
    assert [type(answers[i]) for i in (1, 3, 5)] == [EndedItsProcess, RequestRefused, EndedItsProcess]
    assert (answers[3].status, str(answers[3])) == (400, "café")
    assert len(crashes) == 2


@pytest.mark.parametrize("follow", ["", "x-customer"])
def test_what_a_slot_broke_off_at_is_marked_when_it_is_sent_again(project, follow):
    """A slot that nobody listens on marks nothing; a client cannot mark; and a marked request's last word is sent on as it is."""
    with router(project, project / "home") as at, listening(dies=True) as dying, listening() as alive:
        there = RoutedSlot("green", "2", f"http://127.0.0.1:{alive.server_port}")

        def ask(port):
            gone = RoutedSlot("blue", "1", f"http://127.0.0.1:{port}")
            split = Route("churn", gone, candidate=there, percent=1, follow=follow)
            stamp = route_file.write(project / "home", split if follow else Route("churn", gone, there)).stamp
            assert probe.wait_for_stamp(f"{at.router}/churn", stamp, 60)
            alive.marks.clear()
            headers = {SENT_AGAIN: "1", "x-customer": "one of the champion"}
            return httpx.post(f"{at.router}/churn/invocations", content=b"rows", headers=headers)

        dying.stays_dead = True
        assert ask(9).status_code == 200
        assert alive.marks == [None]
        alive.own = {"x-slot": "green", "x-perennial-final": "1", "content-type": "application/json"}
        alive.codes = [500] * 20
        answer = ask(dying.server_port)
        assert (dying.marks[0], alive.marks) == (None, ["1"])
        assert (answer.status_code, answer.content) == (500, b"rows")
        assert "x-perennial-final" not in answer.headers
