"""The stop button of a model on a page of its own: it says what is frozen and by whom, and freezes or unfreezes.

Who may trigger the model's operate Dag may press it, as on the page of a rollout, and a request that another site sent is refused.
"""

from typing import Annotated

from page_routes import in_words
from rollout_routes import LONGEST_BODY, LONGEST_REASON, from_elsewhere, is_known, may_operate, said, shown

ACTIONS = ("freeze", "unfreeze")


def add_to(page, login, may=None):
    """Adds the routes to a FastAPI app. `login` gives the user, `may` says whether a user may act on a model."""
    from fastapi import Depends, Request
    from fastapi.responses import HTMLResponse

    may = may or may_operate

    @page.get("/freeze/{model}", response_class=HTMLResponse)
    def stop_button(model: str, user: Annotated[object, Depends(login)]):
        from pipeline.pages.freeze import freeze_page

        return shown(lambda context: freeze_page(context, model, may(user, model)), in_words)

    @page.post("/freeze/{model}", response_model=None)
    async def press(model: str, request: Request, user: Annotated[object, Depends(login)]):
        from starlette.concurrency import run_in_threadpool

        if refused := from_elsewhere(request, "stop button"):
            return said(403, refused)
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > LONGEST_BODY:
                return said(413, "stop button: the request is too long")
        return await run_in_threadpool(answered, model, user, body, may)


def answered(model, user, body, may):
    """Freezes or unfreezes the model, and says what is so then."""
    import json

    from fastapi.responses import JSONResponse

    from pipeline.context import Context
    from pipeline.errors import LedgerError, PerennialError
    from pipeline.runs import freeze
    from pipeline.settings.models import time_of

    if not may(user, model):
        return said(403, f"model {model}: you may not freeze it; it takes the right to trigger operate__{model}")
    try:
        asked = json.loads(body)
        action, reason = asked["action"], " ".join(str(asked["reason"]).split())[:LONGEST_REASON]
        until = time_of(asked["until"]) if asked.get("until") else None
    except (PerennialError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return said(
            400, 'stop button: send {"action": "freeze", "reason": …, "until": a time in ISO 8601, or none} as JSON'
        )
    if action not in ACTIONS or not reason:
        return said(400, f"stop button: a reason is required, and an action, one of {', '.join(ACTIONS)}")
    try:
        context = Context.here(user.get_name())
        if not is_known(context, model):
            return said(404, f"model {model}: is not known; `perennial status` lists the models")
        if action == "freeze":
            freeze.freeze(context, "", model, reason, until)
        else:
            freeze.unfreeze(context, "", model, reason)
        return JSONResponse({"frozen": freeze.frozen(context, model)})
    except PerennialError as error:
        return said(503 if isinstance(error, LedgerError) else 409, error)
