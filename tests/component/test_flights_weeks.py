"""The demo's weeks: each that can be learnt from passes, and each that cannot is refused in one line."""

from datetime import UTC, datetime, timedelta

import pytest
import yaml

from demo import flights
from harness.project import ROOT, make_project
from pipeline.data import contract, snapshot
from pipeline.errors import StageError
from pipeline.gates import run
from pipeline.settings.models import load
from pipeline.training import fit
from pipeline.workspaces.dvc_graph import Artifacts, read_json


@pytest.fixture(scope="module")
def made():
    return flights.flights_of_2013(flights.source_folder())


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project with the demo's own model and warehouse."""
    flights.main([str(ROOT / "warehouse" / "flights")])
    models = yaml.safe_load((ROOT / "params.yaml").read_text())["models"]
    made = make_project(tmp_path_factory.mktemp("flights") / "project", models)
    (made / "warehouse").symlink_to(ROOT / "warehouse")
    return made


def landed(project, as_of):
    """The model and its artifacts as of then, after the stages that make the data."""
    model = load(project).model("flight-delay").model_copy(update={"as_of": as_of})
    files = Artifacts(project, "flight-delay")
    files.folder.mkdir(parents=True, exist_ok=True)
    snapshot.take("flight-delay", model, project, files.snapshot, files.counts, project / "partitions.db")
    contract.check("flight-delay", model, files.snapshot, files.counts, files.quarantine, files.validation)
    return model, files


def monday(day):
    return datetime.fromisoformat(day).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    "day",
    ["2013-01-21", "2013-01-28", "2013-02-11", "2013-02-18", "2013-04-01", "2013-05-13", "2013-09-16", "2013-12-30"],
)
def test_every_week_of_the_year_can_be_backfilled(project, day):
    """Each of the year's hard weeks has the right window and passes the data gates."""
    as_of = monday(day)
    model, files = landed(project, as_of)
    days = sorted(file.stem for file in files.snapshot.glob("*.parquet"))
    first = max(as_of - timedelta(days=90), monday("2013-01-01"))
    assert (days[0], days[-1]) == (f"{first:%Y-%m-%d}", f"{as_of - timedelta(days=1):%Y-%m-%d}")
    assert len(days) == (as_of - first).days
    verdicts = run.data_verdicts(model, files)
    assert [str(v) for v in verdicts if not v.passed] == []
    assert any(v.word == "no verdict" for v in verdicts) == (day == "2013-01-21")
    if day == "2013-01-21":
        fit.fit(contract.kept_rows(files.snapshot, files.quarantine), model)


@pytest.mark.parametrize("day", ["2013-01-07", "2013-01-14"])
def test_the_weeks_before_anything_can_be_learnt_are_refused_in_one_line(project, day):
    """A week whose rows are all held out is refused with one line."""
    model, files = landed(project, monday(day))
    with pytest.raises(StageError, match=f"begins on 2013-01-01, so all .* in the 14 days held out before {day}"):
        fit.fit(contract.kept_rows(files.snapshot, files.quarantine), model)


def test_the_day_that_the_weather_does_not_cover_is_refused_by_name(project):
    """The day without weather fails the gate, with column and day."""
    model, files = landed(project, monday("2014-01-01"))
    (failed,) = [v for v in run.data_verdicts(model, files) if not v.passed]
    assert "temp on 2013-12-31: 99% of 844 rows lack it" in failed.reason
    assert {gone["day"] for gone in read_json(files.validation)["missing"]} == {"2013-12-31"}
