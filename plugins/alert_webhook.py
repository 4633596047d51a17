"""The route that takes alerts from elsewhere, and starts the monitor or the retrain Dag of their models."""

import asyncio
import hmac
import logging

TOKEN = "PERENNIAL_WEBHOOK_TOKEN"

log = logging.getLogger(__name__)


def add_to(page, start=None):
    """Adds `POST /alerts` to a FastAPI app. `start` starts a run in Airflow; see `started`."""
    from fastapi import Request

    async def alerts(request: Request):
        if refused := refusal(request.headers.get("authorization", "")):
            return refused
        body = await bounded(request)
        if body is None:
            return said(413, "alert: is larger than 256 KiB; send fewer alerts at once")
        return await asyncio.to_thread(answered, body, start or started)

    page.post("/alerts")(alerts)


def said(status, error, **headers):
    return answer(status, {"error": error}, headers)


def answer(status, body, headers=None):
    # Plugins load in every process of Airflow, and only the API server answers.
    from fastapi.responses import JSONResponse

    return JSONResponse(body, status_code=status, headers=headers)


def refusal(authorization):
    """The answer to a request that has not the token; None when it has."""
    from pipeline.settings.environment import Environment

    token = Environment.read().webhook_token
    if not token:
        return said(403, f"alerts: are not taken; set {TOKEN} where Airflow's API server starts")
    scheme, _, sent = authorization.partition(" ")
    if scheme.lower() != "bearer" or not hmac.compare_digest(sent.strip().encode(), token.encode()):
        error = f"alerts: the token is missing or wrong; send the header `Authorization: Bearer TOKEN` with ${TOKEN}"
        return said(401, error, **{"WWW-Authenticate": "Bearer"})
    return None


async def bounded(request):
    """The body; None when it is too large."""
    from pipeline.runs.alerts import MOST_BYTES

    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MOST_BYTES:
            return None
    return body


def answered(body, start):
    """The answer to a request with the token: the run of each alert, and a line for each that starts none."""
    from sqlalchemy.exc import SQLAlchemyError

    from pipeline.context import Context
    from pipeline.errors import PerennialError
    from pipeline.runs.alerts import alerts_of

    try:
        alerts, errors = alerts_of(body)
        params = Context.here().params
    except PerennialError as error:
        return said(400, str(error))
    runs = []
    for alert in alerts:
        try:
            runs.append(run_of(alert, params, start))
        except PerennialError as error:
            errors += str(error).splitlines()
        except SQLAlchemyError as error:
            log.warning("an alert started no run: %s", error)
            why = str(getattr(error, "orig", None) or type(error).__name__).strip().partition("\n")[0]
            return said(
                503, f"Airflow's database: did not do it ({why}); send the alert again", **{"Retry-After": "10"}
            )
    if errors and not runs:
        return answer(422, {"error": errors[0], "errors": errors})
    return answer(202 if any(run["started"] for run in runs) else 200, {"runs": runs, "errors": errors})


def run_of(alert, params, start):
    from datetime import UTC, datetime

    from pipeline.runs.alerts import request_of

    monitor = params.model(alert.model).monitor
    request = request_of(alert, monitor, newest_look(monitor.cron, datetime.now(UTC)))
    return {"model": alert.model, "dag": request.dag, "run": request.run, "started": start(request)}


def newest_look(cron, now):
    """The end of the newest interval of the monitor's schedule."""
    from airflow.timetables.interval import CronDataIntervalTimetable
    from pendulum import instance

    return CronDataIntervalTimetable(cron, timezone="UTC").infer_manual_data_interval(run_after=instance(now)).end


def started(request):
    """Starts the run; False when there is one of that id. Raises SettingsError for a Dag that cannot run."""
    from airflow.api.common.trigger_dag import trigger_dag
    from airflow.exceptions import DagNotFound, DagRunAlreadyExists
    from airflow.models.dag import DagModel
    from airflow.utils.types import DagRunTriggeredByType

    from pipeline.errors import SettingsError
    from pipeline.runs.alerts import USER

    dag = DagModel.get_current(request.dag)
    if dag is not None and dag.is_paused:
        raise SettingsError(f"Dag {request.dag}", "is paused, so an alert starts nothing", "unpause it in Airflow")
    by = DagRunTriggeredByType.REST_API
    try:
        trigger_dag(
            request.dag, triggered_by=by, triggering_user_name=USER, run_id=request.run, conf=dict(request.conf)
        )
    except DagRunAlreadyExists:
        return False
    except DagNotFound as error:
        raise SettingsError(f"Dag {request.dag}", "is not known to Airflow", "wait until it has read dags/") from error
    return True
