"""The pages that only show: each is a function of a module of pipeline.pages, which is imported when the page is first asked for."""

from importlib import import_module

# By address: the module of pipeline.pages, with its function `MODULE_page`.
PAGES = {
    "/": "overview",
    "/portfolio": "portfolio",
    "/gates/{run:path}": "gates",
    "/data/{version}": "data",
    "/audit/{model}": "audit",
    "/card/{model}/{version}": "card",
    "/receipts/{model}": "receipts",
    "/backtest/{model}": "backtest",
}
# What a page takes behind the question mark of its address, with its default.
ASKED = {"audit": {"kind": "", "before": 0}, "receipts": {"skip": 0}, "backtest": {"number": 0}}
LONGEST_NUMBER = 18


def add_to(page, login):
    """Adds the routes to a FastAPI app; `login` gives the user."""
    from fastapi import Depends
    from fastapi.responses import FileResponse, HTMLResponse

    for path, name in PAGES.items():
        page.get(path, response_class=HTMLResponse, dependencies=[Depends(login)], response_model=None)(answer_of(name))

    @page.get("/reports/{model}/{name}", dependencies=[Depends(login)], response_model=None)
    def report(model: str, name: str):
        from pipeline.context import Context
        from pipeline.errors import PerennialError
        from pipeline.pages.overview import report_file

        try:
            file = report_file(Context.here(), model, name)
        except PerennialError as error:
            return unshown(error)
        return FileResponse(file) if file else in_words(404, "There is no such report.")


def answer_of(name):
    """The route's function: the page `name` of what the address asks for."""
    from fastapi import Request

    def answer(request: Request):
        asked = dict(request.path_params)
        for key, default in ASKED.get(name, {}).items():
            given = request.query_params.get(key, "")
            # A number that is none is no number that anything has.
            is_number = given.isdecimal() and len(given) <= LONGEST_NUMBER
            asked[key] = given if isinstance(default, str) else int(given) if is_number else default
        return shown(lambda context: page_of(name)(context, **asked))

    return answer


def page_of(name):
    return getattr(import_module(f"pipeline.pages.{name}"), f"{name}_page")


def shown(make):
    """The page that `make` gives of a context; what it cannot show is said in its place."""
    from fastapi.responses import HTMLResponse

    from pipeline.accounts.pauses import without_pauses
    from pipeline.context import Context
    from pipeline.errors import PerennialError

    try:
        context = Context.here()
        # The rows of years that a page is made of make no cycles.
        with context.ledger.reading(), without_pauses():
            return HTMLResponse(make(context))
    except PerennialError as error:
        return unshown(error)


def unshown(error):
    """Why a page is not shown, as a page."""
    from pipeline.pages.answers import status_of

    return in_words(status_of(error), error)


def in_words(status, why):
    """A page that says why another one is not shown."""
    from fastapi.responses import HTMLResponse

    from pipeline.pages.answers import unshown_page

    return HTMLResponse(unshown_page(str(why)), status_code=status)
