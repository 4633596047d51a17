"""One retrain Dag for each model: the stages of dvc.yaml, then gates, register, roll out, settle.

Generated from params.yaml and dvc.yaml; runs on the model's schedule, on its drift event, on events of other Dags' assets
(schedule.on_asset), by hand, or as an Airflow backfill, whose versions are registered and never go live.

On a server workers count the landed partitions beside the training, in mapped tasks, where there are many rows (monitor.mapped_rows); the stage
`evaluate` takes their profiles.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

from airflow.sdk import (
    DAG,
    Param,
    get_current_context,
)
from closing_schedule import cron_schedule
from dag_parts import (
    as_of_param,
    checked,
    documentation,
    drift_asset,
    each_model,
    form_values,
    or_on_event,
    set_form,
    skip,
    stop_where_frozen,
    task_defaults,
    task_of,
    tell_champion,
    telling,
)

from pipeline.context import Context
from pipeline.errors import SettingsError
from pipeline.runs.dag_settings import DagSettings
from pipeline.settings import models as params
from pipeline.settings.environment import Environment
from pipeline.settings.rollout import STRATEGIES
from pipeline.workspaces import dvc_graph

# Read once, not for each model.
STAGES = dvc_graph.order(Environment.read().project)
# From the one on what has landed can be counted, and the other takes what was counted.
DRAWS_EDGES, TAKES_PROFILES = "validate", "evaluate"

# A worker that dies is no reason to count again in the stage; what fails twice more is.
TRIES_AGAIN = 2


@dataclass(frozen=True)
class RunRequest:
    """What a run shall do: its id, the end of its training window (UTC ISO 8601), and the reason for the ledger."""

    run: str
    as_of: str
    reason: str


def run_request(context: Any) -> RunRequest:
    """The request from the form, else from the drift event, else from the interval, else of the time of what started it.

    Raises SettingsError for a backfill with an as_of, because all its runs would be the same.
    """
    from pipeline.ledger.store import airflow_run

    run, form = context["dag_run"], form_values(context)
    if is_backfill(context) and form.get("as_of"):
        raise SettingsError(
            "conf as_of", "would make all runs of a backfill the same", "leave it out: each goes by its interval's end"
        )
    events = [event for group in context["triggering_asset_events"].values() for event in group]
    drift = events[-1].extra if events else {}
    as_of = form.get("as_of") or drift.get("as_of") or run.data_interval_end or run.run_after
    reason = form.get("reason") or drift.get("reason") or f"{getattr(run.run_type, 'value', run.run_type)} run"
    return RunRequest(airflow_run(run.dag_id, run.run_id), str(as_of), reason)


def is_backfill(context: Any) -> bool:
    """Whether the run is one of a backfill, whose version never goes live."""
    return "backfill" in str(context["dag_run"].run_type).lower()


def open_workspace(model: str) -> str:
    from pipeline.runs import steps

    stop_where_frozen(model)
    request = run_request(get_current_context())
    as_of = params.time_of(request.as_of)
    ask_first(model, request.run, as_of)
    here = Context.here(get_current_context()["dag_run"].triggering_user_name)
    return steps.open_run(here, request.run, model, as_of, request.reason)


def ask_first(model: str, run: str, as_of: datetime) -> None:
    """Skips a run on schedule where the model's rule says that a retrain does not pay now."""
    from pipeline.runs import retrain_decision

    kind = get_current_context()["dag_run"].run_type
    if "scheduled" in str(getattr(kind, "value", kind)).lower():
        why = retrain_decision.why_not(Context.here(), run, model, as_of)
        if why:
            skip(why)


def run_stage(folder: str, stage: str) -> None:
    from pipeline.runs import steps

    steps.run_stage(Context.here(), folder, stage, is_backfill(get_current_context()))


def list_landed(folder: str) -> list[dict]:
    """Groups of the run's landed partitions that are to be counted beside the training; none below monitor.mapped_rows."""
    from pipeline.runs import landed_profiles

    return landed_profiles.groups(Context.here(), folder)


def profile_landed(folder: str, group: dict) -> dict:
    """Counts a group of partitions on this worker, whichever has the workspace. What it leaves out the stage counts."""
    from pipeline.runs import landed_profiles

    context = get_current_context()
    context["group_title"] = group["title"]
    return landed_profiles.profile_group(Context.here(), run_request(context).run, folder, group)


def check_gates(folder: str) -> str:
    from pipeline.runs import steps

    context = get_current_context()
    return steps.check_gates(Context.here(), folder, is_backfill(context), context["params"]["accept_schema_change"])


def register(folder: str, mlflow_run: str) -> str:
    from pipeline.runs import steps

    # Two functions, not one with a flag: `archive` has no way to nominate a backfill's model.
    if is_backfill(get_current_context()):
        return steps.archive(Context.here(), folder, mlflow_run)
    return steps.register(Context.here(), folder, mlflow_run)


