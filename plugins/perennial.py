"""The Airflow plugin: a listener that meters every task of our Dags, the pages in the UI, which are made
ahead, the route for alerts, and one SQLite writer at a time."""

import account_routes
import alert_webhook
import download_routes
import freeze_routes
import page_routes
import pages_ahead
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
    from fastapi import FastAPI

    page = FastAPI(title="Perennial")
    # Those of files come before those of pages, which would take their ending for a part of a name.
    download_routes.add_to(page, get_user)
    rollout_routes.add_to(page, get_user)
    freeze_routes.add_to(page, get_user)
    account_routes.add_to(page, get_user)
    page_routes.add_to(page, get_user)
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
    """Pages are made ahead; and the order of writers where Airflow's database is SQLite, as on one machine."""
    ahead = {"middleware": pages_ahead.PagesAhead, "name": "pages ahead"}
    if not conf.get("database", "sql_alchemy_conn").startswith("sqlite"):
        return [ahead]
    from pipeline.services.airflow_sqlite import OneWriterAtATime

    return [ahead, {"middleware": OneWriterAtATime, "name": "one writer at a time"}]


class PerennialPlugin(AirflowPlugin):
    name = "perennial"
    listeners = [Meter()]
    fastapi_apps = [{"app": PageOnDemand(), "url_prefix": "/perennial", "name": "Perennial"}]
    fastapi_root_middlewares = middlewares()
    external_views = [{"name": "Perennial", "href": "perennial/", "destination": "nav", "url_route": "perennial"}]
