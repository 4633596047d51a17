"""A search chooses options by later rows, ends in its time box, and repeats exactly where it is told how far it came."""

import json
import logging

import numpy as np
import pytest

from harness.project import change_params, churn_rows
from pipeline.errors import SettingsError, StageError
from pipeline.settings.models import load
from pipeline.settings.search import USUAL, Search, ranges_of, search_faults
from pipeline.settings.training import Training
from pipeline.training import evaluate, fit, frames, skops_file
from pipeline.training.search import candidates, clocks, halving
from pipeline.training.search import run as search

RANGES = {"max_leaf_nodes": (3, 31, "log"), "learning_rate": (0.02, 0.5, "log")}


class Clock:
    """Seconds that pass with the work."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def churn(settings):
    return settings.model("churn")


def model_of(churn, **changed):
    section = {"minutes": 5, "candidates": 5, "ranges": {"C": (0.001, 10.0, "log")}, **changed.pop("search", {})}
    changed = {"estimator": "linear", "options": {}, "search": section, **changed}
    return churn.model_copy(update={"training": Training(**(churn.training.model_dump() | changed))})


def halved(seconds_each, box, count=100, rows=27_000, recorded=None):
    """(the drawn candidates, their fits, the seconds of it) of a search whose score is the candidate's number."""
    clock = Clock()
    numbers = {}

    def score(options, fitted_on):
        clock.now += seconds_each * fitted_on / rows
        return float(numbers.setdefault(str(options), len(numbers)))

    drawn = candidates.drawn({"x": (0.0, 1.0, "linear")}, 1, count)
    ended = recorded or clocks.TimeBox(box, clock)
    options, fits = halving.search(drawn, score, rows, True, ended)
    return options, fits, clock.now


def test_the_best_third_goes_on_with_three_times_the_rows_and_the_first_always():
    """27 candidates become 9, 3 and 1, beside the options as given; the last rung has all rows."""
    options, fits, _ = halved(0.0, 60, count=27)
    rungs = [[fit.candidate for fit in fits if fit.rung == rung] for rung in range(4)]
    assert [len(rung) for rung in rungs] == [27, 10, 5, 3]
    assert rungs[3] == [26, 25, 0] and [fit.rows for fit in fits if fit.rung == 3] == [27_000] * 3
    assert halving.chosen(fits, True) == 26 and options[0] == {}
    assert halving.rungs(900) == [900] and halving.rungs(10_000) == [1111, 3333, 10_000]


@pytest.mark.parametrize("box", [1.0, 10.0, 100.0])
@pytest.mark.parametrize("each", [0.01, 0.5, 3.0])
def test_the_time_box_is_kept(box, each):
    """The search ends in its box, and at most one fit later; with time enough it uses most of it or draws them all."""
    options, fits, gone = halved(each, box)
    assert gone <= box + each
    assert len(options) == 100 or gone > 0.3 * box
    assert fits[-1].rung == 3 or gone >= box


@pytest.mark.parametrize(("each", "box"), [(0.5, 3.0), (3.0, 10.0), (3.0, 1.0), (0.01, 100.0)])
def test_the_counts_repeat_a_search_without_a_clock(each, box):
    """A search that is told the two counts makes the same fits and the same choice on a machine of any speed."""
    options, fits, _ = halved(each, box)
    again = halved(each * 50, 0.0, recorded=clocks.Recorded(len(options), len(fits)))
    assert (again[0], again[1]) == (options, fits)


def test_a_candidate_is_the_same_however_many_are_drawn():
    """Each has a seed of its own, whole ends give whole numbers in reach, and a small grid is drawn once."""
    ranges = {"a": (1, 100, "log"), "b": (0.5, 2.0, "linear"), "c": ("x", None, True)}
    few, many = (list(candidates.drawn(ranges, 7, count)) for count in (5, 200))
    assert many[:5] == few and few != list(candidates.drawn(ranges, 8, 5))
    assert {type(one["a"]) for one in many[1:]} == {int} and {one["a"] for one in many[1:]} >= {1, 2}
    assert all(1 <= one["a"] <= 100 and 0.5 <= one["b"] <= 2 for one in many[1:])
    assert len(list(candidates.drawn({"c": ("x", "y", "z")}, 7, 200))) == 4


