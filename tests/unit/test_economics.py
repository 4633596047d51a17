"""What a loss and a retrain cost, and how each part is known."""

from __future__ import annotations

import numpy as np
import pytest
import yaml

from harness.project import CHURN, write_params
from pipeline.errors import SettingsError
from pipeline.ledger.costs import RunCosts, StepCost
from pipeline.policy.economics import GUESSED_VALUE, Figure, worth
from pipeline.settings.accounts import Prices
from pipeline.settings.economics import ByClass, Decisions, Economics
from pipeline.settings.models import Model, load
from pipeline.training import economic_loss, tasks
from pipeline.training.tasks import Answers

PRICES = Prices(currency="EUR", cpu_core_hour=0.05, memory_gb_hour=0.01, engineer_hour=60)
ROWS = Figure(1000, "measured", "the prediction log")


def run_of(cost: float, last: str) -> RunCosts:
    return RunCosts("r", "m", "", (StepCost(last, "success", cost=cost),), 1, 1, 1, cost, "EUR")


def test_a_retrain_costs_its_machine_its_people_and_its_risk() -> None:
    """The machine's part is the median of whole runs; a run that made no version is none."""
    runs = [run_of(cost, "register") for cost in (1.0, 2.0, 9.0)] + [run_of(100, "train")]
    of = worth(Economics(value=0.5, retrain_minutes=30, release_risk=3), "brier", PRICES, runs, ROWS)
    assert of.retrain == pytest.approx(2 + 30 + 3)
    assert of.retrain_in_loss(7) == pytest.approx(35 / (0.5 * 1000 * 7))
    assert of.guesses == []
    assert of.machine.known == "measured"


def test_what_nobody_stated_is_a_guess_and_says_its_key() -> None:
    """Each default is named as one, and rows of the log are none."""
    of = worth(Economics(), "brier", PRICES, [], ROWS)
    assert of.value.value == GUESSED_VALUE
    assert of.guesses == ["economics.value", "economics.retrain_minutes", "economics.release_risk"]
    assert of.machine.known == "guess"
    stated = worth(Economics(rows_a_day=5), "brier", PRICES, [], ROWS)
    assert (stated.rows_a_day.value, stated.rows_a_day.known) == (5, "yours")


def test_each_outcome_of_a_decision_costs_its_money() -> None:
    """The threshold itself is a yes, and the loss needs no value."""
    costs = Decisions(threshold=0.3, true_positive=-1, false_positive=5, false_negative=60)
    answers = Answers(np.array([0.3, 0.9, 0.2, 0.1]))
    assert economic_loss.of_decisions(costs, np.array([1, 0, 1, 0]), answers).tolist() == [-1, 5, 60, 0]
    assert worth(Economics(decisions=costs), "money", PRICES, [], ROWS).value.value == 1


COSTS = ByClass(costs={"sick": {"well": 90, "sick": -5}, "well": {"sick": 10}}, otherwise=3)


def test_each_pair_of_classes_costs_its_money() -> None:
    """A pair that is not named costs `otherwise`, a right decision nothing, and a class that a version never learnt is never decided."""
    answers = Answers(np.array([[0.5, 0.1, 0.4], [0.4, 0.2, 0.4], [0.2, 0.3, 0.5], [0, 0, 1]]), ("ill", "sick", "well"))
    target = np.array(["sick", "ill", "sick", "new"], object)
    assert economic_loss.of_classes(COSTS, target, answers).tolist() == [3, 0, 90, 3]
    assert worth(Economics(by_class=COSTS), "money", PRICES, [], ROWS).value.value == 1


def test_the_cheapest_class_is_decided_where_that_is_stated() -> None:
    """By the probabilities: a sick one that is missed costs 90, so a chance of 3 in 10 is enough."""
    cheapest = COSTS.model_copy(update={"decided": "cheapest", "otherwise": 30.0})
    answers = Answers(np.array([[0.2, 0.3, 0.5], [0.0, 0.01, 0.99]]), ("ill", "sick", "well"))
    target = np.array(["sick", "sick"], object)
    assert economic_loss.of_classes(cheapest, target, answers).tolist() == [-5, 90]


def test_a_class_has_one_name_however_yaml_reads_it() -> None:
    """Numbers and truth values are the texts that rows have; one class under two spellings is refused."""
    read = ByClass(costs={3: {2.0: 4}, True: {"No": 5}}, otherwise=1)
    assert (read.of("3", "2"), read.of("true", "No"), read.of("true", "true")) == (4, 5, 0)
    with pytest.raises(ValueError, match="names the class '1' twice, as 1 and '1.0'; leave one out"):
        ByClass(costs={1: {2: 4}, "1.0": {3: 1}}, otherwise=1)


