"""Answers a task of Airflow that waits for a person, when that person has decided at the command line.

On one machine Airflow's password lies in the home folder. On a server only the container of `api-server` has it, where the command can be
run; what is answered there is what the ledger has.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from urllib.parse import quote

from pipeline.services import processes
from pipeline.services.environment import USER, machine_secrets
from pipeline.settings.addresses import services_of
from pipeline.settings.environment import Environment

LIMIT_S = 60
# What Airflow says of a task that was answered already, and of one that is gone.
NOT_WAITING = (404, 409)


class NoAirflow(Exception):
    """str() is the reason."""


def answer(environment: Environment, run: str, task: str, option: str) -> str | None:
    """Chooses `option` for the task of the ledger's `run`, DAG/RUN. Returns why the task still waits; '' when it goes on, and None when it
    did not wait."""
    import httpx

    dag, _, run_id = run.partition("/")
    path = f"/api/v2/dags/{quote(dag)}/dagRuns/{quote(run_id, safe='')}/taskInstances/{task}/-1/hitlDetails"
    try:
        airflow, password = _on_the_server() if environment.server_mode else _on_this_machine(environment.home)
        with httpx.Client(base_url=airflow, timeout=LIMIT_S) as client:
            secret = {"username": USER, "password": password}
            token = client.post("/auth/token", json=secret).raise_for_status().json()["access_token"]
            chosen = {"chosen_options": [option], "params_input": {}}
            answered = client.patch(path, json=chosen, headers={"authorization": f"Bearer {token}"})
            if answered.status_code in NOT_WAITING:
                return None
            answered.raise_for_status()
    except (NoAirflow, httpx.HTTPError, KeyError, ValueError) as error:
        return str(error).splitlines()[0] or type(error).__name__
    return ""


def _on_this_machine(home: Path) -> tuple[str, str]:
    """(Airflow's address, its user's password). Raises NoAirflow."""
    airflow = services_of(home).get("airflow")
    if not airflow or processes.supervisor(home) is None:
        raise NoAirflow("no Airflow runs on this machine")
    return airflow, machine_secrets(home)["password"]


def _on_the_server() -> tuple[str, str]:
    """The same, from what docker-compose.yaml and docker/airflow/entrypoint.sh give the service api-server."""
    airflow = os.environ.get("AIRFLOW__CORE__EXECUTION_API_SERVER_URL", "").partition("/execution")[0]
    try:
        file = Path(os.environ["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"])
        return airflow, json.loads(file.read_text(encoding="utf-8"))[USER]
    except (OSError, KeyError) as error:
        raise NoAirflow("this container has no password of Airflow's") from error
