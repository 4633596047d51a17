"""A backfill makes versions of the past that never go live."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness.commands import said
from harness.project import customers
from pipeline.context import Context
from pipeline.errors import RegistryError, RolloutError
from pipeline.ledger.events import RunOpened
from pipeline.ledger.rollout_events import RolloutEnded, RolloutStarted
from pipeline.runs import steps
from pipeline.runs.settle import settle
from pipeline.settings.models import load
from pipeline.workspaces import dvc_graph, workspace
from tests.support.required import EXHAUSTIVE
from tests.support.versions import AS_OF, backfill, digest, rebuilt, retrain

pytestmark = pytest.mark.usefixtures("trained_before")


def test_a_backfill_makes_one_version_that_nothing_can_bring_live(project):
    """A backfill registers one version for its as-of and data, and no command can make it live."""
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
    with pytest.raises(RegistryError, match="does not begin with asof-"):
        context.registry.name_as_of("churn", first, "champion")
    frame = customers()
    frame.loc[2500, "spend"] += 50
    frame.to_parquet(project / "customers" / "all.parquet")
    second = backfill(project, "b1")
    assert second != first
    assert digest(second) != digest(first)
    assert rebuilt(first).identical, "the older version is still what it was"
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
    """A run that is repeated, by a backfill or from other code, changes nothing in the MLflow run of an earlier version."""
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


def test_a_run_that_a_backfill_does_again_is_settled_for_what_the_backfill_did(project, version_one):
    """A backfill that repeats a scheduled run is settled with its own version and leaves that run's rollout alone."""
    from pipeline.rollout import recovery

    context = Context.here()
    context.ledger.append(RolloutEnded(version="1", slot="blue", switch_s=0.1), "churn", "one")
    context.ledger.append(RolloutStarted(version="1", slot="blue"), "churn", "one")
    second = backfill(project, "one")
    settled = settle(context, "one", "churn", backfill=True)
    assert settled.outcome == f"version {second} was registered as asof-2024-03-01, not rolled out"
    assert recovery.open_rollout(context.ledger, "churn") is not None


def test_a_backfill_is_not_compared_with_what_is_live(project):
    """A backfill has no champion gate, because the champion may have seen its days."""
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
    """Retrains of two models that run at once all succeed without a lock error, each with its own dvc.lock."""
    import yaml

    each = 4 if EXHAUSTIVE else 2
    whole = yaml.safe_load((project / "params.yaml").read_text())
    whole["models"]["loyal"] = whole["models"]["churn"]
    whole["workspaces"]["keep"] = 8
    (project / "params.yaml").write_text(yaml.safe_dump(whole, sort_keys=False))
    # They make MLflow's tables at once too.
    shutil.rmtree(project / ".perennial" / "mlflow")
    asked = [
        ["retrain", model, "--as-of", f"2024-02-{20 + day}", "--json"]
        for model in ("churn", "loyal")
        for day in range(each)
    ]
    with ThreadPoolExecutor(len(asked)) as at_once:
        ended = list(at_once.map(said, asked))
    assert [done.returncode for done in ended] == [0] * 2 * each, [d.stderr[-400:] for d in ended if d.returncode]
    messages = [done.stderr.lower().replace("dvc.lock", "").replace("lock file", "") for done in ended]
    assert not [message for message in messages if "lock" in message]
    told = [json.loads(done.stdout) for done in ended]
    assert sorted(t["version"] for t in told) == sorted([str(number) for number in range(1, 1 + each)] * 2)
    locks = {f.read_text() for f in (project / ".perennial" / "workspaces").glob("*/dvc.lock")}
    assert len(locks) == 2 * each
    count, broken = Context.here().ledger.verify()
    assert (count > 12 * 2 * each, broken) == (True, None)
