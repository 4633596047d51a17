"""The latency histogram counts what a client waited, from the first byte of its request on."""

from __future__ import annotations

import gzip
import os
import re
import signal
import socket
import time

import httpx
import pytest

from harness.project import BODY
from harness.slot_server import server
from tests.support import raw_http

PACKED = gzip.compress(BODY)
REQUESTS = {
    "small": raw_http.request("a"),
    "through ASGI": b"POST /invocations HTTP/1.1\r\nhost: x\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n%b"
    % (len(PACKED), PACKED),
    "refused": raw_http.request("a", b"no json"),
}


def counted(running, at_most_s: str) -> int:
    """How many requests the server counted as answered within so many seconds."""
    page = httpx.get(f"{running.url}/metrics").text
    (found,) = re.findall(rf'perennial_request_seconds_bucket\{{le="{re.escape(at_most_s)}".*\}} (\d+)', page)
    return int(found)


@pytest.mark.parametrize("kind", REQUESTS)
def test_a_request_that_waits_for_a_busy_server_counts_its_wait(churn_package, tmp_path, kind):
    """On an open connection and on one that the server has not accepted yet, whatever keeps the server from reading."""
    with server(churn_package, tmp_path) as running, socket.create_connection(("127.0.0.1", running.port)) as opened:
        opened.sendall(raw_http.request("first"))
        opened.recv(4096)
        # A request is counted after its answer was written: not before this line did the first one end.
        assert counted(running, "+Inf") == 1
        at_once = counted(running, "1")
        os.kill(running.process.pid, signal.SIGSTOP)
        with socket.create_connection(("127.0.0.1", running.port)) as new:
            for connection in (opened, new):
                connection.sendall(REQUESTS[kind])
            time.sleep(1.2)
            os.kill(running.process.pid, signal.SIGCONT)
            for connection in (opened, new):
                assert connection.recv(4096)
        assert (counted(running, "1"), counted(running, "+Inf")) == (at_once, 3)


def test_a_request_whose_body_comes_late_counts_its_wait(churn_package, tmp_path):
    """Its clock starts with its first byte."""
    with server(churn_package, tmp_path) as running:
        with socket.create_connection(("127.0.0.1", running.port)) as connection:
            connection.sendall(REQUESTS["small"][:-5])
            time.sleep(0.6)
            connection.sendall(REQUESTS["small"][-5:])
            assert connection.recv(4096).startswith(b"HTTP/1.1 200")
        assert (counted(running, "0.5"), counted(running, "+Inf")) == (0, 1)
