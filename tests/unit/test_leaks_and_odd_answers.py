"""Answers that are no numbers, rows that count nothing, and features that alone tell the target."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.gates import calibration, constant_prediction, leakage
from pipeline.gates.skill import skill
from pipeline.training.tasks import Answers
from tests.support.gate_rows import model, packaged, rows_of


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("classes", [(), ("a", "b")])
@pytest.mark.parametrize("answer", [float("nan"), float("inf"), -float("inf")])
def test_an_answer_that_is_no_number_passes_nothing(answer, classes):
    """One row is enough: it compares false with each limit, and so would be below all of them; no warning of NumPy goes to the user."""
    rows = rows_of()
    answers = np.where(rows.index == 7, answer, 0.4)
    rows = rows.assign(left=(rows["spend"] > 0).astype(float), prediction=answers)
    settings = model("multiclass", "log_loss") if classes else model()
    if classes:
        labels = np.where(rows["spend"] > 0, "a", "b").astype(object)
        rows = rows.assign(left=labels, probabilities=[*np.column_stack([answers, 1 - answers])])
    given = packaged(settings, rows, classes)
    verdict = constant_prediction.verdict(given)
    assert (verdict.stops, verdict.reason) == (True, "the answers to 1 of 2,000 held-out rows are no numbers")
    told = calibration.verdict(given)
    assert (told.word, told.interval, told.has_figure) == ("warned", None, False)
    assert "no number comes true at no rate; the gate constant_prediction counts them" in told.reason


def test_rows_that_count_nothing_tell_of_no_skill():
    """A column is scored on every other block of time: where all weight is in the others there is no figure, and no error."""
    target, nothing = np.arange(5.0), np.zeros(5)
    for of, classes in ((target, ()), (target % 2, ()), (np.array([*"abcab"], object), ("a", "b", "c"))):
        values = np.eye(5, 3) if classes else of
        assert np.isnan(skill(of, Answers(values, classes), nothing))


def leaky(task, made, target, **gates):
    rows = made.assign(left=target, prediction=np.clip(target, 0, 1) if task == "binary" else target)
    return leakage.verdict(packaged(model(task, "roc_auc" if task == "binary" else "mae", **gates), rows))


@pytest.mark.parametrize(
    ("task", "noise", "stops"),
    [("binary", 0.0, True), ("binary", 0.6, False), ("regression", 0.001, True), ("regression", 0.2, False)],
)
def test_a_strong_feature_is_no_leak(task, noise, stops):
    """A feature that carries most of the score passes; one that alone nearly is the target does not."""
    rows, random = rows_of(), np.random.default_rng(1).normal(0, 1, 2000)
    shown = rows["spend"] + noise * random
    target = (shown > 0) * 1.0 if task == "binary" else shown
    verdict = leaky(task, rows, target)
    assert verdict.stops is stops and verdict.observed > 0.6
    assert verdict.reason.split(":")[0].split(" alone")[0] == "spend"


@pytest.mark.parametrize("sign", [1, -1])
def test_of_a_rare_label_the_leak_is_found_by_its_own_order(sign):
    """Of 34 rows in two thousand half are learnt from: a cut between their ranks and the rest leaves some on the wrong side."""
    rows, random = rows_of(), np.random.default_rng(1)
    rare = np.arange(len(rows)) % 60 == 0
    target, leak = rare * 1.0, sign * np.where(rare, random.uniform(1, 9, len(rows)), random.normal(0, 0.1, len(rows)))
    verdict = leaky("binary", rows.assign(spend=leak), target)
    assert verdict.stops and verdict.observed == 1


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_a_word_of_a_text_may_be_the_leak(task):
    """With `training.words` a word that only rows of one label have is found in its group, beside texts of the same length."""
    rows, random = rows_of(), np.random.default_rng(1)
    gone = rows["spend"].to_numpy() > 0
    others = random.choice(["in town", "in may", "today", "by phone and mail"], len(rows)).astype(object)
    rows = rows.assign(note=np.where(gone, "client was gone ", "client did stay ") + others, prediction=0.5)
    label = np.where(gone, "gone", random.choice(["here", "back"], len(rows))) if task == "multiclass" else gone * 1.0
    classes = ("back", "gone", "here") if task == "multiclass" else ()
    given = rows.assign(left=label.astype(object) if classes else label)
    if classes:
        given["probabilities"] = [*np.full((len(rows), 3), 1 / 3)]
    settings = model(task, "log_loss" if classes else "roc_auc")
    for words, found in ((0, False), (64, True)):
        text = {"numeric": ("calls",), "text": ("note",), "words": words}
        asked = settings.model_copy(update={"training": settings.training.model_copy(update=text)})
        verdict = leakage.verdict(packaged(asked, given, classes))
        assert (not verdict.passed) is found, verdict.reason
        assert verdict.reason.startswith("note") or not found


@pytest.mark.parametrize(("stated", "word"), [({}, "warned"), ({"sanity": {"one_feature": 0.97}}, "FAILED")])
def test_a_feature_that_alone_tells_one_of_several_classes_warns_unless_the_limit_is_stated(stated, word):
    """A column that knows one class and nothing of the others is named with that class."""
    rows, random = rows_of(), np.random.default_rng(1)
    label = np.where(rows["spend"] > 0.5, "closed", random.choice(["a", "b"], len(rows)))
    rows = rows.assign(left=label.astype(object), prediction=1.0, probabilities=[*np.full((len(rows), 3), 1 / 3)])
    settings = model("multiclass", "log_loss", **stated)
    verdict = leakage.verdict(packaged(settings, rows, ("a", "b", "closed")))
    assert verdict.word == word and "spend alone tells closed from all other classes: 0.99" in verdict.reason
    known = {"sanity": stated.get("sanity", {}) | {"known_before": ["spend"]}}
    assert (
        leakage.verdict(packaged(model("multiclass", "log_loss", **known), rows, ("a", "b", "closed"))).word == "passed"
    )


def test_a_feature_that_is_known_before_may_tell_all():
    """gates.sanity.known_before lets a feature through by its name."""
    rows = rows_of()
    assert not leaky("binary", rows, (rows["spend"] > 0) * 1.0, sanity={"known_before": ["spend"]}).stops
