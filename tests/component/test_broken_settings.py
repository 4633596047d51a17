"""A params.yaml that is broken in one block, in what all share, or as a whole: what is live can still be seen and kept."""

from __future__ import annotations

import html
import json

import pytest

from harness.commands import said
from harness.ledgers import ledger_of
from harness.project import CHURN, change_params
from pipeline.cli.main import main
from pipeline.context import Context
from pipeline.deployer.api import LocalTraffic
from pipeline.errors import SettingsError
from pipeline.ledger.rollout_events import RolloutEnded
from pipeline.pages.overview import overview_page
from pipeline.rollout.context import RolloutContext
from pipeline.rollout.routing import route_file
from pipeline.rollout.routing.route import Route, RoutedSlot
from pipeline.services import control
from pipeline.settings.environment import Environment
from tests.support.accidents import agreed, deploy

NOWHERE = "http://127.0.0.1:1"
LINE = "params.yaml: unknown key models.other.rollout.serving.max_rwos"


@pytest.fixture
def live(project, monkeypatch):
    """A project in which version 1 of `churn` and of `other` is live."""
    home = project / "home"
    monkeypatch.setenv("PERENNIAL_HOME", str(home))
    change_params(project, "models.other", CHURN)
    home.mkdir()
    for model in ("churn", "other"):
        ledger_of(home).append(RolloutEnded(version="1", slot="blue", switch_s=0.0), model)
        route_file.write(home, Route(model, RoutedSlot("blue", "1", NOWHERE), rate_limit=7))
    return project


def statuses():
    return {status["model"]: status for status in json.loads(said(["status", "--json"]).stdout)}


def test_a_broken_block_is_shown_where_its_model_is_shown(live):
    """Command line and page show the fault beside the broken model's live version, and nothing of it at the other model."""
    change_params(live, "models.other.rollout.serving", {"max_rwos": 3})
    seen = statuses()
    assert seen["other"]["fault"].startswith(LINE)
    assert seen["other"]["live"]["version"] == "1"
    assert (seen["churn"]["fault"], seen["churn"]["live"]["version"]) == (None, "1")
    assert f"other: {LINE}" in said(["status"]).stdout
    assert overview_page(Context.here()).count(LINE) == 1
    for command in (
        ["status", "other"],
        ["timeline", "other"],
        ["costs", "other"],
        ["roi"],
        ["verify"],
        ["status", "churn"],
    ):
        assert said(command).returncode == 0, command


def test_several_faults_are_a_line_each_wherever_they_are_shown(live):
    """A block with two faults is two lines at the command line, on the page, and for who begins a run."""
    change_params(live, "models.other.rollout.serving", {"max_rwos": 3})
    change_params(live, "models.other.schedule.cron", "0 0 31 2 *")
    second = "params.yaml: models.other.schedule.cron: day '31', month '2'"
    status = said(["status"]).stdout.splitlines()
    page = html.unescape(overview_page(Context.here()))
    refused = said(["retrain", "other"]).stderr.strip().splitlines()
    for line in (LINE, second):
        assert len([told for told in status if told.startswith(f"other: {line}")]) == 1
        assert page.count(f'<p class="bad">{line}') == 1
        assert len([told for told in refused if told.startswith(line)]) == 1
    assert len(refused) == 2


def test_a_broken_block_refuses_its_own_runs_and_deploys_with_its_line(live):
    """Whoever asks for the broken model's settings gets the one line with the full key."""
    change_params(live, "models.other.rollout.serving", {"max_rwos": 3})
    for command in (["retrain", "other"], ["deploy", "other", "2"], ["stage", "snapshot", "other"]):
        done = said(command)
        assert (done.returncode, done.stderr.strip().splitlines()[-1].startswith(LINE)) == (1, True), done


@pytest.mark.parametrize(
    "content",
    [None, "models:\n  churn: [\n", "", "- a list\n", "models: {}\nmodels: {}\n", "<<<<<<< HEAD\nprices: {}\n"],
)
def test_a_file_that_is_no_yaml_hides_nothing_that_is_live(live, content):
    """Without a readable params.yaml `status` and the page show what is live, and say in one line what is wrong with the file."""
    (live / ".perennial").mkdir(exist_ok=True)
    (live / "params.yaml").unlink() if content is None else (live / "params.yaml").write_text(content)
    seen = statuses()
    assert {name: status["live"]["version"] for name, status in seen.items()} == {"churn": "1", "other": "1"}
    assert all("params.yaml" in status["fault"] for status in seen.values())
    page = overview_page(Context.here())
    assert "model-churn" in page
    assert "params.yaml" in page
    for command in (["status", "churn"], ["timeline", "churn"], ["verify"]):
        assert said(command).returncode == 0, command
    done = said(["retrain", "churn"])
    assert (done.returncode, len(done.stderr.strip().splitlines())) == (1, 1), done.stderr


