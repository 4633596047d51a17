"""What a run does, step by step: called by the Dags' tasks and by the command line alike.

Steps hand each other only paths, ids and verdicts. Each may be run again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.context import Context
from pipeline.deployer import traffic
from pipeline.errors import PerennialError, RegistryError
from pipeline.ledger import costs, data_revisions
from pipeline.ledger.events import (
    DataLanded,
    DriftChecked,
    Event,
    GatesChecked,
    RunOpened,
    RunSettled,
    StepEnded,
    StepStarted,
    VersionRegistered,
)
from pipeline.ledger.metering import metered
from pipeline.ledger.rollout_events import RolloutEnded, ShadowEnded
from pipeline.ledger.store import Entry
from pipeline.rollout.results import Deployment, ShadowResult
from pipeline.runs import workspace_transfer
from pipeline.settings import models as params
from pipeline.workspaces import dvc_graph, workspace

# Airflow starts a process a task: a step imports what it needs when it runs, not what all of them need.
if TYPE_CHECKING:
    from pipeline.gates.base import Verdict


def open_run(context: Context, run: str, model: str, as_of: datetime, reason: str) -> str:
    """Makes the run's workspace and returns its folder."""
    context.params.model(model)
    if context.server_mode:
        workspace_transfer.prune(context)
    opened = workspace.open_workspace(context.project, context.home, run, model, as_of, reason)
    run_opened = RunOpened(
        as_of=opened.as_of, reason=reason, code_revision=opened.code_revision, uncommitted=opened.uncommitted
    )
    context.ledger.append(run_opened, model, run)
    return str(opened.folder)


def run_stage(context: Context, folder: str, stage: str, backfill: bool = False) -> None:
    """Runs one stage of dvc.yaml in the run's workspace; after the first, the data goes to the DVC remote.

    Raises GateError after the stage that validates the data when a gate says no to it.
    """
    opened = workspace_transfer.at_hand(context, folder)
    workspace.run_stage(opened, stage)
    if stage == next(iter(dvc_graph.order(opened.folder))):
        _keep_data(context, opened, stage)
    if context.server_mode:
        workspace_transfer.keep(context, opened, stage)
    if opened.files.validation in dvc_graph.outs(opened.folder, stage, opened.model):
        _refuse_bad_data(context, opened, backfill)


def _keep_data(context: Context, opened: workspace.Workspace, stage: str) -> None:
    """Pushes the snapshot, so that no version is without its data, and tells the ledger what landed."""
    from pipeline.workspaces import dvc_remote

    version = opened.data_version()
    pushed = dvc_remote.push(opened.folder, opened.outs(stage).values())
    listed = dvc_remote.partitions(opened.folder, version)
    source, files = _settings(opened).source, opened.files.snapshot
    with dvc_remote.cached_files(opened.folder) as cached_file:
        landed = data_revisions.new_partitions(
            context.ledger, opened.model, listed, files, opened.as_of, source, cached_file
        )
    data_landed = DataLanded(
        data_version=version,
        as_of=opened.as_of,
        partitions=len(listed),
        landed={name: partition.as_dict() for name, partition in landed.items()},
        remote=pushed.url,
        pushed_files=pushed.files,
        pushed_bytes=pushed.size,
    )
    context.ledger.append(data_landed, opened.model, opened.run)
    where = f"{pushed.files} files, {pushed.size:,} bytes to {pushed.url}" if pushed.url else "nothing: no DVC remote"
    print(f"data {version}: {len(listed)} partitions, {data_revisions.landing_summary(landed)}; pushed {where}")


def _refuse_bad_data(context: Context, opened: workspace.Workspace, backfill: bool) -> None:
    """Lets the gates that judge the data speak before training does, which would fail in words of its own."""
    from pipeline.gates import run as check
    from pipeline.registry import record

    model = _settings(opened)
    told = check.data_verdicts(model, opened.files)
    if not all(verdict.passed for verdict in told):
        _tell_gates(context, opened, told)
        try:
            record.record_refused(context.registry, opened, model, told, _origin(backfill))
        except RegistryError as error:
            print(error)  # the data's own fault is what has to be told
    check.refuse_failed(opened.model, told)


def _origin(backfill: bool) -> str:
    from pipeline.registry import versions as registry

    return registry.BACKFILL if backfill else registry.RETRAIN


def _tell_gates(context: Context, opened: workspace.Workspace, told: list[Verdict]) -> None:
    gates_checked = GatesChecked(verdicts=[verdict.as_dict() for verdict in told])
    context.ledger.append(gates_checked, opened.model, opened.run)
    for verdict in told:
        print(verdict)


