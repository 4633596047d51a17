"""The page of a rollout, what it asks every two seconds, and the button that calls the rollout back.

Whoever may trigger the model's operate Dag may press the button: Airflow's own auth manager says so, for the page and for the request.
The request is refused when another site sent it. It notes the call in the ledger, where the rollout reads it at once, and triggers the
operate Dag, which makes sure that the version has no traffic.
"""

import re
from typing import Annotated
from urllib.parse import urlsplit

from page_routes import in_words

LONGEST_REASON, LONGEST_BODY = 500, 10_000
VERSION = re.compile("[0-9]{1,9}")


def add_to(page, login, may=None, start=None):
    """Adds the routes to a FastAPI app. `login` gives the user, `may` says whether a user may act on a model, `start` triggers the Dag."""
    from fastapi import Depends, Request
    from fastapi.responses import HTMLResponse, Response

    may, start = may or may_operate, start or started

    @page.get("/rollout", response_class=HTMLResponse, dependencies=[Depends(login)])
    def rollouts():
        from pipeline.pages.rollout import rollouts_page

        return shown(rollouts_page, in_words)

    @page.get("/rollout/{model}", response_class=HTMLResponse)
    def rollout(model: str, user: Annotated[object, Depends(login)]):
        from pipeline.pages.rollout import rollout_page

        return shown(lambda context: rollout_page(context, model, may(user, model)), in_words)

    @page.get("/rollout/{model}/state", dependencies=[Depends(login)], response_model=None)
    def state(model: str):
        from pipeline.pages.downloads import as_json
        from pipeline.pages.rollout import state as found

        return shown(lambda context: Response(as_json(found(context, model)), media_type="application/json"), said)

    @page.post("/rollout/{model}/call-back", response_model=None)
    async def call_back(model: str, request: Request, user: Annotated[object, Depends(login)]):
        from starlette.concurrency import run_in_threadpool

        if refused := from_elsewhere(request):
            return said(403, refused)
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > LONGEST_BODY:
                return said(413, "call back: the request is too long")
        return await run_in_threadpool(answered, model, user, body, may, start)


def shown(make, say):
    """What `make` gives of a context; what it cannot show `say` says in its place, of a status and an error."""
    from pipeline.context import Context
    from pipeline.errors import PerennialError
    from pipeline.pages.answers import status_of

    try:
        context = Context.here()
        with context.ledger.reading():
            return make(context)
    except PerennialError as error:
        return say(status_of(error), error)


def said(status, error):
    """Why a request was refused, as JSON {"error"}."""
    from fastapi.responses import JSONResponse

    return JSONResponse({"error": str(error)}, status_code=status)


def from_elsewhere(request, what="call back"):
    """Why a request may come from another site's page, which a browser would send this site's cookie with; '' when it does not.

    A browser adds no bearer token by itself. It says where a request comes from in `Sec-Fetch-Site`, and over plain HTTP in `Origin`;
    no page can change either. And no form of another site can send JSON.
    """
    headers = request.headers
    if headers.get("authorization", "").lower().startswith("bearer "):
        return ""
    if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        return f"{what}: the request is no JSON; press the button on the page"
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    same = site == "same-origin" if site is not None else is_own(origin, headers.get("host"))
    return "" if same else f"{what}: the request comes from another site; press the button on the page"


def is_own(origin, host):
    """Whether the origin is the host that was asked, or Airflow's own address where a proxy in between asks by another name."""
    named = urlsplit(origin or "").netloc
    return bool(named) and (named == host or named == urlsplit(base_url()).netloc)


def base_url():
    from airflow.configuration import conf

    return conf.get("api", "base_url", fallback="")


def answered(model, user, body, may, start):
    """Notes it, triggers the Dag, and says what was done: `noted`, `run`, and `trouble` when the Dag was not triggered."""
    import json

    from fastapi.responses import JSONResponse
    from sqlalchemy.exc import SQLAlchemyError

    from pipeline.context import Context
    from pipeline.errors import PerennialError, RolloutError
    from pipeline.rollout import calling_back

    if not may(user, model):
        return said(
            403, f"model {model}: you may not call its rollout back; it takes the right to trigger operate__{model}"
        )
    try:
        asked = json.loads(body)
        version, reason = str(asked["version"]), " ".join(str(asked["reason"]).split())[:LONGEST_REASON]
    except (ValueError, KeyError, TypeError, RecursionError):
        return said(400, 'call back: send {"version": …, "reason": …} as JSON')
    if not reason or not VERSION.fullmatch(version):
        return said(400, "call back: a version and a reason are required")
    try:
        context = Context.here()
        ledger = context.ledger
        if not is_known(context, model):
            return said(404, f"model {model}: is not known; `perennial status` lists the models")
        noted = calling_back.note(ledger, model, version, reason, user.get_name())
        if noted is None:
            calling_back.check_not_settled(ledger, model, version)
    except RolloutError as error:
        return said(409, error)
    except PerennialError as error:
        return said(503, error)
    done = {"noted": noted is not None, "run": None}
    try:
        done["run"] = start(model, {"action": "rollback", "reason": reason, "version": version}, user.get_name())
    except PerennialError as error:
        done["trouble"] = str(error)
    except SQLAlchemyError as error:
        done["trouble"] = f"Airflow's database did not take the run ({type(error).__name__})"
    if noted is None and done["run"] is None:
        return said(503, done["trouble"])
    return JSONResponse(done, status_code=202)


def is_known(context, model):
    """Whether the ledger has an event of the model, or params.yaml a block."""
    from pipeline.ledger.newest_events import has_events

    return has_events(context.ledger, model) or model in {*context.params.models, *context.params.broken}


def may_operate(user, model):
    """Whether Airflow lets the user trigger the model's operate Dag."""
    from airflow.api_fastapi.app import get_auth_manager
    from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails
    from airflow.models.dag import DagModel

    dag = f"operate__{model}"
    details = DagDetails(id=dag, team_name=DagModel.get_team_name(dag))
    return get_auth_manager().is_authorized_dag(
        method="POST", access_entity=DagAccessEntity.RUN, details=details, user=user
    )


def started(model, conf, user):
    """The id of the run that was triggered. Raises SettingsError for a Dag that cannot run."""
    from airflow.api.common.trigger_dag import trigger_dag
    from airflow.exceptions import DagNotFound
    from airflow.models.dag import DagModel
    from airflow.utils.types import DagRunTriggeredByType

    from pipeline.errors import SettingsError

    dag = f"operate__{model}"
    known = DagModel.get_current(dag)
    if known is not None and known.is_paused:
        raise SettingsError(f"Dag {dag}", "is paused, so nobody makes sure that it is back", "unpause it in Airflow")
    try:
        run = trigger_dag(dag, triggered_by=DagRunTriggeredByType.UI, triggering_user_name=user, conf=conf)
    except DagNotFound as error:
        raise SettingsError(f"Dag {dag}", "is not known to Airflow", f"run `perennial rollback {model}`") from error
    return run.run_id