def test_the_choice_goes_with_the_model_and_is_never_worse_than_what_was_given(churn, tmp_path, caplog, monkeypatch):
    """The model has the chosen options, its file and metrics.json say what was found, and each fit is a line while it runs."""
    rows, model = churn_rows(churn), model_of(churn, options={"max_iter": 200}, estimator="linear")
    bad = model.model_copy(update={"training": model.training.model_copy(update={"options": {"C": 1e-9}})})
    caplog.set_level(logging.INFO, "pipeline")
    monkeypatch.setattr(logging.getLogger("pipeline"), "propagate", True)
    fitted = fit.fit(rows, bad)
    skops_file.save(fitted, tmp_path / "m")
    found = evaluate.evaluate(bad, rows, tmp_path / "m", tmp_path / "p", tmp_path / "r", tmp_path / "e").search
    assert json.loads((tmp_path / "e").read_text())["search"] == found
    assert found["score"] >= found["score_as_given"] and found["candidates"] == 5
    assert fitted[-1].C == found["chosen"]["C"] != 1e-9
    assert (
        len(found["scores"]) == found["fits"] == len({line for line in caplog.messages if "search: candidate" in line})
    )
    assert any("rung 1" in line and "left" in line and "roc_auc 0." in line for line in caplog.messages)
    assert search.said(found).startswith(f"search: C {found['chosen']['C']} (roc_auc ")


def test_the_search_sees_the_order_of_time_and_no_held_out_row(churn):
    """Spoiled labels of the held-out days change nothing, and the scored rows are the newest of those that are trained on."""
    rows, model = churn_rows(churn), model_of(churn)
    spoiled = rows.copy()
    spoiled.loc[frames.held_out(rows, churn), "left"] = 0.0
    shuffled = rows.sample(frac=1, random_state=1)
    one, two, three = (getattr(fit.fit(r, model), search.ATTRIBUTE) for r in (rows, spoiled, shuffled))
    assert one == two
    assert [fit["score"] for fit in one["scores"]] == pytest.approx([fit["score"] for fit in three["scores"]], abs=1e-3)


def test_a_search_among_several_classes_takes_a_class_that_few_rows_have(churn):
    """A rung whose rows lack a class measures with the others, and the model knows all."""
    rows = churn_rows(churn)
    rows["kind"] = np.array(["low", "middle", "top"], object)[np.digitize(rows.spend, [60, 130])]
    rows.loc[rows.index[-900], "kind"] = "rare"
    model = model_of(churn, task="multiclass", target="kind")
    evaluation = model.evaluation.model_copy(update={"metric": "log_loss"})
    fitted = fit.fit(rows, model.model_copy(update={"evaluation": evaluation}))
    found = getattr(fitted, search.ATTRIBUTE)
    assert found["score"] <= found["score_as_given"] and len(fitted[-1].classes_) == 4


def test_equal_data_and_settings_give_an_equal_file(churn, tmp_path):
    """The file has no time in it: two searches that drew as many write the same bytes."""
    rows, model = (
        churn_rows(churn),
        model_of(churn, estimator="boosting", options={"max_iter": 5}, search={"ranges": RANGES}),
    )
    for name in ("one", "two"):
        skops_file.save(fit.fit(rows, model), tmp_path / name)
    skops_file.save(fit.fit(rows, model, recorded=clocks.Recorded(3, 3)), tmp_path / "three")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert len(getattr(skops_file.load(tmp_path / "three"), search.ATTRIBUTE)["scores"]) == 3