def check_gates(context: Context, folder: str, backfill: bool = False) -> str:
    """Runs all gates, tells the ledger and MLflow, and returns the MLflow run. Raises GateError when one failed."""
    from pipeline.gates import run as check
    from pipeline.registry import record

    opened = workspace_transfer.at_hand(context, folder)
    model = _settings(opened)
    champion = None if backfill else context.registry.champion(opened.model)
    package = context.registry.package_folder(opened.model, champion) if champion else None
    told = check.verdicts(model, opened.files, package, champion, backfill)
    _tell_gates(context, opened, told)
    mlflow_run = record.record(context.registry, opened, model, told, _origin(backfill))
    check.refuse_failed(opened.model, told)
    return mlflow_run


def register(context: Context, folder: str, mlflow_run: str) -> str:
    """Registers the run's model as the challenger and returns its version."""
    from pipeline.registry import record
    from pipeline.registry import versions as registry

    opened = workspace_transfer.at_hand(context, folder)
    version = record.create_version(context.registry, opened, _settings(opened), mlflow_run, registry.RETRAIN)
    context.registry.nominate(opened.model, version)
    return _tell_registered(context, opened, mlflow_run, version, registry.CHALLENGER)


def archive(context: Context, folder: str, mlflow_run: str) -> str:
    """Registers a backfill's model under its as-of and returns its version. Nothing here can bring it live."""
    from pipeline.registry import record
    from pipeline.registry import versions as registry

    opened = workspace_transfer.at_hand(context, folder)
    alias = registry.as_of_alias(params.time_of(opened.as_of))
    version = record.create_version(context.registry, opened, _settings(opened), mlflow_run, registry.BACKFILL)
    context.registry.name_as_of(opened.model, version, alias)
    return _tell_registered(context, opened, mlflow_run, version, alias)


def _settings(opened: workspace.Workspace) -> params.Model:
    return params.load(opened.folder).model(opened.model)


def _tell_registered(context: Context, opened: workspace.Workspace, mlflow_run: str, version: str, alias: str) -> str:
    registered = VersionRegistered(
        version=version,
        mlflow_run=mlflow_run,
        data_version=opened.data_version(),
        as_of=opened.as_of,
        code_revision=opened.code_revision,
        alias=alias,
    )
    context.ledger.append(registered, opened.model, opened.run)
    return version


def roll_out(
    context: Context, run: str, model: str, version: str, reason: str, strategy: str | None = None
) -> Deployment | ShadowResult:
    """Brings the version live, after another rollout of the model has ended; see pipeline.rollout.deploy.deploy."""
    wait_s = context.params.model(model).rollout.wait_s
    return traffic(context).deploy(run, model, version, reason, strategy, wait_s)


def operate(context: Context, run: str, model: str, action: str, reason: str) -> Any:
    """What a person on call asks for: `rollback` of the model, or `reconcile` of everything."""
    if action == "rollback":
        return traffic(context).rollback(run, model, reason).as_dict()
    return traffic(context).reconcile(run, None)


def retire_predecessor(context: Context, run: str, model: str) -> list[str]:
    """Ends the predecessor that was kept warm for `rollout.keep_hours`; see pipeline.rollout.recovery.retire."""
    return traffic(context).retire(run, model)


def settle(context: Context, run: str, model: str, backfill: bool = False) -> RunSettled:
    """Closes a run: what came of it and what it cost goes to the ledger, old workspaces go away."""
    if not backfill:
        _mend_cut_off(context, run, model)
        _retire_in_passing(context, run, model)
    events = _since_opened(context.ledger.events(run=run))
    cost = next((costs_of.cost for costs_of in costs.run_costs(context.ledger, context.params.prices, run=run)), 0.0)
    settled = RunSettled(outcome=_outcome(events), cost=round(cost, 6), currency=context.params.prices.currency)
    context.ledger.append(settled, model, run)
    workspace_transfer.prune(context)
    return settled


def _outcome(entries: list[Entry[Event]]) -> str:
    """What came of a run, in a few words."""
    last = {type(entry.event): entry.event for entry in entries}
    if isinstance(ended := last.get(RolloutEnded), RolloutEnded):
        return f"version {ended.version} went live"
    if isinstance(shadow := last.get(ShadowEnded), ShadowEnded):
        return f"shadow of version {shadow.version} says {shadow.verdict}"
    if isinstance(registered := last.get(VersionRegistered), VersionRegistered):
        return f"version {registered.version} was registered as {registered.alias}, not rolled out"
    for entry in reversed(entries):
        if isinstance(entry.event, StepEnded) and entry.event.state == "failed":
            return f"failed at {entry.step}: {entry.event.error}"
    return "ended without a version"


