"""An S3 server as a process: moto's."""

import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

from pipeline.settings.net import free_port


@pytest.fixture(scope="session")
def s3():
    """The address of an S3 server with the bucket `data`."""
    port = free_port()
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    address = f"http://127.0.0.1:{port}"
    until = time.monotonic() + 120
    while True:
        try:
            put = urllib.request.Request(f"{address}/data", method="PUT")
            urllib.request.urlopen(put, timeout=5).close()
            break
        except (urllib.error.URLError, OSError):
            assert time.monotonic() < until, "the S3 server did not start"
            time.sleep(0.2)
    yield address
    server.terminate()
    server.wait()
