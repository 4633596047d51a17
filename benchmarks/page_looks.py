"""Processor seconds of looks at every page in an API server: the plugin's app, with what it makes ahead made, in a process of its own.

Each page is looked at in a fork of that server, so that each first look is the first one there is. Prints a line of JSON for each look:
the page, which look, its seconds.

python -m benchmarks.page_looks
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from urllib.parse import quote, unquote

from benchmarks import long_ledger
from pipeline.context import Context
from pipeline.ledger.events import GatesChecked, StepEnded, VersionRegistered
from pipeline.ledger.store import Ledger

MODEL = "model-0"
# What the plugin serves besides: a file as it lies on the disk, and FastAPI's own pages.
FILES = ("/plotly.js", "/reports/{model}/{name}", "/openapi.json", "/docs", "/docs/oauth2-redirect", "/redoc")
# What is cut off a long address.
SHOWN = 26


def pages(ledger: Ledger) -> tuple[str, ...]:
    """The address of every page and file that there is to look at, of the model that has events."""
    gates = f"gates/{quote(ledger.last(GatesChecked, model=MODEL)[0].run)}"
    registered = ledger.last(VersionRegistered, model=MODEL)[0].event
    data = f"data/{registered.data_version}"
    tables = (
        "portfolio",
        "deployments",
        "runs",
        "rollout",
        "roi",
        f"roi/{MODEL}",
        f"audit/{MODEL}",
        f"receipts/{MODEL}",
        data,
    )
    parts = tuple(f"model/{MODEL}/{part}" for part in ("versions", "looks", "happened", "costs"))
    return (
        "",
        *tables[:1],
        *("rollout", f"rollout/{MODEL}", f"rollout/{MODEL}/state", "roi", f"roi/{MODEL}", f"model/{MODEL}"),
        *(f"audit/{MODEL}", f"audit/{MODEL}?kind=rollout", f"receipts/{MODEL}", f"receipts/{MODEL}?skip=100"),
        *("events", "events?kind=step_ended", gates, f"card/{MODEL}/{registered.version}"),
        *(f"freeze/{MODEL}", data, f"backtest/{MODEL}"),
        *(f"{table}.{form}" for table in (*tables, f"model/{MODEL}", *parts, gates) for form in ("csv", "json")),
    )


def main() -> None:
    sys.path[:0] = [str(long_ledger.ROOT / "plugins")]
    import perennial
    from airflow.api_fastapi.core_api.security import get_user

    # Airflow's own database, which says it, is not there.
    perennial.rollout_routes.may_operate = perennial.freeze_routes.may_operate = lambda user, model: True
    app = perennial.create_page()
    app.dependency_overrides[get_user] = lambda: None
    looked_at = pages(Context.here().ledger)
    if forgotten := not_looked_at(app, looked_at):
        raise SystemExit(f"pages that nobody looks at here: {', '.join(forgotten)}; add them to `pages`")
    began = time.process_time()
    _make_ahead()
    print(json.dumps(["made ahead", "", time.process_time() - began]), flush=True)
    for page in looked_at:
        for look, seconds in _in_a_fork(lambda page=page: _looks(app, page)):
            print(json.dumps([page, look, seconds]), flush=True)


def not_looked_at(app: Any, looked_at: Sequence[str]) -> list[str]:
    """The addresses of the app's pages and files that none of these is of."""
    asked = [unquote(f"/{page.partition('?')[0]}") for page in looked_at]
    shown = [route for route in app.routes if "GET" in (getattr(route, "methods", None) or ())]
    return [
        route.path
        for route in shown
        if route.path not in FILES and not any(route.path_regex.match(address) for address in asked)
    ]


def _make_ahead() -> None:
    from pipeline.pages import ahead

    ahead.import_pages()
    for look in ahead.looks():
        look()
    ahead.keep_from_searches()


def _looks(app: Any, page: str) -> Iterator[tuple[str, float]]:
    from pipeline.accounts import closed_months
    from pipeline.pages import newest_status

    ledger = Context.here().ledger

    def taken_s() -> float:
        begun, whole = asyncio.run(_asked(app, page))
        # A file is sent while it is read.
        return begun if page.partition("?")[0].endswith((".csv", ".json")) else whole

    yield "first", taken_s()
    yield "second", taken_s()
    _append(ledger)
    yield "after an append", taken_s()
    _append(ledger)
    # As if a minute had passed: the server renews the bills of all models by itself, that of one is made anew at the look.
    closed_months.FRESH_MS = 0 if MODEL in page else closed_months.FRESH_MS * 1000
    newest_status.KEPT_S = 0.0
    yield "after another, later", taken_s()


async def _asked(app: Any, page: str) -> tuple[float, float]:
    """(processor seconds until the answer's first bytes, and until its last ones)."""
    path, _, query = page.partition("?")
    scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http"} | {
        "path": unquote(f"/{path}"), "raw_path": f"/{path}".encode(), "query_string": query.encode(), "root_path": "",
        "headers": [], "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80),
    }  # fmt: skip
    told: list[tuple[float, Any]] = []

    async def receive() -> dict[str, Any]:
        if told and not told[-1][1].get("more_body", True):
            return {"type": "http.disconnect"}
        await asyncio.sleep(0)
        return {"type": "http.request", "body": b"", "more_body": False} if not told else await asyncio.Future()

    async def send(message: Any) -> None:
        told.append((time.process_time() - began, message))

    began = time.process_time()
    await app(scope, receive, send)
    status, bodies = told[0][1]["status"], [at for at, message in told[1:] if message.get("body")]
    assert status == 200, (page, status, told[1:2])
    return bodies[0], bodies[-1]


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
