"""Prepares a server of docker-compose.yaml: writes `.env`, makes databases and buckets, exports and imports the store.

`python -m pipeline.services.server env [--airgapped] [--boosters]` runs on the host; `init`, `export-store` and `import-store` run in a
container.
"""

from __future__ import annotations

import argparse
import base64
import logging
import os
import secrets
import shutil
import stat
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from pipeline.errors import PerennialError, ServiceError
from pipeline.ledger.store import Ledger
from pipeline.rollout.engines.base import EngineUnavailable
from pipeline.rollout.engines.docker import has_volume, serving_images
from pipeline.services import router_config
from pipeline.settings import logs
from pipeline.settings.environment import Environment

log = logging.getLogger("pipeline.services.server")

SOCKET = Path("/var/run/docker.sock")
# Each has a role and a database of its own, so that an intruder in one service reads no other's data.
DATABASES = ("airflow", "mlflow", "ledger")
# Purpose of a bucket, and the variable with its name: a backup may be restored into a store with other names.
BUCKETS = {"data": "PERENNIAL_DATA_BUCKET", "artifacts": "PERENNIAL_ARTIFACT_BUCKET"}

# Does what `mlflow db upgrade URL` does, which would show the password in the list of processes.
UPGRADE_MLFLOW = (
    "import os; from mlflow.db import commands; commands(['upgrade', os.environ['PERENNIAL_MLFLOW_STORE']])"
)


def write_env(project: Path, airgapped: bool, report: Callable[[str], None], boosters: bool = False) -> Path:
    """Writes `.env` and returns its path: secrets that it has stay; values of this machine and commit are written anew. What was once
    `airgapped`, or has the `boosters`, stays so.

    Raises ServiceError.
    """
    path = project / ".env"
    before = _read_env(path)
    installation = before.get("COMPOSE_PROJECT_NAME", "perennial")
    report("checking the serving images" if before.get("PERENNIAL_SERVING_IMAGES") else "building the serving images")
    try:
        _refuse_new_secrets_for_old_data(installation, before)
        pins = serving_images(project)
    except EngineUnavailable as error:
        raise ServiceError("serving images", str(error), "is Docker up, and may this user ask it?") from error
    chosen = {"docker-compose.airgapped.yaml": airgapped, "docker-compose.boosters.yaml": boosters}
    had = before.get("COMPOSE_FILE", "").split(":")
    files = ["docker-compose.yaml", *(file for file, now in chosen.items() if now or file in had)]
    derived = {
        "COMPOSE_PROJECT_NAME": installation,
        "COMPOSE_FILE": ":".join(files),
        "PERENNIAL_IMAGE_TAG": _commit(project),
        "PERENNIAL_SERVING_IMAGES": pins,
        "DOCKER_GID": str(SOCKET.stat().st_gid if SOCKET.exists() else os.getgid()),
    }
    passwords = {name: before.get(name) or draw() for name, draw in SECRETS.items()}
    others = {name: value for name, value in before.items() if name not in derived and name not in passwords}
    _write_env_file(path, derived | passwords | others)
    report(f"wrote {path} (readable by its owner only); the admin's password is AIRFLOW_ADMIN_PASSWORD in it")
    return path


def _write_env_file(path: Path, variables: dict[str, str]) -> None:
    """Writes the file aside and renames it; only its owner may read it."""
    lines = "\n".join(f"{name}={value}" for name, value in variables.items())
    aside = path.with_name(".env.part")
    with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, stat.S_IRUSR | stat.S_IWUSR), "w") as file:
        file.write(f"# Written by `make env`: secrets stay as they are, your own lines too.\n{lines}\n")
    aside.replace(path)


