"""What the server's own commands write: `.env`, and the store as a stream; and what they say when nobody is there."""

import io
import os
import re
import shutil
import stat
import subprocess
import uuid

import alembic.command
import pytest
import sqlalchemy as sa
import yaml
from mlflow import MlflowClient
from mlflow.store.db.utils import _get_alembic_config
from mlflow.store.tracking.dbmodels.initial_models import Base

from harness.project import ROOT
from pipeline.errors import ServiceError
from pipeline.rollout.engines.base import EngineSettings, EngineUnavailable
from pipeline.rollout.engines.docker import DockerEngine
from pipeline.services import server
from tests.support.required import skip_or_fail


@pytest.fixture
def written(project, monkeypatch):
    """Writes `.env` of the project, without building images; what it says, by name."""
    monkeypatch.setattr(server, "serving_images", lambda _project: "perennial/serving:1@sha256:1")
    monkeypatch.setattr(server, "has_volume", lambda _name: False)

    def write(airgapped=False, boosters=False):
        path = server.write_env(project, airgapped, lambda _line: None, boosters)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        return server._read_env(path)

    write.path = project / ".env"
    return write


def test_secrets_are_drawn_once_and_own_lines_stay(written):
    """`env` draws each secret once, and a second `env` keeps the secrets and the user's own lines."""
    first = written()
    secrets = [first[name] for name in server.SECRETS]
    assert len(set(secrets)) == len(secrets) and min(map(len, secrets)) >= 20
    assert first["COMPOSE_FILE"] == "docker-compose.yaml"
    with written.path.open("a") as file:
        file.write("PERENNIAL_BIND=10.0.0.5\nAIRFLOW_ADMIN_PASSWORD=of my own\n")
    again = written(airgapped=True)
    assert again["COMPOSE_FILE"] == "docker-compose.yaml:docker-compose.airgapped.yaml"
    assert again["PERENNIAL_BIND"] == "10.0.0.5" and again["AIRFLOW_ADMIN_PASSWORD"] == "of my own"
    assert {n: v for n, v in again.items() if n in server.SECRETS and n != "AIRFLOW_ADMIN_PASSWORD"} == {
        n: v for n, v in first.items() if n in server.SECRETS and n != "AIRFLOW_ADMIN_PASSWORD"
    }


def test_once_air_gapped_always(written):
    """An .env that is air-gapped, or has the boosters, stays so without being asked again, and one choice keeps the other."""
    assert written(boosters=True)["COMPOSE_FILE"] == "docker-compose.yaml:docker-compose.boosters.yaml"
    assert written(airgapped=True)["COMPOSE_FILE"] == written()["COMPOSE_FILE"]
    assert written()["COMPOSE_FILE"].split(":")[1:] == ["docker-compose.airgapped.yaml", "docker-compose.boosters.yaml"]


def test_the_image_has_the_boosters_where_they_are_chosen():
    """The choice reaches the build, beside the base that an air-gapped one has, and what it installs there is one list."""
    files = ("docker-compose.airgapped.yaml", "docker-compose.boosters.yaml")
    arguments = {}
    for file in files:
        arguments |= yaml.safe_load((ROOT / file).read_text())["services"]["init"]["build"]["args"]
    assert arguments == {"BASE_IMAGE": "perennial/services:bookworm", "EXTRAS": "boosters"}
    dockerfile = (ROOT / "docker/airflow/Dockerfile").read_text()
    assert "ARG EXTRAS=\n" in dockerfile and "-r /wheels/main.txt ${EXTRAS:+-r /wheels/${EXTRAS}.txt}" in dockerfile
    assert re.search(r"COPY .*requirements/boosters.txt .*/wheels/", dockerfile)
    main, boosters = ((ROOT / f"requirements/{name}.txt").read_text() for name in ("main", "boosters"))
    pinned = [dict(re.findall(r"^([\w.-]+)==(\S+)", text, re.MULTILINE)) for text in (main, boosters)]
    both = pinned[0].keys() & pinned[1].keys()
    assert both and {name: pinned[0][name] for name in both} == {name: pinned[1][name] for name in both}


def test_new_secrets_are_not_drawn_for_databases_that_have_others(project, monkeypatch):
    """`env` refuses to draw new secrets while the volume of the old databases exists."""
    try:
        client = DockerEngine(EngineSettings(project, project), prepare=False)._client
    except EngineUnavailable as reason:
        skip_or_fail("docker", str(reason))
    name = f"perennial-{uuid.uuid4().hex[:8]}"
    (project / ".env").write_text(f"COMPOSE_PROJECT_NAME={name}\n")
    monkeypatch.setattr(server, "serving_images", lambda _project: "perennial/serving:1@sha256:1")
    volume = client.volumes.create(f"{name}_postgres")
    try:
        with pytest.raises(ServiceError, match=f"volume {name}_postgres: .*its .env back"):
            server.write_env(project, False, print)
        assert (project / ".env").read_text() == f"COMPOSE_PROJECT_NAME={name}\n"
    finally:
        volume.remove()
    server.write_env(project, False, print)


