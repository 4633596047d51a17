"""Which files of data `prune` takes, and whose they are, when models share some and one of them was pruned before."""

from __future__ import annotations

import contextlib
import os
import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from pipeline.deployer import old_files as files
from pipeline.errors import DataError, RemoteError
from pipeline.ledger import lease
from pipeline.ledger.events import DataLanded, DriftChecked, RunSettled, StageKept, VersionRegistered
from pipeline.ledger.landed_events import LandedProfiled
from pipeline.ledger.prune_events import Pruned
from pipeline.ledger.store import Ledger
from pipeline.runs.pruning import beside, container, data
from pipeline.runs.pruning import run as pruning
from pipeline.runs.pruning.kept import Versions
from pipeline.settings.environment import Environment
from pipeline.settings.keep import Keep
from pipeline.workspaces.whole_files import Kept

KEEP = Keep(versions=1, versions_days=1)


@pytest.fixture
def context(tmp_path):
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    return SimpleNamespace(
        ledger=ledger,
        clock=lambda: datetime.now(UTC) + timedelta(days=400),
        project=tmp_path,
        params=SimpleNamespace(keep=KEEP),
    )


def trained(context, model, data_version, md5s, pushed):
    """A run that landed the files and registered version 1."""
    landed = {f"{md5}.parquet": {"md5": md5} for md5 in md5s}
    of = {"data_version": data_version, "as_of": "2024-03-01"}
    for event in (
        DataLanded(**of, partitions=len(md5s), landed=landed, remote="/r", pushed_bytes=pushed),
        VersionRegistered(**of, version="1", mlflow_run="x"),
        RunSettled(),
    ):
        context.ledger.append(event, model, f"run of {model}")


def all_go(context, *models):
    return {
        model: Versions(
            {"1": context.ledger.events(VersionRegistered, model=model)[-1].event},
            {},
            frozenset(v for entry in context.ledger.events(Pruned, model=model) for v in entry.event.versions),
        )
        for model in models
    }


def test_a_shared_file_is_of_the_model_that_sent_it_also_when_that_was_pruned_first(context, monkeypatch):
    """`a` sent what both have and is pruned, with what was counted for its run: the rest stays for `b`. When `b` goes, the shared file is still of `a`, which pays for it."""
    trained(context, "a", "A.dir", ["own", "shared"], 10)
    of = {"snapshot": "A.dir", "quarantine": "q", "edges": "e", "partitions": ["1"], "rows": 9}
    context.ledger.append(LandedProfiled(**of, profiles="counted"), "a", "run of a")
    trained(context, "b", "B.dir", ["shared", "more"], 5)
    trained(context, "c", "C.dir", ["third"], 5)
    lists = {"A.dir": {"1": "own", "2": "shared"}, "B.dir": {"2": "shared", "3": "more"}, "C.dir": {"4": "third"}}
    monkeypatch.setattr(data.dvc_remote, "listings", lambda _, versions: {v: lists.get(v) for v in versions})
    assert data.removable(context, all_go(context, "a"), KEEP).hashes == {"A.dir": "a", "own": "a", "counted": "a"}
    context.ledger.append(Pruned(removed={}, bytes=0, versions=["1"], rules={}), "a")
    del lists["A.dir"]
    assert data.removable(context, all_go(context, "b"), KEEP).hashes == {"B.dir": "b", "shared": "a", "more": "b"}
    trained(context, "a", "D.dir", ["anew"], 5)
    lists["D.dir"] = {"5": "anew"}
    assert "anew" not in data.removable(context, all_go(context, "b"), KEEP).hashes, "version 1 of a is another one now"
    del lists["C.dir"]
    with pytest.raises(DataError, match=r"data version C\.dir: is needed"):
        data.removable(context, all_go(context, "b"), KEEP)


