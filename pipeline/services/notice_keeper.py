"""Tells people what the ledger says has happened, by `notify` of params.yaml: once for each matter, to each recipient.

Nothing waits for it: it reads the ledger every two seconds, and what it could not send it tries again.

    python -m pipeline.services.notice_keeper
"""

from __future__ import annotations

import logging
import time
from pathlib import Path

from pipeline.errors import PerennialError
from pipeline.ledger.store import Ledger
from pipeline.notices.teller import Teller
from pipeline.settings import logs
from pipeline.settings.environment import Environment
from pipeline.settings.read_again import ReadAgain

log = logging.getLogger("pipeline.services.notice_keeper")

LOOK_S, AWAY_S = 2.0, 5.0
# Touched after each look: the server's health check asks how old it is.
ALIVE = "notices-alive"


def main() -> None:
    """Tells people until the process is ended: a fault of one look ends nothing."""
    logs.configure("service")
    environment = Environment.read()
    settings = ReadAgain(environment.project, environment.params_read)
    teller: Teller | None = None
    while True:
        pause = LOOK_S
        try:
            teller = teller or Teller(Ledger(environment.ledger_url), settings.read, environment.home)
            teller.look()
        except PerennialError as error:
            log.warning("%s", error)
            pause = AWAY_S
        except Exception:
            # Nothing that one matter holds may end the telling of all.
            log.exception("a look at what people are to be told failed")
        _say_alive(environment.home / ALIVE)
        time.sleep(pause)


def _say_alive(file: Path) -> None:
    try:
        file.touch()
    except OSError as error:
        log.warning("%s cannot be touched: %s", file, error)


if __name__ == "__main__":
    main()
