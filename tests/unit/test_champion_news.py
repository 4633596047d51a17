"""The asset champion__MODEL is emitted when a version goes live, and only then."""

import pytest

from harness.ledgers import ledger_of
from pipeline.context import Context
from pipeline.ledger.events import VersionRegistered
from pipeline.ledger.rollout_events import RolledBack, RolloutEnded, RolloutFailed, Undeployed
from pipeline.runs import champion_news
from pipeline.settings.environment import Environment


@pytest.fixture
def told(tmp_path):
    """Who asks for news of churn; `told.happens` is what happens before."""
    context = Context(Environment.read({}).at(tmp_path, tmp_path), ledger_of(tmp_path))

    def ask():
        if (news := champion_news.untold(context, "churn")) is None:
            return None
        champion_news.note(context, "run", news)
        return news.version

    ask.context = context
    ask.happens = lambda event: context.ledger.append(event, "churn")
    return ask


def live(version, **more):
    return RolloutEnded(version=version, slot="blue", digest=f"d{version}", **more)


def test_each_version_that_goes_live_is_told_once(told):
    """A version that goes live is told once; one that is live already, or failed to go live, is not."""
    assert told() is None
    told.happens(live("1"))
    assert [told(), told()] == ["1", None]
    told.happens(live("1", already_live=True))
    told.happens(RolloutFailed(version="2", error="dead"))
    assert told() is None
    told.happens(live("2"))
    assert [told(), told()] == ["2", None]


def test_what_a_killed_task_told_is_told_again(told):
    """Until it is noted it is news, and one that is noted late stands for no version that went live meanwhile."""
    told.happens(live("1"))
    first = champion_news.untold(told.context, "churn")
    assert champion_news.untold(told.context, "churn") == first
    told.happens(live("2"))
    champion_news.note(told.context, "run", first)
    assert [told(), told()] == ["2", None]


def test_a_rollback_and_a_new_start_after_an_undeploy_are_told(told):
    """The version that a rollback brings live is told, and so is the same version that goes live again after an undeploy."""
    for event in (live("1"), live("2")):
        told.happens(event)
    assert told() == "2"
    told.happens(RolledBack(version="1", slot="blue", digest="d1", left="2", left_digest="d2", reason="worse"))
    assert told() == "1"
    told.happens(Undeployed(version="1"))
    assert told() is None
    told.happens(live("1"))
    assert [told(), told()] == ["1", None]


def test_of_several_the_one_that_is_live_is_told(told):
    """When several went live since the last time, the newest is told; when the last was undeployed since, none."""
    for event in (live("1"), live("2"), live("1"), live("1", already_live=True)):
        told.happens(event)
    assert [told(), told()] == ["1", None]
    told.happens(live("3"))
    told.happens(Undeployed(version="3"))
    assert told() is None


def test_the_news_have_the_version_and_its_data(told):
    """The extra has the version, its digest, its data version and its as-of."""
    for version, data in (("1", "aaa.dir"), ("2", "bbb.dir")):
        told.happens(
            VersionRegistered(version=version, mlflow_run="r", data_version=data, as_of="2024-03-01T00:00:00+00:00")
        )
    told.happens(live("1"))
    news = champion_news.untold(told.context, "churn").as_dict()
    since = news.pop("since")
    assert since.endswith("Z")
    assert news == {
        "model": "churn",
        "version": "1",
        "digest": "d1",
        "data_version": "aaa.dir",
        "as_of": "2024-03-01T00:00:00+00:00",
    }
