"""A run's steps, called by the Dags' tasks and by the command line alike. The last step is in settle.py.

Steps pass each other only paths, ids and verdicts. A step that is run again comes to the same. Their order stands in dags/retrain.py
for Airflow and in retrain.py for the command line. `operate` and `retire_predecessor` are what other Dags call.
"""

from __future__ import annotations

import logging
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.context import Context
from pipeline.deployer import traffic
from pipeline.errors import RegistryError
from pipeline.ledger import data_revisions, settings_record
from pipeline.ledger.events import DataLanded, GatesChecked, RunOpened, VersionRegistered
from pipeline.ledger.timeline import live_at
from pipeline.rollout.results import Deployment, ShadowResult
from pipeline.runs import freeze, label_maturity, landed_profiles, live_facts, workspace_transfer
from pipeline.settings import models
from pipeline.workspaces import dvc_graph, workspace

# Airflow starts a process for each task: MLflow, pandas and the gates are imported inside the steps that need them.
if TYPE_CHECKING:
    from pipeline.gates.base import Verdict
    from pipeline.gates.image_system import ServingSystem
    from pipeline.workspaces.dvc_remote import Pushed

log = logging.getLogger(__name__)


def open_run(context: Context, run: str, model: str, as_of: datetime, reason: str) -> str:
    """Makes the run's workspace and returns its folder. Raises RegistryError when MLflow could not record the run later."""
    settings = context.params.model_of_a_run(model)
    context.registry.check_experiment(model)
    if context.server_mode:
        workspace_transfer.prune(context)
    limit_mb = context.params.workspaces.max_untracked_mb
    opened = workspace.open_workspace(context.project, context.home, run, model, as_of, reason, limit_mb)
    run_opened = RunOpened(
        as_of=opened.as_of,
        reason=reason,
        code_revision=opened.code_revision,
        uncommitted=opened.uncommitted,
        asked_by=context.asked_by or None,
    )
    context.ledger.append(run_opened, model, run)
    settings_record.note(context.ledger, model, settings, context.project, run, context.asked_by)
    # Said, not refused: this run's snapshot measures anew, and the gate held_out_rows refuses by what it finds.
    for line in label_maturity.unreached(context, model, as_of):
        log.warning("%s", line)
    return str(opened.folder)


def run_stage(context: Context, folder: str, stage: str, backfill: bool = False) -> None:
    """Runs one stage of dvc.yaml in the run's workspace. After the first stage, pushes the data to the DVC remote.

    Raises GateError after the stage that validates the data when the data fails a gate.
    """
    opened = workspace_transfer.current_workspace(context, folder)
    with landed_profiles.at_hand(context, opened, stage):
        workspace.run_stage(opened, stage)
    if stage == next(iter(dvc_graph.order(opened.folder))):
        _push_data(context, opened, stage)
    if context.server_mode:
        workspace_transfer.push(context, opened, stage)
    if opened.files.validation in dvc_graph.outs(opened.folder, stage, opened.model):
        _refuse_bad_data(context, opened, backfill)


def _push_data(context: Context, opened: workspace.Workspace, stage: str) -> None:
    """Pushes the snapshot, so that no version loses its data, and records it."""
    from pipeline.runs.pruning import beside
    from pipeline.workspaces import dvc_remote

    outs = list(opened.outs(stage).values())
    with beside.sending(context.ledger, lambda: dvc_remote.push(opened.folder, outs)):
        _land(context, opened, dvc_remote.push(opened.folder, outs))


def _land(context: Context, opened: workspace.Workspace, pushed: Pushed) -> None:
    """Records what was pushed, and which partitions are new."""
    from pipeline.workspaces import dvc_remote

    version = opened.data_version()
    partitions = dvc_remote.partitions(opened.folder, version)
    source, files = _settings(context, opened).source, opened.files.snapshot
    delay = dvc_graph.read_json(opened.files.counts).get("label_delay_s")
    with dvc_remote.cached_files(opened.folder) as cached_file:
        landed = data_revisions.new_partitions(
            context.ledger, opened.model, partitions, files, opened.as_of, source, cached_file
        )
    data_landed = DataLanded(
        data_version=version,
        as_of=opened.as_of,
        partitions=len(partitions),
        landed={name: partition.as_dict() for name, partition in landed.items()},
        remote=pushed.url,
        pushed_files=pushed.files,
        pushed_bytes=pushed.size,
        label_delay_s=delay,
    )
    context.ledger.append(data_landed, opened.model, opened.run)
    moved = f"{pushed.files} files, {pushed.size:,} bytes to {pushed.url}" if pushed.url else "nothing: no DVC remote"
    new = data_revisions.landing_summary(landed)
    log.info("data %s: %d partitions, %s; pushed %s", version, len(partitions), new, moved)


