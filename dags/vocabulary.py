"""What the Dags of a model share: the event that says the world has changed, the form's as-of, a skip that says why."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, NoReturn

from airflow.sdk import Asset, Param
from airflow.sdk.definitions.retry_policy import (
    ExceptionRetryPolicy,
    RetryAction,
    RetryRule,
)

from pipeline.errors import (
    LedgerError,
    PerennialError,
    RegistryAwayError,
    RemoteError,
)
from pipeline.settings import models as params
from pipeline.settings.environment import Environment

RETRIES = 5
RETRY_AFTER = timedelta(seconds=15)
# A service that was down for a minute takes a while to start again: five tries must last longer than both.
ASK_AGAIN_AFTER = timedelta(seconds=30)


def task_defaults() -> dict[str, Any]:
    """Where workers can be lost, a task that was killed or could not reach a service is done again, perhaps elsewhere.

    What our own code refuses is refused at once: it would be refused again.
    """
    if not Environment.read().server_mode:
        return {}
    policy = ExceptionRetryPolicy(
        rules=[
            RetryRule([RegistryAwayError, RemoteError, LedgerError], RetryAction.RETRY, ASK_AGAIN_AFTER),
            RetryRule(PerennialError, RetryAction.FAIL),
        ]
    )
    return {"retries": RETRIES, "retry_delay": RETRY_AFTER, "retry_policy": policy}


def drift_asset(model: str) -> Asset:
    """The monitor Dag emits it, the retrain Dag starts from it."""
    return Asset(name=f"drift__{model}", uri=f"perennial://drift/{model}")


def as_of_param(what: str) -> Param:
    """The form's field for a time; empty means the interval's end, and now for a run by hand."""
    return Param(
        None,
        type=["null", "string"],
        format="date-time",
        title="As of",
        description=f"{what} Empty: the interval's end; for a run by hand, now.",
    )


def asked_in_form(context: Any) -> dict[str, Any]:
    """The values of the run's form. Raises SettingsError for a key of its conf that the form does not have."""
    # Airflow adds every key of the conf to the run's params: only the Dag's own say what the form has.
    params.refuse_unknown(context["dag_run"].conf, context["dag"].params)
    return context["params"]


def skip(reason: str) -> NoReturn:
    """Ends the task as skipped. Airflow shows a skip's reason nowhere, so it is printed to the task's log first."""
    from airflow.sdk.exceptions import AirflowSkipException

    print(f"skipped: {reason}")
    raise AirflowSkipException(reason)
