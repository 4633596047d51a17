"""A limit of a gate that looks at nothing in this block is refused when the block is read, by its key."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from pydantic import ValidationError

from harness.project import CHURN
from pipeline.settings import gates_that_apply
from pipeline.settings.faults import all_faults
from pipeline.settings.gates import Gates
from pipeline.settings.models import Model

LIMIT = {"metric_limit": 0.5}


@pytest.mark.parametrize(
    ("task", "gates", "lines"),
    [
        (
            "regression",
            {"calibration": {"error": 0.05}, "modes": {"calibration": "warn", "fairness": "off"}},
            [
                "gates.calibration.error: is for probabilities; the task is regression: leave it out",
                "gates.modes.calibration: is for probabilities; the task is regression: leave it out",
            ],
        ),
        (
            "regression",
            {"fairness": {"threshold": 0.4, "columns": ["plan"]}},
            ["gates.fairness.threshold: is for probabilities; the task is regression: leave it out"],
        ),
        (
            "multiclass",
            {"fairness": {"threshold": 0.4, "columns": ["plan"]}, "calibration": {"error": 0.05}},
            [
                "gates.fairness.threshold: is for a binary task; the task is multiclass, and the likeliest class is the decision"
            ],
        ),
        (
            "binary",
            {"fairness": {"demographic_parity": 0.05}},
            ["gates.fairness.demographic_parity: compares no groups: name their columns in gates.fairness.columns"],
        ),
        (
            "binary",
            {"fairness": {"columns": ["plan"], "demographic_parity": None, "equalised_odds": None}},
            ["gates.fairness.columns: is compared by no measure: demographic_parity and equalised_odds are both null"],
        ),
        ("binary", {"fairness": {"columns": ["plan"], "threshold": 0.4}, "calibration": {"error": 0.05}}, []),
        ("regression", {}, []),
        (
            "binary",
            {"supply_chain": {"vulnerabilities": "https://osv.dev/all.zip"}},
            [
                "gates.supply_chain.vulnerabilities: https://osv.dev/all.zip is an address: download it, and name the file on this disk"
            ],
        ),
        (
            "multiclass",
            {"own_minutes": 5},
            ["gates.own_minutes: is the time of your own gates: name one in gates.own"],
        ),
        (
            "regression",
            {"supply_chain": {"only_fixed": True}},
            ["gates.supply_chain.only_fixed: is for a database: name one in gates.supply_chain.vulnerabilities"],
        ),
        (
            "multiclass",
            {"supply_chain": {"accepted": ["CVE-1"], "licences": ["MIT"]}},
            ["gates.supply_chain.accepted: is for a database: name one in gates.supply_chain.vulnerabilities"],
        ),
    ],
)
def test_a_stated_limit_that_guards_nothing_is_a_line(task, gates, lines):
    """What is stated for probabilities or groups that the model does not have is told by its key; defaults are silent."""
    block = SimpleNamespace(gates=Gates.model_validate(LIMIT | gates), training=SimpleNamespace(task=task))
    assert [": ".join(fault) for fault in gates_that_apply.faults(block)] == lines


def test_the_line_is_that_of_the_one_model():
    """The rule is one of those that a block must keep when it is read."""
    with pytest.raises(ValidationError) as error:
        Model.model_validate(CHURN | {"gates": CHURN["gates"] | {"fairness": {"min_rows": 50}}})
    assert all_faults(error.value, "models.churn") == [
        "models.churn.gates.fairness.min_rows: compares no groups: name their columns in gates.fairness.columns"
    ]


@pytest.mark.parametrize(
    ("mode", "told"), [(False, "false"), (True, "true"), (None, "null"), ("OFF", '"OFF"'), (0, "0")]
)
def test_a_mode_that_is_none_is_refused_with_the_gate_and_the_words_that_there_are(mode, told):
    """Also a truth value, which an `off` without quotes is for who writes YAML 1.1."""
    with pytest.raises(ValidationError) as refused:
        Gates.model_validate(LIMIT | {"modes": {"schema": "warn", "calibration": mode}})
    assert f"calibration must be one of on, warn, off; got {told}" in str(refused.value)