def _since_opened(events: list[Entry[Event]]) -> list[Entry[Event]]:
    """A run's events since it was last begun: done again, by a clear or a backfill, it keeps its name."""
    begun = [
        i
        for i, e in enumerate(events)
        if isinstance(e.event, RunOpened) or (isinstance(e.event, StepStarted) and e.step == "open_workspace")
    ]
    return events[begun[-1] :] if begun else events


def _mend_cut_off(context: Context, run: str, model: str) -> None:
    """A rollout of this run that has no end was killed: its task cannot have undone it, so this one does."""
    from pipeline.rollout import recovery

    opened = recovery.open_rollout(context.ledger, model)
    if opened is not None and opened.run == run:
        for line in traffic(context).reconcile(run, [model]):
            print(line)


def _retire_in_passing(context: Context, run: str, model: str) -> None:
    """The monitor does it each day; a model without a schedule has its runs. What keeps it from being done fails no run."""
    try:
        for line in retire_predecessor(context, run, model):
            print(line)
    except PerennialError as error:
        print(error)


def check_drift(context: Context, run: str, name: str, as_of: datetime) -> dict[str, Any]:
    """Compares what the live slot was asked with the champion's training data, and answers with labels.

    Writes the report and the ledger's event. Returns {"verdict", "reason", "decision", "moved", …}. Raises
    RegistryError when the model has no champion.
    """
    import pandas as pd

    from pipeline.monitoring import drift, live_quality
    from pipeline.policy import retrain as retrain_policy

    model = context.params.model(name)
    champion = context.registry.champion(name)
    if champion is None:
        raise RegistryError(
            f"model {name}", "has no champion to monitor", f"train one: `python -m pipeline retrain {name} --deploy`"
        )
    limits = model.monitor
    start = as_of - timedelta(days=limits.window_days)
    reference = pd.read_parquet(context.registry.reference_file(name, champion))
    asked, logged = traffic(context).predictions(name, start, as_of)
    report = context.home / "reports" / name / f"{as_of:%Y-%m-%dT%H%M}-v{champion}.html"
    verdict = drift.compare(
        reference,
        asked,
        [c for c in model.training.numeric if c not in model.rollout.serving.personal],
        [c for c in model.training.categorical if c not in model.rollout.serving.personal],
        limits,
        report,
    )
    held_out = context.registry.version_facts(name, champion)["metrics"][model.evaluation.metric]
    answers = asked[asked["version"] == champion]
    labelled = (
        live_quality.labels(model, context.project, start, as_of, name, context.registry.key.log_key())
        if len(answers)
        else live_quality.NO_LABELS
    )
    quality = live_quality.quality(answers, labelled, model, held_out)
    receipt = retrain_policy.decide(verdict, quality, limits)
    body = {
        **verdict.as_dict(),
        "champion": champion,
        "as_of": as_of.isoformat(),
        "window_start": start.isoformat(),
        "live_quality": quality.as_dict(),
        "asked_outside_window": logged - len(asked),
        "receipt": receipt.as_dict(),
        "decision": receipt.decision,
        "report": str(report) if report.is_file() else None,
    }
    if context.server_mode and report.is_file():
        from pipeline.registry import record

        record.keep_report(context.registry, name, champion, report)
    context.ledger.append(DriftChecked.read(body), name, run)
    told = report.with_suffix(".json")
    told.parent.mkdir(parents=True, exist_ok=True)
    told.write_text(json.dumps(body, indent=2) + "\n", encoding="utf-8")
    return body


def retrain(
    context: Context, run: str, name: str, as_of: datetime, reason: str, deploy: bool, say: Callable[[str], None]
) -> dict[str, Any]:
    """The whole run without Airflow. `say(step)` is told what begins. Returns {"run", "version", "rollout"}."""

    def step(title: str):
        say(title)
        return metered(context.ledger, run, name, title)

    os.environ.setdefault("PERENNIAL_PROJECT", str(context.project))
    try:
        with step("open_workspace"):
            folder = open_run(context, run, name, as_of, reason)
        for stage in dvc_graph.order(Path(folder)):
            with step(stage):
                run_stage(context, folder, stage)
        with step("check_gates"):
            mlflow_run = check_gates(context, folder)
        with step("register"):
            version = register(context, folder, mlflow_run)
        rollout = None
        if deploy:
            with step("roll_out"):
                rollout = roll_out(context, run, name, version, reason)
    finally:
        settled = settle(context, run, name)
    return {"run": run, "version": version, "rollout": rollout.as_dict() if rollout else None, **settled.body()}
