"""What each model's Dags are made from. A model whose block of params.yaml is broken keeps its Dags, with the schedule of its last right block.

Airflow forgets a Dag that its file does not make any more, and a schedule must not vanish silently: so the Dags stay, and the first
task of each run fails with the block's fault. The last right settings are kept in `dag-settings.json` in the home folder. As long as
params.yaml says the same they are read from there: Airflow makes each Dag file's Dags again every half minute, and reading 200 blocks as
params.yaml takes three quarters of a second each time.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline import settings as settings_package
from pipeline.context import Context
from pipeline.settings.models import Model, Schedule
from pipeline.settings.rollout import Strategy
from pipeline.settings.section import RECORDED
from pipeline.settings.teams import pool_of
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
    # Assets of other Dags whose events start the monitor too; those that start a retrain are in `schedule`.
    monitor_assets: tuple[str, ...] = ()
    strategy: Strategy = "all-at-once"
    team: str | None = None
    # None without the section `scoring`: then there is no Dag that scores.
    scoring_cron: str | None = None
    # None where versions go live without an approval.
    approval_hours: float | None = None
    # Who may approve; without a name everybody but who asked.
    approval_by: tuple[str, ...] = ()
    # None without `policy.backtest_cron`: then there is no Dag that replays the past.
    backtest_cron: str | None = None
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
    def pool(self) -> str | None:
        """The pool of the model's team; None without a team."""
        return pool_of(self.team) if self.team else None

    @property
    def priority(self) -> int:
        return self.schedule.priority if self.schedule else 1

    @property
    def queues(self) -> Mapping[str, str]:
        return self.schedule.queues if self.schedule else {}

    @classmethod
    def of(cls, model: Model) -> DagSettings:
        return cls(
            description=model.description,
            schedule=model.schedule,
            monitor_cron=model.monitor.cron,
            monitor_assets=model.monitor.on_asset,
            strategy=model.rollout.strategy,
            team=model.team,
            scoring_cron=model.scoring.cron if model.scoring else None,
            approval_hours=model.approval_hours if model.approval == "required" else None,
            approval_by=model.approval_by,
            backtest_cron=model.policy.backtest_cron,
        )


@dataclass(frozen=True)
class Remembered:
    """The file: the settings by model, and the digest of what they were read from, '' when they may not be used without reading it."""

    source: str
    settings: dict[str, DagSettings]


def dag_settings(context: Context) -> dict[str, DagSettings]:
    """The settings of each model's Dags, by its name, and remembers them for the next time."""
    file = context.home / "dag-settings.json"
    source, last = _source(context.project), _remembered(file)
    if source and source == last.source:
        return last.settings
    params = context.params
    found = {name: DagSettings.of(model) for name, model in params.models.items()}
    faults = {name: str(fault) for name, fault in params.broken.items() if DAG_ID.fullmatch(name)}
    if params.no_models is not None:
        # The ledger may tell more of them the next time.
        source, faults = "", {name: str(params.no_models) for name in last.settings or _ever_live(context)}
    found |= {
        name: last.settings.get(name, DagSettings()).model_copy(update={"fault": fault})
        for name, fault in faults.items()
    }
    if Remembered(source, found) != last:
        _remember(file, Remembered(source, found))
    return found


def _source(project: Path) -> str:
    """The digest of all that decides on the settings: params.yaml, dvc.yaml with its stages, and the rules. '' when one cannot be read."""
    rules = sorted(Path(settings_package.__file__).parent.glob("*.py"))
    digest = hashlib.sha256()
    try:
        for path in (project / "params.yaml", project / "dvc.yaml", *rules):
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    except OSError:
        return ""
    return digest.hexdigest()


def _ever_live(context: Context) -> list[str]:
    """The models of the ledger: a server's new container remembers nothing."""
    from pipeline.deployer.status import known_models

    return known_models(context)


def _remembered(file: Path) -> Remembered:
    """The settings of the last time. What was right then is taken as it is: a rule may have got stricter since."""
    content = _read(file)
    source = content.get("source")
    # Before the file had a source it was the settings alone.
    models = content.get("models", {}) if isinstance(source, str) else content
    try:
        settings = {name: DagSettings.model_validate(last, context=RECORDED) for name, last in models.items()}
    except (ValidationError, AttributeError):
        return Remembered("", {})
    return Remembered(source if isinstance(source, str) else "", settings)


def _read(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _remember(file: Path, now: Remembered) -> None:
    aside = file.with_name(f".{file.name}.{os.getpid()}")
    models = {name: settings.model_dump(mode="json") for name, settings in now.settings.items()}
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        aside.write_text(json.dumps({"source": now.source, "models": models}, indent=1), encoding="utf-8")
        aside.replace(file)
    except OSError as error:
        # The Dags of today are right; only a file that breaks later would not find them.
        log.warning("%s: cannot be written (%s)", file, error)
