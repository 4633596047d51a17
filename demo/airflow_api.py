"""The calls of Airflow's REST API that a person makes by a click: trigger a Dag, look at its runs, tasks and logs."""

from __future__ import annotations

import time
from typing import Any

import httpx


class AirflowApi:
    """Airflow at `url`, logged in as `user`."""

    def __init__(self, url: str, user: str, password: str) -> None:
        self._http = httpx.Client(base_url=url, timeout=180)  # a small machine may be busy with runs
        answer = self._http.post("/auth/token", json={"username": user, "password": password})
        answer.raise_for_status()
        self._http.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"

    def get(self, path: str, **query: Any) -> dict[str, Any]:
        return self._checked(self._http.get(f"/api/v2{path}", params=query))

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        return self._checked(self._http.post(f"/api/v2{path}", json=body))

    def trigger(self, dag: str, **conf: Any) -> str:
        """Starts a run by hand and returns its id."""
        return self.post(f"/dags/{dag}/dagRuns", {"logical_date": None, "conf": conf})["dag_run_id"]

    def wait_for_dag(self, dag: str, limit_s: float = 240) -> None:
        """Waits until Airflow has read the Dag's file."""
        until = time.monotonic() + limit_s
        while self._http.get(f"/api/v2/dags/{dag}").status_code != 200:
            if time.monotonic() > until:
                errors = [e["stack_trace"] for e in self.get("/importErrors")["import_errors"]]
                raise SystemExit(f"Airflow has not found {dag} after {limit_s:g} s; import errors: {errors or 'none'}")
            time.sleep(0.3)

    def read_again(self, dag: str) -> None:
        """Airflow reads the Dag's file now, and not within half a minute."""
        token = self.get(f"/dags/{dag}/details")["file_token"]
        self._http.put(f"/api/v2/parseDagFile/{token}").raise_for_status()

    def runs(self, dag: str) -> list[dict[str, Any]]:
        return self.get(f"/dags/{dag}/dagRuns", order_by="run_after", limit=100)["dag_runs"]

    def run(self, dag: str, run: str) -> dict[str, Any]:
        return self.get(f"/dags/{dag}/dagRuns/{run}")

    def tasks(self, dag: str, run: str) -> list[dict[str, Any]]:
        """The run's task instances in the order in which they started."""
        instances = self.get(f"/dags/{dag}/dagRuns/{run}/taskInstances")["task_instances"]
        # "9" is after every date: tasks that have not started come last.
        return sorted(instances, key=lambda task: task["start_date"] or "9")

    def log(self, dag: str, run: str, task: str, attempt: int = 1) -> str:
        """The lines that the task logged, then the error that failed it."""
        lines = self.get(f"/dags/{dag}/dagRuns/{run}/taskInstances/{task}/logs/{attempt}")["content"]
        messages = [str(line.get("event", "")) if isinstance(line, dict) else str(line) for line in lines]
        errors = [e["exc_value"] for line in lines if isinstance(line, dict) for e in line.get("error_detail") or []]
        return "\n".join([*messages, *errors])

    @staticmethod
    def _checked(answer: httpx.Response) -> dict[str, Any]:
        if answer.is_error:
            raise SystemExit(
                f"Airflow {answer.request.method} {answer.request.url}: {answer.status_code} {answer.text[:300]}"
            )
        return answer.json()
