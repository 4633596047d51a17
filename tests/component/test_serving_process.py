"""The server as a process: stock clients, the prediction log at stops and kills, several processes, bad clients."""

from __future__ import annotations

import http.client
import random
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import httpx
import pyarrow.parquet as pq
import pytest

from harness.project import customers
from harness.slot_server import server
from pipeline.reliability.used_slots import counters
from pipeline.rollout.engines.base import cut_off
from pipeline.serving import log_files
from pipeline.serving.settings import Settings

GOOD = {"spend": 10.0, "calls": 4, "plan": "plus"}
BODY = b'{"dataframe_records": [{"spend": 10.0, "calls": 4, "plan": "plus"}]}'


@pytest.fixture(scope="module")
def running(churn_package, tmp_path_factory):
    with server(churn_package, tmp_path_factory.mktemp("server")) as started:
        yield started


@pytest.fixture(scope="module")
def rows():
    customer_rows = customers().tail(200)[["spend", "calls", "plan"]].reset_index(drop=True)
    return customer_rows.astype({"spend": "float32", "calls": "float32"})


def logged(folder):
    return [row for path in log_files.listed(folder).files for row in pq.read_table(path).to_pylist()]


def rows_in(folder):
    return sum(pq.read_metadata(path).num_rows for path in log_files.listed(folder).files)


def predicted(running, rows):
    records = rows.astype(object).where(rows.notna(), None).to_dict("records")
    return running.ask(records).json()["predictions"]


def test_a_stock_mlflow_client_is_answered(running, rows):
    """MLflow's own client gets the same predictions as a plain request."""
    from mlflow.pyfunc.scoring_server.client import ScoringServerClient

    client = ScoringServerClient("127.0.0.1", running.port)
    client.wait_server_ready(timeout=60)
    answers = client.invoke(rows).get_predictions()
    assert answers.iloc[:, 0].tolist() == predicted(running, rows)


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("compression", [None, "gzip", "deflate"])
def test_a_stock_triton_client_is_answered(running, rows, binary, compression):
    """Triton's own client gets the same predictions, with binary tensors or JSON, compressed or not."""
    import tritonclient.http as triton

    client = triton.InferenceServerClient(f"127.0.0.1:{running.port}")
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("churn")
    metadata = client.get_model_metadata("churn")
    assert client.get_model_repository_index()[0]["state"] == "READY"
    assert client.get_model_config("churn", "3")["input"][0]["data_type"] == "TYPE_FP32"
    tensors = []
    for described in metadata["inputs"]:
        # JSON has no NaN: only binary tensors can hold a missing number.
        column = rows[described["name"]].to_numpy() if binary else rows[described["name"]].fillna(3).to_numpy()
        column = column.astype("float32" if described["datatype"] == "FP32" else object).reshape(-1, 1)
        tensor = triton.InferInput(described["name"], list(column.shape), described["datatype"])
        tensor.set_data_from_numpy(column, binary_data=binary)
        tensors.append(tensor)
    outputs = [triton.InferRequestedOutput("prediction", binary_data=binary)]
    result = client.infer(
        "churn", tensors, outputs=outputs, request_id="own", request_compression_algorithm=compression
    )
    expected = predicted(running, rows if binary else rows.fillna({"calls": 3}))
    assert result.as_numpy("prediction").tolist() == expected
    assert result.get_response()["id"] == "own"
    with pytest.raises(triton.InferenceServerException, match="column calls is missing"):
        client.infer("churn", tensors[:1])


