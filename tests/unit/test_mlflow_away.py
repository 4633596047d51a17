"""A retrain at the command line asks for MLflow before it begins, not after all stages."""

from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from pipeline.errors import RegistryAwayError
from pipeline.registry.versions import Registry
from pipeline.runs.retrain import retrain
from pipeline.settings.net import free_port
from pipeline.training.signing import SigningKey


def test_a_retrain_while_mlflow_is_away_says_so_before_any_stage(tmp_path):
    """In one line with the next step; nothing is in the ledger, and no workspace was made."""
    uri = f"http://127.0.0.1:{free_port()}"
    registry = Registry(tmp_path, uri, SigningKey(tmp_path))
    context = SimpleNamespace(project=tmp_path, registry=registry)
    with pytest.raises(RegistryAwayError, match=rf"mlflow {uri}: does not answer \(.*\); start it: `make up`"):
        retrain(context, "run", "churn", datetime(2024, 3, 1, tzinfo=UTC), "a test", True)
    assert not list(tmp_path.iterdir())
