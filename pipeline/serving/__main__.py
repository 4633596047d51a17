"""`python -m pipeline.serving`: serves one package on one address until a signal ends it.

All output goes to standard error, each line with time, level, model, version and slot. The last line is
"drained: N requests cut off"; the engine that ends the slot reads N from it.
"""

from __future__ import annotations

import argparse
import gc
import logging
import math
import os
import signal
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import uvicorn

from pipeline.serving import contents, workers
from pipeline.serving.app import App
from pipeline.serving.errors import PackageRefused
from pipeline.serving.expendable import Answer, Expendable, Headers
from pipeline.serving.http_connection import Connection
from pipeline.serving.identity import Identity
from pipeline.serving.metrics import (
    CRASHED,
    CUT_OFF,
    LOG_FILES_DAMAGED,
    LOG_ROWS_LOST,
    PROCESSOR_SENT_AGAIN,
    Metrics,
)
from pipeline.serving.prediction_log import LogSchema, PredictionLog
from pipeline.serving.request_counts import RequestCounts
from pipeline.serving.runtime import Runtime
from pipeline.serving.settings import Settings

SWITCH_S = 0.001

logger = logging.getLogger("pipeline.serving")


def main() -> int:
    """Serves until SIGTERM. Returns the exit code: 1 for a package that is refused, before any worker is there."""
    arguments = _arguments()
    settings = Settings.from_environment()
    _configure_logging({"version": arguments.version, "slot": arguments.slot})
    try:
        checked = contents.read(arguments.package, settings.public_key, settings.signature)
        identity = Identity(checked.manifest["model"], arguments.version, arguments.slot)
        # Before the workers are forked: the parent would restart a worker that refuses the package for ever.
        runtime = Runtime(checked, settings.on_breach)
    except PackageRefused as error:
        logger.error("%s", error)
        return 1
    _configure_logging(identity.labels())
    metrics = Metrics(identity.labels(), settings.processes)
    listening = workers.listen(arguments.host, arguments.port)

    def work(process: int) -> None:
        if settings.processes > 1:
            metrics.begin(process)
        own = runtime if settings.processes == 1 else Runtime(checked, settings.on_breach)
        expendable = _expendable(own, identity, settings, metrics, listening)
        log = _prediction_log(arguments.log, own, identity, settings, metrics)
        server = _server(App(own, log, identity, settings, metrics, expendable), arguments.drain)
        # What is here now stays. Large requests make Python look for garbage often, and among all of these objects that took 14 ms,
        # in which no other request was answered.
        gc.collect()
        gc.freeze()
        server.run([listening])
        if log is not None:
            log.close()

    # How long the thread that parses large bodies may keep Python to itself while a small request waits. Python's default of 5 ms is
    # more than a small request takes in all.
    sys.setswitchinterval(SWITCH_S)
    workers.run(settings.processes, metrics, work)
    logger.info("drained: %d requests cut off", metrics.total(CUT_OFF))
    return 0


def _expendable(
    runtime: Runtime, identity: Identity, settings: Settings, metrics: Metrics, listening: socket.socket
) -> Expendable:
    # What decides about batches runs the model, and libraries that start threads for that cannot be forked any more.
    alone = replace(settings, batching="off")

    def make() -> Answer:
        answer = App(runtime, None, identity, alone).predictions

        def timed(path: str, headers: Headers, body: bytes) -> np.ndarray:
            begun = time.process_time_ns()
            try:
                return answer(path, headers, body)
            finally:
                metrics.add(PROCESSOR_SENT_AGAIN, time.process_time_ns() - begun)

        return timed

    return Expendable.fork(
        make,
        settings.request_s,
        lambda: metrics.add(CRASHED),
        listening,
    )


def _server(app: App, drain_s: float) -> uvicorn.Server:
    """A server that SIGTERM and SIGINT end, after at most `drain_s`."""
    config = uvicorn.Config(
        app,
        http=Connection,
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        # The router sends five headers about the client; the application uses none of them.
        proxy_headers=False,
        lifespan="off",
        ws="none",
        # Longer than the router's: the router closes idle connections first, and no request meets one that is closing.
        timeout_keep_alive=120,
        timeout_graceful_shutdown=math.ceil(drain_s),
    )
    server = uvicorn.Server(config)

    def end(*_: object) -> None:
        server.should_exit = True

    # uvicorn raises the signal again once it has ended. With these handlers that does nothing, and the log is closed after it.
    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    return server


def _prediction_log(
    folder: Path | None, runtime: Runtime, identity: Identity, settings: Settings, metrics: Metrics
) -> PredictionLog | None:
    if folder is None:
        return None
    key = bytes.fromhex(settings.log_key)
    schema = LogSchema(runtime.reader, identity.version, identity.slot, settings.personal, key, runtime.classes)
    return PredictionLog(
        folder,
        identity.slot,
        identity.version,
        schema,
        on_lost=lambda rows: metrics.add(LOG_ROWS_LOST, rows),
        on_damaged=lambda files: metrics.add(LOG_FILES_DAMAGED, files),
        requests=RequestCounts(folder, f"{identity.slot}-v{identity.version}-{os.getpid()}.{time.time_ns()}"),
    )


def _configure_logging(labels: Mapping[str, str]) -> None:
    """Writes our records from INFO on, and others from WARNING on, to standard error with the labels on each line."""
    named = " ".join(f"{name}=%({name})s" for name in labels)
    form = f"%(asctime)s.%(msecs)03dZ %(levelname)s [{named}] %(message)s"
    formatter = logging.Formatter(form, "%Y-%m-%dT%H:%M:%S", defaults=dict(labels))
    formatter.converter = time.gmtime
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    logging.getLogger().handlers = [handler]
    logging.getLogger("pipeline").setLevel(logging.INFO)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m pipeline.serving")
    parser.add_argument("--package", type=Path, required=True)
    parser.add_argument("--version", required=True)
    parser.add_argument("--slot", required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--log", type=Path, help="folder of the prediction log; without it none is written")
    parser.add_argument(
        "--drain", type=float, default=10, help="seconds that requests under way get when the server ends"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