def _refuse_bad_data(context: Context, opened: workspace.Workspace, backfill: bool) -> None:
    """Runs the gates on the data now: training would fail on bad data with a worse message."""
    from pipeline.gates import run as gates
    from pipeline.registry import record

    model = _settings(context, opened)
    verdicts = gates.data_verdicts(model, opened.files)
    if any(verdict.stops for verdict in verdicts):
        _record_verdicts(context, opened, verdicts)
        try:
            record.record_refused(context.registry, opened, model, verdicts, _origin(backfill))
        except RegistryError as error:
            log.warning("%s", error)  # the run ends with the gates' error, which matters more
    gates.refuse_failed(opened.model, verdicts)


def _origin(backfill: bool) -> str:
    from pipeline.registry import versions as registry

    return registry.BACKFILL if backfill else registry.RETRAIN


def _record_verdicts(context: Context, opened: workspace.Workspace, verdicts: list[Verdict]) -> None:
    a_day = dvc_graph.read_json(opened.files.validation).get("quarantined_a_day")
    said = [verdict.as_dict() for verdict in verdicts]
    gates_checked = GatesChecked(verdicts=said, as_of=opened.as_of, quarantined_a_day=a_day)
    context.ledger.append(gates_checked, opened.model, opened.run)
    for verdict in verdicts:
        log.info("%s", verdict)


def _recorded_verdicts(context: Context, opened: workspace.Workspace) -> list[Verdict]:
    """The verdicts of the run's last gates, from the ledger; none when no gate was checked."""
    from pipeline.gates.base import Verdict

    entries = context.ledger.events(GatesChecked, run=opened.run)
    return [Verdict.from_dict(verdict) for verdict in entries[-1].event.verdicts] if entries else []


def check_gates(context: Context, folder: str, backfill: bool = False, accept_schema_change: bool = False) -> str:
    """Runs all gates, records the verdicts in the ledger and MLflow, and returns the MLflow run's id.

    With `accept_schema_change` the model may take other columns than the champion.
    Raises GateError when a gate failed.
    """
    from pipeline.gates import run as gates
    from pipeline.gates import run_files
    from pipeline.registry import record
    from pipeline.registry.judged import judged_champion
    from pipeline.runs.model_card import keep

    opened = workspace_transfer.current_workspace(context, folder)
    model = _settings(context, opened)
    live = None if backfill else live_at(context.ledger, opened.model)
    champion = live.version if live else None
    package = context.registry.package_folder(opened.model, live.version, live.digest) if live else None
    trained_to = _trained_to(context, opened.model, live.version, package) if live and package else None
    known = live_facts.live_facts(context, opened.model, model, live) if live else None
    judged = judged_champion(context.registry, opened.model, live.version, live.digest) if live else None

    def served(runtime: str) -> ServingSystem:
        return traffic(context).serving_system(opened.model, runtime)

    before = run_files.stamps(opened.files)
    verdicts = gates.verdicts(
        model, opened.files, package, champion, backfill, accept_schema_change, trained_to, known, judged, served
    )
    _record_verdicts(context, opened, verdicts)
    if model.gates.own:
        run_files.refuse_changed(opened.model, before, opened.files)
    # Also of a version that is stopped: the picture shows what it leans on.
    explained = keep.explained(opened.model, model, opened.files)
    mlflow_run = record.record(context.registry, opened, model, verdicts, _origin(backfill), explained)
    gates.refuse_failed(opened.model, verdicts)
    return mlflow_run