def test_what_went_before_the_remote_broke_off_is_noted(context, monkeypatch):
    """Each model's event has its own bytes of the remote, with those of a model that nobody asked about; a cached file is none of them."""

    def removed(_, hashes):
        yield Kept("own", 7, True)
        yield Kept("cached", 3, False)
        yield Kept("shared", 5, True)
        raise RemoteError("remote s3://x", "a file could not be removed: away", "check its address and its keys")

    of = {"own": "b", "cached": "b", "shared": "a", "later": "b"}
    nothing = Versions({}, {}, frozenset())
    monkeypatch.setattr(pruning, "_model", lambda context, run, model, *_: (nothing, pruning.PrunedModel(model)))
    monkeypatch.setattr(pruning.data, "removable", lambda *_: data.Removable(of, {"b": {"B.dir"}}))
    monkeypatch.setattr(pruning.dvc_remote, "remove", removed)
    with pytest.raises(RemoteError):
        pruning.prune(context, "t", ["b"])
    noted = {entry.model: entry.event for entry in context.ledger.events(Pruned)}
    assert {
        model: (event.removed["files of data"], event.bytes, event.remote_bytes) for model, event in noted.items()
    } == {
        "a": (1, 5, 5),
        "b": (2, 10, 7),
    }
    assert not noted["b"].data_versions, "the rest of it is looked for again"


def test_what_is_gone_is_not_looked_for_again(context, monkeypatch):
    """A data version and a run's stages that a prune noted as gone are asked of no remote, until the same data land again."""
    trained(context, "a", "A.dir", ["own"], 10)
    monkeypatch.setattr(data.dvc_remote, "listings", lambda _, versions: {v: {"1": "own"} for v in versions})
    found = data.removable(context, all_go(context, "a"), KEEP)
    assert (found.hashes, found.versions) == ({"A.dir": "a", "own": "a"}, {"a": {"A.dir"}})
    gone = Pruned(removed={}, bytes=0, versions=[], rules={}, data_versions=["A.dir"], runs=["run of a"])
    context.ledger.append(gone, "a")
    assert data.removable(context, all_go(context, "a"), KEEP) == data.Removable()
    trained(context, "a", "A.dir", ["own"], 10)
    assert data.removable(context, all_go(context, "a"), KEEP).hashes == {"A.dir": "a", "own": "a"}


def test_what_a_run_that_goes_on_has_in_common_with_an_old_one_stays(context, monkeypatch):
    """The same data and settings give the same files: a worker may wait for one that an old run's stage sent too."""
    monkeypatch.setattr(data.dvc_graph, "order", lambda _: ["snapshot", "train"])
    shared, own = "a" * 32, "b" * 32
    for run, md5s in (("old", (shared, own)), ("young", (shared,))):
        outs = "".join(f"    - path: {md5}\n      md5: {md5}\n" for md5 in md5s)
        lock = f"schema: '2.0'\nstages:\n  train@a:\n    outs:\n{outs}"
        context.ledger.append(StageKept(stage="train", lock=lock, pushed_files=1, pushed_bytes=1), "a", run)
    context.ledger.append(RunSettled(), "a", "old")
    found = data.removable(context, {"a": Versions({}, {}, frozenset())}, KEEP)
    assert (found.hashes, found.runs) == ({own: "a"}, {"a": {"old"}})
    gone = Pruned(removed={}, bytes=0, versions=[], rules={}, runs=["old"])
    context.ledger.append(gone, "a")
    assert data.removable(context, {"a": Versions({}, {}, frozenset())}, KEEP) == data.Removable()


def test_a_version_that_went_live_while_prune_waited_stays(context, monkeypatch):
    """What may go is asked again once no rollout of the model can begin any more."""
    event = VersionRegistered(version="1", mlflow_run="r", data_version="d", as_of="2024-03-01")
    looks = iter([Versions({"1": event}, {}, frozenset()), Versions({"1": event}, {"1": "is live"}, frozenset())])
    held: list[bool] = []

    def versions(*_):
        held.append((holder := lease.holder(context.ledger, "a")) is not None and holder.is_alive)
        return next(looks)

    monkeypatch.setattr(pruning, "versions_of", versions)
    monkeypatch.setattr(
        pruning.pruning, "large_files", lambda registry, name, versions: [("package", 5)] * len(versions)
    )
    there = SimpleNamespace(
        home=context.project, registry=None, server_mode=False, environment=SimpleNamespace(deployer="")
    )
    context.params.models = {}
    of = SimpleNamespace(**(vars(context) | vars(there)))
    found, gone = pruning._model(of, "t", "a", dry_run=False)
    assert (held, gone.versions, gone.removed, dict(found.kept)) == ([False, True], [], {}, {"1": "is live"})


