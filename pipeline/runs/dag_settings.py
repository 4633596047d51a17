"""What each model's Dags are made from. A model whose block of params.yaml is broken keeps its Dags, with the schedule of its last right block.

Airflow forgets a Dag that its file does not make any more, and a schedule must not vanish silently: so the Dags stay, and the first
task of each run fails with the block's fault. The last right settings are kept in `dag-settings.json` in the home folder.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.context import Context
from pipeline.settings.models import Model, Schedule
from pipeline.settings.rollout import Strategy
from pipeline.settings.section import RECORDED
from pipeline.settings.times import UtcTime

# Airflow's own rule for the id of a Dag, and the ledger's longest name.
DAG_ID = re.compile(r"[\w.-]{1,40}", re.ASCII)

log = logging.getLogger(__name__)


class DagSettings(BaseModel):
    """`schedule` and `monitor_cron` are None for a model whose block was never right. `fault` is why it is not right now; '' when it is."""

    model_config = ConfigDict(frozen=True)

    description: str = ""
    schedule: Schedule | None = None
    monitor_cron: str | None = None
    strategy: Strategy = "all-at-once"
    fault: str = ""

    @property
    def first_fault(self) -> str:
        """The fault in one line: the first of several, and how many there are."""
        first, *others = self.fault.splitlines() or [""]
        return f"{len(others) + 1} faults, the first: {first}" if others else first

    @property
    def start(self) -> UtcTime | None:
        return self.schedule.start if self.schedule else None

    @property
    def queues(self) -> Mapping[str, str]:
        return self.schedule.queues if self.schedule else {}

    @classmethod
    def of(cls, model: Model) -> DagSettings:
        return cls(
            description=model.description,
            schedule=model.schedule,
            monitor_cron=model.monitor.cron,
            strategy=model.rollout.strategy,
        )


def dag_settings(context: Context) -> dict[str, DagSettings]:
    """The settings of each model's Dags, by its name, and remembers them for the next time."""
    params, file = context.params, context.home / "dag-settings.json"
    last = _remembered(file)
    found = {name: DagSettings.of(model) for name, model in params.models.items()}
    faults = {name: str(fault) for name, fault in params.broken.items() if DAG_ID.fullmatch(name)}
    if params.no_models is not None:
        faults = {name: str(params.no_models) for name in last or _ever_live(context)}
    found |= {name: last.get(name, DagSettings()).model_copy(update={"fault": fault}) for name, fault in faults.items()}
    if found != last:
        _remember(file, found)
    return found


def _ever_live(context: Context) -> list[str]:
    """The models of the ledger: a server's new container remembers nothing."""
    from pipeline.deployer.status import known_models

    return known_models(context)


def _remembered(file: Path) -> dict[str, DagSettings]:
    """The settings of the last time. What was right then is taken as it is: a rule may have got stricter since."""
    try:
        return {name: DagSettings.model_validate(last, context=RECORDED) for name, last in _read(file).items()}
    except ValidationError:
        return {}


def _read(file: Path) -> dict[str, Any]:
    try:
        return json.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}


def _remember(file: Path, settings: dict[str, DagSettings]) -> None:
    aside = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        aside.write_text(
            json.dumps({name: last.model_dump(mode="json") for name, last in settings.items()}, indent=1),
            encoding="utf-8",
        )
        aside.replace(file)
    except OSError as error:
        # The Dags of today are right; only a file that breaks later would not find them.
        log.warning("%s: cannot be written (%s)", file, error)
