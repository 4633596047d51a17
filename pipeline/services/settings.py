"""Addresses, secrets and environment of this machine's services.

Everything listens on the loopback address. Secrets are drawn at random once and kept, readable by their
owner only, below the home folder.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import yaml

from pipeline.errors import ServiceError
from pipeline.registry.versions import artifact_root
from pipeline.rollout.engines.process import OWNER
from pipeline.rollout.routing.route_file import routes_folder
from pipeline.rollout.routing.traefik import PLUGIN, PLUGIN_MODULE
from pipeline.settings.models import load
from pipeline.workspaces.workspace import private_site_cache

PORTS = {"AIRFLOW": 8080, "MLFLOW": 5000, "ROUTER": 8000, "ROUTER_API": 8001}
USER = "admin"
# Of Traefik's latency histograms.
BOUNDS_S = (0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


@dataclass(frozen=True)
class Addresses:
    """URLs without a trailing slash."""

    airflow: str
    mlflow: str
    router: str
    router_api: str

    @classmethod
    def from_environment(cls) -> Addresses:
        """The defaults, unless $PERENNIAL_AIRFLOW_PORT and its like say otherwise."""
        urls = {}
        for name, default in PORTS.items():
            text = os.environ.get(f"PERENNIAL_{name}_PORT", str(default))
            if not text.isdigit() or not 0 < int(text) < 65536:
                raise ServiceError(f"PERENNIAL_{name}_PORT", f"{text!r} is no port", "give a number from 1 to 65535")
            urls[name.lower()] = f"http://127.0.0.1:{text}"
        return cls(**urls)

    def ports(self) -> dict[str, int]:
        return {name: int(url.rpartition(":")[2]) for name, url in vars(self).items()}


def kept_secrets(home: Path) -> dict[str, str]:
    """The machine's secrets, drawn when they are first asked for."""
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
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)


def environment(project: Path, home: Path, at: Addresses) -> dict[str, str]:
    """What the Procfile's processes see, on top of this process's own environment."""
    airflow, drawn, ports = home / "airflow", kept_secrets(home), at.ports()
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
        "CORE__FERNET_KEY": drawn["fernet"],
        "DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{airflow / 'airflow.db'}",
        "DATABASE__SQL_ALCHEMY_CONNECT_ARGS": "pipeline.services.airflow_sqlite.CONNECT_ARGUMENTS",
        "DATABASE__SQL_ALCHEMY_CONNECT_ARGS_ASYNC": "pipeline.services.airflow_sqlite.ASYNC_CONNECT_ARGUMENTS",
        "SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": 0.5,
        "WORKERS__MIN_HEARTBEAT_INTERVAL": 1,
        "DAG_PROCESSOR__REFRESH_INTERVAL": 10,
        "API__HOST": "127.0.0.1",
        "API__PORT": ports["airflow"],
        "API__BASE_URL": at.airflow,
        "API__SECRET_KEY": drawn["api"],
        "API_AUTH__JWT_SECRET": drawn["jwt"],
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
        **TRAEFIK_ENVIRONMENT,
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
    """What the services read at their start: Traefik's configuration and plugin, Airflow's password, our addresses."""
    for folder in (home / "airflow", home / "mlflow", routes_folder(home)):
        folder.mkdir(parents=True, exist_ok=True)
    _write_private(home / "airflow" / "passwords.json", json.dumps({USER: kept_secrets(home)["password"]}))
    write_traefik(project, home, at)
    (home / "services.json").write_text(json.dumps(vars(at), indent=2) + "\n", encoding="utf-8")


# Its heap is small and its garbage plenty: collected at twice the heap, as is Go's default, half its time goes there.
TRAEFIK_ENVIRONMENT = {"GOGC": "400"}


def write_traefik(project: Path, home: Path, at: Addresses) -> None:
    """Traefik's static configuration, and the plugin, which it looks for below its working folder."""
    slow_ms = {model.rollout.limits.p99_ms for model in load(project).models.values()}
    ports = at.ports()
    web, api = (f"127.0.0.1:{ports[name]}" for name in ("router", "router_api"))
    text = yaml.safe_dump(traefik(routes_folder(home), web, api, slow_ms), sort_keys=False)
    (home / "traefik.yaml").write_text(text, encoding="utf-8")
    lay_plugin(project, home)


def lay_plugin(project: Path, folder: Path) -> None:
    """Copies the router's plugin to where a Traefik that works in `folder` looks for it."""
    plugin = folder / "plugins-local" / "src" / PLUGIN_MODULE
    source = project / "docker" / "router" / "bucket"
    shutil.copytree(source, plugin, ignore=shutil.ignore_patterns("*_test.go"), dirs_exist_ok=True)


def traefik(routes: Path, web: str, api: str, slow_ms: set[float]) -> dict:
    """Traefik's static configuration: one entry point, the route files, metrics. `web` and `api` are where it listens.

    `slow_ms` are the models' latency limits: each becomes a bound of the histograms, so that it is judged exactly.
    """
    return {
        "global": {"checkNewVersion": False, "sendAnonymousUsage": False},
        "entryPoints": {
            "web": {"address": web},
            "traefik": {"address": api},
        },
        "providers": {
            "providersThrottleDuration": "100ms",
            "file": {"directory": str(routes), "watch": True},
        },
        "api": {"insecure": True, "dashboard": True},
        "ping": {"entryPoint": "traefik"},
        "metrics": {
            "prometheus": {
                # All that is asked of it is a slot's: counting each request once more for the entry point costs time.
                "addServicesLabels": True,
                "addEntryPointsLabels": False,
                "buckets": sorted({*BOUNDS_S, *(ms / 1000 for ms in slow_ms)}),
            }
        },
        "experimental": {"localPlugins": {PLUGIN: {"moduleName": PLUGIN_MODULE}}},
        "log": {"level": "WARN"},
    }
