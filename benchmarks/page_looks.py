"""Processor seconds of looks at every page in an API server: the plugin's app, with what it makes ahead made, in a process of its own.

Each page is looked at in a fork of that server, so that each first look is the first one there is. Prints a line of JSON for each look:
the page, which look, its seconds.

python -m benchmarks.page_looks
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

from benchmarks import long_ledger
from pipeline.context import Context
from pipeline.ledger.events import GatesChecked, StepEnded
from pipeline.ledger.store import Ledger

AHEAD_AT_MOST_S = 120.0
MODEL = "model-0"
# What is cut off a long address.
SHOWN = 26


def pages(ledger: Ledger) -> tuple[str, ...]:
    """The address of every page and file that there is to look at, of the model that has events."""
    gates = f"gates/{quote(ledger.last(GatesChecked, model=MODEL)[0].run)}"
    tables = (
        "portfolio",
        "deployments",
        "runs",
        "rollout",
        "roi",
        f"roi/{MODEL}",
        f"audit/{MODEL}",
        f"receipts/{MODEL}",
    )
    parts = tuple(f"model/{MODEL}/{part}" for part in ("versions", "looks", "happened", "costs"))
    return (
        "",
        *tables[:1],
        *("rollout", f"rollout/{MODEL}", f"rollout/{MODEL}/state", "roi", f"roi/{MODEL}", f"model/{MODEL}"),
        *(f"audit/{MODEL}", f"audit/{MODEL}?kind=rollout", f"receipts/{MODEL}", f"receipts/{MODEL}?skip=100"),
        *("events", "events?kind=step_ended", gates),
        *(f"{table}.{form}" for table in (*tables, f"model/{MODEL}", *parts, gates) for form in ("csv", "json")),
    )


def main() -> None:
    sys.path[:0] = [str(long_ledger.ROOT / "plugins")]
    import perennial
    from airflow.api_fastapi.core_api.security import get_user
    from starlette.testclient import TestClient

    # Airflow's own database, which says it, is not there.
    perennial.rollout_routes.may_operate = lambda user, model: True
    app = perennial.create_page()
    app.dependency_overrides[get_user] = lambda: None
    began = time.process_time()
    _make_ahead()
    print(json.dumps(["made ahead", "", time.process_time() - began]), flush=True)
    client = TestClient(app)
    for page in pages(Context.here().ledger):
        for look, seconds in _in_a_fork(lambda page=page: _looks(client, page)):
            print(json.dumps([page, look, seconds]), flush=True)


def _make_ahead() -> None:
    from pipeline.pages import ahead

    ahead.import_pages()
    for look in ahead.looks():
        look()


def _looks(client: Any, page: str) -> Iterator[tuple[str, float]]:
    from pipeline.accounts import closed_months
    from pipeline.pages import overview

    ledger = Context.here().ledger

    def taken_s() -> float:
        began = time.process_time()
        answer = client.get(f"/{page}")
        taken = time.process_time() - began
        assert answer.status_code == 200, (page, answer.status_code, answer.text[:300])
        return taken

    yield "first", taken_s()
    yield "second", taken_s()
    _append(ledger)
    yield "after an append", taken_s()
    _append(ledger)
    closed_months.FRESH_MS, overview.KEPT_S = 0, 0.0
    yield "after another, later", taken_s()


def _append(ledger: Ledger) -> None:
    ledger.append(StepEnded(state="success", wall_s=1.0, cpu_s=1.0, peak_mb=1.0), MODEL, "retrain__model-0/r", "train")


def _in_a_fork(looks: Callable[[], Iterator[tuple[str, float]]]) -> list[tuple[str, float]]:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.write(writer, json.dumps(list(looks())).encode())
            code = 0
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader, "rb") as told:
        text = told.read()
    _, status = os.waitpid(child, 0)
    assert status == 0, "a look failed"
    return [(look, seconds) for look, seconds in json.loads(text)]


if __name__ == "__main__":
    main()
