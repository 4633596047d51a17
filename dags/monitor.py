"""One monitor Dag for each model: it watches the last rollout, ends a predecessor after its warm hours, compares live
traffic with the champion's training data, and emits an event when a retrain pays. Once a day it verifies the ledger.

On a server workers count the files of the prediction log that have no profile yet, in groups side by side; the look adds the profiles up.

The event starts the model's retrain Dag. Events of other Dags' assets start a look too (monitor.on_asset).
"""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Any

from airflow.sdk import (
    DAG,
    AssetAlias,
    get_current_context,
    task,
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
    task_defaults,
    task_of,
    tell_champion,
    telling,
)

from pipeline.context import Context
from pipeline.runs.dag_settings import DagSettings
from pipeline.settings import models as params
from pipeline.settings.environment import Environment

log = logging.getLogger(__name__)

FORM = checked({"as_of": as_of_param("End of the window that is checked.")})


def as_of_run() -> datetime:
    """The end of the window that this run checks: from the form, else from the interval, else the time of what started it."""
    context = get_current_context()
    run = context["dag_run"]
    return params.time_of(form_values(context).get("as_of") or run.data_interval_end or run.run_after)


def run_id() -> str:
    """The id of this Dag run in the ledger."""
    from pipeline.ledger.store import airflow_run

    run = get_current_context()["dag_run"]
    return airflow_run(run.dag_id, run.run_id)


def alias(model: str) -> AssetAlias:
    """The alias under which the monitor Dag emits the model's drift events."""
    return AssetAlias(f"drift_alerts__{model}")


def list_partitions(model: str) -> list[dict]:
    """Groups of the prediction log's files that have no profile in the live version's layout; none where no version is live."""
    from pipeline.runs import partition_profiles

    return partition_profiles.groups(Context.here(), model)


def profile_partitions(model: str, group: dict) -> dict:
    """Counts a group of files on this worker, and gives the profiles to the deployer. What it leaves out the look counts."""
    from pipeline.runs import partition_profiles

    get_current_context()["group_title"] = group["title"]
    return partition_profiles.profile_group(Context.here(), run_id(), model, group)


def check_drift(model: str) -> dict:
    """The decision with its reason; skips while the model has no champion to compare with."""
    from pipeline.ledger.timeline import live_version
    from pipeline.runs import drift_check

    context = Context.here()
    if not live_version(context.ledger, model):
        skip(f"model {model}: no version is live yet")
    result = drift_check.check_drift(context, run_id(), model, as_of_run()).as_dict()
    for line in (result["said"], *result["receipt"]["reasons"], *result["notes"]):
        log.info("%s", line)
    seen = {key: result[key] for key in ("decision", "verdict", "said", "as_of", "moved", "report", "receipt")}
    return {**seen, "since": (result.get("alarm") or {}).get("since", "")}


def decide_retrain(model: str, drift_check: dict) -> dict:
    """What the model's rule says of the look: its receipt is in the ledger then."""
    from pipeline.runs import retrain_decision

    return retrain_decision.of_look(Context.here(), run_id(), model, drift_check)


def go_back(model: str, decided: dict) -> dict:
    """Brings the past version live that the rule chose, a rollout like any other; or skips."""
    from pipeline.runs import freeze, steps

    if decided["decision"] != "go back":
        skip(f"nothing to go back to: {decided['sentence']}")
    if why := freeze.frozen(Context.here(), model):
        skip(f"not going back: {model} is {why}")
    rollout = steps.roll_out(Context.here(), run_id(), model, decided["version"], decided["reason"])
    tell_champion(model)
    return rollout.as_dict()


def announce_drift(model: str, decided: dict) -> None:
    """Emits the event that starts a retrain, or skips. A look that is repeated asks for no second one."""
    from pipeline.runs import drift_alarm, freeze

    if decided["decision"] != "retrain":
        skip(f"nothing to announce: {decided['sentence']}")
    if by := drift_alarm.asked_by(Context.here(), model, decided["since"]):
        skip(f"nothing to announce: {by} has asked for a retrain because of what is so since {decided['since']}")
    if why := freeze.frozen(Context.here(), model):
        skip(
            f"nothing to announce: {model} is {why}; the first look after that asks for the retrain, if it still sees this"
        )
    extra = {key: decided[key] for key in ("as_of", "reason", "since")}
    get_current_context()["outlet_events"][alias(model)].add(drift_asset(model), extra=extra)


