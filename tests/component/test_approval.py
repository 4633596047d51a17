"""A version goes live only as a person approved it: what was changed since is named, whichever part it is."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from harness.commands import said
from harness.project import change_params
from pipeline.context import Context
from pipeline.deployer import traffic
from pipeline.errors import PerennialError
from pipeline.ledger.approval_events import Approved, DeployRefused
from pipeline.ledger.events import GatesChecked, RunOpened, VersionRegistered
from pipeline.ledger.rollout_events import RolloutEnded
from pipeline.registry.packages import package_digest
from pipeline.registry.versions import CODE_TAG, DATA_TAG
from pipeline.rollout import approval as deployers
from pipeline.runs import approval
from tests.support.versions import registered

DATA, CODE = "d1.dir", "c0ffee"


@dataclass
class Registered:
    """Version 1 of `churn`, which ann's run registered, and where MLflow keeps its files."""

    context: Context
    artifacts: Path

    def ready(self) -> Path:
        """What the deployer would start."""
        return deployers.approved_package(self.context.rollout(""), "churn", "1")

    def approve(self, name="bob", known=True):
        return approval.approve(self.context, "", "churn", "1", approval.Person(name, known=known))

    def refused(self) -> str:
        with pytest.raises(PerennialError) as error:
            traffic(self.context).deploy("", "churn", "1", "by hand", None, 0)
        return str(error.value)


@pytest.fixture
def version(stored, churn_artifacts):
    change_params(stored, "models.churn.approval", "required")
    context = replace(Context.here(), asked_by="ann")
    assert registered(context.registry, churn_artifacts, "one") == "1"
    client = context.registry.client()
    run = client.get_model_version("churn", "1").run_id
    verdicts = [{"gate": "metric_limit", "passed": True, "observed": 0.8, "limit": 0.6, "reason": "roc_auc 0.8"}]
    client.log_dict(run, {"verdicts": verdicts}, "gates.json")
    for tag, value in ((DATA_TAG, DATA), (CODE_TAG, CODE)):
        client.set_model_version_tag("churn", "1", tag, value)
    ledger = context.ledger
    ledger.append(RunOpened(as_of="2024-03-01", reason="a test", asked_by="ann"), "churn", "r")
    ledger.append(GatesChecked(verdicts=verdicts), "churn", "r")
    event = VersionRegistered(
        version="1", mlflow_run=run, data_version=DATA, as_of="2024-03-01", code_revision=CODE, alias="challenger"
    )
    ledger.append(event, "churn", "r")
    return Registered(context, context.registry.artifact_root / "churn" / run / "artifacts")


def test_nothing_goes_live_before_somebody_approved_it(version):
    """Without an approval a deploy is refused with the command that gives one, and the ledger has the refusal."""
    assert version.refused() == (
        "version 1 of churn: is not approved, and models.churn.approval is required; `perennial approve churn 1`, or "
        "approve it in Airflow"
    )
    assert [e.event.version for e in version.context.ledger.events(DeployRefused)] == ["1"]
    approved = version.approve().event
    assert version.ready() == version.context.registry.package_folder("churn", "1")
    assert approved.parts["package"] == package_digest(version.ready())
    assert (approved.parts["data_version"], approved.parts["code_revision"]) == (DATA, CODE)
    version.approve()
    assert len(version.context.ledger.events(Approved)) == 1, "the same approval is written once"


def _flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(bytes(content))


def _tag(version, tag, value):
    version.context.registry.client().set_model_version_tag("churn", "1", tag, value)


def _swaps(version):
    """(what another hand does, how it is undone, the line that names it) for each part that an approval names."""
    package = version.artifacts / "package"
    copy = version.context.home / "versions" / "churn" / "1" / "package" / "model.onnx"
    requirements, extra = version.context.project / "requirements" / "serving.txt", package / "extra.bin"
    pinned = requirements.read_text()
    for file, line in (
        (package / "model.onnx", "package: model.onnx has digest "),
        (package / "manifest.json", "package: manifest.json has digest "),
        (copy, f"package: model.onnx in {copy.parent} has digest "),
        (version.artifacts / "gates.json", "gate report: gates.json has digest "),
    ):
        yield partial(_flip, file), partial(_flip, file), line
    yield partial(extra.write_bytes, b"x"), extra.unlink, "package: extra.bin is in it, but was not approved"
    yield (
        partial(requirements.write_text, f"{pinned}#"),
        partial(requirements.write_text, pinned),
        "image: what serves ",
    )
    for tag, was, what in ((DATA_TAG, DATA, "data version"), (CODE_TAG, CODE, "code revision")):
        yield (
            partial(_tag, version, tag, "new"),
            partial(_tag, version, tag, was),
            f"{what}: is new, but {was} was approved",
        )


def test_what_was_swapped_after_the_approval_is_refused_by_name(version):
    """One byte of any part that was approved, and the deployer refuses the version and names that part and no other."""
    version.approve()
    for swap, undo, named in _swaps(version):
        swap()
        assert f"version 1 of churn: changed since bob approved it: {named}" in version.refused()
        undo()
        assert version.ready(), named
        assert len(version.context.ledger.events(DeployRefused)[-1].event.changed) == 1
    report = version.artifacts / "gates.json"
    report.rename(report.with_suffix(".kept"))
    assert "its gates.json cannot be fetched" in version.refused()
    assert "gates.json" in version.context.ledger.events(DeployRefused)[-1].event.why, "the audit has it"


