"""A version is its digest: the cache holds what the version's tags name, whatever its number was before."""

import json
import shutil

import pytest

from pipeline.context import Context
from pipeline.errors import RegistryError
from pipeline.ledger.rollout_events import RolloutEnded
from pipeline.registry.packages import package_digest
from pipeline.registry.versions import PACKAGE_TAG, REFERENCE_TAG, SIGNATURE_TAG
from pipeline.runs import batch_scoring, steps
from pipeline.training import signing
from tests.support.versions import AS_OF, retrain

pytestmark = pytest.mark.usefixtures("trained_before")


@pytest.fixture
def registry(version_one):
    """The registry with one version of churn, whose package was fetched."""
    found = Context.here().registry
    found.package_folder("churn", "1")
    return found


def test_a_damaged_copy_is_fetched_again(registry):
    """A copy with a changed, missing or unnamed file is replaced by the registry's, which is good."""
    folder = registry.package_folder("churn", "1")
    whole = {path.name: path.read_bytes() for path in folder.iterdir()}
    for damage in (
        lambda: (folder / "model.onnx").write_bytes(b"another"),
        lambda: (folder / "manifest.json").write_text("{}"),
        lambda: (folder / "golden.json").unlink(),
        lambda: (folder / "sitecustomize.py").write_text("print(1)"),
    ):
        damage()
        assert {path.name: path.read_bytes() for path in registry.deployable_package("churn", "1").iterdir()} == whole


def test_what_is_wrong_in_the_registry_too_is_refused(registry, project):
    """A package that fits neither here nor in MLflow is refused in one line, also by `predict`."""
    registry.client().set_model_version_tag("churn", "1", SIGNATURE_TAG, "00" * 64)
    context = Context.here()
    context.ledger.append(RolloutEnded(version="1", slot="blue"), "churn")
    from pipeline.ledger.timeline import live_at

    with pytest.raises(RegistryError, match="not signed as one that passed its gates here") as refused:
        batch_scoring.score(
            registry, "churn", project / "in.csv", project / "out.csv", live_at(context.ledger, "churn")
        )
    assert "\n" not in str(refused.value)


def test_a_model_that_is_deleted_and_made_again_is_not_taken_from_the_cache(registry, project):
    """The new version 1 has its own package; the old one is still found by its digest, and refused where no copy of it is kept."""
    old = package_digest(registry.package_folder("churn", "1"))
    registry.client().delete_registered_model("churn")
    customers = project / "customers" / "all.parquet"
    import pandas as pd

    rows = pd.read_parquet(customers)
    rows.assign(spend=rows["spend"] + 1.0).to_parquet(customers)
    shutil.rmtree(Context.here().home / "workspaces")
    assert retrain(project, "two") == "1"
    new = package_digest(registry.deployable_package("churn", "1"))
    assert new != old
    assert json.loads((registry.package_folder("churn", "1") / "manifest.json").read_text())
    tags = registry.version_facts("churn", "1", new).tags
    assert tags[PACKAGE_TAG] == new
    assert tags[REFERENCE_TAG] == signing.digest(registry.reference_file("churn", "1", new))
    assert package_digest(registry.deployable_package("churn", "1", old)) == old
    shutil.rmtree(registry.home / "versions" / "churn" / "1" / "earlier")
    with pytest.raises(RegistryError, match="in MLflow is another package than the one that went live"):
        registry.deployable_package("churn", "1", old)


def test_a_deleted_run_leaves_the_cached_package_in_use(registry):
    """A version whose MLflow run was deleted is still deployed from the good copy."""
    client = registry.client()
    client.delete_run(client.get_model_version("churn", "1").run_id)
    assert registry.deployable_package("churn", "1").is_dir()


def test_an_experiment_that_was_deleted_is_named_before_anything_is_trained(registry):
    """A run of a model whose MLflow experiment was deleted is refused when it opens, with the command that restores it."""
    client = registry.client()
    experiment = client.get_experiment_by_name("churn").experiment_id
    client.delete_experiment(experiment)
    with pytest.raises(RegistryError, match=f"was deleted; .*mlflow experiments restore -x {experiment}"):
        steps.open_run(Context.here(), "two", "churn", AS_OF, "a test")
    client.restore_experiment(experiment)
    assert steps.open_run(Context.here(), "two", "churn", AS_OF, "a test")
