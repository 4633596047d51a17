"""One score Dag for each model with a section `scoring`: it scores the rows of its interval with the champion of that moment.

A second run of an interval, or a backfill over it, replaces the interval's rows at the destination, all or none of them. A run by
hand scores the interval of the form, else the last complete one of the schedule. Without a champion a run fails, so that nobody
takes an interval without answers for one that is done.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, Param, get_current_context
from closing_schedule import cron_schedule
from dag_parts import checked, documentation, each_model, form_values, set_form, task_defaults, task_of

from pipeline.context import Context
from pipeline.errors import SettingsError
from pipeline.runs.dag_settings import DagSettings

FORM = checked(
    {
        "interval": Param(
            None,
            type=["null", "string"],
            title="Interval",
            description="START/END, like 2024-03-01/2024-03-02. Empty: the run's own; by hand, the last complete one.",
        )
    }
)


def score_interval(model: str, cron: str) -> dict:
    """Scores the run's interval and returns the counts, the version and the cost."""
    from pipeline.ledger.store import airflow_run
    from pipeline.runs import scoring

    context = get_current_context()
    run = context["dag_run"]
    return scoring.score_interval(
        Context.here(), airflow_run(run.dag_id, run.run_id), model, interval_of(context, cron), connection_url
    ).body()


def interval_of(context: Any, cron: str) -> Any:
    """The interval from the form, else the run's own, else the last complete one of the schedule.

    Raises SettingsError for a backfill with an interval, because all its runs would be the same.
    """
    from pipeline.runs.scoring_interval import Interval

    run, written = context["dag_run"], form_values(context).get("interval")
    if written and "backfill" in str(run.run_type).lower():
        raise SettingsError("conf interval", "would make all runs of a backfill the same", "leave it out")
    if written:
        return Interval.of(written)
    if run.data_interval_start and run.data_interval_start < run.data_interval_end:
        return Interval.of(f"{run.data_interval_start.isoformat()}/{run.data_interval_end.isoformat()}")
    return Interval.last_complete(cron, run.run_after)


def connection_url(name: str) -> str:
    """The connection of Airflow as a URL."""
    from airflow.sdk import BaseHook

    return BaseHook.get_connection(name).get_uri()


def score_dag(model: str, settings: DagSettings) -> Any:
    """None where the model has no `scoring` or no schedule."""
    if settings.scoring_cron is None or settings.schedule is None:
        return
    with DAG(
        dag_id=f"score__{model}",
        description=settings.first_fault or f"Scores the rows of each interval with the champion of {model}",
        schedule=cron_schedule(settings.scoring_cron, settings.schedule.end),
        start_date=settings.start,
        catchup=False,
        max_active_runs=1,
        tags=["perennial", model],
        default_args=task_defaults(settings.priority),
        doc_md=documentation(__doc__, settings),
    ) as dag:
        task_of(score_interval, pool=settings.pool)(model, settings.scoring_cron)
    set_form(dag, FORM)


each_model("score", score_dag)