def test_a_normal_stop_loses_no_row(churn_package, tmp_path):
    """Clients send requests until the server has ended; every answered request is in the log."""
    answered, stop = [], threading.Event()
    with server(churn_package, tmp_path) as started:

        def ask():
            with httpx.Client() as client:
                while not stop.is_set():
                    try:
                        answer = client.post(f"{started.url}/invocations", content=BODY)
                    except httpx.HTTPError:
                        return
                    answered.append(answer.headers["x-request-id"])

        workers = [threading.Thread(target=ask) for _ in range(4)]
        for worker in workers:
            worker.start()
        time.sleep(1.2)
        started.process.terminate()
        started.process.wait(60)
        stop.set()
        for worker in workers:
            worker.join()
        last_line = started.output().splitlines()[-1]
        assert last_line.endswith("Z INFO [model=churn version=3 slot=blue] drained: 0 requests cut off")
        assert cut_off(last_line) == 0
    assert len(answered) > 20
    assert sorted(row["request_id"] for row in logged(tmp_path / "log")) == sorted(answered)


def test_a_kill_loses_at_most_the_last_second(churn_package, tmp_path):
    """A slot writes twice a second: what was answered before the last but one of its writes is in the log."""
    asked, seen, rows, until = [], [], 0, time.monotonic() + 120
    with server(churn_package, tmp_path) as started:
        with httpx.Client() as client:
            while len(seen) < 4 or len(asked) <= 20:
                assert time.monotonic() < until, started.output()
                answer = client.post(f"{started.url}/invocations", content=BODY)
                asked.append(answer.headers["x-request-id"])
                if (now := rows_in(tmp_path / "log")) > rows:
                    rows = now
                    seen.append(len(asked))
        started.process.kill()
        started.process.wait(60)
    logged_ids = {row["request_id"] for row in logged(tmp_path / "log")}
    assert logged_ids == set(asked[: len(logged_ids)])
    # Each write that was seen began after the one before it had ended, and that one was not there when the one before it was seen.
    assert len(logged_ids) >= seen[-3]


def test_requests_are_answered_and_lost_rows_counted_on_a_full_disk(churn_package, tmp_path):
    """Every write fails as on a full disk: the kernel refuses files over a limit."""
    with server(churn_package, tmp_path, file_bytes=100) as started:
        for _ in range(3):
            assert started.ask([GOOD] * 2).status_code == 200
        until = time.monotonic() + 60
        while (
            "perennial_log_rows_lost{" not in (page := httpx.get(f"{started.url}/metrics").text) or "} 6.0" not in page
        ):
            assert time.monotonic() < until, page
            time.sleep(0.1)
    assert logged(tmp_path / "log") == []


def test_a_worker_that_ends_is_restarted(churn_package, tmp_path):
    """Two workers answer on one address and share their counters, of the processor too; after a kill there are two again, and a line in the log."""
    import psutil

    with server(churn_package, tmp_path, Settings(processes=2)) as started:
        rows = _ask_until_both_answer(started, tmp_path / "log")
        assert "perennial_predictions_total" in httpx.get(f"{started.url}/metrics").text
        until = time.monotonic() + 60
        while rows_in(tmp_path / "log") < rows:
            assert time.monotonic() < until, started.output()
            time.sleep(0.1)
        (first, _) = workers = psutil.Process(started.process.pid).children()
        whole = psutil.Process(started.process.pid)
        took = sum(sum(p.cpu_times()[:2]) for p in (whole, *whole.children(recursive=True)))
        (before, _) = counters(httpx.get(f"{started.url}/metrics").text)
        assert before == pytest.approx(took, rel=0.1, abs=0.3)
        first.kill()
        until = time.monotonic() + 60
        while len({p.pid for p in psutil.Process(started.process.pid).children()} - {first.pid}) < 2:
            assert time.monotonic() < until, started.output()
            time.sleep(0.1)
        with httpx.Client(transport=httpx.HTTPTransport(retries=3)) as client:
            assert client.post(f"{started.url}/invocations", content=BODY).status_code == 200
        assert "ERROR [model=churn version=3 slot=blue] process 0 ended (-9), 0 requests cut off" in started.output()
        assert len(workers) == 2
        predictions = f'perennial_predictions_total{{model="churn",slot="blue",version="3"}} {rows + 1}.0'
        # A worker counts an answer after it has sent it.
        while predictions not in (page := httpx.get(f"{started.url}/metrics").text):
            assert time.monotonic() < until, page
            time.sleep(0.1)
        assert counters(page)[0] > before, "what the worker took that was killed stays in the sum"
    assert len(logged(tmp_path / "log")) >= rows