def test_other_costs_are_another_loss() -> None:
    """What was counted by the costs of before is not set beside what is counted now; the same costs have the same name."""
    told = [{"false_positive": 5, "false_negative": 60}, {"false_positive": 5, "false_negative": 61}]
    names = [Economics(decisions=Decisions(**each)).loss_of("binary", "brier") for each in (*told, told[0])]
    assert names[0] == names[2] != names[1] and all(name.startswith("money ") for name in names)
    assert Economics(by_class=COSTS).loss_of("multiclass", "log_loss").startswith("money ")


def test_a_name_that_no_row_has_is_told(caplog) -> None:
    """A slip in a class's name would leave its costs unused."""
    costs = ByClass(costs={"sik": {"well": 90}}, otherwise=3)
    economic_loss.of_classes(costs, np.array(["sick"], object), Answers(np.array([[0.5, 0.5]]), ("sick", "well")))
    assert "economics.by_class.costs names classes that neither the version nor these rows have: 'sik'" in caplog.text


@pytest.mark.parametrize("kind", tasks.TASKS.values(), ids=lambda kind: kind.name)
def test_the_mean_of_the_row_losses_is_the_metric(kind) -> None:
    """Of each metric that a task calls a mean over rows."""
    training = type("T", (), {"task": kind.name, "target": "y", "positive": None, "estimator": "x", "options": {}})
    drawn, task = np.random.default_rng(1), kind(training)
    if kind.name == "multiclass":
        target, values = drawn.choice(["a", "b", "c", "new"], 50).astype(object), drawn.dirichlet([1, 1, 1], 50)
        answers = Answers(values, ("a", "b", "c"))
    else:
        target = drawn.integers(0, 2, 50).astype(float)
        answers = Answers(drawn.uniform(0, 1, 50))
    for metric in kind.mean_losses:
        losses = task.row_losses(metric, target, answers)
        assert task.of_mean_loss(metric, losses.mean()) == pytest.approx(task.score(metric, target, answers)), metric


@pytest.mark.parametrize(
    ("task", "metric", "expected"),
    [("binary", "roc_auc", "log_loss"), ("binary", "brier", "brier"), ("regression", "r2", "mae")],
)
def test_the_loss_is_the_metric_where_that_is_a_mean(task: str, metric: str, expected: str) -> None:
    """A ranking is no mean over rows, so another loss stands for it."""
    assert Economics().loss_of(task, metric) == expected


@pytest.mark.parametrize(
    ("economics", "line"),
    [
        (
            {"loss": "roc_auc"},
            "economics.loss: must be a mean over the rows of a binary model, log_loss, brier, accuracy",
        ),
        ({"value": 0}, "economics.value: "),
        ({"values": 1}, "economics.values"),
        (
            {"value": 1, "decisions": {"false_positive": 1, "false_negative": 2}},
            "economics.value: is not needed beside economics.decisions",
        ),
        (
            {"by_class": {"costs": {"a": {"b": 1}}, "otherwise": 2}},
            "economics.by_class: is for the classes of a multiclass model, and training.task is binary; give economics.decisions",
        ),
        ({"by_class": {"costs": {"a": {"b": 1}}}}, "economics.by_class.otherwise"),
        ({"by_class": {"costs": {}, "otherwise": 2}}, "economics.by_class.costs"),
        ({"decisions": {"threshold": 1, "false_positive": 1, "false_negative": 2}}, "economics.decisions.threshold"),
    ],
)
def test_a_fault_names_its_key(project, economics: dict, line: str) -> None:
    """By the full name of the key, in one line."""
    whole = yaml.safe_load((project / "params.yaml").read_text())
    whole["models"]["churn"] = {**CHURN, "economics": economics}
    write_params(project, whole)
    with pytest.raises(SettingsError) as refused:
        load(project).model("churn")
    assert f"models.churn.{line}" in str(refused.value)


def test_decisions_are_for_two_outcomes() -> None:
    """A model of numbers says its value of a unit."""
    block = {**CHURN, "economics": {"decisions": {"false_positive": 1, "false_negative": 2}}}
    block["training"] = {**CHURN["training"], "task": "regression", "target": "spend", "numeric": ["calls"]}
    block["evaluation"] = {**CHURN["evaluation"], "metric": "mae"}
    with pytest.raises(ValueError, match=r"training.task is regression; give economics.value"):
        Model.model_validate(block)
