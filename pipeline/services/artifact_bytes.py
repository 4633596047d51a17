"""The bytes of a server that lie on no disk of the deployer's: MLflow's artifacts in their bucket, and the ledger in its database."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator

import sqlalchemy as sa

from pipeline.errors import RegistryError, ServiceError
from pipeline.ledger.store import Ledger
from pipeline.registry.versions import Registry
from pipeline.services.server import BUCKETS, store

LEDGER, ARTIFACTS = "the ledger", "MLflow's artifacts"


def has_bucket() -> bool:
    """Whether this process works on a server with a store of its own or elsewhere."""
    return bool(os.environ.get(BUCKETS["artifacts"]))


def stored(ledger: Ledger, registry: Registry) -> dict[str, dict[str, int]]:
    """Bytes by model, then by place; '' has what belongs to no model alone. Raises LedgerError, RegistryError, ServiceError."""
    found: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    found[""][LEDGER] = ledger_bytes(ledger)
    models = _models(registry)
    for key, size in _objects(os.environ[BUCKETS["artifacts"]]):
        found[models.get(key.partition("/")[0], "")][ARTIFACTS] += size
    return found


def ledger_bytes(ledger: Ledger) -> int:
    """Of its database's tables, with their indexes; 0 where it is a file, which lies on the disk. Raises LedgerError."""
    if ledger.dialect != "postgresql":
        return 0
    of_all = sa.func.sum(sa.func.pg_total_relation_size(sa.column("relid")))
    return int(ledger.rows(sa.select(of_all).select_from(sa.table("pg_stat_user_tables")))[0][0] or 0)


def _models(registry: Registry) -> dict[str, str]:
    """The models by the ids of their experiments, which MLflow's server takes for names of folders."""
    from mlflow.entities import ViewType
    from mlflow.exceptions import MlflowException

    found: dict[str, str] = {}
    token: str | None = ""
    try:
        while token is not None:
            page = registry.client().search_experiments(view_type=ViewType.ALL, page_token=token or None)
            found |= {experiment.experiment_id: experiment.name for experiment in page}
            token = page.token or None
    except MlflowException as error:
        raise RegistryError("experiments", str(error).splitlines()[0], "look at MLflow's log") from error
    return found


def _objects(bucket: str) -> Iterator[tuple[str, int]]:
    """(key, bytes) of each object of the bucket."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        for page in store().get_paginator("list_objects_v2").paginate(Bucket=bucket):
            for item in page.get("Contents", ()):
                yield item["Key"], int(item["Size"])
    except (BotoCoreError, ClientError) as error:
        raise ServiceError(f"bucket {bucket}", str(error), "are S3_ENDPOINT and its keys in .env right?") from error
