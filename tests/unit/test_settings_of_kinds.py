"""Features of each kind in params.yaml: which rules they can keep, and that one kind is enough."""

import pytest

from harness.project import change_params
from pipeline.errors import SettingsError
from pipeline.settings.models import load


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (
            {"gates.contract.columns": {"since": {"min": 1}}},
            "columns.since: min: does not fit a column under training.datetime",
        ),
        (
            {"gates.contract.columns": {"note": {"allowed": ["a"]}}},
            "columns.note: allowed: does not fit a column under training.text",
        ),
        (
            {"gates.contract.columns": {"note": {"type": "text"}}},
            "columns.note: type: does not fit a column under training.text",
        ),
        ({"gates.contract.columns": {"note": {"nullable": True}, "since": {"calendar": True}}}, ""),
        (
            {"rollout.serving.personal": {"note": "hash"}},
            "personal.note: must be drop, or nothing: a text is never logged",
        ),
        ({"rollout.serving.personal": {"note": "drop", "since": "hash"}}, ""),
        ({"rollout.follow": "body:since"}, ""),
    ],
)
def test_a_rule_for_a_time_or_a_text_is_one_that_it_can_keep(project, change, line):
    """Times and texts have `nullable` in the contract, and no pseudonym stands for a text that is not logged."""
    change_params(project, "models.churn.training.datetime", ["since"])
    change_params(project, "models.churn.training.text", ["note"])
    for key, value in change.items():
        change_params(project, f"models.churn.{key}", value)
    params = load(project)
    if not line:
        assert params.model("churn").training.features == ["spend", "calls", "since", "note", "plan"]
        return
    with pytest.raises(SettingsError) as refused:
        params.model("churn")
    assert line in str(refused.value)


def test_a_model_may_have_features_of_any_one_kind(project):
    """No list is needed as long as another names a feature."""
    change_params(project, "models.churn.gates.contract.columns", {})
    for kind in ("numeric", "datetime", "text", "categorical"):
        change_params(project, "models.churn.training", {"target": "left", kind: ["one"]})
        assert load(project).model("churn").training.features == ["one"]
