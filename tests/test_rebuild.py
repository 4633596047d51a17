"""A version can be made again from its records alone, and its data leads to it and back."""

import json
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime

import pytest

from pipeline.context import Context
from pipeline.errors import DataError, RegistryError, RolloutError, StageError
from pipeline.ledger.events import RunOpened
from pipeline.ledger.rollout_events import RolloutEnded, RolloutStarted
from pipeline.ledger.timeline import timeline
from pipeline.runs import steps
from pipeline.runs.provenance import trace
from pipeline.runs.rebuild import rebuild
from pipeline.settings.models import load
from pipeline.workspaces import dvc_graph, workspace
from tests.conftest import change_params, customers
from tests.support.commands import said
from tests.support.size import EXHAUSTIVE

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("made_before")]

AS_OF = datetime(2024, 3, 1, tzinfo=UTC)


def quiet(_step):
    pass


def retrain(project, run="one", as_of=AS_OF):
    """Trains and registers `churn` without Airflow, and returns the version."""
    return steps.retrain(Context.here(), run, "churn", as_of, "a test", False, quiet)["version"]


def backfill(project, run, as_of=AS_OF):
    """What the Dag does in a backfill."""
    context = Context.here()
    folder = steps.open_run(context, run, "churn", as_of, "backfill run")
    for stage in dvc_graph.order(project):
        steps.run_stage(context, folder, stage)
    return steps.archive(context, folder, steps.check_gates(context, folder, backfill=True))


def rebuilt(version="1"):
    return rebuild(Context.here(), "churn", version, quiet)