def test_wrong_prices_stop_new_runs_and_hide_only_what_has_a_price(live):
    """With wrong prices no run begins and no cost is shown; status, page and timeline go on."""
    change_params(live, "prices.cpu_core_hour", -1)
    assert "prices.cpu_core_hour" in said(["status"]).stdout
    assert "prices.cpu_core_hour" in overview_page(Context.here())
    for command in (["retrain", "churn"], ["costs"], ["roi"]):
        done = said(command)
        assert (done.returncode, "prices.cpu_core_hour" in done.stderr) == (1, True), command


def test_a_model_whose_settings_cannot_be_read_keeps_its_routes_limit(live):
    """A route that is moved while the model's settings cannot be read keeps its rate limit."""
    change_params(live, "models.other.rollout.serving", {"max_rwos": 3})
    rollout = Context.here().rollout("test")
    assert rollout.rate_limit("other") == 7
    assert rollout.rate_limit("churn") == 0


def test_the_json_has_what_is_wrong_and_no_models_own(live):
    """`status --json` has shared faults and the names of foreign files at each model; with no model they are on standard error."""
    change_params(live, "prices.cpu_core_hour", -1)
    aside = live / "home" / "routes-set-aside"
    aside.mkdir()
    (aside / "notes.txt.1").write_text("a note")
    for status in statuses().values():
        (prices, lay) = status["shared_faults"]
        assert "prices.cpu_core_hour" in prices
        assert "notes.txt.1 lay in routes/" in lay
    empty = said(["status", "--json"], PERENNIAL_HOME=str(live / "home" / "nothing"))
    assert [status["live"] for status in json.loads(empty.stdout)] == [None, None]
    (live / "params.yaml").write_text("models: [\n")
    (live / ".perennial").mkdir(exist_ok=True)
    empty = said(["status", "--json"], PERENNIAL_HOME=str(live / "home" / "nothing"))
    assert (json.loads(empty.stdout), empty.stderr.count("params.yaml")) == ([], 1), empty.stderr


def test_what_is_live_of_a_broken_block_goes_on_by_what_is_recorded(lived, project, monkeypatch):
    """Rollback, reconcile and retire of a model with a broken block work, with the settings that its version went live with."""
    world, rollout = lived
    deploy(rollout, "1")
    deploy(rollout, "2")
    change_params(project, "models.churn.rollout.serving", {"max_rwos": 3})
    monkeypatch.setattr(Context, "rollout", lambda context, run: rollout)
    traffic = LocalTraffic(Context(Environment.read(), rollout.ledger))
    assert traffic.rollback("", "churn", "by hand").version == "1"
    assert traffic.retire("", "churn") == []
    world.running.clear()
    assert "started version 1 again" in " ".join(traffic.reconcile("", None))
    assert agreed(world, rollout) == "1"
    with pytest.raises(SettingsError, match=r"unknown key models\.churn\.rollout\.serving\.max_rwos"):
        traffic.deploy("", "churn", "2", "by hand", None, 0)


@pytest.mark.parametrize("content", [None, "models:\n  churn: [\n"])
def test_what_is_live_is_rolled_back_started_again_and_ended_without_a_readable_file(
    lived, project, monkeypatch, capsys, content
):
    """With a params.yaml that is gone or no YAML, `rollback`, `reconcile`, `make up`'s recovery and `undeploy` do their work."""
    world, rollout = lived
    for version in ("1", "2"):
        deploy(rollout, version)
    monkeypatch.setenv("PERENNIAL_HOME", str(rollout.home))
    (project / "params.yaml").unlink() if content is None else (project / "params.yaml").write_text(content)
    (project / ".perennial").mkdir(exist_ok=True)
    monkeypatch.setattr(Context, "rollout", lambda context, run: rollout)
    monkeypatch.setattr(RolloutContext, "of", lambda *_, **__: rollout)
    assert main(["rollback", "churn"]) == 0
    assert "back on version 1" in capsys.readouterr().out
    world.running.clear()
    assert main(["reconcile"]) == 0
    assert "started version 1 again" in capsys.readouterr().out
    world.running.clear()
    lines: list[str] = []
    assert control._reconcile(project, rollout.home, lines.append) == []
    assert "params.yaml" in lines[0]
    assert "started version 1 again" in lines[1]
    assert agreed(world, rollout) == "1"
    assert main(["undeploy", "churn"]) == 0
    assert "version 1 is off the router" in capsys.readouterr().out
    assert (world.running, world.promoted) == ({}, None)