@pytest.mark.parametrize(("at", "sent"), [("before", 1), ("meanwhile", 1), ("after", 0), ("never", 0)])
def test_what_a_prune_may_have_removed_meanwhile_is_sent_again(context, at, sent):
    """A prune that began before a landing was noted did not know of it; one that begins later does."""
    again: list[str] = []
    others: list[contextlib.ExitStack] = []

    def prunes():
        others.append(contextlib.ExitStack())
        others[0].enter_context(beside.removing(context.ledger))

    if at == "before":
        prunes()
    with beside.sending(context.ledger, lambda: again.append("sent")):
        if at == "meanwhile":
            prunes()
        for other in others:
            other.close()
    if at == "after":
        prunes()
        others[0].close()
    assert len(again) == sent


def test_two_prunes_at_once_remove_one_after_the_other(context, monkeypatch):
    """The second waits for the first, and says so where it takes too long."""
    monkeypatch.setattr(beside, "WAIT_S", 0)
    with (
        beside.removing(context.ledger),
        pytest.raises(DataError, match="another prune removes some; run `perennial prune` again when it has ended"),
        beside.removing(context.ledger),
    ):
        pass


def test_logs_of_old_runs_go_with_their_own_model(tmp_path):
    """A run's logs go when nothing in them is young; another model's stay, also where one name ends with the other, and all without a rule."""
    now = datetime.now(UTC)
    logs, old = tmp_path / "airflow" / "logs", (now - timedelta(days=200)).timestamp()
    for dag, young in (("retrain__b", ""), ("monitor__b", "attempt=2.log"), ("retrain__a_b", ""), ("x__a__b", "")):
        task = logs / f"dag_id={dag}" / "run_id=1" / "task_id=t"
        task.mkdir(parents=True)
        for name in ("attempt=1.log", "attempt=2.log"):
            (task / name).write_bytes(b"x" * 5)
        for path in (task / "attempt=1.log", task / "attempt=2.log", task, task.parent):
            if path.name != young:
                os.utime(path, (old, old))
    context = SimpleNamespace(home=tmp_path, clock=lambda: now)
    assert files.task_logs(context, "b", Keep(logs_days=100)) == [
        files.Removable("logs of runs", logs / "dag_id=retrain__b" / "run_id=1", 10)
    ]
    assert files.task_logs(context, "a__b", Keep(logs_days=100))[0].path.parent.name == "dag_id=x__a__b"
    assert files.task_logs(context, "b", Keep(logs_days=300)) == files.task_logs(context, "b", Keep()) == []