def asking(model: str) -> dict[str, Any]:
    """What `announce_drift` is overridden with: Airflow emits the event with the task's success, so only then is it noted."""

    def noted(context: Any) -> None:
        from pipeline.ledger.events import RetrainAsked
        from pipeline.ledger.store import airflow_run
        from pipeline.runs import drift_alarm

        run = airflow_run(context["dag_run"].dag_id, context["dag_run"].run_id)
        for event in context["outlet_events"][alias(model)].asset_alias_events:
            drift_alarm.note_asked(Context.here(), run, model, RetrainAsked(**event.extra))

    return {"outlets": [alias(model)], "on_success_callback": noted}


def watch_rollout(model: str) -> dict:
    from pipeline.runs.post_rollout_watch import watch

    result = watch(Context.here(), run_id(), model, as_of_run())
    log.info("%s: %s", result.decision, result.reason)
    # Also for what the command line brought live since the last check.
    tell_champion(model)
    return {"decision": result.decision, "reason": result.reason, "rows": result.rows}


def retire_predecessor(model: str) -> list[str]:
    from pipeline.runs import steps

    return steps.retire_predecessor(Context.here(), run_id(), model)


def verify_ledger(model: str) -> str:
    """Once a day: is the ledger whole? A task of its own, so that a broken ledger fails loudly and stops no drift check."""
    from pipeline.runs.ledger_check import verify_daily

    found = verify_daily(Context.here(), run_id(), model)
    log.info("%s", found)
    return found


def monitor_schedule(settings: DagSettings) -> Any:
    """By the clock, and on the events of `monitor.on_asset` where they are named; None for a model without a schedule."""
    if settings.schedule is None or settings.monitor_cron is None:
        return None
    timetable = cron_schedule(settings.monitor_cron, settings.schedule.end)
    return or_on_event(timetable, [], settings.monitor_assets) if settings.monitor_assets else timetable


def count_on_workers(model: str, settings: DagSettings, after: Any, look: Any) -> None:
    """Between the two: a task for each group of the log's files without a profile. The look waits for them, and goes on however they end."""
    from airflow.providers.standard.operators.empty import EmptyOperator

    groups = task_of(list_partitions)(model)
    counting = task_of(profile_partitions, pool=settings.pool).override(map_index_template="{{ group_title }}")
    # Takes no worker. What is missing then the look counts itself.
    ended = EmptyOperator(task_id="partitions_profiled", trigger_rule="all_done")
    after >> groups
    counting.partial(model=model).expand(group=groups) >> ended >> look


def monitor_dag(model: str, settings: DagSettings) -> Any:
    with DAG(
        dag_id=f"monitor__{model}",
        description=settings.first_fault or f"Drift and live quality of {model}",
        schedule=monitor_schedule(settings),
        start_date=settings.start,
        catchup=False,
        max_active_runs=1,
        tags=["perennial", model],
        default_args=task_defaults(settings.priority),
        doc_md=documentation(__doc__, settings),
    ) as dag:
        # The watch may roll the champion back. So the drift check comes after it, and the predecessor stays until then.
        drift_check = task_of(check_drift, pool=settings.pool)(model)
        watch = task_of(watch_rollout).override(**telling(model))
        retire = task_of(retire_predecessor)(model)
        watched = watch(model)
        watched >> [drift_check, retire]
        if Environment.read().server_mode:
            count_on_workers(model, settings, watched, drift_check)
        decided = task_of(decide_retrain)(model, drift_check)
        task(**asking(model))(announce_drift)(model, decided)
        # The predecessor's end comes first: its slot is the one that a past version goes live in.
        retire >> task_of(go_back).override(**telling(model))(model, decided)
        task_of(verify_ledger)(model)
    set_form(dag, FORM)
    return dag


each_model("monitor", monitor_dag)
