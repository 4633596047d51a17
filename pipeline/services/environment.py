"""Addresses, secrets and environment variables of the services on one machine.

Everything listens on the loopback address. The secrets are drawn at random once and stored below the home folder, readable
by their owner only.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import sys
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import ServiceError
from pipeline.registry.versions import artifact_root
from pipeline.rollout.engines.process import OWNER
from pipeline.rollout.routing.route_file import routes_folder
from pipeline.services import router_config
from pipeline.settings.addresses import AIRFLOW_USER
from pipeline.workspaces.dvc_config import private_site_cache

PORTS = {"AIRFLOW": 8080, "MLFLOW": 5000, "ROUTER": 8000, "ROUTER_API": 8001}
USER = AIRFLOW_USER


@dataclass(frozen=True)
class Addresses:
    """URLs without a trailing slash."""

    airflow: str
    mlflow: str
    router: str
    router_api: str

    @classmethod
    def from_environment(cls) -> Addresses:
        """The default ports, or those in $PERENNIAL_AIRFLOW_PORT and the other three. Raises ServiceError."""
        urls = {}
        for name, default in PORTS.items():
            text = os.environ.get(f"PERENNIAL_{name}_PORT", str(default))
            if not text.isdigit() or not 0 < int(text) < 65536:
                raise ServiceError(
                    f"PERENNIAL_{name}_PORT", f"must be a port from 1 to 65535; got {text!r}", "correct it"
                )
            urls[name.lower()] = f"http://127.0.0.1:{text}"
        return cls(**urls)

    def ports(self) -> dict[str, int]:
        return {name: int(url.rpartition(":")[2]) for name, url in vars(self).items()}


def machine_secrets(home: Path) -> dict[str, str]:
    """The machine's secrets by name; the first call draws them and writes secrets.json."""
    path = home / "secrets.json"
    if not path.is_file():
        home.mkdir(parents=True, exist_ok=True)
        drawn = {
            "password": secrets.token_urlsafe(12),
            "jwt": secrets.token_urlsafe(64),
            "api": secrets.token_urlsafe(32),
            "fernet": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        }
        _write_private(path, json.dumps(drawn))
    return json.loads(path.read_text(encoding="utf-8"))


def _write_private(path: Path, text: str) -> None:
    aside = path.with_name(f"{path.name}.part")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    aside.replace(path)


def environment(project: Path, home: Path, at: Addresses) -> dict[str, str]:
    """The variables that the Procfile's processes get in addition to this process's own environment."""
    airflow, secret, ports = home / "airflow", machine_secrets(home), at.ports()
    settings = {
        "CORE__DAGS_FOLDER": project / "dags",
        "CORE__PLUGINS_FOLDER": project / "plugins",
        "CORE__EXECUTOR": "LocalExecutor",
        "CORE__PARALLELISM": 4,
        "CORE__LOAD_EXAMPLES": False,
        "CORE__DAGS_ARE_PAUSED_AT_CREATION": False,
        "CORE__EXECUTION_API_SERVER_URL": f"{at.airflow}/execution/",
        "CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin",
        "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": airflow / "passwords.json",
        "CORE__FERNET_KEY": secret["fernet"],
        "DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{airflow / 'airflow.db'}",
        "DATABASE__SQL_ALCHEMY_CONNECT_ARGS": "pipeline.services.airflow_sqlite.CONNECT_ARGUMENTS",
        "DATABASE__SQL_ALCHEMY_CONNECT_ARGS_ASYNC": "pipeline.services.airflow_sqlite.ASYNC_CONNECT_ARGUMENTS",
        # Airflow wrote the paths of its first start into airflow.cfg; in a moved folder they are others.
        "LOGGING__BASE_LOG_FOLDER": airflow / "logs",
        "LOGGING__DAG_PROCESSOR_CHILD_PROCESS_LOG_DIRECTORY": airflow / "logs" / "dag_processor",
        "SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": 0.5,
        "WORKERS__MIN_HEARTBEAT_INTERVAL": 1,
        "DAG_PROCESSOR__REFRESH_INTERVAL": 10,
        "API__HOST": "127.0.0.1",
        "API__PORT": ports["airflow"],
        "API__BASE_URL": at.airflow,
        "API__SECRET_KEY": secret["api"],
        "API_AUTH__JWT_SECRET": secret["jwt"],
        "USAGE_DATA_COLLECTION__ENABLED": False,
    }
    return {
        **{f"AIRFLOW__{key}": str(value) for key, value in settings.items()},
        "AIRFLOW_HOME": str(airflow),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "PERENNIAL_PROJECT": str(project),
        "PERENNIAL_HOME": str(home),
        OWNER: str(home),
        "PERENNIAL_AIRFLOW_PORT": str(ports["airflow"]),
        "PERENNIAL_MLFLOW_PORT": str(ports["mlflow"]),
        "PERENNIAL_MLFLOW_STORE": mlflow_store(home),
        "PERENNIAL_MLFLOW_ARTIFACTS": str(artifact_root(home)),
        "PERENNIAL_MLFLOW_HOSTS": f"127.0.0.1:{ports['mlflow']},localhost:{ports['mlflow']}",
        **router_config.ENVIRONMENT,
        "PERENNIAL_TRAEFIK_CONFIG": str(home / "traefik.yaml"),
        "PERENNIAL_ROUTER_URL": at.router,
        "MLFLOW_TRACKING_URI": at.mlflow,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
        "DVC_SITE_CACHE_DIR": str(private_site_cache(home)),
        "DVC_NO_ANALYTICS": "1",
        "DO_NOT_TRACK": "true",
        "PYTHONUNBUFFERED": "1",
    }


def mlflow_store(home: Path) -> str:
    return f"sqlite:///{home / 'mlflow' / 'mlflow.db'}"


def write_files(project: Path, home: Path, at: Addresses) -> None:
    """Writes the files that the services read at their start: Traefik's configuration and plugin, Airflow's password, the addresses."""
    for folder in (home / "airflow", home / "mlflow", routes_folder(home)):
        folder.mkdir(parents=True, exist_ok=True)
    _write_private(home / "airflow" / "passwords.json", json.dumps({USER: machine_secrets(home)["password"]}))
    ports = at.ports()
    router_config.write(project, home, ports["router"], ports["router_api"])
    (home / "services.json").write_text(json.dumps(vars(at), indent=2) + "\n", encoding="utf-8")
