"""The pages of a model, of what automation earned, and of single events, with their tables as files, and the script of their charts."""

from download_routes import answer_of
from page_routes import shown


def add_to(page, login):
    """Adds the routes to a FastAPI app; `login` gives the user. Those of files come before those of pages, which would take their ending."""
    from fastapi import Depends
    from fastapi.responses import FileResponse, HTMLResponse

    behind_login = {"dependencies": [Depends(login)], "response_model": None}
    for form in ("csv", "json"):
        for name, path in (
            ("model", "/model/{model}"),
            ("model", "/model/{model}/{part}"),
            ("roi", "/roi"),
            ("roi", "/roi/{model}"),
        ):
            page.get(f"{path}.{form}", **behind_login)(answer_of(name, form))

    @page.get("/plotly.js", **behind_login)
    def plotly_script():
        from pipeline.pages import charts

        return FileResponse(charts.script(), media_type="text/javascript", headers={"cache-control": charts.CACHE})

    @page.get("/model/{model}", response_class=HTMLResponse, **behind_login)
    def model(model: str):
        from pipeline.pages.model import model_page

        return shown(lambda context: model_page(context, model))

    @page.get("/roi", response_class=HTMLResponse, **behind_login)
    @page.get("/roi/{model}", response_class=HTMLResponse, **behind_login)
    def roi(model: str = ""):
        from pipeline.pages.roi import roi_page

        return shown(lambda context: roi_page(context, model))

    @page.get("/events", response_class=HTMLResponse, **behind_login)
    def events(of: str = "", kind: str = "", model: str = ""):
        from pipeline.pages.events import events_page

        return shown(lambda context: events_page(context, of, kind, model))