def test_a_restored_server_has_the_backups_secrets_and_its_own_addresses(tmp_path):
    """A restore takes the backup's secrets and keeps the server's own addresses."""
    for name in ("restore.sh", "compose.sh"):
        (tmp_path / "docker").mkdir(exist_ok=True)
        shutil.copy(ROOT / "docker" / name, tmp_path / "docker" / name)
    backup = tmp_path / "backup"
    backup.mkdir()
    (backup / "env").write_text("REDIS_PASSWORD=old=\nAIRFLOW_PORT=1\nS3_SECRET_KEY=theirs\nPERENNIAL_QUEUES=a,b\n")
    digest = subprocess.run(["sha256sum", "env"], cwd=backup, capture_output=True, check=True).stdout
    (backup / "SHA256SUMS").write_bytes(digest)
    own = "# mine\nREDIS_PASSWORD=new\nAIRFLOW_PORT=2\nS3_SECRET_KEY=mine\nSOURCE_PASSWORD=x\n"

    def restored(own):
        (tmp_path / ".env").write_text(own)
        nowhere = {"PATH": os.environ["PATH"], "DOCKER_HOST": "unix:///nonexistent.sock"}
        done = subprocess.run(
            ["docker/restore.sh", backup], cwd=tmp_path, env=nowhere, capture_output=True, check=False
        )
        assert done.returncode != 0, "nothing runs here"
        assert own in [kept.read_text() for kept in tmp_path.glob(".env.before-*")]
        assert stat.S_IMODE((tmp_path / ".env").stat().st_mode) == 0o600
        return server._read_env(tmp_path / ".env")

    told = {"REDIS_PASSWORD": "old=", "PERENNIAL_QUEUES": "a,b", "SOURCE_PASSWORD": "x"}
    assert restored(own) == told | {"AIRFLOW_PORT": "2", "S3_SECRET_KEY": "theirs"}
    elsewhere = {"AIRFLOW_PORT": "2", "S3_SECRET_KEY": "mine", "S3_ENDPOINT": "https://s3"}
    assert restored(own + "S3_ENDPOINT=https://s3\n") == told | elsewhere
    assert len(list(tmp_path.glob(".env.before-*"))) == 2, "a second restore leaves what the first one kept"


def named(monkeypatch, address, data, artifacts):
    told = {
        "PERENNIAL_S3_ENDPOINT": address,
        "PERENNIAL_DATA_BUCKET": data,
        "PERENNIAL_ARTIFACT_BUCKET": artifacts,
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_DEFAULT_REGION": "eu-west-1",
    }
    for name, value in told.items():
        monkeypatch.setenv(name, value)


def test_what_a_store_holds_goes_to_one_whose_buckets_are_called_otherwise(s3, monkeypatch):
    """All objects of a store are exported and imported into buckets with other names."""
    large = os.urandom(9_000_000)  # more than one part of an upload
    objects = {
        ("data", "files/md5/ab/cd"): b"rows",
        ("data", "files/md5/ef/01"): b"",
        ("artifacts", "1/m/" + 120 * "x"): large,
    }
    named(monkeypatch, s3, "from-data", "from-artifacts")
    server._make_buckets()
    server._make_buckets()
    for (kind, key), body in objects.items():
        server.store().put_object(Bucket=f"from-{kind}", Key=key, Body=body)
    out = io.BytesIO()
    assert server.export_store(out) == 3
    out.seek(0)
    named(monkeypatch, s3, "to-rows", "to-models")
    server._make_buckets()
    assert server.import_store(out) == 3
    buckets = {"data": "to-rows", "artifacts": "to-models"}
    for (kind, key), body in objects.items():
        assert server.store().get_object(Bucket=buckets[kind], Key=key)["Body"].read() == body


def test_a_store_that_does_not_answer_is_said_in_one_line(monkeypatch):
    """A store that does not answer gives one line that names the settings to look at."""
    named(monkeypatch, "http://127.0.0.1:9", "data", "artifacts")
    with pytest.raises(ServiceError, match="^bucket data: .*; are S3_ENDPOINT and its keys in .env right[?]$"):
        server._make_buckets()


