"""`prune` removes what the settings let go, and what stays can be deployed and rebuilt as before."""

import json
import os
import shutil
import time
from datetime import UTC, datetime, timedelta

import pytest

from harness.commands import said
from harness.project import change_params, customers
from pipeline.context import Context
from pipeline.errors import DataError, GateError, RegistryError
from pipeline.ledger.events import DataLanded, DriftChecked, VersionRegistered
from pipeline.ledger.prune_events import Pruned
from pipeline.registry import pruning as registry_pruning
from pipeline.runs.pruning import run as pruning
from pipeline.runs.pruning.kept import Versions
from pipeline.workspaces import dvc_remote
from tests.support.versions import rebuilt, retrain

pytestmark = pytest.mark.usefixtures("trained_before")


def later(days=400):
    """The context as it will be in so many days."""
    here = Context.here()
    return Context(here.environment, here.ledger, lambda: datetime.now(UTC) + timedelta(days=days))


def in_remote(project, version):
    """The md5s of a data version's files that the remote has."""
    names = dvc_remote.partitions(project, version).values()
    stored = project / ".perennial" / "remote" / "files" / "md5"
    return {md5 for md5 in names if (stored / md5[:2] / md5[2:]).is_file()}


def data_version(number):
    return Context.here().registry.version_facts("churn", number).tags["perennial.data_version"]


def test_what_a_kept_version_needs_stays_and_all_else_goes(project, version_one):
    """Of two versions that share partitions the older one goes with what it alone had; the newer one is rebuilt bit for bit."""
    frame = customers()
    frame.loc[frame.customer.isin(["c002500", "c002000"]), "spend"] += 1
    frame.to_parquet(project / "customers" / "all.parquet")
    retrain(project, "two", datetime(2024, 2, 29, tzinfo=UTC))
    older, newer = data_version("1"), data_version("2")
    logged = Context.here().ledger.events(VersionRegistered, model="churn")[-1].event.logged_bytes
    folders = (Context.here().registry.package_folder("churn", "2"), project / ".perennial" / "mlflow" / "artifacts")
    package, artifacts = (sum(path.stat().st_size for path in of.rglob("*") if path.is_file()) for of in folders)
    assert package < logged < artifacts
    files = dvc_remote.listings(project, [older])[older]
    shared = set(files.values()) & in_remote(project, newer)
    own = in_remote(project, older) - shared
    assert shared and own
    assert pruning.prune(later(), "t").models[0].versions == [], "all stay unless the settings say otherwise"
    change_params(project, "keep", {"versions": 1, "versions_days": 30})
    assert pruning.prune(Context.here(), "t").models[0].versions == [], "both are young"
    would = pruning.prune(later(), "t", dry_run=True)
    assert in_remote(project, older) == shared | own, "a dry run removes nothing"
    done = pruning.prune(later(), "t")
    assert (done.models[0].versions, done.models[0].kept["2"]) == (["1"], "has the alias challenger in MLflow")
    assert (would.data_files, would.data_bytes) == (done.data_files, done.data_bytes)
    assert done.data_files == len(own) + 1, "its own partitions and the list of them"
    assert in_remote(project, newer) == shared | in_remote(project, newer)
    stored = project / ".perennial" / "remote" / "files" / "md5"
    assert not any((stored / md5[:2] / md5[2:]).exists() for md5 in own)
    noted = Context.here().ledger.events(Pruned)[-1].event
    assert noted.remote_bytes == done.data_bytes > 0 and noted.removed["files of data"] == done.data_files
    logged_models = project / ".perennial" / "mlflow" / "artifacts" / "churn" / "models"
    assert sum(any(each.rglob("*.skops")) for each in logged_models.iterdir()) == 1, "MLflow's own form goes too"
    assert list(noted.versions) == ["1"] and noted.removed["artifacts in MLflow"] >= 2
    assert "versions 1 cannot be deployed or rebuilt any more" in noted.sentence()
    with pytest.raises(
        RegistryError, match=r"version 1: was pruned at .*; train it anew: `perennial retrain churn --as-of"
    ):
        Context.here().registry.package_folder("churn", "1")
    with pytest.raises(RegistryError, match="was pruned at"):
        rebuilt("1")
    shutil.rmtree(project / ".dvc" / "cache")
    assert rebuilt("2").identical
    assert pruning.prune(later(), "t").models[0].versions == [], "what is gone does not go again"


def artifacts_of(run):
    """The names at the top of the newest MLflow run that the run recorded."""
    client = Context.here().registry.client()
    experiment = client.get_experiment_by_name("churn").experiment_id
    (found, *_) = client.search_runs([experiment], f"tags.`perennial.run` = '{run}'")
    return {item.path for item in client.list_artifacts(found.info.run_id)}


