"""The tables of the pages as files: a page's address with `.csv` or `.json` behind it, under the same login.

A file is sent while it is read, a part at a time: years of events would take seconds before the first byte. A file that breaks off is no
whole answer to its reader, by HTTP's own rules.
"""

from itertools import chain

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
    """The route's function: the table of the page `name` as `form`, csv or json. A fault is one line of plain text."""
    from importlib import import_module

    from fastapi import Request
    from fastapi.responses import PlainTextResponse, StreamingResponse

    def answer(request: Request):
        from pipeline.context import Context
        from pipeline.errors import PerennialError
        from pipeline.pages.answers import status_of

        asked = dict(request.path_params)
        if name == "audit":
            asked["kind"] = request.query_params.get("kind", "")
        try:
            context = Context.here()
            with context.ledger.reading():
                found = import_module(f"pipeline.pages.{name}").table(context, **asked)
                parts = found.json_parts() if form == "json" else found.csv_parts()
                # What is wrong at the beginning has its status.
                first = next(parts)
        except PerennialError as error:
            return PlainTextResponse(str(error), status_code=status_of(error))
        kind = "application/json" if form == "json" else "text/csv; charset=utf-8"
        return StreamingResponse(chain([first], parts), media_type=kind)

    return answer