def repro():
    """`dvc repro` in the project; all that it said."""
    env = os.environ | {"PATH": f"{os.path.dirname(sys.executable)}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run([sys.executable, "-m", "dvc", "repro"], env=env, capture_output=True, text=True, check=True)
    return done.stdout + done.stderr


def digest(version):
    return Context.here().registry.version_facts("churn", version)["tags"]["perennial.model_digest"]


def test_a_version_is_rebuilt_when_tree_source_and_cache_have_moved_on(project):
    """Trained with uncommitted code; then the code changes again, the source is mended and the cache is gone."""
    (project / "pipeline" / "training.py").open("a").write("\nIDEA = 1\n")
    retrain(project)
    (project / "pipeline" / "training.py").write_text("raise SystemExit('half an edit')\n")
    customers().assign(spend=1.0).to_parquet(project / "customers" / "all.parquet")
    (project / "params.yaml").write_text("models: [half an edit")
    shutil.rmtree(project / ".dvc" / "cache")
    left = project / ".perennial" / "rebuilds" / "999999999-churn-1-x"
    left.mkdir(parents=True)
    told = rebuilt()
    assert told["identical"], told["compared"]
    assert {one["what"] for one in told["compared"]} >= {
        "artifacts/churn/snapshot",
        "artifacts/churn/model.skops",
        "artifacts/churn/metrics.json",
        "artifacts/churn/package",
        "model digest (sha256)",
    }
    assert told["uncommitted"]
    assert told["environment"] == {}
    assert list((project / ".perennial" / "rebuilds").iterdir()) == []
    assert not (project / ".dvc" / "cache" / "files").exists(), "the project's own cache was not used"


def test_what_differs_is_named(project):
    """An estimator that draws its own seed gives another model each time; the data is still the same."""
    (project / "my_models.py").write_text(
        "import os\nfrom sklearn.linear_model import SGDClassifier\n"
        "def drawn(**options):\n"
        "    return SGDClassifier(loss='log_loss', random_state=int.from_bytes(os.urandom(3), 'big'), **options)\n"
    )
    change_params(project, "models.churn.training.estimator", "my_models:drawn")
    change_params(project, "models.churn.training.options", {})
    retrain(project)
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", "reproduce", "churn", "1"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stderr
    last = done.stdout.strip().splitlines()[-1]
    assert "differs in artifacts/churn/model.skops" in last
    assert "snapshot" not in last


def test_what_cannot_be_fetched_is_one_line(project):
    retrain(project)
    stored = project / ".perennial" / "remote"
    stored.rename(project / ".perennial" / "elsewhere")
    with pytest.raises(DataError, match=r"remote .*"):
        rebuilt()
    (project / ".perennial" / "elsewhere").rename(stored)
    for file in list((stored / "files" / "md5").rglob("*"))[-3:]:
        if file.is_file():
            file.unlink()
    with pytest.raises(DataError, match=r"lacks \d+ of \d+ files"):
        rebuilt()
    with pytest.raises(RegistryError, match="has no version 9"):
        rebuilt("9")


def test_a_code_revision_that_is_gone_is_one_line(project):
    retrain(project)
    shutil.rmtree(project / ".git")
    subprocess.run(["git", "init", "-q"], check=True)
    subprocess.run(
        ["git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-q", "--allow-empty", "-m", "x"], check=True
    )
    with pytest.raises(StageError, match="is not in this repository.*refs/perennial"):
        rebuilt()


def test_nothing_from_the_future_reaches_the_model(project):
    """Rows after the as-of, and labels that came after it, change no byte of the model."""
    import pandas as pd

    retrain(project)
    future = customers().tail(900).assign(spend=9.0, left=1.0)
    future["customer"] = [f"x{i}" for i in range(len(future))]
    early = future.head(300).assign(
        seen_at=pd.Timestamp("2024-02-10", tz="UTC"), decided_at=pd.Timestamp("2024-03-01 00:00:01", tz="UTC")
    )
    pd.concat([future, early]).to_parquet(project / "customers" / "future.parquet")
    retrain(project, "two")
    assert digest("2") == digest("1")
    on_time = early.assign(customer=[f"y{i}" for i in range(len(early))], decided_at=pd.Timestamp(AS_OF))
    on_time.to_parquet(project / "customers" / "on_time.parquet")
    retrain(project, "three")
    assert digest("3") != digest("1"), "a label known at the as-of itself does count"


def test_a_run_and_dvc_repro_share_what_they_have_made(project):
    """The same digest for the same as-of; what the one has trained is restored for the other, both ways."""
    retrain(project)
    told = repro()
    for stage in list(dvc_graph.order(project))[1:]:
        assert f"Stage '{stage}@churn' is cached - skipping run" in told
    manifest = dvc_graph.read_json(project / "artifacts" / "churn" / "package" / "manifest.json")
    assert manifest["model_digest"] == digest("1")
    change_params(project, "models.churn.as_of", "2024-02-25")
    assert "Running stage 'train@churn'" in repro()
    opened = workspace.open_workspace(
        project, project / ".perennial", "r", "churn", datetime(2024, 2, 25, tzinfo=UTC), ""
    )
    for stage in dvc_graph.order(project):
        workspace.run_stage(opened, stage)
    ours, theirs = opened.files.model.stat(), (project / "artifacts" / "churn" / "model.skops").stat()
    assert opened.files.model.read_bytes() == (project / "artifacts" / "churn" / "model.skops").read_bytes()
    assert ours.st_mtime == theirs.st_mtime or ours.st_nlink > 1, "restored, not trained again"


def test_another_environment_trains_anew(project):
    """What an older scikit-learn fitted is another model, though code, data and settings are the same."""
    retrain(project)
    (project / "requirements" / "main.txt").open("a").write("# scikit-learn is another one now\n")
    said = repro()
    assert "Stage 'validate@churn' is cached - skipping run" in said
    for stage in ("train", "evaluate", "package"):
        assert f"Running stage '{stage}@churn'" in said


def test_a_version_is_rebuilt_when_only_our_own_ref_holds_its_code(project):
    """The branch has gone back and git has thrown away what nothing names: through the command line."""
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@t"]
    (project / "pipeline" / "training.py").open("a").write("\nIDEA = 1\n")
    subprocess.run([*git, "commit", "-qam", "an idea"], check=True)
    retrain(project)
    code = Context.here().registry.version_facts("churn", "1")["tags"]["perennial.code_revision"]
    shutil.rmtree(project / ".perennial" / "workspaces")
    for command in (
        ["worktree", "prune"],
        ["reset", "-q", "--hard", "HEAD~1"],
        ["reflog", "expire", "--expire=now", "--all"],
        ["gc", "-q", "--prune=now"],
    ):
        subprocess.run([*git, *command], check=True)
    names = subprocess.run(["git", "for-each-ref", "--contains", code], capture_output=True, text=True, check=True)
    assert [line.split()[-1] for line in names.stdout.splitlines()] == [f"refs/perennial/{code}"]
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", "reproduce", "churn", "1", "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    told = json.loads(done.stdout)
    assert (told["identical"], told["code_revision"]) == (True, code)


def test_dvc_repro_asks_a_source_that_was_mended_as_a_run_does(project):
    """Not the run-cache: with the same as-of, however it is written, both make the same model of the mended rows."""
    retrain(project)
    frame = customers()
    frame.loc[2000:2600, "spend"] += 30
    frame.to_parquet(project / "customers" / "all.parquet")
    change_params(project, "models.churn.as_of", "2024-03-01")
    said = repro()
    assert "Running stage 'snapshot@churn'" in said
    manifest = dvc_graph.read_json(project / "artifacts" / "churn" / "package" / "manifest.json")
    assert manifest["model_digest"] != digest("1")
    retrain(project, "two")
    assert manifest["model_digest"] == digest("2")
    change_params(project, "models.churn.as_of", "2024-03-01T01:00:00+01:00")
    (project / "dvc.lock").unlink()
    said = repro()
    for stage in list(dvc_graph.order(project))[1:]:
        assert f"Stage '{stage}@churn' is cached - skipping run" in said


def test_dvc_repro_sees_an_edited_hook_as_a_run_does(project):
    """A file that the hook itself imports, and the folder that DVC knows nothing of."""
    (project / "own").mkdir()
    (project / "own" / "depth.py").write_text("DEPTH = 2\n")
    (project / "own" / "trees.py").write_text(
        "from sklearn.tree import DecisionTreeClassifier\n"
        "from own.depth import DEPTH\n\n\n"
        "def tree():\n    return DecisionTreeClassifier(max_depth=DEPTH, random_state=0)\n"
    )
    change_params(project, "models.churn.training.estimator", "own.trees:tree")
    change_params(project, "models.churn.training.options", {})
    repro()
    told = repro()
    for stage in list(dvc_graph.order(project))[1:]:
        assert f"Stage '{stage}@churn' didn't change, skipping" in told
    first = dvc_graph.read_json(project / "artifacts" / "churn" / "package" / "manifest.json")["model_digest"]
    (project / "own" / "depth.py").write_text("DEPTH = 3\n")
    assert "Running stage 'train@churn'" in repro()
    manifest = dvc_graph.read_json(project / "artifacts" / "churn" / "package" / "manifest.json")
    assert manifest["model_digest"] != first
    retrain(project)
    assert manifest["model_digest"] == digest("1")


def test_a_lost_list_of_partitions_hides_only_its_own_version(project):
    context = Context.here()
    retrain(project)
    retrain(project, "two", datetime(2024, 3, 2, tzinfo=UTC))
    lost = context.registry.version_facts("churn", "1")["tags"]["perennial.data_version"]
    for store in (project / ".dvc" / "cache", project / ".perennial" / "remote"):
        (store / "files" / "md5" / lost[:2] / lost[2:]).unlink()
    told = trace(context, "2024-02-20")
    assert [v["version"] for v in told["versions"]] == ["2"]
    assert told["unreadable"] == [lost]


def test_data_leads_to_versions_and_when_they_were_live(project):
    context = Context.here()
    retrain(project)
    retrain(project, "two", datetime(2024, 3, 2, tzinfo=UTC))
    for version in ("1", "2", "1"):
        context.ledger.append(RolloutEnded(version=version, slot="blue", switch_s=0.1), "churn")
    data = context.registry.version_facts("churn", "1")["tags"]["perennial.data_version"]
    (found,) = trace(context, data[:8])["versions"]
    assert (found["version"], found["data_version"], len(found["live"])) == ("1", data, 2)
    assert found["live"][0]["until"] is not None
    assert found["live"][1]["until"] is None
    both = trace(context, "2024-02-20")
    assert [v["version"] for v in both["versions"]] == ["1", "2"]
    assert {v["partition"]["revision"] for v in both["versions"]} == {1}
    for unknown in ("0000", "2031-01-01", "ab"):
        with pytest.raises(DataError, match="is no data version and no partition's date"):
            trace(context, unknown)


def test_a_revision_is_rows_that_came_late_or_were_corrected_and_no_later_look(project):
    """Labels come two days late: a day seen at another as-of, later or earlier, has other rows and is the same revision."""
    context, day = Context.here(), "2024-02-28"
    for number, as_of in enumerate((2, 1, 3), start=1):
        retrain(project, f"look {number}", datetime(2024, 3, as_of, tzinfo=UTC))
    told = trace(context, day)["revisions"]["churn"]
    assert [(r["number"], r["rows"], r["as_of"][:10]) for r in told] == [(1, 60, "2024-03-02"), (1, 1, "2024-03-01")]
    assert [r["why"] for r in told] == ["first", "labels known at another as-of"]
    frame = customers()
    corrected = frame.customer == frame.customer[frame.seen_at.dt.strftime("%Y-%m-%d") == day].iloc[0]
    frame.loc[corrected, "spend"] += 1
    frame.to_parquet(project / "customers" / "all.parquet")
    retrain(project, "corrected", datetime(2024, 3, 2, tzinfo=UTC))
    retrain(project, "corrected, earlier", datetime(2024, 3, 1, tzinfo=UTC))
    late = frame[corrected].assign(customer="late")
    late.to_parquet(project / "customers" / "late.parquet")
    retrain(project, "late", datetime(2024, 3, 2, tzinfo=UTC))
    told = trace(context, day)
    assert [(r["number"], r["rows"]) for r in told["revisions"]["churn"]] == [(1, 60), (1, 1), (2, 60), (2, 1), (3, 61)]
    assert [r["why"] for r in told["revisions"]["churn"]][2:] == [
        "late or corrected rows",
        "labels known at another as-of",
        "late or corrected rows",
    ]
    assert [v["partition"]["revision"] for v in told["versions"]] == [1, 1, 1, 2, 2, 3]
    assert rebuilt("1")["identical"], "an earlier run still rebuilds with the old one"
    assert "3, as of 2024-03-02: 61 rows" in said(["trace", day]).stdout
    lines = [e["what"] for e in timeline(context.ledger, "churn") if e["kind"] == "data_landed"]
    assert "with late or corrected rows" in lines[-1]
    assert "with late or corrected rows" not in lines[1]


def test_other_code_of_ones_own_trains_anew(project):
    """An estimator by name, and what it imports: with the same data and settings another file is another model."""
    (project / "my_models.py").write_text(
        "from sklearn.linear_model import LogisticRegression\nimport my_settings\n"
        "def ours(**options):\n    return LogisticRegression(C=my_settings.C, **options)\n"
    )
    (project / "my_settings.py").write_text("C = 1.0\n")
    change_params(project, "models.churn.training.estimator", "my_models:ours")
    change_params(project, "models.churn.training.options", {})
    retrain(project, "one")
    retrain(project, "again")
    (project / "my_settings.py").write_text("C = 0.001\n")
    retrain(project, "two")
    assert digest("2") == digest("1") != digest("3")
    facts = [Context.here().registry.version_facts("churn", v)["tags"] for v in "123"]
    assert len({told["perennial.data_version"] for told in facts}) == 1
    assert rebuilt("1")["identical"]


def test_a_backfill_makes_one_version_that_nothing_can_bring_live(project):
    """Done again it is the same version; with other data it is another one, under the same alias."""
    context = Context.here()
    first = backfill(project, "b1")
    assert backfill(project, "b2") == first
    client = context.registry.client()
    found = client.get_registered_model("churn")
    assert {str(k): str(v) for k, v in found.aliases.items()} == {"asof-2024-03-01": first}
    for bring_live in (context.registry.nominate, context.registry.promote, context.registry.deployable_package):
        with pytest.raises(RegistryError, match="was made by a backfill, which never goes live"):
            bring_live("churn", first)
    with pytest.raises((RegistryError, RolloutError)):
        steps.roll_out(context, "x", "churn", first, "by hand")
    with pytest.raises(RegistryError, match="is not an as-of"):
        context.registry.name_as_of("churn", first, "champion")
    frame = customers()
    frame.loc[2500, "spend"] += 50
    frame.to_parquet(project / "customers" / "all.parquet")
    second = backfill(project, "b1")
    assert second != first
    assert digest(second) != digest(first)
    assert rebuilt(first)["identical"], "the older version is still what it was"
    assert str(client.get_model_version_by_alias("churn", "asof-2024-03-01").version) == second
    assert context.registry.champion("churn") is None


def kept_of(version):
    """All that a version's MLflow run holds: every file and every tag."""
    import mlflow

    client = Context.here().registry.client()
    run = client.get_run(client.get_model_version("churn", version).run_id)
    folder = workspace.Path(mlflow.artifacts.download_artifacts(run_id=run.info.run_id))
    files = {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}
    return files, dict(run.data.tags), dict(run.data.metrics)


def test_a_run_done_again_writes_nothing_into_what_a_version_was_made_from(project):
    """By a backfill, to which Airflow gives the run's own name, and cleared, from other code after its workspace was pruned."""
    context = Context.here()
    first = retrain(project, "one")
    before = kept_of(first)
    second = backfill(project, "one")
    assert second != first
    assert digest(second) == digest(first)
    assert kept_of(first) == before
    (project / "pipeline" / "new_idea.py").write_text("X = 1\n")
    shutil.rmtree(context.home / "workspaces")
    assert retrain(project, "one") == first
    opened = context.ledger.events(RunOpened, run="one")
    assert opened[0].body["code_revision"] != opened[-1].body["code_revision"]
    assert kept_of(first) == before


def test_a_run_that_a_backfill_does_again_is_settled_for_what_the_backfill_did(project):
    """Not for the scheduled run of the same name, whose rollout it does not touch either."""
    from pipeline.rollout import recovery

    context = Context.here()
    retrain(project, "one")
    context.ledger.append(RolloutEnded(version="1", slot="blue", switch_s=0.1), "churn", "one")
    context.ledger.append(RolloutStarted(version="1", slot="blue"), "churn", "one")
    second = backfill(project, "one")
    told = steps.settle(context, "one", "churn", backfill=True)
    assert told.outcome == f"version {second} was registered as asof-2024-03-01, not rolled out"
    assert recovery.open_rollout(context.ledger, "churn") is not None


def test_a_backfill_is_not_compared_with_what_is_live(project):
    """A champion that has seen those very days would keep every honest version of the past from being registered."""
    from pipeline.gates import run as check

    context = Context.here()
    folder = steps.open_run(context, "b", "churn", AS_OF, "")
    for stage in dvc_graph.order(project):
        steps.run_stage(context, folder, stage)
    opened = workspace.read(workspace.Path(folder))
    told = check.verdicts(load(project).model("churn"), opened.files, None, None, backfill=True)
    assert "champion" not in {v.gate for v in told}
    assert all(v.passed for v in told)


def test_runs_side_by_side_from_the_command_line(project):
    """Two of one model, two of another, or four; no lock error, each with its own dvc.lock."""
    import yaml

    each = 4 if EXHAUSTIVE else 2
    whole = yaml.safe_load((project / "params.yaml").read_text())
    whole["models"]["loyal"] = whole["models"]["churn"]
    whole["workspaces"]["keep"] = 8
    (project / "params.yaml").write_text(yaml.safe_dump(whole, sort_keys=False))
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "pipeline", "retrain", model, "--as-of", f"2024-02-{20 + day}", "--json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for model in ("churn", "loyal")
        for day in range(each)
    ]
    ended = [(p.communicate(), p.returncode) for p in started]
    assert [code for _, code in ended] == [0] * 2 * each, [err[-400:] for (_, err), code in ended if code]
    assert not [err for (_, err), _ in ended if "lock" in err.lower().replace("dvc.lock", "").replace("lock file", "")]
    told = [json.loads(out) for (out, _), _ in ended]
    assert sorted(t["version"] for t in told) == sorted([str(number) for number in range(1, 1 + each)] * 2)
    locks = {f.read_text() for f in (project / ".perennial" / "workspaces").glob("*/dvc.lock")}
    assert len(locks) == 2 * each
    count, broken = Context.here().ledger.verify()
    assert (count > 12 * 2 * each, broken) == (True, None)