def _refuse_new_secrets_for_old_data(installation: str, before: dict[str, str]) -> None:
    """Raises ServiceError when a volume holds databases and `.env`, `before`, has no password for them.

    Postgres would refuse the new password, and a new Fernet key could not read Airflow's connections.
    """
    volume = f"{installation}_postgres"
    if "POSTGRES_PASSWORD" not in before and has_volume(volume):
        raise ServiceError(
            f"volume {volume}",
            "holds a server's data, but .env has no secrets for it",
            "put its .env back, `make restore` a backup, or give up all its data: "
            f"docker volume rm $(docker volume ls -q --filter label=com.docker.compose.project={installation})",
        )


def _fernet() -> str:
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()


# Every secret is URL-safe, because some stand in the URLs of databases.
SECRETS: dict[str, Callable[[], str]] = {
    **{
        f"{name}_PASSWORD": lambda: secrets.token_urlsafe(24)
        for name in ("POSTGRES", "AIRFLOW_DB", "MLFLOW_DB", "LEDGER_DB", "REDIS", "AIRFLOW_ADMIN")
    },
    "AIRFLOW_FERNET_KEY": _fernet,
    "AIRFLOW_API_SECRET": lambda: secrets.token_urlsafe(32),
    "AIRFLOW_JWT_SECRET": lambda: secrets.token_urlsafe(64),
    "PERENNIAL_DEPLOYER_KEY": lambda: secrets.token_urlsafe(48),
    "PERENNIAL_SIGNING_SEED": lambda: secrets.token_hex(32),
    "S3_ACCESS_KEY": lambda: secrets.token_hex(10),
    "S3_SECRET_KEY": lambda: secrets.token_urlsafe(30),
}


def _read_env(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if "=" in line and line[:1] != "#"]
    return dict(line.split("=", 1) for line in lines)