def _trained_to(context: Context, name: str, version: str, package: Path) -> str | None:
    """What MLflow knows of the rows that a version was trained on; asked only where its package does not say it."""
    from pipeline.registry import trained_rows
    from pipeline.training.package import TRAINED_TO

    said = dvc_graph.read_json(package / "manifest.json").get(TRAINED_TO)
    return said or trained_rows.trained_to(context.registry, name, version)


def register(context: Context, folder: str, mlflow_run: str) -> str:
    """Registers the run's model as the challenger and returns its version."""
    from pipeline.registry import record
    from pipeline.registry import versions as registry

    opened = workspace_transfer.current_workspace(context, folder)
    version = record.create_version(
        context.registry,
        opened,
        _settings(context, opened),
        mlflow_run,
        registry.RETRAIN,
        _recorded_verdicts(context, opened),
    )
    context.registry.nominate(opened.model, version)
    _record_registered(context, opened, mlflow_run, version, registry.CHALLENGER)
    return _with_card(context, opened, version)


def archive(context: Context, folder: str, mlflow_run: str) -> str:
    """Registers a backfill's model under its as-of and returns its version, which can never go live."""
    from pipeline.registry import record
    from pipeline.registry import versions as registry

    opened = workspace_transfer.current_workspace(context, folder)
    alias = registry.as_of_alias(models.time_of(opened.as_of))
    version = record.create_version(
        context.registry,
        opened,
        _settings(context, opened),
        mlflow_run,
        registry.BACKFILL,
        _recorded_verdicts(context, opened),
    )
    context.registry.name_as_of(opened.model, version, alias)
    _record_registered(context, opened, mlflow_run, version, alias)
    return _with_card(context, opened, version)


def _with_card(context: Context, opened: workspace.Workspace, version: str) -> str:
    from pipeline.runs.model_card import keep

    keep.keep(context, opened.model, version, _settings(context, opened), opened.files, opened.run)
    return version


def _settings(context: Context, opened: workspace.Workspace) -> models.Model:
    return models.load(opened.folder, context.environment.params_read).model(opened.model)


def _record_registered(
    context: Context, opened: workspace.Workspace, mlflow_run: str, version: str, alias: str
) -> None:
    from pipeline.registry import artifacts

    # A step that is done again finds its version there.
    earlier = context.ledger.events(VersionRegistered, model=opened.model, run=opened.run)
    logged = any(entry.event.version == version and entry.event.logged_bytes for entry in earlier)
    registered = VersionRegistered(
        version=version,
        mlflow_run=mlflow_run,
        data_version=opened.data_version(),
        as_of=opened.as_of,
        code_revision=opened.code_revision,
        alias=alias,
        logged_bytes=None if logged else artifacts.logged_bytes(context.registry, opened.model, version),
    )
    entry = context.ledger.append(registered, opened.model, opened.run)
    context.registry.anchor(opened.model, version, entry.head)


def roll_out(
    context: Context,
    run: str,
    model: str,
    version: str,
    reason: str,
    strategy: str | None = None,
    accept_schema_change: bool = False,
) -> Deployment | ShadowResult:
    """Brings the version live. Waits while another rollout of the model runs; see pipeline.rollout.deploy.deploy."""
    wait_s = context.params.model(model).rollout.wait_s
    return traffic(context).deploy(run, model, version, reason, strategy, wait_s, accept_schema_change)


def operate(context: Context, run: str, model: str, action: str, reason: str, version: str = "") -> Any:
    """Does what a person on call chose, one of the operate Dag's actions, to this model and no other; returns JSON.

    With a `version` a rollback leaves that one alone.
    """
    if action == "freeze":
        return freeze.freeze(context, run, model, reason)
    if action == "unfreeze":
        return freeze.unfreeze(context, run, model, reason)
    if action == "prune":
        from pipeline.runs.pruning.run import prune

        return prune(context, run, [model]).as_dict()
    if action == "rollback":
        only = {"only": version} if version else {}
        return traffic(context).rollback(run, model, reason, **only).as_dict()
    if action == "undeploy":
        return traffic(context).undeploy(run, model, reason).as_dict()
    return traffic(context).reconcile(run, [model])


def retire_predecessor(context: Context, run: str, model: str) -> list[str]:
    """Ends a predecessor that has been warm for `rollout.keep_hours`; see pipeline.rollout.recovery.retire."""
    return traffic(context).retire(run, model)
