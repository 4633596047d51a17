"""A slot's server beside `mlflow models serve`, MLServer and BentoML, an empty handler, and itself through Traefik.

One run: the same model, rows and 8 connections for all. The servers get requests in turn, round after round, and the best
round of each counts: other work on the machine can only make one slower.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import yaml
from rich.console import Console
from rich.table import Table

from benchmarks import flights, load, peers
from benchmarks.flights import MODEL, Flights, served
from benchmarks.limits import within_limit
from benchmarks.load import Load
from benchmarks.peers import Peer, Rows
from harness.router import router
from harness.slot_server import server
from pipeline.rollout.routing import route_file
from pipeline.rollout.routing.route import Route, RoutedSlot
from pipeline.serving.settings import Settings
from pipeline.settings.environment import Environment
from pipeline.settings.net import free_port

MANY = 256
ROUNDS = 3
# Requests a round: for servers with thousands of answers a second, for those with tens, and with MANY rows in each.
FAST_REQUESTS, SLOW_REQUESTS, MANY_ROWS_REQUESTS = 6000, 300, 60
OURS, EMPTY, ROUTED = "perennial", "empty Starlette handler", "perennial through Traefik"
# Shows which part of the cost is Traefik's own, without our retries and stamps.
BARE = "perennial through Traefik, no middlewares"
OURS_IN_TENSORS = "perennial, MLServer's requests"
# MLServer's default is two processes, one for HTTP and one that predicts.
OURS_OF_TWO = "perennial, MLServer's requests, two processes"
MLFLOW, MLSERVER, BENTOML = "mlflow models serve", "MLServer", "BentoML"


def main() -> bool:
    trained = flights.trained()
    rows = trained.rows(1024)
    with tempfile.TemporaryDirectory() as folder, _all(trained, Path(folder)) as servers:
        _refuse_other_answers([peer for peer in servers if peer.name != EMPTY], rows[:8])
        one_row = _measured(
            servers, [[row] for row in rows], lambda peer: SLOW_REQUESTS if _slow(peer) else FAST_REQUESTS
        )
        blocks = [list(block) for block in zip(*[iter(rows)] * MANY, strict=True)]
        with_many = [peer for peer in servers if peer.name not in (EMPTY, BARE, BENTOML)]
        many = _measured(with_many, blocks, lambda peer: MANY_ROWS_REQUESTS if _slow(peer) else 10 * MANY_ROWS_REQUESTS)
    _show("one row a request, 8 connections", one_row, 1)
    _show(f"{MANY} rows a request, 8 connections", many, MANY)
    return all([*_limits_of_one_row(one_row), *_limits_of_many_rows(many)])


@dataclass(frozen=True)
class Best:
    """The best rounds of one server."""

    rate: float
    p50_ms: float
    p99_ms: float


def _limits_of_one_row(one_row: dict[str, Best]) -> Iterator[bool]:
    ours = one_row[OURS]
    for peer in (MLFLOW, MLSERVER):
        yield within_limit(
            f"one row, requests a second, times {peer}", ours.rate / one_row[peer].rate, 50, at_least=True
        )
        yield within_limit(f"one row, p99 of {peer}, times ours", one_row[peer].p99_ms / ours.p99_ms, 25, at_least=True)
    yield within_limit(
        "one row, share of an empty handler's requests", ours.rate / one_row[EMPTY].rate, 0.6, at_least=True
    )
    yield within_limit("one row, share of direct through Traefik", one_row[ROUTED].rate / ours.rate, 0.6, at_least=True)
    print(f"Traefik without our middlewares gives {one_row[BARE].rate / ours.rate:.2f} of direct")


def _limits_of_many_rows(many: dict[str, Best]) -> Iterator[bool]:
    # Each beside ours with the same requests, records for MLflow and tensors for MLServer, and as many processes.
    for ours, peer in ((OURS, MLFLOW), (OURS_OF_TWO, MLSERVER)):
        yield within_limit(
            f"{MANY} rows, rows a second, times {peer}", many[ours].rate / many[peer].rate, 10, at_least=True
        )
    share = many[ROUTED].rate / many[OURS].rate
    yield within_limit(f"{MANY} rows, share of direct through Traefik", share, 0.6, at_least=True)


@contextmanager
def _all(trained: Flights, folder: Path) -> Iterator[list[Peer]]:
    """All servers, ready for requests."""
    with ExitStack() as stack:
        ours, two = (
            stack.enter_context(
                server(trained.package, _new_folder(folder / f"ours-{n}"), Settings(processes=n), version="1")
            )
            for n in (1, 2)
        )
        traefik = stack.enter_context(router(Environment.read().project, trained.home))
        os.environ["PERENNIAL_ROUTER_URL"], os.environ["PERENNIAL_ROUTER_API_URL"] = traefik.router, traefik.router_api
        route_file.write(trained.home, Route(MODEL, RoutedSlot("blue", "1", ours.url)))
        routed = f"/{MODEL}/invocations"
        # In a router of its own: what is no route of ours is set aside.
        apart = _new_folder(folder / "bare")
        bare = stack.enter_context(router(Environment.read().project, apart))
        (route_file.routes_folder(apart) / "bare.yaml").write_text(yaml.safe_dump(_bare(ours.url)))
        for ready in (f"{traefik.router}/{MODEL}", f"{bare.router}/bare"):
            flights.wait_for(f"{ready}/v2/health/ready")
        started = [
            _with_records(OURS, ours.port, "/invocations"),
            _with_tensors(OURS_IN_TENSORS, ours.port),
            _with_tensors(OURS_OF_TWO, two.port),
            _with_records(ROUTED, urlsplit(traefik.router).port, routed),
            _with_records(BARE, urlsplit(bare.router).port, "/bare/invocations"),
            _with_records(EMPTY, stack.enter_context(_empty(folder)), "/invocations"),
        ]
        for peer in (peers.mlflow, peers.mlserver, peers.bentoml):
            started.append(stack.enter_context(peer(trained, folder)))
        yield started


def _with_records(name: str, port: int | None, path: str) -> Peer:
    assert port is not None
    return Peer(name, port, path, peers.records, lambda answer: answer["predictions"])


def _bare(url: str) -> dict[str, Any]:
    """A route as a person would write it by hand."""
    return {
        "http": {
            "routers": {"bare": {"rule": "PathPrefix(`/bare`)", "service": "bare", "middlewares": ["bare"]}},
            "middlewares": {"bare": {"stripPrefix": {"prefixes": ["/bare"]}}},
            "services": {"bare": {"loadBalancer": {"servers": [{"url": url}]}}},
        }
    }


def _with_tensors(name: str, port: int) -> Peer:
    path = f"/v2/models/{MODEL}/infer"
    body = partial(peers.tensors, output="prediction")
    return Peer(name, port, path, body, lambda answer: answer["outputs"][0]["data"])


def _new_folder(folder: Path) -> Path:
    folder.mkdir()
    return folder


@contextmanager
def _empty(folder: Path) -> Iterator[int]:
    port = free_port()
    command = [sys.executable, str(Path(__file__).with_name("empty.py")), str(port)]
    with served(command, f"http://127.0.0.1:{port}/ready", _new_folder(folder / "empty")):
        yield port


def _slow(peer: Peer) -> bool:
    return peer.name in (MLFLOW, MLSERVER, BENTOML)


def _refuse_other_answers(servers: Sequence[Peer], rows: Rows) -> None:
    """Raises SystemExit when a server answers the same rows differently: then it serves another model."""
    predictions: dict[str, list[float]] = {}
    for peer in servers:
        url, kind = f"http://127.0.0.1:{peer.port}{peer.path}", {"content-type": "application/json"}
        answer = httpx.post(url, content=peer.body(rows), headers=kind, timeout=60)
        predictions[peer.name] = peer.answers(answer.raise_for_status().json())
    for name, answers in predictions.items():
        difference = max(abs(a - b) for a, b in zip(answers, predictions[OURS], strict=True))
        if difference > 1e-5:
            raise SystemExit(
                f"{name}: its answers differ from those of {OURS} by {difference:.2g}; make it serve the same model"
            )


def _measured(servers: Sequence[Peer], bodies: Sequence[Rows], count: Any) -> dict[str, Best]:
    """The best rounds by server; a round is `count(peer)` requests, with `bodies` in a cycle."""
    requests = {peer.name: [load.request(peer.path, peer.body(rows)) for rows in bodies] for peer in servers}
    rounds: dict[str, list[Load]] = {peer.name: [] for peer in servers}
    for _ in range(ROUNDS):
        for peer in servers:
            answers = load.send(peer.port, requests[peer.name], count(peer), warm=max(16, count(peer) // 20))
            if answers.failed:
                raise SystemExit(
                    f"{peer.name}: {answers.failed} of {count(peer)} requests failed ({dict(answers.codes)})"
                )
            rounds[peer.name].append(answers)
    return {name: _best(loads) for name, loads in rounds.items()}


def _best(rounds: Sequence[Load]) -> Best:
    p50, p99 = (min(load_.percentile_ms(share) for load_ in rounds) for share in (0.5, 0.99))
    return Best(max(load_.rate for load_ in rounds), p50, p99)


def _show(title: str, measured: dict[str, Best], rows: int) -> None:
    table = Table(title=title, title_justify="left")
    table.add_column("server")
    for heading in ("requests/s", "rows/s", "p50 ms", "p99 ms", "ours, times its rows/s"):
        table.add_column(heading, justify="right")
    for name, best in measured.items():
        figures = (f"{best.rate:,.0f}", f"{best.rate * rows:,.0f}", f"{best.p50_ms:.2f}", f"{best.p99_ms:.2f}")
        table.add_row(name, *figures, f"{measured[OURS].rate / best.rate:.2f}")
    Console(width=110).print(table)
