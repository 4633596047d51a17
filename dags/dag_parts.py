"""Parts that the Dags of a model share: retries, the asset of a drift event, the form's fields, a skip with its reason."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from functools import cache
from typing import Any, NoReturn

from airflow.sdk import (
    DAG,
    Asset,
    AssetAlias,
    AssetAny,
    AssetOrTimeSchedule,
    Param,
    get_current_context,
    get_parsing_context,
    task,
)
from airflow.sdk.definitions.param import ParamsDict
from airflow.sdk.definitions.retry_policy import (
    ExceptionRetryPolicy,
    RetryAction,
    RetryRule,
)

from pipeline.context import Context
from pipeline.errors import (
    LedgerError,
    PerennialError,
    RegistryAwayError,
    RemoteError,
)
from pipeline.runs.dag_settings import DagSettings, dag_settings
from pipeline.settings import models as params
from pipeline.settings.assets import champion_asset_of, drift_asset_of
from pipeline.settings.environment import Environment

log = logging.getLogger(__name__)

RETRIES = 5
RETRY_AFTER = timedelta(seconds=15)
# A service may be down for a minute and take another to start; five tries must last longer than both.
RETRY_SERVICE_AFTER = timedelta(seconds=30)


# What a person on call does goes before every model's steps, whose priority is at most 100.
BY_HAND = 1000


def task_defaults(priority: int) -> dict[str, Any]:
    """Arguments of every task. On a server a task that was killed, or could not reach a service, runs again on any worker.

    A refusal by our own code fails the task at once, because it would be refused again. Where slots are short, the task with the
    highest priority is first: the model's own, not that of what comes after it in the Dag, by which a new run would overtake an old one.
    """
    order = {"priority_weight": priority, "weight_rule": "absolute"}
    return {**order, **tried_again()} if Environment.read().server_mode else order


def tried_again() -> dict[str, Any]:
    """Arguments of a task that runs again unless our own code refused what it was to do."""
    policy = ExceptionRetryPolicy(
        rules=[
            RetryRule([RegistryAwayError, RemoteError, LedgerError], RetryAction.RETRY, RETRY_SERVICE_AFTER),
            RetryRule(PerennialError, RetryAction.FAIL),
        ]
    )
    return {"retries": RETRIES, "retry_delay": RETRY_AFTER, "retry_policy": policy}


@cache
def task_of(
    function: Callable[..., Any], name: str = "", queue: str | None = None, pool: str | None = None
) -> Callable[..., Any]:
    """The task of all models' Dags: Airflow looks at the function's arguments once, not for each model."""
    places = {key: value for key, value in (("queue", queue), ("pool", pool)) if value}
    return task(task_id=name or function.__name__, **places)(function)


def set_form(made: DAG, form: ParamsDict) -> None:
    """Gives the Dag its form: after its tasks, which would each get a copy of it, and past its check, which `checked` has made once for
    all models."""
    object.__setattr__(made, "params", form)


def checked(fields: Mapping[str, Param]) -> ParamsDict:
    """A form for `set_form`."""
    form = ParamsDict(dict(fields))
    form.validate()
    return form


def each_model(kind: str, build: Callable[[str, DagSettings], object]) -> None:
    """Builds the Dag `KIND__MODEL` of each model; a task's own process builds only the task's Dag."""
    only = get_parsing_context().dag_id
    for name, settings in dag_settings(Context.here()).items():
        if only in (None, f"{kind}__{name}"):
            build(name, settings)


def documentation(module: str | None, settings: DagSettings) -> str:
    """The Dag's page: its file's docstring, and before it why its model's runs fail now."""
    lines = settings.fault.splitlines()
    if len(lines) < 2:
        return f"**Every run fails at once: {settings.fault}**\n\n{module}" if lines else module or ""
    return "\n".join(["**Every run fails at once:**\n", *(f"- {line}" for line in lines), f"\n{module}"])


