"""Processor seconds of the first look at a page in a fresh API server: the plugin's app is started and given two seconds of its processor's time.

python -m benchmarks.first_look portfolio
"""

from __future__ import annotations

import sys
import time

from benchmarks import long_ledger

GIVEN_S, AT_MOST_S = 2.0, 60.0


def main(page: str) -> float:
    sys.path[:0] = [str(long_ledger.ROOT / "plugins")]
    import perennial
    from airflow.api_fastapi.core_api.security import get_user
    from fastapi import FastAPI
    from starlette.testclient import TestClient

    pages = perennial.create_page()
    pages.dependency_overrides[get_user] = lambda: None
    app = FastAPI()
    for middleware in perennial.middlewares():
        app.add_middleware(middleware["middleware"])
    app.mount("/perennial", pages)
    with TestClient(app) as client:
        _give(GIVEN_S)
        began = time.process_time()
        answer = client.get(f"/perennial/{page}")
        taken = time.process_time() - began
    assert answer.status_code == 200, answer.text
    return taken


def _give(seconds: float) -> None:
    """Waits until the process has had so much of its processor, or its threads wait for something."""
    began, ends, before = time.process_time(), time.monotonic() + AT_MOST_S, -1.0
    while before < time.process_time() - began < seconds or before < 0:
        before = time.process_time() - began + 0.01
        time.sleep(0.5)
        if time.monotonic() > ends:
            return


if __name__ == "__main__":
    print(main(sys.argv[1] if len(sys.argv) > 1 else ""))
