"""The Airflow plugin: a listener that meters every task of our Dags, the page in the UI, the route for
alerts, and one SQLite writer at a time."""

from html import escape

import account_routes
import alert_webhook
import download_routes
import rollout_routes
from airflow.configuration import conf
from airflow.listeners import hookimpl
from airflow.plugins_manager import AirflowPlugin

PREFIXES = ("retrain__", "monitor__", "operate__", "score__", "backtest__")


class Meter:
    """Records each task's start and end in the ledger: state, wall and processor seconds, peak memory."""

    def __init__(self):
        self._start = None

    @hookimpl
    def on_task_instance_running(self, previous_state, task_instance):
        from pipeline.ledger.events import StepStarted
        from pipeline.ledger.metering import read_meter

        if task_instance.dag_id.startswith(PREFIXES):
            self._start = read_meter()
            self._append(task_instance, StepStarted())

    @hookimpl
    def on_task_instance_success(self, previous_state, task_instance):
        self._end(task_instance, "success", "")

    @hookimpl
    def on_task_instance_skipped(self, previous_state, task_instance):
        self._end(task_instance, "skipped", "")

    @hookimpl
    def on_task_instance_failed(self, previous_state, task_instance, error):
        self._end(task_instance, "failed", str(error or ""))

    def _end(self, task_instance, state, error):
        from pipeline.ledger.events import StepEnded
        from pipeline.ledger.metering import usage_since

        if task_instance.dag_id.startswith(PREFIXES) and self._start is not None:
            self._append(task_instance, StepEnded(state=state, error=error, **vars(usage_since(self._start))))

    @staticmethod
    def _append(task_instance, event):
        from pipeline.ledger.store import Ledger, airflow_run
        from pipeline.settings.environment import Environment

        dag_id = task_instance.dag_id
        model = dag_id.partition("__")[2]
        run = airflow_run(dag_id, task_instance.run_id)
        # Of a mapped task each part is a step.
        part = getattr(task_instance, "map_index", -1)
        step = task_instance.task_id if part < 0 else f"{task_instance.task_id}[{part}]"
        Ledger(Environment.read().ledger_url).append(event, model, run, step)


def create_page():
    """The page behind Airflow's own login, and the route for alerts, which has a token of its own."""
    from airflow.api_fastapi.core_api.security import get_user
    from fastapi import Depends, FastAPI
    from fastapi.responses import FileResponse, HTMLResponse

    page = FastAPI(title="Perennial")
    download_routes.add_to(page, get_user)
    rollout_routes.add_to(page, get_user)

    @page.get("/", response_class=HTMLResponse, dependencies=[Depends(get_user)])
    def overview():
        from pipeline.context import Context
        from pipeline.pages.overview import overview_page

        return overview_page(Context.here())

    @page.get("/reports/{model}/{name}", dependencies=[Depends(get_user)])
    def report(model: str, name: str):
        from pipeline.context import Context
        from pipeline.pages.overview import report_file

        file = report_file(Context.here(), model, name)
        return FileResponse(file) if file else HTMLResponse("There is no such report.", status_code=404)

    @page.get("/gates/{run:path}", response_class=HTMLResponse, dependencies=[Depends(get_user)])
    def gates(run: str):
        from pipeline.context import Context
        from pipeline.pages.gates import gates_page

        found = gates_page(Context.here(), run)
        return found or HTMLResponse("No gates were checked in such a run.", status_code=404)

    @page.get("/data/{version}", response_class=HTMLResponse, dependencies=[Depends(get_user)])
    def data(version: str):
        from pipeline.context import Context
        from pipeline.errors import DataError
        from pipeline.pages.data import data_page

        try:
            return data_page(Context.here(), version)
        except DataError:
            return HTMLResponse("There is no such data version.", status_code=404)

    @page.get("/portfolio", response_class=HTMLResponse, dependencies=[Depends(get_user)])
    def portfolio():
        from pipeline.context import Context
        from pipeline.pages.portfolio import portfolio_page

        return portfolio_page(Context.here())

    @page.get("/audit/{model}", response_class=HTMLResponse, dependencies=[Depends(get_user)])
    def audit(model: str, kind: str = ""):
        from pipeline.context import Context
        from pipeline.errors import SettingsError
        from pipeline.pages.audit import audit_page

        try:
            return audit_page(Context.here(), model, kind)
        except SettingsError:
            return HTMLResponse("There is no such model, or no such kind.", status_code=404)

    @page.get("/card/{model}/{version}", response_class=HTMLResponse, dependencies=[Depends(get_user)])
    def card(model: str, version: str):
        from pipeline.context import Context
        from pipeline.errors import RegistryError
        from pipeline.runs.model_card.card import card, html

        try:
            return html(card(Context.here(), model, version))
        except RegistryError as error:
            return HTMLResponse(escape(str(error)), status_code=404)

    @page.get("/receipts/{model}", response_class=HTMLResponse, dependencies=[Depends(get_user)])
    def receipts(model: str):
        from pipeline.context import Context
        from pipeline.pages.receipts import receipts_page

        return receipts_page(Context.here(), model)

    @page.get("/backtest/{model}", response_class=HTMLResponse, dependencies=[Depends(get_user)])
    def backtest(model: str, number: int = 0):
        from pipeline.context import Context
        from pipeline.pages.backtest import backtest_page

        found = backtest_page(Context.here(), model, number)
        how = f"There is no such backtest; perennial backtest {escape(model)} makes one."
        return found or HTMLResponse(how, status_code=404)

    account_routes.add_to(page, get_user)
    alert_webhook.add_to(page)
    return page


class PageOnDemand:
    """Builds the page at its first request: plugins load in every process of Airflow, and only the API server shows pages."""

    def __init__(self):
        self._page = None

    async def __call__(self, scope, receive, send):
        if self._page is None:
            self._page = create_page()
        await self._page(scope, receive, send)


def middlewares():
    """The order of writers where Airflow's database is SQLite, as on one machine; none for another database."""
    if not conf.get("database", "sql_alchemy_conn").startswith("sqlite"):
        return []
    from pipeline.services.airflow_sqlite import OneWriterAtATime

    return [{"middleware": OneWriterAtATime, "name": "one writer at a time"}]


class PerennialPlugin(AirflowPlugin):
    name = "perennial"
    listeners = [Meter()]
    fastapi_apps = [{"app": PageOnDemand(), "url_prefix": "/perennial", "name": "Perennial"}]
    fastapi_root_middlewares = middlewares()
    external_views = [{"name": "Perennial", "href": "perennial/", "destination": "nav", "url_route": "perennial"}]
