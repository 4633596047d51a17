"""`python -m pipeline.serving`: serves one package on one address until it is told to stop."""

from __future__ import annotations

import argparse
import math
import signal
import sys
from pathlib import Path

import uvicorn

from pipeline.serving import contents, metrics, workers
from pipeline.serving.app import App
from pipeline.serving.errors import PackageRefused
from pipeline.serving.http_connection import Connection
from pipeline.serving.identity import Identity
from pipeline.serving.metrics import Metrics
from pipeline.serving.prediction_log import LogTable, PredictionLog
from pipeline.serving.runtime import Runtime
from pipeline.serving.settings import Settings


def main() -> int:
    chosen = _arguments()
    settings = Settings.from_environment()
    try:
        checked = contents.read(chosen.package, settings.public_key, settings.signature)
        model = checked.manifest["model"]
        # Before any process is forked: one that refuses the package would only be started again.
        runtime = Runtime(checked)
    except PackageRefused as error:
        print(error, file=sys.stderr)
        return 1
    identity = Identity(model, chosen.version, chosen.slot)
    counts = Metrics({"model": model, "version": chosen.version, "slot": chosen.slot}, settings.processes)
    listening = workers.listen(chosen.host, chosen.port)

    def work(process: int) -> None:
        counts.process = process
        mine = runtime if settings.processes == 1 else Runtime(checked)
        log = _log(chosen, mine, settings, counts)
        config = uvicorn.Config(
            App(mine, log, identity, settings, counts),
            http=Connection,
            log_level="warning",
            access_log=False,
            server_header=False,
            # Nobody here asks who the client was; a router tells in five headers.
            proxy_headers=False,
            lifespan="off",
            # Longer than the router keeps a connection: it, not we, ends one that is idle, and no request meets a closing one.
            timeout_keep_alive=120,
            timeout_graceful_shutdown=math.ceil(chosen.drain),
        )
        server = uvicorn.Server(config)

        def end(*_: object) -> None:
            server.should_exit = True

        # uvicorn raises the signal that ended it once more when it is done: the log is not closed by then.
        signal.signal(signal.SIGTERM, end)
        signal.signal(signal.SIGINT, end)
        server.run([listening])
        if log is not None:
            log.close()

    code = workers.serve(settings.processes, counts, work)
    workers.farewell(counts)
    return code


def _log(chosen: argparse.Namespace, runtime: Runtime, settings: Settings, counts: Metrics) -> PredictionLog | None:
    if chosen.log is None:
        return None
    key = bytes.fromhex(settings.log_key)
    table = LogTable(runtime.signature, chosen.version, chosen.slot, settings.personal, key)
    return PredictionLog(chosen.log, chosen.slot, chosen.version, table, lambda rows: counts.add(metrics.LOST, rows))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m pipeline.serving")
    parser.add_argument("--package", type=Path, required=True)
    parser.add_argument("--version", required=True)
    parser.add_argument("--slot", required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--log", type=Path, help="folder of the prediction log; none is written without it")
    parser.add_argument("--drain", type=float, default=10, help="seconds that requests under way get when it ends")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