def test_on_a_server_pages_in_mlflow_and_the_deployers_predictions_go(context, tmp_path, monkeypatch):
    """Old pages in MLflow go, but for alarms and the newest; the deployer removes its old predictions, and packages of versions that are gone."""
    stamp = ("2024-01-01T0600", "2024-01-02T0600", "2024-03-01T0600")
    names = [f"{at}-v1{end}" for at in stamp for end in (".html", "-evidently.html")]
    items = {name: SimpleNamespace(path=f"drift/{name}", file_size=5) for name in names}
    deleted: list[str] = []
    kept_there = [(SimpleNamespace(delete_artifacts=deleted.append), items)]
    monkeypatch.setattr(pruning.pruning, "pages", lambda *_: iter(kept_there))
    log = tmp_path / "predictions" / "churn" / "1"
    log.mkdir(parents=True)
    (log / "a.parquet").write_bytes(b"x" * 7)
    for number in ("1", "2"):
        (tmp_path / "versions" / "churn" / number).mkdir(parents=True)
        (tmp_path / "versions" / "churn" / number / "f").write_text("x")
    alarm = {
        "verdict": "drift",
        "reason": "x",
        "champion": "1",
        "as_of": "2024-01-01T06:00:00+00:00",
        "alarm": {"since": "x"},
    }
    anew = VersionRegistered(version="2", mlflow_run="r", data_version="d", as_of="2024-03-01")
    for event in (DriftChecked(**alarm), Pruned(removed={}, bytes=0, versions=["1", "2"], rules={}), anew):
        context.ledger.append(event, "churn")
    block = SimpleNamespace(monitor=SimpleNamespace(window_days=30))
    of = {"home": tmp_path, "server_mode": True, "registry": None, "environment": SimpleNamespace(deployer="http://d")}
    settings = SimpleNamespace(keep=Keep(predictions_days=100), models={"churn": block})
    there = SimpleNamespace(**(vars(context) | of | {"params": settings}))
    deployer = SimpleNamespace(prune_log=lambda run, *asked: files.prune_log(there, *asked))
    monkeypatch.setattr(pruning, "traffic", lambda _: deployer)
    for dry_run in (True, False):
        found = pruning.PrunedModel("churn")
        pruning._elsewhere(there, "t", found, Versions({}, {}, frozenset()), dry_run)
        assert found.removed == {"pages of looks": 2, "files of predictions": 1, "fetched packages": 1}
        assert found.size == 18
        assert bool(deleted) == (not dry_run) == (not (log / "a.parquet").exists())
    assert deleted == [f"drift/{stamp[1]}-v1-evidently.html", f"drift/{stamp[1]}-v1.html"]
    assert [path.name for path in (tmp_path / "versions" / "churn").iterdir()] == ["2"], "its number came again"


@pytest.mark.parametrize(
    "rule, left", [("keep: {logs_days: 100}", ["old", "young"]), ("keep: {}", ["young"]), ("keep: [", ["young"])]
)
def test_a_container_of_a_server_removes_its_own_old_logs(tmp_path, rule, left):
    """Task logs go by keep.logs_days, else by the days of .env, with folders that are empty then; so do copies of old pages of looks."""
    project, home = tmp_path / "project", tmp_path / "home"
    project.mkdir()
    (project / "params.yaml").write_text(f"{rule}\n")
    (project / "dvc.yaml").write_text("")
    for name, days in (("old", 50), ("young", 1)):
        for folder in (home / "airflow" / "logs" / "dag_id=monitor__a" / f"run_id={name}", home / "reports" / name):
            folder.mkdir(parents=True)
            (folder / "attempt=1.log").write_text("x")
            at = time.time() - (days + 60 * (folder.parent.name == "reports")) * 86_400
            os.utime(folder / "attempt=1.log", (at, at))
    environment = Environment(project).at(project, home)
    assert container.prune(environment, 30, dry_run=True) == container.prune(environment, 30)
    assert sorted(path.name for path in (home / "airflow/logs/dag_id=monitor__a").iterdir()) == [
        f"run_id={n}" for n in left
    ]
    assert [path.name for path in (home / "reports").iterdir()] == ["young"]


def test_a_file_that_goes_meanwhile_stops_no_other_model(context, monkeypatch):
    """A slot merges its log while it is looked through: a line, and the other model is pruned."""

    def model(context, run, name, *_):
        if name == "a":
            raise FileNotFoundError(2, "No such file", "x.parquet")
        return Versions({}, {}, frozenset()), pruning.PrunedModel(name, versions=["1"])

    monkeypatch.setattr(pruning, "_model", model)
    monkeypatch.setattr(
        pruning.data, "removable", lambda context, of_models, keep: data.Removable() if [*of_models] == ["b"] else None
    )
    done = pruning.prune(context, "t", ["a", "b"])
    assert [entry.model for entry in context.ledger.events(Pruned)] == ["b"]
    assert done.notes == ("a was left alone: [Errno 2] No such file: 'x.parquet'",)
