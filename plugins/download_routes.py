"""The tables of the pages as files: a page's address with `.csv` or `.json` behind it, under the same login."""

# Each is a module of pipeline.pages with a function `table`.
PAGES = {
    "portfolio": "/portfolio",
    "deployments": "/deployments",
    "runs": "/runs",
    "rollout": "/rollout",
    "audit": "/audit/{model}",
    "receipts": "/receipts/{model}",
    "gates": "/gates/{run:path}",
    "data": "/data/{version}",
}


def add_to(page, login):
    """Adds the routes to a FastAPI app, before those of the pages: these would take the ending for a part of the name."""
    from fastapi import Depends

    for name, path in PAGES.items():
        for form in ("csv", "json"):
            page.get(f"{path}.{form}", dependencies=[Depends(login)], response_model=None)(answer_of(name, form))


def answer_of(name, form):
    from importlib import import_module

    from fastapi import Request
    from fastapi.responses import PlainTextResponse, Response

    def answer(request: Request):
        from pipeline.context import Context
        from pipeline.errors import PerennialError
        from pipeline.pages.answers import status_of

        asked = dict(request.path_params)
        if name == "audit":
            asked["kind"] = request.query_params.get("kind", "")
        try:
            found = import_module(f"pipeline.pages.{name}").table(Context.here(), **asked)
        except PerennialError as error:
            return PlainTextResponse(str(error), status_code=status_of(error))
        if form == "json":
            return Response(found.json(), media_type="application/json")
        return Response(found.csv(), media_type="text/csv; charset=utf-8")

    return answer
