"""One monitor Dag a model: watch the last rollout, end a predecessor that was kept warm long enough, compare live
traffic with the champion's training data, and say so when it pays to retrain.

The event it emits starts the model's retrain Dag in Airflow.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from airflow.sdk import (
    AssetAlias,
    dag,
    get_current_context,
    get_parsing_context,
    task,
)
from closing_schedule import cron_schedule
from vocabulary import as_of_param, asked_in_form, drift_asset, skip, task_defaults

from pipeline.settings import models as params
from pipeline.settings.environment import Environment


def as_of_run() -> datetime:
    """The end of the window that this run looks at: from the form, else from the interval."""
    context = get_current_context()
    run = context["dag_run"]
    return params.time_of(asked_in_form(context).get("as_of") or run.data_interval_end or run.run_after)


def monitor_dag(model: str, settings: params.Model) -> Any:
    alerts = AssetAlias(f"drift_alerts__{model}")

    @dag(
        dag_id=f"monitor__{model}",
        description=f"Drift and live quality of {model}",
        schedule=cron_schedule(settings.monitor.cron, settings.schedule.end),
        start_date=settings.schedule.start,
        catchup=False,
        max_active_runs=1,
        tags=["perennial", model],
        default_args=task_defaults(),
        params={"as_of": as_of_param("End of the window that is looked at.")},
        doc_md=__doc__,
    )
    def monitor():
        @task
        def check_drift() -> dict:
            from pipeline.ledger.store import airflow_run
            from pipeline.runs import steps

            run = get_current_context()["dag_run"]
            told = steps.check_drift(steps.Context.here(), airflow_run(run.dag_id, run.run_id), model, as_of_run())
            return {key: told[key] for key in ("decision", "reason", "as_of", "moved", "report")}

        @task(outlets=[alerts])
        def announce_drift(told: dict) -> None:
            if told["decision"] != "retrain":
                skip(f"nothing to announce: {told['reason']}")
            events = get_current_context()["outlet_events"]
            events[alerts].add(
                drift_asset(model),
                extra={"as_of": told["as_of"], "reason": f"drift: {', '.join(told['moved']) or 'live quality'}"},
            )

        @task
        def watch_rollout() -> dict:
            from pipeline.ledger.store import airflow_run
            from pipeline.runs import steps
            from pipeline.runs.post_rollout_watch import watch

            run = get_current_context()["dag_run"]
            told = watch(steps.Context.here(), airflow_run(run.dag_id, run.run_id), model, as_of_run())
            print(f"{told['decision']}: {told['reason']}")
            return {key: told[key] for key in ("decision", "reason", "rows")}

        @task
        def retire_predecessor() -> list[str]:
            from pipeline.ledger.store import airflow_run
            from pipeline.runs import steps

            run = get_current_context()["dag_run"]
            return steps.retire_predecessor(steps.Context.here(), airflow_run(run.dag_id, run.run_id), model)

        # The watch may roll the champion back: what is monitored is what is live after it, and until then the
        # predecessor stays.
        watched = watch_rollout()
        checked = check_drift()
        watched >> [checked, retire_predecessor()]
        announce_drift(checked)

    return monitor()


_asked_for = get_parsing_context().dag_id
for _name, _settings in params.load(Environment.read().project).models.items():
    if _asked_for in (None, f"monitor__{_name}"):
        monitor_dag(_name, _settings)
