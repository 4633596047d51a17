"""`python -m pipeline.deployer [--host H] [--port P]`: mends what was cut off, then serves. `--stop-slots` ends all slots."""

from __future__ import annotations

import argparse
import sys
import threading
import time

import uvicorn

from pipeline.context import Context
from pipeline.deployer import tokens
from pipeline.deployer.api import Here
from pipeline.deployer.service import Service
from pipeline.errors import PerennialError
from pipeline.rollout import deploy

AGAIN_S = 5.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m pipeline.deployer", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8090)
    parser.add_argument("--stop-slots", action="store_true", help="end every slot and return; the routes stay")
    chosen = parser.parse_args()
    try:
        context = Context.here()
        if chosen.stop_slots:
            for running in deploy.stop_all(context.rollout("").engines):
                print(f"ended {running.model} {running.slot}, version {running.version}")
            return 0
        here = Here(context)
        service = Service(context, here, tokens.key(context.environment))
    except PerennialError as error:
        print(error, file=sys.stderr)
        return 1
    threading.Thread(target=_reconcile, args=(here,), daemon=True).start()
    uvicorn.run(service.app(), host=chosen.host, port=chosen.port, log_level="warning", timeout_graceful_shutdown=20)
    return 0


def _reconcile(here: Here) -> None:
    """Undoes or finishes what a deployer that was killed has left, as soon as all that takes can be reached."""
    while True:
        try:
            for line in here.reconcile("deployer/start", None):
                print(line, flush=True)
            return
        except Exception as error:
            print(f"not reconciled yet: {error}", flush=True)
            time.sleep(AGAIN_S)


if __name__ == "__main__":
    sys.exit(main())
