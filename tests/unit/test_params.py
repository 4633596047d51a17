"""params.yaml: typed, frozen, and refused by the name of the key that is wrong."""

import re

import pytest

from harness.project import ROOT, change_params
from pipeline.errors import SettingsError
from pipeline.settings.models import Params, load, refuse_unknown, time_of


def test_the_projects_own_params_are_valid():
    """The params.yaml of this repository is valid."""
    assert "flight-delay" in load(ROOT).models


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("models.churn.source.windowdays", 3, "unknown key models.churn.source.windowdays"),
        ("speed", "high", "unknown key speed"),
        ("models.churn.gates.metric_limit", "good", "models.churn.gates.metric_limit"),
        ("models.churn.evaluation.metric", "mae", "does not fit the task binary"),
        ("models.churn.evaluation.holdout_days", 30, "shorter than source.window_days"),
        ("models.churn.training.numeric", ["left"], "the target left may not be a feature"),
        ("models.churn.source.query", "SELECT 1", "must use $start and $end"),
        ("models.churn.gates.contract.columns", {"age": {}}, "names no feature, key or target: age"),
        ("models.churn.gates.contract.columns", {"plan": {"min": 1}}, "columns.plan.min and max: are for numbers"),
        ("models.churn.gates.contract.columns", {"spend": {"allowed": ["a"]}}, "columns.spend.allowed: lists text"),
        ("models.churn.gates.contract.columns", {"spend": {"type": "text"}}, "columns.spend.type: text does not fit"),
        ("models.churn.training.numeric", ["prediction"], "prediction is a name that the stages use"),
        ("models.churn.training.numeric", ["decided_at"], "decided_at is the key or a time"),
        ("models.churn.rollout.follow", "x customer", "follow must be the name of a request header or body:COLUMN"),
        ("models.churn.rollout.follow", "body:nobody", "rollout.follow names no feature or key: nobody"),
        ("models.churn.as_of", 20240301, "models.churn.as_of: write it like 2013-04-01T00:00:00Z"),
        ("models.churn.as_of", "0001-01-01T00:00:00Z", "the year must be from 1900 to 9998"),
        ("models.churn.source.window_days", 1e9, "models.churn.source.window_days"),
        ("models.churn.source.window_days", float("inf"), "models.churn.source.window_days"),
    ],
)
def test_a_wrong_key_is_named(project, key, value, told):
    """A wrong key or value gives one line with the key's full name."""
    change_params(project, key, value)
    with pytest.raises(SettingsError) as refused:
        load(project)
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)


def test_an_unknown_model_lists_the_known_ones(settings):
    """An unknown model's error lists the known models."""
    with pytest.raises(SettingsError, match="use one of its models: churn"):
        settings.model("chrun")


def test_settings_are_frozen(settings):
    """Settings cannot be changed after they are read."""
    with pytest.raises(ValueError, match="frozen"):
        settings.models["churn"].as_of = None


def keys(section, prefix=""):
    for name, field in section.model_fields.items():
        inner = [
            t for t in (field.annotation, *getattr(field.annotation, "__args__", ())) if hasattr(t, "model_fields")
        ]
        if inner and name != "columns":
            yield from keys(inner[0], "" if name == "models" else f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def test_every_key_is_documented():
    """docs/params.md has a line for each key that params.yaml may have, and no other."""
    text = (ROOT / "docs" / "params.md").read_text().partition("## The environment")[0]
    documented = {
        k
        for line in text.splitlines()
        if line.startswith("| `")
        for k in re.findall(r"`([a-z0-9_.]+)`", line.split("|")[1])
    }
    assert documented == set(keys(Params))


def test_a_time_that_is_none_and_a_key_that_no_form_has_are_one_line():
    """A text that is no time and a conf key that no form has give one line each."""
    with pytest.raises(SettingsError, match="as_of 'yesterday': is not a time"):
        time_of("yesterday")
    with pytest.raises(SettingsError, match="conf as_off: is unknown to this Dag; use as_of"):
        refuse_unknown({"as_off": 1}, {"as_of": None})
