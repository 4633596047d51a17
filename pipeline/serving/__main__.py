"""`python -m pipeline.serving`: serves one package on one address until it is told to stop."""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

import uvicorn

from pipeline.serving.app import Identity, create_app
from pipeline.serving.prediction_log import PredictionLog
from pipeline.serving.runtime import PackageRefused, Runtime


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m pipeline.serving")
    parser.add_argument("--package", type=Path, required=True)
    parser.add_argument("--version", required=True)
    parser.add_argument("--slot", required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--log", type=Path, help="folder of the prediction log; none is written without it")
    parser.add_argument("--drain", type=float, default=10, help="seconds that requests under way get when it ends")
    chosen = parser.parse_args()
    try:
        runtime = Runtime.load(chosen.package)
    except PackageRefused as error:
        print(error, file=sys.stderr)
        return 1
    identity = Identity(runtime.manifest["model"], chosen.version, chosen.slot)
    log = PredictionLog(chosen.log, chosen.slot, chosen.version) if chosen.log else None
    uvicorn.run(
        create_app(runtime, log, identity),
        host=chosen.host,
        port=chosen.port,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=math.ceil(chosen.drain),
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