def test_who_asked_may_not_approve_where_users_are_known(version):
    """The person who started the run is refused; where names are shared it is approved, and the ledger says so."""
    with pytest.raises(PerennialError, match="was asked for by ann, who may not approve it; let another person decide"):
        version.approve("ann")
    assert version.approve("ann", known=False).event.note == approval.SHARED_NAME


@pytest.mark.parametrize(("known", "note"), [(True, ""), (False, approval.UNKNOWN)])
def test_an_approval_by_a_name_that_several_may_share_says_so(version, known, note):
    """Another name than that of who asked is no other person where users are not known, and the ledger says it."""
    assert version.approve("bob", known=known).event.note == note


def test_a_rejection_ends_an_approval_and_only_a_new_request_ends_a_rejection(version):
    """After a rejection a deploy is refused and nobody can approve, until somebody asks again."""
    version.approve()
    approval.reject(version.context, "", "churn", "1", approval.Person("cid"), "the slice of old customers is worse")
    assert "version 1 of churn: was rejected by cid: the slice of old customers is worse; " in version.refused()
    with pytest.raises(PerennialError, match="rejected by cid.*ask again: `perennial approve churn 1 --ask`"):
        version.approve()
    approval.ask(version.context, "", "churn", "1")
    version.approve()
    assert version.ready()


def test_time_rejects(version):
    """Nobody can approve after `approval_hours`, and the deployer says until when they could."""
    change_params(version.context.project, "models.churn.approval_hours", 2)
    then = datetime.now(UTC) - timedelta(hours=3)
    asked = approval.ask(replace(version.context, clock=lambda: then), "", "churn", "1").event
    assert datetime.fromisoformat(asked.until) - then < timedelta(hours=2, seconds=1)
    for refused in (version.refused, lambda: str(pytest.raises(PerennialError, version.approve).value)):
        assert f"nobody approved it until {asked.until}, which rejects it" in refused()


def test_what_was_live_before_approvals_were_required_may_come_back(version):
    """A package that was live, and that nobody was ever asked about, needs no approval; another one of its number does."""
    registry, ledger = version.context.registry, version.context.ledger
    live = RolloutEnded(version="1", slot="blue", digest="of another package")
    ledger.append(live, "churn")
    assert "is not approved" in version.refused()
    digest = package_digest(registry.deployable_package("churn", "1"))
    ledger.append(replace(live, digest=digest), "churn")
    assert version.ready()


def test_no_version_comes_back_by_another_server_than_was_approved(version):
    """An update of what serves ends an approval while no engine has the approved image, also of a version that was live by it."""
    approved = version.approve().event
    digest = package_digest(version.context.registry.deployable_package("churn", "1"))
    requirements = version.context.project / "requirements" / "serving.txt"
    requirements.write_text(f"{requirements.read_text()}#")
    version.context.ledger.append(RolloutEnded(version="1", slot="blue", digest=digest), "churn")
    refused = version.refused()
    assert "changed since bob approved it: image: what serves has digest" in refused
    assert refused.endswith("`perennial approve churn 1 --ask` asks for what is there now")
    kept = replace(version.context.rollout(""), engines=EnginesWith(approved.parts["image"]))
    assert deployers.approved_package(kept, "churn", "1"), "the image that was approved is still there"
    _flip(version.artifacts / "gates.json")
    with pytest.raises(PerennialError, match="approved it: gate report: gates.json has digest"):
        deployers.approved_package(kept, "churn", "1")
    _flip(version.artifacts / "gates.json")
    approval.ask(version.context, "", "churn", "1")
    version.approve()
    assert version.ready(), "the way on that the refusal names"


class EnginesWith:
    """An engine that has kept one serving image."""

    name = "docker"

    def __init__(self, image):
        self.image = image

    def all(self):
        return [self]

    def has_image(self, runtime, digest):
        return (runtime, digest) == ("onnx", self.image)


def test_only_people_who_are_named_may_approve(version):
    """`approval_by` names who may; the deployer looks too, so that an approval of before ends for who is named no more."""
    change_params(version.context.project, "models.churn.approval_by", ["bob", "cid"])
    version.context = replace(Context.here(), asked_by="ann")
    with pytest.raises(
        PerennialError, match=r"may not be approved by eve, who is not in models.churn.approval_by \(bob, cid\)"
    ):
        version.approve("eve")
    version.approve("bob")
    assert version.ready()
    change_params(version.context.project, "models.churn.approval_by", ["cid"])
    version.context = replace(Context.here(), asked_by="ann")
    assert "was approved by bob, who is not in models.churn.approval_by (cid)" in version.refused()
    assert version.approve("cid").event.by == "cid" and version.ready(), "who is named now decides anew"


def test_a_person_approves_by_command(version):
    """`approve` and `reject` say what was decided and what comes next; $PERENNIAL_USER makes the person known."""
    refused = said(["approve", "churn", "1"], PERENNIAL_USER="ann")
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert "was asked for by ann, who may not approve it" in refused.stderr
    done = said(["approve", "churn", "1", "--reason", "gates are fine"], PERENNIAL_USER="bob")
    assert done.returncode == 0, done.stderr
    assert "approved by bob: gates are fine; `perennial deploy churn 1` brings it live" in done.stdout
    told = json.loads(said(["reject", "churn", "1", "--json"], PERENNIAL_USER="bob").stdout)
    assert (told["model"], told["version"], told["by"], told["through"]) == ("churn", "1", "bob", "command")
