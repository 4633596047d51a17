"""Before labels come, the metric of a window is estimated from the answers, or from the inputs, as if nothing else had changed."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.tree import DecisionTreeRegressor

from pipeline.monitoring import answer_shift, estimated_quality, loss_tree
from pipeline.monitoring.estimated_quality import QualityModel
from pipeline.monitoring.loss_tree import LossTree
from pipeline.settings.training import Training
from pipeline.training import tasks
from pipeline.training.tasks import Answers

CLASSES = ("a", "b", "c")


def model_of(settings, task, metric, **training):
    churn = settings.model("churn")
    changed = churn.training.model_dump() | {"task": task, "positive": None} | training
    evaluation = churn.evaluation.model_copy(update={"metric": metric})
    return churn.model_copy(update={"training": Training(**changed), "evaluation": evaluation})


def table(spend, seed):
    """Rows whose spend is given: `plan` follows from nothing, one `calls` in ten is missing."""
    random = np.random.default_rng(seed)
    calls = np.where(random.random(len(spend)) < 0.1, np.nan, random.integers(0, 9, len(spend)))
    times = pd.Timestamp("2024-02-01", tz="UTC") + pd.to_timedelta(np.arange(len(spend)), unit="min")
    return pd.DataFrame(
        {"spend": spend, "calls": calls, "plan": random.choice(["basic", "plus", None], len(spend)), "seen_at": times}
    )


def binary(count, centre, seed, spread=1.0):
    """True probabilities follow from spend; the answers are twice as sure of themselves as they may be."""
    random = np.random.default_rng(seed)
    rows = table(random.normal(centre, spread, count), seed)
    logit = rows["spend"].to_numpy()
    left = (random.random(count) < 1 / (1 + np.exp(-logit))).astype(float)
    return rows.assign(left=left, prediction=1 / (1 + np.exp(-2 * logit)))


def multiclass(count, centre, seed, spread=1.0):
    """The same for three classes."""
    random = np.random.default_rng(seed)
    rows = table(random.normal(centre, spread, count), seed)
    logits = np.column_stack([rows["spend"], -rows["spend"], np.zeros(count)])
    true, said = (np.exp(by * logits) / np.exp(by * logits).sum(axis=1, keepdims=True) for by in (1, 2))
    left = np.array(CLASSES, object)[(true.cumsum(axis=1) < random.random(count)[:, None]).sum(axis=1)]
    return rows.assign(left=left, **Answers(said, CLASSES).columns)


def regression(count, centre, seed, spread=1.0):
    """The error grows with spend, and is three times as large where the plan is unknown."""
    random = np.random.default_rng(seed)
    rows = table(random.normal(centre, spread, count), seed)
    error = random.normal(0, 1, count) * np.exp(rows["spend"] / 2) * np.where(rows["plan"].isna(), 3, 1)
    return rows.assign(left=10 + error, prediction=10.0)


@pytest.mark.parametrize(
    ("task", "metric", "made", "classes", "centre", "spread"),
    [
        ("binary", "log_loss", binary, (), 1.5, 1.0),
        ("binary", "roc_auc", binary, (), 0.0, 0.4),
        ("binary", "accuracy", binary, (), 1.5, 1.0),
        ("multiclass", "log_loss", multiclass, CLASSES, 1.5, 1.0),
        ("multiclass", "accuracy", multiclass, CLASSES, 1.5, 1.0),
        ("regression", "mae", regression, (), 0.9, 1.0),
        ("regression", "rmse", regression, (), 0.9, 1.0),
        ("regression", "pinball", regression, (), 0.9, 1.0),
    ],
)
def test_a_window_of_other_inputs_is_estimated_as_its_labels_will_say(
    settings, task, metric, made, classes, centre, spread
):
    """Where the inputs have moved, the estimate is nearer to what the labels say later than the held-out figure is, by far."""
    model = model_of(settings, task, metric)
    held_out, window = made(9000, 0.0, 1), made(9000, centre, 2, spread)
    known = estimated_quality.learnt(held_out, model, classes)
    read = QualityModel.read(json.loads(json.dumps(known.as_dict())))
    found = estimated_quality.estimated(window.drop(columns="left"), read, model, classes)

    def scored(rows):
        return tasks.of(model.training).scores(rows["left"].to_numpy(), Answers.of(rows, classes))[metric]

    assert abs(found.value - scored(window)) < abs(scored(held_out) - scored(window)) / 3
    assert 0 < found.usual_error < abs(scored(held_out) - scored(window))
    assert (known.blocks, known.rows, found.rows) == (5, 9000, 9000)


def test_labels_that_turn_round_are_not_seen(settings):
    """The same inputs with other labels get the same estimate: only labels tell, which is why live quality is said first."""
    model = model_of(settings, "binary", "roc_auc")
    known = estimated_quality.learnt(binary(3000, 0.0, 1), model)
    window = binary(3000, 0.0, 2)
    turned = window.assign(left=1 - window["left"])
    assert estimated_quality.estimated(window, known, model) == estimated_quality.estimated(turned, known, model)


def test_a_tree_kept_as_numbers_answers_as_scikit_learn(settings):
    """Each row's loss is that of scikit-learn's tree, with missing cells and numbers beyond float32."""
    rows = regression(3000, 0.0, 1).fillna({"plan": ""})
    rows.loc[5, "spend"] = np.inf
    features, losses = rows[["spend", "calls", "plan"]], (rows["left"] - 10).abs().to_numpy()
    grown = LossTree.grown(features, rows["prediction"].to_numpy(), losses, seed=1)
    matrix = loss_tree._matrix(features, rows["prediction"].to_numpy(), grown.numbers, grown.mean_losses, grown.usual)
    theirs = DecisionTreeRegressor(max_leaf_nodes=32, max_depth=6, min_samples_leaf=60, random_state=1)
    expected = theirs.fit(matrix, losses).predict(matrix)
    assert np.allclose(grown.losses(rows, rows["prediction"].to_numpy()), expected, rtol=1e-12)
    assert len(set(expected)) > 8


@pytest.mark.parametrize(
    ("task", "metric", "rows", "training"),
    [
        ("binary", "roc_auc", 99, {}),
        ("binary", "roc_auc", 3000, {"weight": "calls"}),
        ("regression", "r2", 3000, {}),
    ],
)
def test_what_cannot_be_estimated_is_not(settings, task, metric, rows, training):
    """Too few held-out rows, rows that weigh differently, and a metric that needs the spread of labels give no estimate."""
    model = model_of(settings, task, metric, **training)
    made = regression if task == "regression" else binary
    assert estimated_quality.learnt(made(rows, 0.0, 1), model) is None


def test_few_or_older_answers_get_no_estimate(settings):
    """A hundred requests are needed, and the probabilities of all classes."""
    model = model_of(settings, "multiclass", "log_loss")
    known = estimated_quality.learnt(multiclass(1000, 0.0, 1), model, CLASSES)
    window = multiclass(200, 0.0, 2)
    assert estimated_quality.estimated(window, known, model, CLASSES)
    assert estimated_quality.estimated(window.head(99), known, model, CLASSES) is None
    assert estimated_quality.estimated(window.drop(columns="probabilities"), known, model, CLASSES) is None


@pytest.mark.parametrize(("made", "classes"), [(binary, ()), (multiclass, CLASSES), (regression, ())])
def test_how_the_answers_moved_is_measured(made, classes):
    """The mean before and now, or of the class whose share changed most, and the distance of both as scipy has it of the raw answers."""
    held_out, window = made(4000, 0.0, 1), made(4000, 0.9, 2)
    if not classes:
        window["prediction"] += 0.05
    found = answer_shift.shift(
        window, json.loads(json.dumps(answer_shift.held_out_answers(held_out, classes))), classes
    )
    sides = [Answers.of(rows, classes).values for rows in (held_out, window)]
    if classes:
        named = [side.argmax(axis=1) == CLASSES.index(found.label) for side in sides]
        assert (found.label, found.before, found.now) == ("a", *(float(side.mean()) for side in named))
    else:
        assert (found.before, found.now) == pytest.approx([side.mean() for side in sides])
    same = answer_shift.shift(held_out, answer_shift.held_out_answers(held_out, classes), classes)
    assert same.jensen_shannon == 0.0
    if not classes:
        again = held_out.assign(prediction=held_out["prediction"].astype("float32") + np.float32(1e-7))
        assert answer_shift.shift(again, answer_shift.held_out_answers(held_out), ()).jensen_shannon < 0.01
    assert 0.05 < found.jensen_shannon <= np.sqrt(np.log(2)) + 1e-12
    assert answer_shift.shift(window.head(99), answer_shift.held_out_answers(held_out, classes), classes) is None


def test_the_curves_are_the_same_with_any_number_of_threads():
    """`reproduce` compares the reference's bytes, on another machine too; a sum by two threads has other last digits."""
    from threadpoolctl import threadpool_limits

    random = np.random.default_rng(0)
    probability = random.uniform(0.01, 0.99, 20_000)
    target = (random.uniform(size=20_000) < probability**1.2).astype(float)
    found = []
    for threads in (1, 2):
        with threadpool_limits(threads):
            both = np.column_stack([1 - probability, probability])
            found.append(estimated_quality._curves(np.array([0.0, 1.0]), both, target))
    assert found[0] == found[1]