def _commit(project: Path) -> str:
    """The commit whose code the images hold, in 12 digits."""
    result = subprocess.run(
        ["git", "-C", str(project), "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True
    )
    if result.returncode != 0:
        raise ServiceError(
            str(project), "is not a git repository with a commit", "commit the code: images hold commits"
        )
    return result.stdout.strip()


def init() -> None:
    """Makes or upgrades databases, tables, buckets and the router's settings. Raises ServiceError."""
    _make_databases(os.environ["POSTGRES_ADMIN_URL"])
    commands = [["airflow", "db", "migrate"], [sys.executable, "-c", UPGRADE_MLFLOW]]
    with ThreadPoolExecutor() as both:
        migrations = [both.submit(_run, command) for command in commands]
        Ledger(Environment.read().ledger_url)
        _make_buckets()
        _write_router(Environment.read().home / "router")
        for migration in migrations:
            migration.result()
    log.info("databases, buckets and the router's configuration are up to date with this version")


def _make_databases(admin: str) -> None:
    engine = sa.create_engine(admin.replace("postgresql://", "postgresql+psycopg2://"), isolation_level="AUTOCOMMIT")
    try:
        opened = engine.connect()
    except sa.exc.OperationalError as error:
        reason = str(error.orig).strip().splitlines()[0]
        raise ServiceError("Postgres", reason, "are POSTGRES_HOST and POSTGRES_PASSWORD in .env right?") from error
    with opened as connection:
        for name in DATABASES:
            password = os.environ[f"{name.upper()}_DB_PASSWORD"]
            known = connection.execute(sa.text("SELECT 1 FROM pg_roles WHERE rolname = :n"), {"n": name}).first()
            verb = "ALTER" if known else "CREATE"
            # Names are ours and passwords URL-safe: nothing here needs quoting beyond this.
            connection.exec_driver_sql(f"{verb} ROLE {name} LOGIN PASSWORD '{password}'")
            if not connection.execute(sa.text("SELECT 1 FROM pg_database WHERE datname = :n"), {"n": name}).first():
                connection.exec_driver_sql(f"CREATE DATABASE {name} OWNER {name}")
            connection.exec_driver_sql(f"REVOKE CONNECT ON DATABASE {name} FROM PUBLIC")
    engine.dispose()


def _run(command: list[str]) -> None:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        last = (result.stderr.strip() or result.stdout.strip() or "no output").splitlines()[-1]
        raise ServiceError(" ".join(command[:3]), last, "is the database up, and its password right?")


def store() -> Any:
    """A client of the S3 store."""
    import boto3

    return boto3.client("s3", endpoint_url=os.environ["PERENNIAL_S3_ENDPOINT"] or None)


def _make_buckets() -> None:
    from botocore.exceptions import BotoCoreError, ClientError

    client, region = store(), os.environ["AWS_DEFAULT_REGION"]
    # AWS refuses its first region as a constraint.
    options = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
    for bucket in (os.environ[name] for name in BUCKETS.values()):
        try:
            if not _exists(client, bucket):
                client.create_bucket(Bucket=bucket, **options)
        except (BotoCoreError, ClientError) as error:
            raise ServiceError(f"bucket {bucket}", str(error), "are S3_ENDPOINT and its keys in .env right?") from error


def _exists(client: Any, bucket: str) -> bool:
    try:
        client.head_bucket(Bucket=bucket)
    except client.exceptions.ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
            raise
        return False
    return True


def _write_router(folder: Path) -> None:
    """Writes Traefik's static configuration and plugin into the folder that is /etc/traefik in its container."""
    project = Environment.read().project
    text = router_config.static(
        Path("/routes"),
        "0.0.0.0:8000",
        "0.0.0.0:8001",
        router_config.latency_limits_ms(project, folder / "traefik.yaml"),
        router_config.request_s(project, folder / "traefik.yaml"),
    )
    router_config.install_plugins(project, folder)
    aside = folder / "traefik.yaml.part"
    aside.write_text(text, encoding="utf-8")
    aside.chmod(0o644)
    aside.replace(folder / "traefik.yaml")


def export_store(out: Any) -> int:
    """Writes all objects of the store into a tar, as data/KEY or artifacts/KEY; returns their number."""
    client, count = store(), 0
    with tarfile.open(fileobj=out, mode="w|") as archive:
        for kind, bucket in ((kind, os.environ[name]) for kind, name in BUCKETS.items()):
            for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
                for entry in page.get("Contents", []):
                    member = tarfile.TarInfo(f"{kind}/{entry['Key']}")
                    body = client.get_object(Bucket=bucket, Key=entry["Key"])
                    member.size = body["ContentLength"]
                    archive.addfile(member, body["Body"])
                    count += 1
    return count


def import_store(source: Any) -> int:
    """Puts the objects of a tar of `export_store` into the store; returns their number."""
    client, count = store(), 0
    with tarfile.open(fileobj=source, mode="r|") as archive:
        for member in archive:
            kind, _, key = member.name.partition("/")
            body = archive.extractfile(member)
            assert body is not None
            # The uploader seeks, to send large objects in parts; a stream cannot.
            with tempfile.TemporaryFile() as whole:
                shutil.copyfileobj(body, whole)
                whole.seek(0)
                client.upload_fileobj(whole, os.environ[BUCKETS[kind]], key)
            count += 1
    return count


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m pipeline.services.server", description=__doc__)
    parser.add_argument("command", choices=["env", "init", "export-store", "import-store"])
    parser.add_argument("--airgapped", action="store_true", help="build all images here, pull none")
    parser.add_argument("--boosters", action="store_true", help="our image gets XGBoost and LightGBM")
    arguments = parser.parse_args(argv)
    logs.configure("terminal" if arguments.command == "env" else "service")
    try:
        if arguments.command == "env":
            write_env(Environment.read().project, arguments.airgapped, print, arguments.boosters)
        elif arguments.command == "init":
            init()
        elif arguments.command == "export-store":
            log.info("exported %d objects", export_store(sys.stdout.buffer))
        else:
            log.info("imported %d objects", import_store(sys.stdin.buffer))
    except PerennialError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
