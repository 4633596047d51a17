"""What the server's own commands write: `.env`, and the store as a stream; and what they say when nobody is there."""

import io
import os
import stat

import pytest

from pipeline.errors import ServiceError
from pipeline.services import server
from tests.support.s3 import s3  # noqa: F401


@pytest.fixture
def written(project, monkeypatch):
    """Writes `.env` of the project, without building images; what it says, by name."""
    monkeypatch.setattr(server, "serving_images", lambda _project: "perennial/serving:1@sha256:1")

    def write(airgapped=False):
        path = server.write_env(project, airgapped, lambda _line: None)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        return server._read_env(path)

    write.path = project / ".env"
    return write


def test_secrets_are_drawn_once_and_own_lines_stay(written):
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


def test_what_a_store_holds_goes_to_one_whose_buckets_are_called_otherwise(s3, monkeypatch):  # noqa: F811
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
    named(monkeypatch, "http://127.0.0.1:9", "data", "artifacts")
    with pytest.raises(ServiceError, match="^bucket data: .*; are S3_ENDPOINT and its keys in .env right[?]$"):
        server._make_buckets()


def test_a_database_that_does_not_answer_is_said_in_one_line():
    with pytest.raises(
        ServiceError, match="^Postgres: .*refused.*; are POSTGRES_HOST and POSTGRES_PASSWORD in .env right[?]$"
    ):
        server._make_databases("postgresql://postgres:p@127.0.0.1:9/postgres")