def _ask_until_both_answer(started, log):
    """Sends so many requests at once that one worker cannot take them all. Returns the number of rows."""
    rows, until = 0, time.monotonic() + 120
    with ThreadPoolExecutor(4) as clients:
        while len({log_files.stem_of(path) for path in log_files.listed(log).files}) < 2:
            assert time.monotonic() < until, started.output()
            assert {answer.status_code for answer in clients.map(started.ask, [[GOOD] * 1000] * 20)} == {200}
            rows += 20_000
            time.sleep(0.5)  # the log is written every half second
    return rows


def test_a_changed_package_is_not_served(churn_package, tmp_path):
    """The server ends with exit code 1, and its last line gives the reason."""
    import shutil
    import subprocess
    import sys

    shutil.copytree(churn_package, tmp_path / "package")
    (tmp_path / "package" / "golden.json").write_text("{}")
    command = [sys.executable, "-m", "pipeline.serving", "--package", str(tmp_path / "package"), "--version", "1"]
    ended = subprocess.run([*command, "--slot", "blue"], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    assert ended.stderr.strip().endswith("golden.json is not what was packaged")


def test_a_client_that_disconnects_early_causes_no_error(churn_package, tmp_path):
    """Errors abort a rollout: a client must not be able to cause them by hanging up."""
    with server(churn_package, tmp_path) as started:
        head = b"POST /invocations HTTP/1.1\r\nhost: x\r\n"
        for start in (b"content-length: 1000\r\n\r\n{", b"transfer-encoding: chunked\r\n\r\n1\r\n{\r\n"):
            with socket.create_connection(("127.0.0.1", started.port)) as connection:
                connection.sendall(head + start)
                time.sleep(0.2)
        assert started.ask([GOOD]).status_code == 200
        until = time.monotonic() + 60
        none_under_way = 'perennial_requests_under_way{model="churn",slot="blue",version="3"} 0.0'
        while none_under_way not in (page := httpx.get(f"{started.url}/metrics").text):
            assert time.monotonic() < until, page
            time.sleep(0.1)
        assert 'code="500"' not in page
        assert "Traceback" not in started.output()


def mutated(rng, body):
    """A request with some bytes deleted and inserted at random."""
    changed = bytearray(body)
    for _ in range(rng.randint(1, 12)):
        at = rng.randrange(len(changed))
        changed[at : at + rng.randint(0, 3)] = rng.randbytes(rng.randint(0, 4))
    return bytes(changed)


def raw_answer(running, content, limit_s=5.0):
    """The status line of the answer; b'' when the connection is closed without one."""
    with socket.create_connection(("127.0.0.1", running.port), timeout=limit_s) as connection:
        try:
            connection.sendall(content)
            connection.shutdown(socket.SHUT_WR)
            return connection.recv(64).split(b"\r\n")[0]
        except (ConnectionError, TimeoutError):
            return b""


def test_ten_thousand_odd_requests_get_no_500_and_leave_memory_flat(running):
    """Mutated bodies on kept-alive connections, and mutated HTTP on connections of their own."""
    rng = random.Random(1)
    request = b"POST /invocations HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (len(BODY), BODY)
    codes, before = {}, 0.0
    # A client that takes no longer than the server: httpx takes three times as long.
    with closing(http.client.HTTPConnection("127.0.0.1", running.port, timeout=60)) as client:
        for number in range(9000):
            path = "/invocations" if number % 2 else "/v2/models/churn/infer"
            headers = {"inference-header-content-length": str(rng.randint(0, 200))} if number % 7 == 0 else {}
            client.request("POST", path, mutated(rng, BODY), headers)
            answer = client.getresponse()
            answer.read()
            codes[answer.status] = codes.get(answer.status, 0) + 1
            if number == 2000:
                before = running.memory_mb
    lines = [raw_answer(running, mutated(rng, request)) for _ in range(1000)]
    assert set(codes) <= {200, 400, 413}, codes
    assert not [line for line in lines if line.startswith(b"HTTP/1.1 5")]
    assert running.ask([GOOD]).status_code == 200
    assert running.memory_mb < before + 10


def test_requests_from_the_openapi_document_get_no_500(running):
    """schemathesis generates them from /openapi.json."""
    import schemathesis
    from hypothesis import HealthCheck, Phase, given, settings

    schema = schemathesis.openapi.from_url(f"{running.url}/openapi.json")
    schema.config.update(base_url=running.url)
    operations = [operation.ok() for operation in schema.get_all_operations()]
    assert len(operations) >= 8
    for operation in operations:

        @settings(
            max_examples=60,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy())
        def no_500(case):
            answer = case.call()
            assert answer.status_code < 500, answer.text

        no_500()


def test_bad_clients_hold_up_nobody_and_fill_no_memory(churn_package, tmp_path):
    """Against a gigabyte of body, invalid chunks and a thousand slow connections: others are answered all the while."""
    with server(churn_package, tmp_path, Settings(request_s=3)) as started:
        before = started.memory_mb
        slow = [socket.create_connection(("127.0.0.1", started.port)) for _ in range(1000)]
        for number, connection in enumerate(slow):
            head = b"POST /invocations HTTP/1.1\r\nhost: x\r\n"
            connection.sendall(head + b"content-length: 1000\r\n\r\n{" if number % 2 else head)
        stop, codes = threading.Event(), []

        def send_good_requests():
            with httpx.Client(timeout=60) as client:
                while not stop.is_set():
                    codes.append(client.post(f"{started.url}/invocations", content=BODY).status_code)

        good_client = threading.Thread(target=send_good_requests)
        good_client.start()
        head = b"POST /invocations HTTP/1.1\r\nhost: x\r\n"
        with socket.create_connection(("127.0.0.1", started.port), timeout=60) as too_large:
            too_large.sendall(head + b"content-length: 1073741824\r\n\r\n")
            assert too_large.recv(100).startswith(b"HTTP/1.1 413")
        sent = send_on(started, head + b"content-length: 1073741824\r\n\r\n", b"x" * 2**20, 1024)
        assert sent < 64
        chunk = b"100000\r\n" + b"x" * 2**20 + b"\r\n"
        assert send_on(started, head + b"transfer-encoding: chunked\r\n\r\n", chunk, 1024) < 64
        for chunks in (b"5\r\nabc\r\n0\r\n\r\n", b"zz\r\nabc\r\n", b"-1\r\n\r\n", b"fffffffffffffffff\r\nabc"):
            line = raw_answer(started, head + b"transfer-encoding: chunked\r\n\r\n" + chunks)
            assert not line.startswith(b"HTTP/1.1 5")
        time.sleep(4)
        stop.set()
        good_client.join()
        assert set(codes) == {200}
        assert len(codes) > 50
        assert started.memory_mb < before + 80
        # Requests whose body did not arrive in time have got a 408.
        status_line = slow[1].recv(100)
        assert status_line.startswith(b"HTTP/1.1 408"), status_line
        for connection in slow:
            connection.close()


def send_on(running, head, piece, pieces):
    """How many pieces could be sent before the server closed the connection."""
    with socket.create_connection(("127.0.0.1", running.port), timeout=60) as connection:
        connection.sendall(head)
        for number in range(pieces):
            try:
                connection.sendall(piece)
            except (ConnectionError, TimeoutError):
                return number
    return pieces
