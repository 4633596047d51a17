"""All that may be done to live traffic. On one machine this process does it; on a server the deployer runs the same code.

No verb takes an image, a command or an address: a caller names a model and a registered version, and only a package that
passed its gates and carries our signature is started.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pipeline.context import Context
from pipeline.deployer import log_partitions, old_files, status
from pipeline.deployer.log_partitions import Taken, Uncounted
from pipeline.deployer.model_status import ModelStatus
from pipeline.deployer.window_profiles import window_profile
from pipeline.ledger import settings_record
from pipeline.rollout.prediction_folders import PREDICTIONS, predictions_folder
from pipeline.rollout.recorded import recorded_settings
from pipeline.rollout.results import Deployment, Rollback, ShadowResult, Undeployment
from pipeline.settings.rollout import Rollout

if TYPE_CHECKING:
    from pipeline.gates.image_system import ServingSystem
    from pipeline.monitoring.answered_by import AnsweredBy
    from pipeline.monitoring.live_quality import LoggedPredictions
    from pipeline.monitoring.log_profiles import LoggedProfile
    from pipeline.monitoring.profiles.kept import Hour
    from pipeline.reliability.report import LevelReport
    from pipeline.rollout.approval import Evidence


class Traffic(Protocol):
    """What a run, a monitor or a person may do. `run` names the caller in the ledger."""

    def asked_by(self, person: str) -> Traffic:
        """The same for what this person asks: the ledger has the name."""

    def deploy(
        self,
        run: str,
        model: str,
        version: str,
        reason: str,
        strategy: str | None,
        wait_s: float,
        accept_schema_change: bool = False,
    ) -> Deployment | ShadowResult:
        """See pipeline.rollout.deploy.deploy."""

    def rollback(self, run: str, model: str, reason: str, only: str = "") -> Rollback:
        """See pipeline.rollout.rollback.rollback."""

    def replace(self, run: str, model: str, reason: str, leaving: str, by: str) -> Rollback:
        """See pipeline.rollout.rollback.replace."""

    def undeploy(self, run: str, model: str, reason: str) -> Undeployment:
        """See pipeline.rollout.undeploy.undeploy."""

    def reconcile(self, run: str, models: list[str] | None) -> list[str]:
        """See pipeline.rollout.recovery.reconcile."""

    def retire(self, run: str, model: str) -> list[str]:
        """See pipeline.rollout.recovery.retire."""

    def status(self, model: str) -> list[ModelStatus]:
        """See pipeline.deployer.status.models_status; '' means all models."""

    def levels(self, model: str, hours: float) -> list[LevelReport]:
        """The service levels of a model over the last hours; '' means all. See pipeline.reliability.report."""

    def predictions(self, model: str, start: datetime, end: datetime, share: float = 1.0) -> LoggedPredictions:
        """See pipeline.monitoring.live_quality.read_log."""

    def profile(self, model: str, version: str, digest: str, start: datetime, end: datetime) -> LoggedProfile:
        """See pipeline.deployer.window_profiles.window_profile."""

    def uncounted(self, model: str) -> Uncounted:
        """See pipeline.deployer.log_partitions.uncounted. Nothing of it is recorded: it has no row."""

    def fetch_partitions(self, run: str, model: str, partitions: Sequence[str], folder: Path) -> None:
        """Copies those files of the prediction log that are there still into the folder."""

    def take_profiles(self, run: str, model: str, edges: str, found: Mapping[str, Sequence[Hour]]) -> Taken:
        """See pipeline.deployer.log_partitions.take."""

    def prune_log(self, run: str, model: str, dry_run: bool) -> dict[str, list[int]]:
        """See pipeline.deployer.old_files.prune_log."""

    def evidence(self, model: str, version: str) -> Evidence:
        """See pipeline.rollout.approval.evidence."""

    def serving_system(self, model: str, runtime: str) -> ServingSystem:
        """See pipeline.rollout.serving_system.serving_system."""

    def answered(self, model: str, request: str) -> list[AnsweredBy]:
        """See pipeline.monitoring.answered_by.answered_by; '' means all models."""

    def newest_look(self, model: str) -> dict[str, Any] | None:
        """See pipeline.rollout.newest_look.read. Nothing of it is recorded, because a page asks every two seconds."""


class LocalTraffic:
    """This process carries the verbs out."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def asked_by(self, person: str) -> LocalTraffic:
        return LocalTraffic(replace(self._context, asked_by=person))

    def deploy(
        self,
        run: str,
        model: str,
        version: str,
        reason: str,
        strategy: str | None,
        wait_s: float,
        accept_schema_change: bool = False,
    ) -> Deployment | ShadowResult:
        context, block = self._context, self._context.params.model(model)
        settings_record.note(context.ledger, model, block, context.project, run, context.asked_by)
        rollout, settings = context.rollout(run), block.rollout
        from pipeline.rollout import deploy

        return deploy.deploy(rollout, model, version, settings, reason, strategy, wait_s, accept_schema_change)

    def rollback(self, run: str, model: str, reason: str, only: str = "") -> Rollback:
        settings = self._context.rollout_settings(model)
        from pipeline.rollout import rollback

        return rollback.rollback(self._context.rollout(run), model, settings, reason, only)

    def replace(self, run: str, model: str, reason: str, leaving: str, by: str) -> Rollback:
        settings = self._context.rollout_settings(model)
        from pipeline.rollout import rollback

        return rollback.replace(self._context.rollout(run), model, settings, reason, leaving, by)

    def undeploy(self, run: str, model: str, reason: str) -> Undeployment:
        # It needs no block: how long slots may drain is all that settings say about it.
        block = self._context.params.models.get(model)
        settings = block.rollout if block else recorded_settings(self._context.ledger, model) or Rollout()
        from pipeline.rollout import undeploy

        return undeploy.undeploy(self._context.rollout(run), model, settings.drain_s, reason)

    def reconcile(self, run: str, models: list[str] | None) -> list[str]:
        settings = {name: m.rollout for name, m in self._context.params.models.items()}
        from pipeline.rollout import recovery

        return recovery.reconcile(self._context.rollout(run), settings, models)

    def retire(self, run: str, model: str) -> list[str]:
        from pipeline.rollout import recovery

        return recovery.retire(self._context.rollout(run), model, self._context.rollout_settings(model))

    def prune_log(self, run: str, model: str, dry_run: bool) -> dict[str, list[int]]:
        return old_files.prune_log(self._context, model, dry_run)

    def evidence(self, model: str, version: str) -> Evidence:
        from pipeline.rollout import approval

        return approval.evidence(self._context.rollout(""), model, version)

    def serving_system(self, model: str, runtime: str) -> ServingSystem:
        from pipeline.rollout.serving_system import serving_system

        return serving_system(self._context.rollout(""), self._context.params.model(model).rollout, runtime)

    def answered(self, model: str, request: str) -> list[AnsweredBy]:
        from pipeline.monitoring.answered_by import answered_by

        return answered_by(self._context.home / PREDICTIONS, request, model)

    def newest_look(self, model: str) -> dict[str, Any] | None:
        from pipeline.rollout import newest_look

        return newest_look.read(self._context.home, model)

    def status(self, model: str) -> list[ModelStatus]:
        return status.models_status(self._context, model)

    def levels(self, model: str, hours: float) -> list[LevelReport]:
        from pipeline.reliability.counts import Counts
        from pipeline.reliability.report import reports
        from pipeline.rollout.routing import route_file

        counts, params = Counts(self._context.home), self._context.params
        names = [model] if model else sorted({*counts.models(), *route_file.routed_models(self._context.home)})
        blocks = {name: params.models.get(name) for name in names}
        return reports(counts, {name: block.slo if block else None for name, block in blocks.items()}, hours)

    def predictions(self, model: str, start: datetime, end: datetime, share: float = 1.0) -> LoggedPredictions:
        from pipeline.monitoring import live_quality

        folder = predictions_folder(self._context.home, model)
        return live_quality.read_log(folder, self._context.params.model(model), start, end, share)

    def profile(self, model: str, version: str, digest: str, start: datetime, end: datetime) -> LoggedProfile:
        return window_profile(self._context, model, version, digest, start, end)

    def uncounted(self, model: str) -> Uncounted:
        return log_partitions.uncounted(self._context, model)

    def fetch_partitions(self, run: str, model: str, partitions: Sequence[str], folder: Path) -> None:
        for name, file in log_partitions.opened(self._context, model, partitions):
            with (folder / name.split(" ")[0]).open("wb") as copy:
                shutil.copyfileobj(file, copy)

    def take_profiles(self, run: str, model: str, edges: str, found: Mapping[str, Sequence[Hour]]) -> Taken:
        return log_partitions.take(self._context, model, edges, found)