def test_a_run_that_made_no_version_leaves_its_record_and_no_files(project, version_one):
    """By keep.refused_days a refused run's artifacts and own data go, once; a person's own MLflow run and a version's data stay."""
    frame = customers()
    frame.loc[frame.customer.isin(["c002500"]), "spend"] += 1
    frame.to_parquet(project / "customers" / "all.parquet")
    change_params(project, "models.churn.gates.contract.min_rows", 10**6)
    with pytest.raises(GateError):
        retrain(project, "two", datetime(2024, 2, 29, tzinfo=UTC))
    client = Context.here().registry.client()
    mine = client.create_run(client.get_experiment_by_name("churn").experiment_id).info.run_id
    client.log_text(mine, "mine", "gates.html")
    client.set_terminated(mine)
    refused = Context.here().ledger.events(DataLanded)[-1].event.data_version
    own = in_remote(project, refused) - in_remote(project, data_version("1"))
    before = artifacts_of("two")
    assert own and {"gates.html", "gates.json", "environment.json"} <= before
    assert pruning.prune(later(), "t").models[0].removed == {}, "all stay without a rule"
    change_params(project, "keep", {"refused_days": 30})
    assert pruning.prune(Context.here(), "t").models[0].removed == {}, "it is young"
    would = pruning.prune(later(), "t", dry_run=True)
    assert artifacts_of("two") == before and in_remote(project, refused) >= own
    (done,) = pruning.prune(later(), "t").models
    assert would.models[0].removed == done.removed and done.versions == []
    assert (done.removed["files of data"], done.remote_size > 0) == (len(own) + 1, True)
    assert artifacts_of("two") == before & set(registry_pruning.SMALL)
    assert done.removed["artifacts of refused runs in MLflow"] == len(before - artifacts_of("two"))
    assert [item.path for item in client.list_artifacts(mine)] == ["gates.html"]
    assert pruning.prune(later(), "t").models[0].removed == {}, "what is gone does not go again"
    needed = dvc_remote.partitions(project, data_version("1")).values()
    assert in_remote(project, data_version("1")) == {*needed}, "all that a rebuild of the kept version fetches"


def test_without_knowing_what_a_kept_version_needs_no_data_go(project, version_one):
    """Where the list of a kept version's files is lost, the data stay and the line says what to put back."""
    retrain(project, "two", datetime(2024, 2, 29, tzinfo=UTC))
    change_params(project, "keep", {"versions": 1, "versions_days": 1})
    listing = data_version("2")
    for store in (project / ".dvc" / "cache", project / ".perennial" / "remote"):
        (store / "files" / "md5" / listing[:2] / listing[2:]).unlink()
    with pytest.raises(DataError, match=f"data version {listing}: is needed and .*; put the remote back"):
        pruning.prune(later(), "t")
    assert in_remote(project, data_version("1"))


def test_a_store_that_refuses_is_one_line_and_the_model_stays(project, version_one, monkeypatch):
    """Where MLflow's store does not answer, the model is left alone with its line, and nothing of its data goes."""
    from mlflow.exceptions import MlflowException

    def refused(*_):
        raise MlflowException("the bucket refuses")

    change_params(project, "keep", {"versions": 1, "versions_days": 1})
    monkeypatch.setattr(pruning.pruning.artifacts, "of_run", refused)
    monkeypatch.setattr(pruning, "versions_of", lambda *_: Versions({"1": None}, {}, frozenset()))
    done = pruning.prune(later(), "t")
    assert "churn was left alone: mlflow" in done.notes[0] and done.notes[0].endswith(
        ": the bucket refuses; look at MLflow's log"
    )
    assert in_remote(project, data_version("1"))


def test_old_pages_and_predictions_go_and_alarms_stay(project):
    """Of looks stay the young ones, alarms and the newest, each but these without Evidently's page; of predictions the young ones."""
    home = project / ".perennial"
    old = time.time() - 200 * 86_400
    pages = home / "reports" / "churn"
    pages.mkdir(parents=True)
    for at, aged in (("2024-01-01T0600", 1), ("2024-01-02T0600", 1), ("2024-03-01T0600", 0), ("2024-03-02T0600", 0)):
        for name in (f"{at}-v1.html", f"{at}-v1.json", f"{at}-v1-evidently.html"):
            (pages / name).write_text("x")
            if aged:
                os.utime(pages / name, (old, old))
    alarm = DriftChecked(
        verdict="drift", reason="x", champion="1", as_of="2024-01-01T06:00:00+00:00", alarm={"since": "x"}
    )
    Context.here().ledger.append(alarm, "churn")
    log = home / "predictions" / "churn"
    log.mkdir(parents=True)
    for name, at in (("old.parquet", old), ("old.parquet.damaged", old), ("new.parquet", time.time())):
        (log / name).write_text("x")
        os.utime(log / name, (at, at))
    change_params(project, "keep", {"predictions_days": 100, "reports_days": 90})
    answered = said(["prune", "churn", "--dry-run", "--json"])
    assert answered.returncode == 0, answered.stderr
    assert json.loads(answered.stdout)["models"][0]["removed"] == {"pages of looks": 4, "files of predictions": 2}
    assert len(list(pages.iterdir())) == 12
    done = said(["prune"])
    assert done.returncode == 0 and "this is gone" in done.stdout
    left = sorted(path.name for path in pages.iterdir())
    assert [name for name in left if name.startswith("2024-01-02")] == []
    assert len([name for name in left if name.startswith("2024-01-01")]) == 3, "an alarm keeps its pictures"
    assert [name for name in left if name.startswith("2024-03-01")] == [
        "2024-03-01T0600-v1.html",
        "2024-03-01T0600-v1.json",
    ]
    assert len([name for name in left if name.startswith("2024-03-02")]) == 3, "the newest look"
    assert [path.name for path in log.iterdir()] == ["new.parquet"]
    assert "nothing to prune" in said(["prune"]).stdout
