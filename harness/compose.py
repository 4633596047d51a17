"""The whole docker-compose.yaml with its air-gapped override, on a small model, as it is started on a server."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from demo.airflow_api import AirflowApi
from harness.environment import environment
from harness.project import CHURN, ROOT, change_params, make_project
from pipeline.settings.net import free_port

PORTS = ("AIRFLOW_PORT", "MLFLOW_PORT", "ROUTER_PORT", "ROUTER_API_PORT", "PROMETHEUS_PORT")
NAME = "perennial-test"
UP_LIMIT_S = 600.0
# The services that read params.yaml.
OF_THE_PROJECT = ("api-server", "scheduler", "dag-processor", "triggerer", "worker", "deployer")
# Every second step in a queue of its own: with a worker to each queue, a run changes workers at each step.
OTHER = ("snapshot", "train", "profile_landed", "package", "register", "settle")


@dataclass
class Server:
    folder: Path
    airflow: AirflowApi | None = None
    up_s: float = 0.0
    workers: list[str] = field(default_factory=list)

    def compose(self, *arguments: str, **more: Any) -> subprocess.CompletedProcess:
        return self.run([*compose_command(), *arguments], **more)

    def run(self, command: list[str], **more: Any) -> subprocess.CompletedProcess:
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False, **more)
        assert done.returncode == 0, f"{' '.join(command)}: {(done.stderr or done.stdout)[-1500:]}"
        return done

    def ask(self, *command: str) -> Any:
        """What `python -m pipeline COMMAND --json` says on a worker."""
        return json.loads(self.on_worker("perennial", *command, "--json"))

    def ask_all(self, *commands: tuple[str, ...]) -> list[Any]:
        """The same for several commands in one process, whose start takes longer than they do."""
        code = (
            "import contextlib,io,json,sys\n"
            "from pipeline.cli.main import main\n"
            "for command in json.loads(sys.argv[1]):\n"
            " with contextlib.redirect_stdout(io.StringIO()) as said: main([*command, '--json'])\n"
            " print(json.dumps(json.loads(said.getvalue())))"
        )
        said = self.on_worker("python", "-c", code, json.dumps(commands))
        return [json.loads(line) for line in said.splitlines()]

    def on_worker(self, *command: str) -> str:
        return self.run(["docker", "exec", self.workers[0], *command]).stdout

    def events(self, kind: str) -> list[dict[str, Any]]:
        """What the ledger says of each event of a kind, oldest first."""
        asked = f"SELECT body FROM events WHERE kind = '{kind}' ORDER BY seq"
        # `docker-compose exec` says the same for a second of processor time.
        psql = ["psql", "-h", "/var/run/postgresql", "-U", "postgres", "-At", "ledger", "-c", asked]
        told = self.run(["docker", "exec", self.container("postgres")["Id"], *psql])
        return [json.loads(line) for line in told.stdout.splitlines()]

    def containers(self) -> list[dict[str, Any]]:
        # `docker-compose ps` says the same for a second of processor time.
        label = f"label=com.docker.compose.project={NAME}"
        ids = self.run(["docker", "ps", "-aq", "--filter", label]).stdout.split()
        return json.loads(self.run(["docker", "inspect", *ids]).stdout)

    def container(self, service: str) -> dict[str, Any]:
        """The one container of a service."""
        (found,) = [c for c in self.containers() if service_of(c) == service]
        return found

    def kill(self, service: str) -> None:
        """SIGKILL, from outside: docker takes that for a crash, and starts the container again."""
        os.kill(self.container(service)["State"]["Pid"], signal.SIGKILL)

    def up(self) -> None:
        """`up -d`, and waits until all is healthy; `up_s` says how long that took."""
        start = time.monotonic()
        try:
            self.compose("up", "-d")
        except AssertionError as error:
            # Compose says that init ended, not why.
            said = self.run(["docker", "logs", "--tail", "20", self.container("init")["Id"]])
            raise AssertionError(f"{error}\ninit: {said.stdout}{said.stderr}") from error
        self.ready()
        self.up_s = time.monotonic() - start
        assert self.airflow is not None
        self.airflow.wait_for_dag("retrain__churn")

    def ready(self) -> None:
        """Waits until all that was started is healthy, and learns which containers it is now."""
        self.wait_healthy()
        self.workers = [c["Config"]["Hostname"] for c in self.containers() if service_of(c) == "worker"]
        env = env_of(self.folder)
        self.airflow = AirflowApi(f"http://127.0.0.1:{env['AIRFLOW_PORT']}", "admin", env["AIRFLOW_ADMIN_PASSWORD"])

    def wait_healthy(self) -> None:
        until = time.monotonic() + UP_LIMIT_S
        while sick := self.not_healthy():
            assert time.monotonic() < until, f"not healthy: {sick}"
            time.sleep(0.5)

    def not_healthy(self) -> list[str]:
        return [
            f"{c['Name']} {c['State']['Status']} {c['State'].get('Health', {}).get('Log', [])[-1:]}"
            for c in self.containers()
            if service_of(c) != "init" and c["State"].get("Health", {}).get("Status") != "healthy"
        ]

    def change_params(self, path: str, value: Any) -> None:
        """Commits a change of params.yaml where each service has it, and lets Airflow read its Dags again."""
        assert self.airflow is not None
        change_params(self.folder, path, value)
        # Of the same time, so that it is the same commit in each clone: a run's code must be there wherever its steps go.
        when = [f"--env=GIT_{who}_DATE=2024-01-01T00:00:00Z" for who in ("AUTHOR", "COMMITTER")]
        commit = ["git", "-C", "/opt/perennial", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qam", path]
        for one in self.containers():
            if service_of(one) in OF_THE_PROJECT:
                self.run(["docker", "cp", "params.yaml", f"{one['Id']}:/opt/perennial/params.yaml"])
                self.run(["docker", "exec", *when, one["Id"], *commit])
        self.airflow.read_again("retrain__churn")

    def retrain(self, as_of: str, **conf: Any) -> str:
        assert self.airflow is not None
        return self.airflow.trigger("retrain__churn", as_of=as_of, **conf)

    def finish(self, run: str, limit_s: float = 600) -> dict[str, dict[str, Any]]:
        """Waits for a run's end; its tasks by name, and the run's state under ''."""
        until = time.monotonic() + limit_s
        while (state := self.state(run)) not in ("success", "failed"):
            assert time.monotonic() < until, f"{run} is {state}: {self.tasks(run)}"
            time.sleep(1)
        return {t["task_id"]: t for t in self.tasks(run)} | {"": {"state": state}}

    def state(self, run: str) -> str:
        assert self.airflow is not None
        with contextlib.suppress(httpx.HTTPError, SystemExit):  # a database that is away for a moment
            return self.airflow.run("retrain__churn", run)["state"]
        return "unknown"

    def tasks(self, run: str) -> list[dict[str, Any]]:
        assert self.airflow is not None
        with contextlib.suppress(httpx.HTTPError, SystemExit):
            return self.airflow.tasks("retrain__churn", run)
        return []

    def wait_for(self, run: str, task: str, limit_s: float = 300, state: str = "running") -> dict[str, Any]:
        """Waits until a task is in that state; the task."""
        until = time.monotonic() + limit_s
        while True:
            for told in self.tasks(run):
                if told["task_id"] == task and told["state"] == state:
                    return told
            assert time.monotonic() < until, f"{task} is not {state}: {self.tasks(run)}"
            time.sleep(0.3)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{env_of(self.folder)['ROUTER_PORT']}/churn"

    def live(self) -> tuple[str | None, str | None]:
        """(version, slot) that answer."""
        headers = httpx.get(f"{self.address}/v2/health/ready").headers
        return headers.get("x-model-version"), headers.get("x-slot")


def service_of(container: dict[str, Any]) -> str:
    return container["Config"]["Labels"]["com.docker.compose.service"]


def env_of(folder: Path) -> dict[str, str]:
    lines = [line for line in (folder / ".env").read_text().splitlines() if "=" in line and line[0] != "#"]
    return dict(line.split("=", 1) for line in lines)


def compose_command() -> list[str]:
    plugin = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
    return ["docker", "compose"] if plugin.returncode == 0 else ["docker-compose"]


def missing() -> str:
    """Why the compose file cannot be brought up here, or ''."""
    if subprocess.run(["docker", "info"], capture_output=True, check=False).returncode:
        return "no Docker engine answers"
    if compose_command() == ["docker-compose"] and not shutil.which("docker-compose"):
        return "neither `docker compose` nor docker-compose is installed"
    if os.getuid() != 0:
        return "its tests kill containers from outside, which needs root"
    if subprocess.run(["docker", "image", "inspect", "perennial/base:bookworm"], capture_output=True).returncode:
        return "there is no perennial/base:bookworm; docker/base/build.sh makes it"
    return "" if shutil.which("apt-get") else "docker/base/fetch.sh needs apt-get"


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Server]:
    """Makes a project and its images, and starts the whole; ends it with all its volumes."""
    # What is exported for another stack would win over .env.
    exported = [n for n in os.environ if n.startswith(("PERENNIAL_", "COMPOSE_", "AIRFLOW_", "S3_"))]
    with environment(dict.fromkeys(set(exported) - {"PERENNIAL_REQUIRE"})):
        with _images_lock():
            made = Server(_project(folder))
            _end_what_is_left(made)
            _make_env(made)
            made.compose("build", "-q")
        try:
            made.up()
            yield made
        finally:
            made.run(["docker/down.sh", "--volumes", "-t", "5"])


@contextlib.contextmanager
def _images_lock() -> Iterator[None]:
    """Images are built by one process at a time: the next one finds their layers. `.ci/run` begins with them."""
    path = ROOT / ".perennial" / "images.lock"
    path.parent.mkdir(mode=0o700, exist_ok=True)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def model_of_the_server() -> dict[str, Any]:
    """The model churn behind slots in containers, its source where workers find it, its steps in two queues by turns."""
    query = CHURN["source"]["query"].replace("customers/*", "warehouse/customers/*")
    return CHURN | {
        "rollout": {"engine": "docker", "bake_s": 1.0},
        "source": CHURN["source"] | {"query": query},
        # Its few rows are counted as many would be.
        "monitor": CHURN["monitor"] | {"mapped_rows": 1},
        "schedule": CHURN["schedule"] | {"queues": dict.fromkeys(OTHER, "other")},
    }


def _project(folder: Path) -> Path:
    """A project of that model, with what the images are built from laid beside it, and its source outside of git."""
    made = make_project(folder, {"churn": model_of_the_server()})
    for name in ("docker-compose.yaml", "docker-compose.airgapped.yaml", ".dockerignore", "requirements/store.txt"):
        shutil.copy(ROOT / name, made / name)
    subprocess.run([ROOT / "docker/base/fetch.sh"], check=True, env={**os.environ, "PYTHON": sys.executable})
    for name in ("docker/airflow/wheels", "docker/airgapped/wheels", "docker/airgapped/debs"):
        shutil.rmtree(made / name, ignore_errors=True)
        shutil.copytree(ROOT / name, made / name, copy_function=os.link)
    (made / "warehouse").mkdir()
    (made / "customers").rename(made / "warehouse" / "customers")
    for command in (["add", "-A"], ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "for a server"]):
        subprocess.run(["git", "-C", str(made), *command], check=True)
    return made


def _end_what_is_left(made: Server) -> None:
    """Of tests that were killed: their volumes were made with other secrets."""
    label = ["--filter", f"label=com.docker.compose.project={NAME}"]
    slots = ["--filter", "label=perennial.slot", "--filter", f"network={NAME}_edge"]
    for listed, removed in (
        (["docker", "ps", "-aq", *slots], ["docker", "rm", "-f"]),
        (["docker", "ps", "-aq", *label], ["docker", "rm", "-f"]),
        (["docker", "network", "ls", "-q", *label], ["docker", "network", "rm"]),
        (["docker", "volume", "ls", "-q", *label], ["docker", "volume", "rm"]),
    ):
        if found := made.run(listed).stdout.split():
            made.run([*removed, *found])


def _make_env(made: Server) -> None:
    """What `make env AIRGAPPED=1` does, with names and ports that no other stack here has."""
    own = {name: str(free_port()) for name in PORTS}
    own |= {"COMPOSE_PROJECT_NAME": NAME, "PERENNIAL_QUEUES": "default,other"}
    (made.folder / ".env").write_text("".join(f"{name}={value}\n" for name, value in own.items()))
    command = [sys.executable, "-m", "pipeline.services.server", "env", "--airgapped"]
    made.run(["docker", "build", "-q", "-t", "perennial/services:bookworm", "docker/airgapped"])
    made.run(command, env={**os.environ, "PYTHONPATH": str(made.folder), "PERENNIAL_PROJECT": str(made.folder)})


def loopback_only(container: dict[str, Any]) -> bool:
    bound = [b["HostIp"] for ports in container["NetworkSettings"]["Ports"].values() for b in ports or []]
    return all(socket.inet_aton(ip) == socket.inet_aton("127.0.0.1") for ip in bound)
