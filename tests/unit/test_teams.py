"""Teams: what params.yaml may say of them, whom a fault touches, and which pools Airflow then needs."""

import pytest

from harness.project import CHURN, change_params
from pipeline.runs.team_pools import FEWEST, MARK, Change, Pool, Wanted, changes
from pipeline.settings.models import load
from pipeline.settings.teams import Team

OURS = f"{MARK} slots of teams.growth in params.yaml, change them there"


@pytest.fixture
def two(project):
    """`churn` is in the team growth, `other` in none."""
    change_params(project, "teams", {"growth": {"slots": 4}, "risk": {"slots": 1, "description": "Credit"}})
    change_params(project, "models.churn.team", "growth")
    change_params(project, "models.other", CHURN)
    return project


def test_a_model_may_name_a_team_and_a_priority(two):
    """The team's slots and the model's priority are read; without them a model has no team and the lowest priority."""
    change_params(two, "models.churn.schedule.priority", 50)
    params = load(two)
    assert (params.models["churn"].team, params.models["churn"].schedule.priority) == ("growth", 50)
    assert (params.models["other"].team, params.models["other"].schedule.priority) == (None, 1)
    assert params.teams.right["growth"].slots == 4 and not params.faults and not params.broken


def test_an_unknown_team_is_one_line_with_the_known_ones(two):
    """A model that names a team that is not there is broken by one line, and no other model is."""
    change_params(two, "models.churn.team", "growht")
    params = load(two)
    assert set(params.broken) == {"churn"} and set(params.models) == {"other"}
    line = str(params.broken["churn"])
    assert line.startswith("params.yaml: models.churn.team: growht is not among teams; they are growth, risk;")


def test_an_unknown_team_is_told_with_the_other_faults_of_the_block(two):
    """A block with a wrong team and a wrong metric has a line for each."""
    change_params(two, "models.churn.team", "growht")
    change_params(two, "models.churn.evaluation.metric", "auc")
    told = str(load(two).broken["churn"]).splitlines()
    assert len(told) == 2 and any("models.churn.team" in line for line in told)


@pytest.mark.parametrize(
    ("teams", "line"),
    [
        ({"growth": {"slots": 0}, "risk": {"slots": 1}}, "teams.growth.slots: "),
        ({"growth": {"slots": 1, "slot": 2}}, "unknown key teams.growth.slot"),
        ({"growth": {}}, "missing key teams.growth.slots"),
        ({"growth": 4}, "teams.growth: "),
        (["growth"], "teams: must be the teams by their names, like {growth: {slots: 4}}"),
        ({"Growth!": {"slots": 1}}, "growth is not among teams; they are none"),
    ],
)
def test_a_fault_in_teams_touches_the_models_that_name_the_team_alone(two, teams, line):
    """What is wrong in `teams` stops the models of that team, by a line that says it, and no other model's run."""
    change_params(two, "teams", teams)
    params = load(two)
    assert set(params.broken) == {"churn"} and line in str(params.broken["churn"]) and params.teams.faults
    assert params.model_of_a_run("other").team is None


def test_only_the_model_that_is_asked_for_is_read(two, monkeypatch):
    """Of many blocks, some of them broken, one model's task checks its own alone."""
    from pipeline.settings import models

    read = []
    check = models.Model.model_validate.__func__
    monkeypatch.setattr(
        models.Model,
        "model_validate",
        classmethod(lambda cls, block, **how: read.append(block["description"]) or check(cls, block, **how)),
    )
    change_params(two, "models.other.description", "another")
    change_params(two, "models.third", {"description": "broken"})
    assert load(two).model_of_a_run("churn") and read == [CHURN["description"]]


GROWTH = Pool("team__growth", 4, OURS)


@pytest.mark.parametrize(
    ("asked", "there", "waiting", "expected"),
    [
        (Wanted({"growth": Team(slots=4)}, []), [], [], [Change("make", GROWTH)]),
        (Wanted({"growth": Team(slots=4)}, []), [GROWTH], [], []),
        (
            Wanted({"growth": Team(slots=4)}, []),
            [Pool("team__growth", 9, OURS)],
            [],
            [Change("set", GROWTH)],
        ),
        # Somebody's own pool of that name, of another name, and Airflow's own.
        (Wanted({"growth": Team(slots=4)}, []), [Pool("team__growth", 9, "mine")], [], [Change("leave", GROWTH)]),
        (Wanted({}, []), [Pool("team__growth", 9, "mine"), Pool("default_pool", 128, "")], [], []),
        # Its team is gone: not while a task waits in it, or a Dag names it.
        (Wanted({}, []), [GROWTH], [], [Change("remove", GROWTH)]),
        (Wanted({}, []), [GROWTH], ["team__growth"], []),
        (Wanted({}, ["team__growth"]), [GROWTH], [], []),
        (Wanted({}, [], ["team__growth"]), [GROWTH], [], []),
        (Wanted({}, [], readable=False), [GROWTH], [], []),
    ],
)
def test_what_has_to_change_in_airflow(asked, there, waiting, expected):
    """Pools follow the teams; what somebody made by hand, what is in use and what cannot be known now stays."""
    assert changes(asked, there, lambda: waiting) == expected


def test_no_task_waits_for_a_pool_that_nobody_makes():
    """A pool that a Dag names and no team has is made with the fewest slots."""
    (made,) = changes(Wanted({}, ["team__gone"]), [], list)
    assert (made.what, made.pool.name, made.pool.slots, made.pool.is_ours) == ("make", "team__gone", FEWEST, True)