def drift_asset(model: str) -> Asset:
    """The asset whose event the monitor Dag emits and the retrain Dag starts from."""
    name, uri = drift_asset_of(model)
    return Asset(name=name, uri=uri)


def or_on_event(timetable: Any, assets: Sequence[Any], elsewhere: Sequence[str]) -> Any:
    """The timetable, and a run for each event of one of `assets`, or of the assets of other Dags with these names or URIs.

    Those are references: an asset of ours with the same name and another URI would be another one. Airflow hands a run the events of its
    own assets alone, and none of a reference.
    """
    others = [Asset.ref(uri=name) if "://" in name else Asset.ref(name=name) for name in elsewhere]
    return AssetOrTimeSchedule(timetable=timetable, assets=AssetAny(*assets, *others))


def champion_alias(model: str) -> AssetAlias:
    """What a task that may bring a version live has as its outlet; a plain outlet would be emitted each time."""
    return AssetAlias(f"live__{model}")


def telling(model: str) -> dict[str, Any]:
    """What a task that calls `tell_champion` is overridden with.

    Airflow emits the event with the task's success, so only then is it noted: a task that is killed before tells again when it is retried.
    """

    def noted(context: Any) -> None:
        from pipeline.runs import champion_news

        for event in context["outlet_events"][champion_alias(model)].asset_alias_events:
            champion_news.note(Context.here(), _run_id(context), champion_news.ChampionNews(**event.extra))

    return {"outlets": [champion_alias(model)], "on_success_callback": noted}


def tell_champion(model: str) -> None:
    """Emits the asset `champion__MODEL` when a version went live since the last time, with the version and its data as extra.

    A Dag with schedule=[Asset("champion__MODEL")] starts from it, so the asset has no address of its own.
    """
    from pipeline.runs import champion_news

    news = champion_news.untold(Context.here(), model)
    if news is not None:
        asset = Asset(name=champion_asset_of(model))
        get_current_context()["outlet_events"][champion_alias(model)].add(asset, extra=news.as_dict())
        log.info("emitted %s: version %s is live", asset.name, news.version)


def stop_where_frozen(model: str) -> None:
    """Skips the task where the model is frozen and nobody asked for the run by hand; what a person asks for goes on, and it is said."""
    from pipeline.runs.freeze import frozen

    why = frozen(Context.here(), model)
    if why and begun_by_itself(get_current_context()["dag_run"]):
        skip(f"{model} is {why}")
    if why:
        log.info("%s is %s; this run was asked for by hand, so it goes on", model, why)


def begun_by_itself(run: Any) -> bool:
    """Whether no person asked for the run: it is on schedule, from an event of an asset, or from an alert."""
    from pipeline.runs.alerts import USER

    kind = str(getattr(run.run_type, "value", run.run_type)).lower()
    return not ("manual" in kind or "backfill" in kind) or run.triggering_user_name == USER


def _run_id(context: Any) -> str:
    from pipeline.ledger.store import airflow_run

    return airflow_run(context["dag_run"].dag_id, context["dag_run"].run_id)


def as_of_param(description: str) -> Param:
    """The form's field for the as-of; empty means the interval's end, and now for a run that a person triggers."""
    return Param(
        None,
        type=["null", "string"],
        format="date-time",
        title="As of",
        description=f"{description} Empty: the interval's end; for a run by hand, now.",
    )


def form_values(context: Any) -> dict[str, Any]:
    """The values of the run's form by field. Raises SettingsError for a key of the run's conf that is no field."""
    # Airflow adds every key of the conf to the run's params; the fields of the form are the params of the Dag.
    params.refuse_unknown(context["dag_run"].conf, context["dag"].params)
    return context["params"]


def skip(reason: str) -> NoReturn:
    """Ends the task as skipped. The reason goes to the task's log first, because Airflow shows it nowhere else."""
    from airflow.sdk.exceptions import AirflowSkipException

    log.info("skipped: %s", reason)
    raise AirflowSkipException(reason)