def roll_out(model: str, version: str) -> dict:
    context = get_current_context()
    if is_backfill(context):
        skip(f"version {version} comes from a backfill, which never goes live")
    stop_where_frozen(model)
    from pipeline.runs import steps

    request, strategy = run_request(context), context["params"]["strategy"]
    accept = context["params"]["accept_schema_change"]
    here = Context.here(context["dag_run"].triggering_user_name)
    rollout = steps.roll_out(here, request.run, model, version, request.reason, strategy, accept)
    tell_champion(model)
    return rollout.as_dict()


def settle(model: str) -> dict:
    from pipeline.context import Context
    from pipeline.runs import settle as last_step

    context = get_current_context()
    settled = last_step.settle(Context.here(), run_request(context).run, model, is_backfill(context)).body()
    if not is_backfill(context):
        # Of a rollout whose task was killed, and that was completed here.
        tell_champion(model)
    return settled


MAY_BRING_LIVE = (roll_out, settle)


def add_tasks(model: str, settings: DagSettings) -> None:
    """Adds the tasks of a run to the Dag that is being built, each in the queue that params.yaml gives it.

    The stages and the gates take a slot of the team's pool: they compute. A rollout waits for traffic, so it keeps none from others.
    Where an approval is required the run waits for a person before the rollout.

    pipeline/runs/retrain.py has the same order for the command line.
    """

    queues, pool = settings.queues, settings.pool

    def step(name: str, function: Callable[..., Any], *arguments: Any, pool: str | None = None) -> Any:
        made = task_of(function, name, queues.get(name), pool)
        return (made.override(**telling(model)) if function in MAY_BRING_LIVE else made)(*arguments)

    folder = step("open_workspace", open_workspace, model)
    stages: dict[str, Any] = {}
    for stage, needs in STAGES.items():
        stages[stage] = step(stage, run_stage, folder, stage, pool=pool)
        for needed in needs:
            stages[needed] >> stages[stage]
    if Environment.read().server_mode:
        count_on_workers(settings, folder, stages)
    mlflow_run = step("check_gates", check_gates, folder, pool=pool)
    list(stages.values()) >> mlflow_run
    version = step("register", register, folder, mlflow_run)
    live = step("roll_out", roll_out, model, version)
    if settings.approval_hours is not None:
        from approval_task import VersionApproval

        asked = VersionApproval(
            model=model,
            version=version,
            hours=settings.approval_hours,
            named=settings.approval_by,
            run_of=lambda context: run_request(context).run,
            is_backfill=is_backfill,
        )
        version >> asked >> live
    # A teardown runs also after a failed step, and does not hide the failure: the run fails.
    live >> step("settle", settle, model).as_teardown(setups=folder.operator.as_setup())


def count_on_workers(settings: DagSettings, folder: Any, stages: dict[str, Any]) -> None:
    """Beside the training: a task for each group of landed partitions. The stage waits for them, and goes on however they end."""
    from airflow.providers.standard.operators.empty import EmptyOperator

    queues, pool = settings.queues, settings.pool
    # Fewer tries than other steps have: what fails here the stage does at once.
    groups = task_of(list_landed, "", queues.get("list_landed")).override(retries=TRIES_AGAIN)(folder)
    counting = task_of(profile_landed, "", queues.get("profile_landed"), pool)
    counting = counting.override(map_index_template="{{ group_title }}", retries=TRIES_AGAIN)
    # Takes no worker.
    ended = EmptyOperator(task_id="landed_profiled", trigger_rule="all_done")
    stages[DRAWS_EDGES] >> groups
    counting.partial(folder=folder).expand(group=groups) >> ended >> stages[TAKES_PROFILES]


def retrain_schedule(model: str, schedule: params.Schedule | None) -> Any:
    """By the clock, and on an alarm of drift and the events of `schedule.on_asset`; None for a model without a schedule."""
    if schedule is None:
        return None
    return or_on_event(cron_schedule(schedule.cron, schedule.end), [drift_asset(model)], schedule.on_asset)


def retrain_dag(model: str, settings: DagSettings) -> Any:
    with DAG(
        dag_id=f"retrain__{model}",
        description=settings.first_fault or settings.description,
        schedule=retrain_schedule(model, settings.schedule),
        start_date=settings.start,
        catchup=False,
        max_active_runs=4,
        tags=["perennial", model],
        default_args=task_defaults(settings.priority),
        doc_md=documentation(__doc__, settings),
    ) as dag:
        add_tasks(model, settings)
    set_form(dag, form(settings.strategy))
    return dag


@cache
def form(strategy: str) -> Any:
    """The fields of the form, whose strategy is that of params.yaml unless a person chooses another."""
    about = "How the new version gets its traffic."
    changed = "The version may take other columns than the live one: the clients know."
    return checked(
        {
            "as_of": as_of_param("End of the training window; nothing learned later is used."),
            "reason": Param(None, type=["null", "string"], title="Reason", description="Why, for the ledger."),
            "strategy": Param(strategy, enum=list(STRATEGIES), title="Strategy", description=about),
            "accept_schema_change": Param(False, type="boolean", title="Accept schema change", description=changed),
        }
    )


each_model("retrain", retrain_dag)
