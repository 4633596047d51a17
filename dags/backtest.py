"""One backtest Dag for each model with `policy.backtest_cron`, monthly say: what each policy and each training window would have cost on the
model's own past. It changes nothing that is live; the rule `value` takes its curve of staleness from the newest one.

Each training window's versions are made by a task of their own, side by side, and the last task compares them. On a server, whose workers share no
disk, they are kept in the DVC remote.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, get_current_context
from closing_schedule import cron_schedule
from dag_parts import documentation, each_model, task_defaults, task_of

from pipeline.context import Context
from pipeline.runs.dag_settings import DagSettings


def plan(model: str) -> dict:
    """The span that all tasks of the run take, and the training windows to make versions for."""
    from pipeline.runs.backtest import parts

    # Only what the run's interval knew, so that a run that is done again comes to the same.
    return parts.plan(Context.here(), model, get_current_context()["dag_run"].data_interval_end)


def windows_of(planned: dict) -> list[str]:
    """The training windows that have a task of their own: a list of its own is what Airflow maps over."""
    return planned["apart"]


def make_versions(model: str, planned: dict, window: str) -> int:
    """Makes the versions that learn from one training window, and returns how many were trained."""
    from pipeline.runs.backtest import parts

    return parts.make(Context.here(), model, planned, window)


def compare_policies(model: str, planned: dict) -> dict:
    """Compares policies and training windows on what was made, and returns what is recommended."""
    from pipeline.runs.backtest import parts

    return parts.compare(Context.here(), model, planned)


def backtest_dag(model: str, settings: DagSettings) -> Any:
    """None without `policy.backtest_cron`."""
    if settings.backtest_cron is None or settings.schedule is None:
        return
    with DAG(
        dag_id=f"backtest__{model}",
        description=settings.first_fault or f"What each policy would have cost on the past of {model}",
        schedule=cron_schedule(settings.backtest_cron, settings.schedule.end),
        start_date=settings.start,
        catchup=False,
        max_active_runs=1,
        tags=["perennial", model],
        default_args=task_defaults(settings.priority),
        doc_md=documentation(__doc__, settings),
    ):
        planned = task_of(plan)(model)
        made = (
            task_of(make_versions, pool=settings.pool)
            .partial(model=model, planned=planned)
            .expand(window=task_of(windows_of)(planned))
        )
        # Without windows that have a task of their own these are skipped.
        last = task_of(compare_policies, pool=settings.pool).override(trigger_rule="none_failed")(model, planned)
        made >> last


each_model("backtest", backtest_dag)
