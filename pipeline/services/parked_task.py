"""Answers a task of Airflow on this machine that waits for a person, when that person has decided at the command line."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from pipeline.services import processes
from pipeline.services.environment import USER, machine_secrets
from pipeline.settings.addresses import services_of

LIMIT_S = 60


def answer(home: Path, run: str, task: str, option: str) -> str:
    """Chooses `option` for the task of the ledger's `run`, DAG/RUN. Returns why the task still waits; '' when it goes on."""
    airflow = services_of(home).get("airflow")
    if not airflow or processes.supervisor(home) is None:
        return "no Airflow runs on this machine"
    import httpx

    dag, _, run_id = run.partition("/")
    secret = {"username": USER, "password": machine_secrets(home)["password"]}
    path = f"/api/v2/dags/{quote(dag)}/dagRuns/{quote(run_id, safe='')}/taskInstances/{task}/-1/hitlDetails"
    try:
        with httpx.Client(base_url=airflow, timeout=LIMIT_S) as client:
            token = client.post("/auth/token", json=secret).raise_for_status().json()["access_token"]
            chosen = {"chosen_options": [option], "params_input": {}}
            client.patch(path, json=chosen, headers={"authorization": f"Bearer {token}"}).raise_for_status()
    except (httpx.HTTPError, KeyError, ValueError) as error:
        return str(error).splitlines()[0] or type(error).__name__
    return ""