def test_options_that_cannot_be_fitted_lose_and_those_given_are_told(churn):
    """A drawn candidate that fails has no score; the options of params.yaml fail as without a search."""
    rows = churn_rows(churn)
    model = model_of(churn, search={"ranges": {"solver": ("lbfgs", "liblinear", "none such")}})
    found = getattr(fit.fit(rows, model), search.ATTRIBUTE)
    assert None in [fit["score"] for fit in found["scores"]] and found["chosen"].get("solver") != "none such"
    with pytest.raises(SettingsError, match="training.options: The 'C' parameter"):
        fit.fit(rows, model_of(churn, options={"C": -1.0}, search={"ranges": {"max_iter": (50, 100)}}))


def test_a_search_in_which_nothing_could_be_fitted_is_refused(churn):
    """The options as given are no result of a search that tried none."""
    model = model_of(churn, search={"ranges": {"solver": ("none such", "nor this")}})
    with pytest.raises(
        StageError, match="none of the 2 candidates of the search could be fitted, the first: The 'solver'"
    ):
        fit.fit(churn_rows(churn), model)


def test_the_quantile_that_is_predicted_is_not_searched():
    """A better score at another quantile is the answer to another question; of other losses the option is free."""
    asked = Search(minutes=1, ranges={"alpha": (0.1, 0.9, "linear")})
    ((key, why),) = search_faults(asked, "lightgbm", "regressor", {"objective": "quantile"})
    assert (key, why) == ("search.ranges.alpha", "is the quantile that is predicted; set it in training.options")
    assert search_faults(asked, "lightgbm", "regressor", {"objective": "huber"}) == []


@pytest.mark.parametrize(
    ("section", "line"),
    [
        ({"minutes": 0}, "training.search.minutes: "),
        ({"ranges": {}}, "missing key models.churn.training.search.minutes"),
        ({"minutes": 1, "ranges": {"max_itr": [1, 2]}}, "ranges.max_itr: hist_gradient_boosting has no option max_itr"),
        ({"minutes": 1, "ranges": {"max_iter": [1, 2]}}, "ranges.max_iter: is in training.options too"),
        (
            {"minutes": 1, "ranges": {"tol": [1, 0.1, "log"]}},
            "ranges.tol: must be [low, high, log] with numbers low < high",
        ),
        ({"minutes": 1, "ranges": {"tol": [0, 1, "log"]}}, "ranges.tol: a log range begins above 0; got 0"),
        ({"minutes": 1, "ranges": {"tol": []}}, "ranges.tol: is an empty list"),
        ({"minutes": 1, "ranges": {"tol": [[1]]}}, "ranges.tol: must be a list of texts, numbers, true or false"),
    ],
)
def test_a_wrong_search_is_refused_when_it_is_read(project, section, line):
    """Each fault of the section is one line with its key."""
    change_params(project, "models.churn.training.search", section)
    assert line in str(load(project).broken["churn"])


@pytest.mark.parametrize("estimator", ["linear", *USUAL])
@pytest.mark.parametrize("kind", ["classifier", "regressor"])
def test_minutes_are_enough_for_a_short_name(churn, kind, estimator):
    """The usual ranges hold options that the class takes, but for those that params.yaml settles."""
    from pipeline.training.estimators import named

    task = (
        {"task": "binary"} if kind == "classifier" else {"task": "regression", "numeric": ["calls"], "target": "spend"}
    )
    ranges = ranges_of(Search(minutes=5), estimator, kind, {})
    first = next(iter(ranges))
    assert first not in ranges_of(Search(minutes=5), estimator, kind, {first: 1})
    for options in list(candidates.drawn(ranges, 1, 5)):
        named.estimator_for(model_of(churn, estimator=estimator, options=options, search={}, **task).training)


def test_a_wrong_estimator_is_one_fault_with_a_search_too(project):
    """What there is to search of an estimator that is none is not told beside it."""
    change_params(project, "models.churn.training.estimator", "nonsense")
    change_params(project, "models.churn.training.options", {})
    change_params(project, "models.churn.training.search", {"minutes": 1})
    with pytest.raises(SettingsError) as refused:
        load(project).model("churn")
    assert "training.estimator: must be one of" in str(refused.value) and "search.ranges" not in str(refused.value)
