"""`python -m pipeline.deployer [--host H] [--port P]`: recovers what was cut off, and serves. `--stop-slots` ends all slots."""

from __future__ import annotations

import argparse
import http.client
import logging
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import uvicorn

from pipeline.context import Context
from pipeline.deployer import tokens
from pipeline.deployer.api import LocalTraffic
from pipeline.deployer.burnt_budget import roll_back_burnt
from pipeline.deployer.service import Service
from pipeline.errors import PerennialError
from pipeline.policy.service_levels import CHECK_S
from pipeline.reliability.stored_bytes import Places
from pipeline.reliability.watching import Watcher
from pipeline.rollout import deploy
from pipeline.rollout.container_deaths import ContainerWatch, DeathNotes
from pipeline.rollout.cut_off import CutOff
from pipeline.rollout.routing import foreign_files, no_model
from pipeline.services import artifact_bytes
from pipeline.settings import logs

RETRY_S = 5.0
LOOK_S = 1.0
RUN = "deployer/start"

logger = logging.getLogger(__name__)


def main() -> int:
    """Serves the deployer's requests, or with --stop-slots ends all slots. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.deployer", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8090)
    parser.add_argument("--stop-slots", action="store_true", help="end every slot and return; the routes stay")
    chosen = parser.parse_args()
    logs.configure("service")
    try:
        context = Context.here()
        if chosen.stop_slots:
            for running in deploy.stop_all(context.rollout("").engines):
                print(f"ended {running.model} {running.slot}, version {running.version}")
            return 0
        traffic = LocalTraffic(context)
        service = Service(context, traffic, tokens.key(context.environment))
    except PerennialError as error:
        logger.error("%s", error)
        return 1
    threading.Thread(target=_watch_routes, args=(context.home,), daemon=True).start()
    threading.Thread(target=_recover_cut_off, args=(context, traffic), daemon=True).start()
    threading.Thread(target=_reconcile, args=(traffic,), daemon=True).start()
    threading.Thread(target=_note_deaths, args=(context,), daemon=True).start()
    threading.Thread(target=_watch_levels, args=(context,), daemon=True).start()
    uvicorn.run(service.app(), host=chosen.host, port=chosen.port, log_level="warning", timeout_graceful_shutdown=20)
    return 0


def _recover_cut_off(context: Context, traffic: LocalTraffic) -> None:
    """Recovers a rollout that was cut off while this process lives on: its ledger or the disk was away for a while."""
    cut_off = CutOff(context.ledger)
    with logs.about(run=RUN):
        while True:
            pause = LOOK_S
            try:
                for model in cut_off.due():
                    cut_off.tries(model)
                    for line in traffic.reconcile(RUN, [model]):
                        logger.info("%s", line)
            except PerennialError as error:
                logger.warning("%s", error)
                pause = RETRY_S
            except Exception:
                logger.exception("a look at the rollouts failed")
            time.sleep(pause)


def _watch_routes(home: Path) -> None:
    """Writes the route of what belongs to no model; then sets foreign files in routes/ aside, which would stop the router's routes."""
    routes, written = foreign_files.Watch(home), False
    while True:
        try:
            if not written:
                no_model.write(home)
                written = True
            routes.look()
        except Exception:
            logger.exception("a look at the routes failed")
        time.sleep(LOOK_S)


def _note_deaths(context: Context) -> None:
    """Notes each container that dies. Docker starts it again, and nobody else on a server would say so."""
    notes = DeathNotes(context.environment, ContainerWatch.of(context.environment))
    while True:
        try:
            notes.look()
        except (PerennialError, OSError, http.client.HTTPException) as error:
            logger.warning("deaths of slots are not in the ledger yet: %s", error)
        except Exception:
            logger.exception("a look at the containers failed")
        time.sleep(RETRY_S)


def _watch_levels(context: Context) -> None:
    """Checks each live model through the router, and rolls back one whose error budget burns soon after its rollout."""

    def act(model: str) -> None:
        # Each time with the settings of now; beside this thread, which must go on checking.
        threading.Thread(target=_roll_back_burnt, args=(model,), daemon=True).start()

    watcher: Watcher | None = None
    while True:
        begun = time.monotonic()
        try:
            watcher = watcher or Watcher(context.environment, context.ledger, act, elsewhere=_elsewhere(context))
            watcher.look()
        except PerennialError as error:
            logger.warning("%s", error)
        except Exception:
            logger.exception("a round of checks failed")
        time.sleep(max(0.0, CHECK_S - (time.monotonic() - begun)))


def _elsewhere(context: Context) -> Callable[[], Places] | None:
    """What lies in the store of a server, where there is one."""
    return partial(artifact_bytes.stored, context.ledger, context.registry) if artifact_bytes.has_bucket() else None


def _roll_back_burnt(model: str) -> None:
    with logs.about(model, RUN):
        try:
            logger.info("%s", roll_back_burnt(Context.here(), model))
        except PerennialError as error:
            logger.warning("%s", error)
        except Exception:
            logger.exception("the rollback failed")


def _reconcile(traffic: LocalTraffic) -> None:
    """Recovers what a killed deployer has left, and tries again until router, ledger and registry can be reached."""
    with logs.about(run=RUN):
        while True:
            try:
                for line in traffic.reconcile(RUN, None):
                    logger.info("%s", line)
                return
            except PerennialError as error:
                logger.warning("not reconciled yet, next try in %g s: %s", RETRY_S, error)
            except Exception:
                logger.exception("not reconciled yet, next try in %g s", RETRY_S)
            time.sleep(RETRY_S)


if __name__ == "__main__":
    sys.exit(main())
