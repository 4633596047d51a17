"""The environment: the variables that say where things are and what is secret, read once, at a program's edge.

What a model wants stands in params.yaml; these are addresses and secrets. pipeline.services sets the services' own variables and
reads them (ports, databases, buckets). Not here either are the channels between two processes of ours, which one sets and the other
reads: a stage's server, error and usage (pipeline.workspaces), a slot's settings (pipeline.serving.settings), and the failpoints of
tests (pipeline.rollout.failpoints).
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from pipeline.errors import SettingsError
from pipeline.settings.addresses import Router

MODES = ("machine", "server")
DEPLOYER = "http://deployer:8090"


@dataclass(frozen=True)
class Environment:
    """Where this process works. `server_mode` is the one setting that says whether workers share no disk and a deployer
    touches the traffic; the addresses below are only addresses."""

    folder: Path
    named_project: str = ""
    named_home: str = ""
    server_mode: bool = False
    ledger: str = ""
    mlflow: str = ""
    router: Mapping[str, str] = field(default_factory=dict)
    signing_key: str = ""
    signing_seed: str = field(default="", repr=False)
    deployer: str = ""
    deployer_key: str = field(default="", repr=False)
    slot_network: str = ""
    slot_namespace: str = ""
    serving_images: str = ""
    base_image: str = ""
    airflow: str = ""
    webhook_token: str = field(default="", repr=False)
    user: str = ""
    # Whether $PERENNIAL_USER names the person; else the name is that of an account, which several may share.
    user_is_named: bool = False

    @classmethod
    def read(cls, variables: Mapping[str, str] | None = None) -> Environment:
        """The environment of this process, or the one that `variables` holds. Raises SettingsError."""
        variables = os.environ if variables is None else variables

        def value(name: str, default: str = "") -> str:
            return variables.get(f"PERENNIAL_{name}", default)

        mode = value("MODE", MODES[0])
        if mode not in MODES:
            raise SettingsError("PERENNIAL_MODE", f"must be one of {', '.join(MODES)}; got {mode}", "correct it")
        names = ("ROUTER_URL", "ROUTER_PUBLIC_URL", "ROUTER_API_URL", "ROUTER_PORT", "ROUTER_API_PORT")
        return cls(
            folder=Path.cwd(),
            named_project=value("PROJECT"),
            named_home=value("HOME"),
            server_mode=mode == "server",
            ledger=value("LEDGER_URL"),
            mlflow=variables.get("MLFLOW_TRACKING_URI", ""),
            router={name: value(name) for name in names if value(name)},
            signing_key=value("SIGNING_KEY"),
            signing_seed=value("SIGNING_SEED"),
            # An empty address means this process itself, also on a server.
            deployer=value("DEPLOYER_URL", DEPLOYER if mode == "server" else ""),
            deployer_key=value("DEPLOYER_KEY"),
            slot_network=value("SLOT_NETWORK"),
            slot_namespace=value("SITE"),
            serving_images=value("SERVING_IMAGES"),
            base_image=value("BASE_IMAGE"),
            airflow=variables.get("AIRFLOW__API__BASE_URL", "").rstrip("/"),
            webhook_token=value("WEBHOOK_TOKEN"),
            user=value("USER") or user_of(variables),
            user_is_named=bool(value("USER")),
        )

    def at(self, project: Path, home: Path) -> Environment:
        """The same for another project and another place of its state."""
        return replace(self, named_project=str(project), named_home=str(home))

    @cached_property
    def project(self) -> Path:
        """The project's own folder: $PERENNIAL_PROJECT, or the nearest one upwards that has params.yaml.

        In a run's workspace $PERENNIAL_PROJECT still names the project, so that a source's relative paths mean the same
        files everywhere. Raises SettingsError.
        """
        return Path(self.named_project).resolve() if self.named_project else nearest_root(self.folder)

    @cached_property
    def home(self) -> Path:
        """Where this machine's state is kept: $PERENNIAL_HOME, or .perennial in the project. Raises SettingsError."""
        home = Path(self.named_home).resolve() if self.named_home else self.project / ".perennial"
        for folder in (home, self.project):
            _refuse_what_databases_misread(str(folder))
        return home

    @property
    def params_read(self) -> Path:
        """What was read of params.yaml before; see pipeline.settings.read_before."""
        return self.home / "params-read"

    @property
    def ledger_url(self) -> str:
        """$PERENNIAL_LEDGER_URL, or this machine's own file."""
        return self.ledger or f"sqlite:///{self.home / 'ledger.db'}"

    @property
    def mlflow_uri(self) -> str:
        """$MLFLOW_TRACKING_URI, or this machine's own store."""
        return self.mlflow or f"sqlite:///{self.home / 'mlflow' / 'mlflow.db'}"

    @property
    def router_addresses(self) -> Router:
        return Router.of(self.home, self.router)


def named_secret(name: str) -> str:
    """The value of a variable that params.yaml names, because it may not hold a secret itself; '' when it is not set."""
    return os.environ.get(name, "")


def _refuse_what_databases_misread(folder: str) -> None:
    """In an address of SQLite a question mark ends the path; MLflow cannot store a path with both kinds of quotes."""
    if "?" in folder or {"'", '"'} <= set(folder):
        raise SettingsError(
            folder, "has a question mark or both kinds of quotes, which databases misread", "rename that folder"
        )


def user_of(variables: Mapping[str, str]) -> str:
    """The name of the person at the command line, as far as the machine knows one."""
    for name in ("SUDO_USER", "LOGNAME", "USER"):
        if variables.get(name):
            return variables[name]
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"user {os.getuid()}"


def nearest_root(start: Path) -> Path:
    """The nearest folder at or above `start` with params.yaml and dvc.yaml. Raises SettingsError.

    A project that has lost its params.yaml is known by dvc.yaml and its state: what is live there can still be seen and ended.
    """
    for name in ("params.yaml", ".perennial"):
        for folder in (start, *start.parents):
            if (folder / name).exists() and (folder / "dvc.yaml").is_file():
                return folder
    raise SettingsError(str(start), "no params.yaml and dvc.yaml here or above", "run from the project's folder")