def test_a_database_that_does_not_answer_is_said_in_one_line():
    """A Postgres that does not answer gives one line that names the settings to look at."""
    with pytest.raises(
        ServiceError, match="^Postgres: .*refused.*; are POSTGRES_HOST and POSTGRES_PASSWORD in .env right[?]$"
    ):
        server._make_databases("postgresql://postgres:p@127.0.0.1:9/postgres")


@pytest.fixture
def initial(project, postgres, s3, monkeypatch):
    """A server's environment on databases that `init` has made; where they are."""
    at = postgres.url.partition("@")[2].partition("/")[0]
    named(monkeypatch, s3, "init-rows", "init-models")
    for name in server.DATABASES:
        monkeypatch.setenv(f"{name.upper()}_DB_PASSWORD", f"of-{name}")
    told = {
        "POSTGRES_ADMIN_URL": postgres.url,
        "PERENNIAL_MLFLOW_STORE": f"postgresql+psycopg2://mlflow:of-mlflow@{at}/mlflow",
        "PERENNIAL_LEDGER_URL": f"postgresql://ledger:of-ledger@{at}/ledger",
        "PERENNIAL_HOME": str(project / "home"),
        "AIRFLOW_HOME": str(project / "airflow"),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"postgresql+psycopg2://airflow:of-airflow@{at}/airflow",
    }
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    server.init()
    assert (project / "home" / "router" / "traefik.yaml").is_file()
    return at


def revision(url):
    """Of the tables of Airflow or MLflow."""
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        return connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()


def test_what_older_versions_left_is_brought_up_to_date(initial):
    """`init` upgrades tables of Airflow 3.0.0 and of MLflow of February 2025, and keeps their rows."""
    airflow, mlflow = os.environ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"], os.environ["PERENNIAL_MLFLOW_STORE"]
    newest = revision(airflow), revision(mlflow)
    server._run(["airflow", "db", "downgrade", "-n", "3.0.0", "-y"])
    _make_older_mlflow(os.environ["POSTGRES_ADMIN_URL"], mlflow)
    assert revision(airflow) != newest[0] and revision(mlflow) == MLFLOW_OF_FEBRUARY_2025
    server.init()
    assert (revision(airflow), revision(mlflow)) == newest
    client = MlflowClient(mlflow)
    (run,) = client.search_runs([client.get_experiment_by_name("churn").experiment_id])
    assert run.info.run_id == "r1" and run.data.params == {"seed": "7"} and run.data.metrics == {"log_loss": 0.25}
    assert client.get_model_version_by_alias("churn", "champion").version == 3


MLFLOW_OF_FEBRUARY_2025 = "6953534de441"
# A run, and the version it registered.
ROWS_OF_THEN = """
INSERT INTO experiments (experiment_id, name, artifact_location, lifecycle_stage) VALUES (1, 'churn', 's3://models/1', 'active');
INSERT INTO runs (run_uuid, name, user_id, source_type, status, start_time, end_time, lifecycle_stage, artifact_uri, experiment_id)
  VALUES ('r1', 'a run', 'airflow', 'LOCAL', 'FINISHED', 1700000000000, 1700000001000, 'active', 's3://models/1/r1', 1);
INSERT INTO params (key, value, run_uuid) VALUES ('seed', '7', 'r1');
INSERT INTO metrics (key, value, timestamp, run_uuid, step, is_nan) VALUES ('log_loss', 0.25, 1700000000000, 'r1', 0, false);
INSERT INTO latest_metrics (key, value, timestamp, run_uuid, step, is_nan)
  VALUES ('log_loss', 0.25, 1700000000000, 'r1', 0, false);
INSERT INTO registered_models (name, creation_time) VALUES ('churn', 1700000000000);
INSERT INTO model_versions (name, version, creation_time, current_stage, source, run_id, status)
  VALUES ('churn', 3, 1700000000000, 'None', 's3://models/1/r1/model', 'r1', 'READY');
INSERT INTO registered_model_aliases (name, alias, version) VALUES ('churn', 'champion', 3);
"""


def _make_older_mlflow(admin, url):
    """MLflow has no way down, but its migrations can be followed a part of the way up."""
    as_admin = sa.create_engine(admin.replace("postgresql:", "postgresql+psycopg2:"), isolation_level="AUTOCOMMIT")
    with as_admin.connect() as connection:
        connection.exec_driver_sql("DROP DATABASE mlflow WITH (FORCE)")
        connection.exec_driver_sql("CREATE DATABASE mlflow OWNER mlflow")
    engine = sa.create_engine(url)
    Base.metadata.create_all(engine)
    alembic.command.upgrade(_get_alembic_config(url), MLFLOW_OF_FEBRUARY_2025)
    with engine.begin() as connection:
        connection.exec_driver_sql(ROWS_OF_THEN)
    engine.dispose()
